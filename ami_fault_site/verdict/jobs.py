"""Checks on jobs: each ends once, when its work is done, serves nothing after, and does not starve the others."""

from __future__ import annotations

from itertools import pairwise

from ami_fault_site.history import JobRecord, Lease, Ref, Seen, Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.streams import FINAL, Stream
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

ENDS = Check(
    "job-reaches-its-end",
    Group.STABILITY,
    Whose.SERVICE,
    "Every job whose tasks were handed out reaches an end, and stays there.",
    is_safety=True,
)
NOT_EARLY = Check(
    "no-early-success",
    Group.STABILITY,
    Whose.SERVICE,
    "No job is called a SUCCESS while tasks of it are out.",
)
NOTHING_AFTER = Check(
    "nothing-served-after-the-end",
    Group.STABILITY,
    Whose.SERVICE,
    "No task of a job is handed out once the job has ended.",
)
FED = Check(
    "no-starvation",
    Group.STABILITY,
    Whose.SERVICE,
    "No job is passed over while another is served.",
)
INVENTED = Check(
    "no-invented-tasks",
    Group.STABILITY,
    Whose.SERVICE,
    "Nothing is handed out that is not one of the job's tasks.",
)

ENDS_WITHIN = 10.0
"""Seconds within which a job whose last answer has been counted is expected to end."""

REAPED_WITHIN = 1800.0
"""Seconds without an answer after which the reaper must have come: it looks every 15 minutes for jobs idle for 10."""

_GONE = (Fate.EXHAUSTED, Fate.EXHAUSTED_ON_PURPOSE, Fate.LOST)
_VAIN_CALLS = 3


def job_reaches_its_end(case: Case) -> Finding:
    """Look at what the service last said of each job, and at what it said before."""
    streams = [stream for stream in case.streams.all if stream.is_last]
    if not streams:
        return case.say(ENDS, Status.NOT_APPLICABLE, "no job handed anything out")
    failing: list[Stream] = []
    failed: list[str] = []
    unknown: list[str] = []
    ended: list[str] = []
    refs: list[Ref] = []
    for stream in streams:
        back = _went_back(case, stream)
        if back is not None:
            failing.append(stream)
            failed.append(f"job {stream.job} was {back[0].status} and went back to {back[1].status}")
            refs += [back[0].ref, back[1].ref]
            continue
        status, text = _end_of(case, stream)
        {Status.FAIL: failed, Status.UNKNOWN: unknown, Status.PASS: ended}[status].append(text)
        if status is Status.FAIL:
            failing.append(stream)
            refs += [one.ref for one in case.streams.seen(stream.job)[-1:]]
    if failed:
        whose = Whose.SETUP if all(_is_unregistered(case, stream) for stream in failing) else None
        return case.say(ENDS, Status.FAIL, "; ".join(failed), refs=refs, whose=whose, judged=len(streams))
    if unknown:
        return case.say(ENDS, Status.UNKNOWN, "; ".join(unknown), judged=len(streams))
    return case.say(ENDS, Status.PASS, "; ".join(ended), judged=len(streams))


def _is_unregistered(case: Case, stream: Stream) -> bool:
    """Say whether answers of a job cannot be saved, since its pipeline does not declare their algorithms."""
    return any(task.key in case.fates.undeclared for task in stream.tasks)


def _went_back(case: Case, stream: Stream) -> tuple[Seen, Seen] | None:
    """Return the two moments between which a job that had ended was running again, and nobody had restarted it."""
    fillings = sum(1 for one in case.streams.all if one.job == stream.job)
    if fillings > 1 or (stream.witness is not None and stream.witness.restarted):
        return None
    seen = case.streams.seen(stream.job)
    for earlier, later in pairwise(seen):
        # If they overlap, two supervisors asked at once, and it ended in between.
        is_later = earlier.clock == later.clock and later.asked >= earlier.heard
        if is_later and earlier.status in FINAL and later.status not in FINAL:
            return earlier, later
    return None


def _end_of(case: Case, stream: Stream) -> tuple[Status, str]:
    witness = stream.witness
    if witness is None:
        return Status.UNKNOWN, f"job {stream.job}: second witness missing: {stream.missing}"
    detail = witness.detail
    if detail.is_final:
        return Status.PASS, f"job {stream.job} ended with {detail.status}"
    counts = "nothing counted yet" if witness.size is None else f"{detail.processed} of {witness.size} processed"
    if _is_unregistered(case, stream):
        return (
            Status.FAIL,
            f"job {stream.job} is {detail.status}: answers that are not saved keep it from its end ({counts})",
        )
    if detail.remaining == 0 and _counted_for(case, stream) >= ENDS_WITHIN:
        return Status.FAIL, f"job {stream.job} is {detail.status} although all of it is counted ({counts})"
    account = case.fates.account(stream)
    if witness.size is not None and account.accepted >= witness.size and case.fates.drained(stream):
        return Status.FAIL, f"job {stream.job} is {detail.status} although all of it was answered ({counts})"
    idle = witness.wall - _last_traffic(case, stream, witness.wall)
    if idle >= REAPED_WITHIN:
        late = f"job {stream.job} is {detail.status} {idle / 60:.0f} minutes after its last task ({counts})"
        return Status.FAIL, f"{late}; no reaper has taken it: is there one in the service's stack (Celery beat)?"
    what = f"job {stream.job} is {detail.status}, not at its end ({counts})"
    gone = [task for task in stream.tasks if case.fates.of(task).fate in _GONE]
    if gone:
        return Status.UNKNOWN, f"{what}; the reaper has not come yet: `ami-fault check --wait 30m` waits for it"
    return Status.UNKNOWN, what


def _counted_for(case: Case, stream: Stream) -> float:
    """Return for how many seconds the service has been seen with nothing left to count, and no end."""
    complete = [one for one in case.streams.seen(stream.job) if one.remaining == 0 and one.processed]
    if stream.witness is None or not complete:
        return 0.0
    return stream.witness.wall - min(one.wall for one in complete)


def _last_traffic(case: Case, stream: Stream, otherwise: float) -> float:
    leases = [lease for task in stream.tasks for lease in task.leases if lease.is_known]
    times = [case.wall(lease.process, lease.received) for lease in leases]
    times += [case.wall(p.process, p.heard) for t in stream.tasks for _, p in t.accepted() if p.heard is not None]
    return max(times, default=otherwise)


def _first_end(case: Case, stream: Stream, statuses: tuple[str, ...]) -> Seen | None:
    """Return when the service first said that the job had ended; None if it did not, or somebody restarted it."""
    if not stream.is_last or sum(1 for one in case.streams.all if one.job == stream.job) > 1:
        return None
    if stream.witness is not None and stream.witness.restarted:
        return None
    return next((one for one in case.streams.seen(stream.job) if one.status in statuses), None)


def no_early_success(case: Case) -> Finding:
    """Look for tasks that were first answered after the service had called their job a success."""
    ends = {stream.job: _first_end(case, stream, ("SUCCESS",)) for stream in case.streams.all}
    succeeded = [(s, end) for s in case.streams.all if (end := ends[s.job]) is not None]
    if not succeeded:
        return case.say(NOT_EARLY, Status.NOT_APPLICABLE, "no job was seen to become a SUCCESS")
    early: list[Task] = []
    parts: list[str] = []
    refs: list[Ref] = []
    for stream, end in succeeded:
        given_up = stream.witness.given_up if stream.witness is not None else 0
        out = [] if given_up else [task for task in stream.tasks if _was_out(case, task, end)]
        if out:
            early += out
            parts.append(f"job {stream.job} was a SUCCESS while {len(out)} of its tasks were out")
        elif end.remaining:
            parts.append(f"job {stream.job} was a SUCCESS with {end.remaining} images remaining")
        if out or end.remaining:
            refs += [end.ref, *(ref for task in out for ref in _answer_refs(task))]
    if parts:
        return case.say(NOT_EARLY, Status.FAIL, "; ".join(parts), early, refs, judged=len(succeeded))
    jobs = ", ".join(f"job {stream.job}" for stream, _ in succeeded)
    return case.say(NOT_EARLY, Status.PASS, f"nothing was out when {jobs} ended", judged=len(succeeded))


def _was_out(case: Case, task: Task, end: Seen) -> bool:
    """Say whether nobody had answered a task when its job was called a success.

    Certain only if all its deliveries were ours, on the clock that the end was seen on.
    """
    # What was refused, or kept from being sent, is no answer.
    posts = [post for lease in task.leases for post in lease.posts if post.is_accepted or post.is_open]
    sent = [post.sent for post in posts]
    if sent and min(sent) <= end.heard:
        return False
    if not all(lease.is_known and case.ends.clock(lease) == end.clock for lease in task.leases):
        return False
    if len(task.leases) != max(lease.delivery for lease in task.leases):
        return False
    if not sent:
        return case.fates.of(task).fate is Fate.LOST
    return min(lease.received for lease in task.leases) < end.heard


def _answer_refs(task: Task) -> list[Ref]:
    posts = [post for lease in task.leases for post in lease.posts if post.is_accepted or post.is_open]
    return [post.ref for post in posts][:1]


def nothing_served_after_the_end(case: Case) -> Finding:
    """Look for leases that were asked for after the service had said that their job has ended."""
    ended = [(s, end) for s in case.streams.all if (end := _first_end(case, s, FINAL)) is not None]
    asked = [(s, end) for s, end in ended if _asked_after(case.history.job_records.get(s.job), end)]
    if not asked:
        return case.say(NOTHING_AFTER, Status.NOT_APPLICABLE, "nobody asked for tasks of a job that had ended")
    served = [(task, lease, end) for s, end in asked for task in s.tasks for lease in _after(case, task, end)]
    if served:
        refs = [ref for _, lease, end in served for ref in (end.ref, lease.ref)]
        jobs = ", ".join(sorted({f"job {task.job}" for task, _, _ in served}))
        text = f"{len(served)} tasks were handed out after {jobs} had ended"
        return case.say(NOTHING_AFTER, Status.FAIL, text, (t for t, _, _ in served), refs, judged=len(asked))
    return case.say(NOTHING_AFTER, Status.PASS, "asked after the end, and nothing was handed out", judged=len(asked))


def _asked_after(job: JobRecord | None, end: Seen) -> bool:
    return job is not None and end.clock in job.fetched and job.fetched[end.clock].last > end.heard


def _after(case: Case, task: Task, end: Seen) -> list[Lease]:
    return [one for one in task.leases if one.is_known and case.ends.clock(one) == end.clock and one.sent > end.heard]


def no_starvation(case: Case) -> Finding:
    """Look for jobs that were asked for tasks again and again, and gave none, while others did."""
    served = case.history.jobs
    starved = [job for job in case.history.job_records.values() if job.number not in served and _is_starved(case, job)]
    if starved and served:
        names = ", ".join(f"job {job.number}" for job in starved)
        calls = sum(len(moments) for job in starved for moments in job.empty.values())
        refs = [ref for job in starved for tally in job.fetched.values() for ref in tally.refs]
        text = f"{names} gave nothing in {calls} calls or more although it waits for answers, while others were served"
        return case.say(FED, Status.FAIL, text, refs=refs, judged=len(served) + len(starved))
    if len(served) < 2:
        return case.say(FED, Status.NOT_APPLICABLE, "there were not two jobs to serve")
    return case.say(FED, Status.PASS, f"{len(served)} jobs were served", judged=len(served))


def _is_starved(case: Case, job: JobRecord) -> bool:
    """Say whether a job waits for answers, and none of its tasks can be with anybody else.

    What another worker held would have come back within ack_wait, and its answers would move the counts.
    """
    witness = case.facts.witnesses.get(job.number)
    if witness is None or witness.detail.status != "STARTED" or witness.delivered:
        return False
    if not (witness.detail.remaining or (witness.detail.remaining is None and witness.queued)):
        return False  # it may still be collecting its images
    if witness.detail.processed or any(one.processed for one in job.seen):
        return False
    calls = [[sent for sent, _ in asked.values()] for asked in job.empty.values() if len(asked) >= _VAIN_CALLS]
    return any(max(sent) - min(sent) > case.facts.parameters.longest for sent in calls)


def no_invented_tasks(case: Case) -> Finding:
    """Look for tasks beyond those that the job has."""
    known = [stream for stream in case.streams.all if stream.size is not None]
    if not known:
        return case.say(INVENTED, Status.NOT_APPLICABLE, "the size of no job is known")
    total = sum(len(stream.tasks) for stream in known)
    invented = case.with_fate(Fate.UNEXPECTED)
    if invented:
        refs = [ref for _, fated in invented for ref in fated.refs]
        text = f"{len(invented)} of {total} tasks are not the job's: {invented[0][1].cause}"
        return case.say(INVENTED, Status.FAIL, text, (task for task, _ in invented), refs, judged=total)
    return case.say(INVENTED, Status.PASS, f"{total} tasks, each one of its job's", judged=total)
