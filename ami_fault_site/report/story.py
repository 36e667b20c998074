"""Tell one task's whole story in order: handed out, struck, came back, answered, counted, judged."""

from __future__ import annotations

from collections.abc import Iterator

from ami_fault_site import antenna
from ami_fault_site.history import Lease, Task
from ami_fault_site.report import notes
from ami_fault_site.report.contents import ledger_line
from ami_fault_site.report.moments import Moment, moments_of
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Fate

_TIME = 12  # columns

_MEANINGS = {
    Fate.DONE: "answered on its first delivery",
    Fate.RECOVERED: "answered after it came back",
    Fate.FAILED_EXPECTED: "answered with an error, since a fault had made its image bad",
    Fate.FAILED_TRANSIENT: "failed for good",
    Fate.FAILED_ORGANIC: "failed",
    Fate.CONFLICT: "answered both ways",
    Fate.EXHAUSTED: "all its deliveries were used up, and no answer was accepted",
    Fate.EXHAUSTED_ON_PURPOSE: "kept from the workers until no delivery was left",
    Fate.TAKEN_ELSEWHERE: "another worker has it",
    Fate.LOST: "never handed out again",
    Fate.STUCK: "kept by a live worker",
    Fate.UNRECORDED: "answered, and forgotten",
    Fate.NEVER_DELIVERED: "never handed out",
    Fate.UNEXPECTED: "not one of the job's tasks",
    Fate.PENDING: "it cannot be told what became of it",
}
SOMEBODYS = frozenset(
    {
        Fate.FAILED_TRANSIENT, Fate.CONFLICT, Fate.EXHAUSTED, Fate.LOST, Fate.STUCK, Fate.UNRECORDED,
        Fate.NEVER_DELIVERED, Fate.UNEXPECTED,
    }
)  # fmt: skip
"""The fates that are a failure, which is somebody's doing."""


def tell(case: Case, task: Task) -> list[str]:
    """Return the story line by line, each with its place in the ledger, the verdict on the task last.

    Times are counted from the first moment on each clock; readings of different clocks are never subtracted.
    """
    moments = _in_order(case, task)
    clocks = list(dict.fromkeys(one.clock for one in moments if one.clock >= 0))
    image = f", image {task.image_id}" if task.image_id and task.image_id != task.image else ""
    told = [f"{case.name(task)}{image}"]
    if len(clocks) > 1:
        told.append("seen on several clocks, whose times cannot be compared: each counts from its own first moment")
    told += _timed(case, moments, several=len(clocks) > 1)
    told += [_line("service", text) for text in _counted(case, task)]
    return [*told, _line("verdict", _judged(case, task))]


def _in_order(case: Case, task: Task) -> list[Moment]:
    """Return what happened by the clock if there is one, delivery by delivery if there are several."""
    found: list[Moment] = []
    before: Lease | None = None
    number = 1
    for lease in sorted(task.leases, key=lambda one: one.delivery):
        found += [_unseen(missing) for missing in range(number, lease.delivery)]
        number = lease.delivery + 1
        found += moments_of(case, task, lease, before)
        before = lease if lease.is_known else before
    found += _notes(case, found)
    if len({one.clock for one in found}) > 1 or any(one.at is None for one in found):
        return found
    return sorted(found, key=lambda one: one.at or 0.0)


def _notes(case: Case, told: list[Moment]) -> list[Moment]:
    """Return what the operator did while a task was on its way, or shortly before or after, by wall clock.

    On another clock than the task's it stands there by wall clock too; on none if the task was seen on several.
    """
    base = case.history.files.wall_base
    walls = [base(one.clock) + one.at for one in told if one.clock >= 0 and one.at is not None]
    if not walls:
        return []
    reach = notes.matters_for(case)
    clocks = {one.clock for one in told}
    clock = clocks.pop() if len(clocks) == 1 else -1
    return [
        Moment(clock, None if clock < 0 else one.wall - base(clock), str(notes.row(case, one)), one.ref)
        for one in notes.within(case, min(walls) - reach, max(walls) + reach)
    ]


def _unseen(delivery: int) -> Moment:
    return Moment(-1, None, f"delivery {delivery}: another worker got it, or it was lost on its way to ours", None)


def _timed(case: Case, moments: list[Moment], several: bool) -> Iterator[str]:
    starts: dict[int, float] = {}
    for one in moments:
        if one.at is not None:
            starts[one.clock] = min(one.at, starts.get(one.clock, one.at))
    current = -1
    for one in moments:
        if several and one.clock not in (-1, current):
            current = one.clock
            yield f"on the clock of {_host(case, one.clock)}:"
        time = "" if one.at is None else f"{one.at - starts[one.clock]:.3f} s"
        place = "" if one.ref is None or one.ref[0] < 0 else f"  [{ledger_line(case.history.place(one.ref))}]"
        yield _line(time, f"{one.text}{place}")


def _host(case: Case, clock: int) -> str:
    """Name a clock by its host, and by a number where the host has been started anew."""
    hosts = {process.clock: process.host for process in case.history.processes}
    same = sorted(other for other, host in hosts.items() if host == hosts[clock])
    return hosts[clock] if len(same) == 1 else f"{hosts[clock]} (start {same.index(clock) + 1})"


def _line(label: str, text: str) -> str:
    return f"{label:>{_TIME}}  {text}" if label else f"{'':{_TIME}}  {text}"


def _counted(case: Case, task: Task) -> Iterator[str]:
    """Say what the service itself tells of the task's answers, by name where its log gives names."""
    stream = case.stream(task)
    witness = stream.witness
    if not stream.is_last:
        yield "the job has been filled anew since: its counts are about other tasks"
        return
    if witness is None:
        why = case.history.unwitnessed.get(task.job, "") or case.facts.witness_missing or "it was not asked"
        yield f"what the service counted is not known: {why}"
        return
    detail = witness.detail
    total = "?" if witness.size is None else witness.size
    sums = f"job {task.job} is {detail.status}, {detail.processed} of {total} processed, {detail.failed} failed"
    sent = [lease for lease in task.leases if any(post.is_accepted or post.is_open for post in lease.posts)]
    if witness.recorded is None:
        yield f"its log does not reach back to the job's start, so it names no answers; {sums}"
        return
    recorded, unsaved = (_deliveries(task, subjects) for subjects in (witness.recorded, witness.unsaved))
    for lease in sent:
        if lease.delivery in unsaved:
            yield f"not counted: its log tells that saving the answer to delivery {lease.delivery} failed"
        elif lease.delivery in recorded:
            yield f"counted: its log tells of the answer to delivery {lease.delivery}"
        else:
            yield f"not counted: its log, which is whole, does not tell of an answer to delivery {lease.delivery}"
    yield sums


def _deliveries(task: Task, reply_subjects: frozenset[str]) -> set[int]:
    """Return the deliveries of a task that reply subjects name."""
    read = (antenna.parse_reply_subject(subject) for subject in reply_subjects)
    return {one.delivery for one in read if one is not None and (one.stream, one.sequence, one.published) == task.key}


def _judged(case: Case, task: Task) -> str:
    """Say what became of a task, whose doing that is where it is a failure, and what is worth saying besides."""
    fated = case.fates.of(task)
    whose = f" ({fated.whose.value})" if fated.fate in SOMEBODYS else ""
    cause = f": {fated.cause}" if fated.cause else ""
    marks = f"; also {', '.join(sorted(mark.value for mark in fated.marks))}" if fated.marks else ""
    return f"{fated.fate.value}{whose}: {_MEANINGS[fated.fate]}{cause}{marks}"
