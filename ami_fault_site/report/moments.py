"""Say in words what happened to one delivery of a task, moment by moment, each with the line that tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ami_fault_site.faults import Effect, Mode, Site
from ami_fault_site.history import Injection, Lease, Post, Ref, Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.ends import End, How
from ami_fault_site.verdict.fates import Fate

_IMAGE_FAULTS = {
    Effect.IMAGE_404: "a fault struck: its image was answered 404",
    Effect.CORRUPT: "a fault struck: its image was damaged",
    Effect.NETWORK: "a fault struck: a try to load its image failed",
}
_BATCH_FAULTS = {
    Effect.CRASH: "a fault struck: its process crashed",
    Effect.TRANSIENT: "a fault struck: a passing error left its batch",
    Effect.SLOW: "a fault struck: its batch was delayed",
}
_MODES = {
    Mode.KILL.value: "its process was killed",
    Mode.SEGV.value: "its process died of a segmentation fault",
    Mode.ABORT.value: "its process aborted",
    Mode.HANG.value: "its process hangs from here on",
    Mode.SYSEXIT.value: "a SystemExit was raised in its process",
}
_ENDS = {
    How.DROPPED: "left unanswered",
    How.EXPIRED: "its time was up",
    How.ABANDONED: "given up",
    How.STOPPED: "left unanswered",
    How.HELD: "never answered",
}


@dataclass(frozen=True)
class Moment:
    """Something that happened: `at` in monotonic seconds of `clock`, None if only the order is known."""

    clock: int
    at: float | None
    text: str
    ref: Ref | None


def moments_of(case: Case, task: Task, lease: Lease, before: Lease | None) -> list[Moment]:
    """Return what is known of one delivery, in order; `before` is the last one before it that was seen."""
    clock = case.ends.clock(lease) if lease.is_known else -1
    found = [*_receipt(case, task, lease, before), *_faults(case, task, lease), *_loaders_death(case, task, lease)]
    if lease.batch is not None:
        found.append(_moment(case, lease.batch.process, lease.batch.began, "its batch began", lease.batch.ref))
    for post in sorted(lease.posts, key=lambda one: one.sent):
        found += _answer(case, task, lease, post)
    found.sort(key=lambda one: (one.clock != clock, one.clock, one.at or 0.0, one.ref or (-1, 0)))
    end = case.ends.of(task, lease)
    told = {one.ref for one in found}
    if end.how in _ENDS and not lease.posts and not (end.refs and set(end.refs) <= told):
        # What was given up while it was still on its way was so from the moment that it arrived.
        at = end.at if end.at is None or not lease.is_known else max(end.at, lease.received)
        found.append(Moment(clock, at, _said(end), end.refs[0] if end.refs else None))
    return found


def _moment(case: Case, process: int, at: float, text: str, ref: Ref) -> Moment:
    return Moment(case.history.processes[process].clock, at, text, ref)


def _receipt(case: Case, task: Task, lease: Lease, before: Lease | None) -> Iterator[Moment]:
    if not lease.is_known:
        yield Moment(-1, None, f"delivery {lease.delivery}: nobody of ours has booked its receipt", None)
        return
    took = _how_long(case, lease, before)
    what = f"delivery {lease.delivery} of job {task.job}, to {holder_name(case, lease)}"
    if lease.lost:
        on_purpose = case.ends.is_withheld(task, lease)
        what += "; a fault kept it back on purpose" if on_purpose else "; a fault let it get lost on its way"
    yield _moment(case, lease.process, lease.received, f"{took}: {what}", lease.ref)
    for copy in lease.copies:
        at = lease.received
        yield Moment(case.ends.clock(lease), at, f"handed out once more: the very same delivery {lease.delivery}", copy)


def _how_long(case: Case, lease: Lease, before: Lease | None) -> str:
    """Say how long a task took to come back, if one clock saw both ends of that."""
    if before is None:
        return "handed out" if lease.delivery == 1 else "handed out again"
    if case.ends.clock(before) != case.ends.clock(lease):
        return f"came back, after delivery {before.delivery}; how long that took is on no single clock"
    return f"came back {lease.received - before.received:.1f} s after delivery {before.delivery} was handed out"


def holder_name(case: Case, lease: Lease) -> str:
    """Name who received a delivery: the life of a worker, the process and the host."""
    process = case.history.processes[lease.process]
    life, own = case.lives.holder(lease.process).name, f"process {process.pid} on {process.host}"
    return own if life == own else f"{life} ({own})"


def _faults(case: Case, task: Task, lease: Lease) -> Iterator[Moment]:
    for one in case.about(task):
        text = ""
        if one.effect in _IMAGE_FAULTS and _is_of_image(task, lease, one):
            text = f"{_IMAGE_FAULTS[one.effect]} ({one.kind})"
        elif one.effect in _BATCH_FAULTS and (task.key, lease.delivery) in one.tasks:
            text = _batch_fault(one)
        if text:
            yield _moment(case, one.process, one.at, text, one.ref)


def _loaders_death(case: Case, task: Task, lease: Lease) -> Iterator[Moment]:
    """Tell of the death of a loader for which a whole batch was failed, if that is why this was."""
    if case.fates.of(task).fate is Fate.FAILED_TRANSIENT and any(task.key[1] in post.errors for post in lease.posts):
        death = case.fates.loader_death(task, lease)
        if death is not None and (task.key, lease.delivery) not in death.tasks:
            yield _moment(case, death.process, death.at, _batch_fault(death), death.ref)


def _batch_fault(one: Injection) -> str:
    """Say what struck a batch: how and where, as far as that is booked."""
    if one.effect is Effect.SLOW:
        return f"{_BATCH_FAULTS[one.effect]} by {one.seconds:g} s"
    where = one.point or f"{one.phase} the batch"
    if one.effect is Effect.CRASH and one.kind in _MODES:
        loader = " (a loader)" if one.is_of_loader else ""
        return f"a fault struck: {_MODES[one.kind]}{loader} ({where})"
    return f"{_BATCH_FAULTS[one.effect]} ({one.kind}, {where})"


def _is_of_image(task: Task, lease: Lease, one: Injection) -> bool:
    """Say whether an image was struck for this delivery: the last of it that its process had received by then."""
    if one.effect is Effect.NETWORK and one.site != Site.IMAGE.value:
        return False
    if (one.image or one.subject) != task.image_id or one.process != lease.process or one.job not in (None, task.job):
        return False
    received = [other.received for other in task.leases if other.process == lease.process and other.received <= one.at]
    return bool(received) and lease.received == max(received)


def _answer(case: Case, task: Task, lease: Lease, post: Post) -> Iterator[Moment]:
    error = post.errors.get(task.key[1])
    what = "a success" if task.key[1] not in post.errors else f"an error{f': {error!r}' if error else ''}"
    yield _moment(case, post.process, post.sent, f"answered: {what}", post.ref)
    if lease.named and task.image_id:
        yield _moment(case, post.process, post.sent, f"which was about image {lease.named}, not its own", post.ref)
    struck = _that_struck(case, task, post) if post.struck else None
    if struck is not None:
        what = "the reply to its post was lost" if post.lost else "its post failed"
        text = f"a fault struck: {what} ({struck.kind})"
        yield _moment(case, struck.process, struck.at, text, struck.ref)
    if post.heard is not None and post.heard_ref is not None:
        yield _moment(case, post.process, post.heard, _became(post), post.heard_ref)
    elif post.cut is not None:
        end = case.ends.of(task, lease)
        yield _moment(case, post.process, post.cut.at, f"not sent: {end.cause}", post.cut.ref)
    else:
        holder = case.lives.holder(post.process)
        text = f"how that ended nobody has booked: {holder.how.value} while posting"
        yield Moment(case.history.processes[post.process].clock, holder.end, text, holder.ref or post.ref)


def _became(post: Post) -> str:
    """Say what became of an answer."""
    why = post.error or f"HTTP {post.status}"
    if post.lost:
        return (
            f"{'accepted' if post.is_accepted else 'refused'} by the service, and the answer lost (HTTP {post.status})"
        )
    if post.is_accepted:
        return f"accepted by the service ({why})"
    if post.struck:
        return f"not sent, because of that ({why})"
    if post.outcome == "unheard":
        return f"nobody heard whether it arrived ({why})"
    return f"refused by the service ({why})"


def _that_struck(case: Case, task: Task, post: Post) -> Injection | None:
    """Return the fault that a post suffered: booked in its process between its beginning and its end."""
    last = post.heard_ref[1] if post.heard_ref is not None else post.ref[1]
    found = [
        one
        for one in case.struck_in(post.process)
        if one.site == Site.RESULT.value and one.job in (None, task.job) and post.ref[1] < one.ref[1] < last
    ]
    if len(found) > 1:  # posts of several threads; each fault is keyed on the smallest task of its post
        least = min(other.key[1] for other in case.tasks() for lease in other.leases if post in lease.posts)
        found = [one for one in found if one.subject == str(least)] or found
    return found[0] if found else None


def _said(end: End) -> str:
    return f"{_ENDS[end.how]}: {end.cause}"
