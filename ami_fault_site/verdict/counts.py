"""The check on counts: what the service says of a job's failures agrees with what it was told."""

from __future__ import annotations

from ami_fault_site.history import Ref, Task
from ami_fault_site.verdict.accounts import Account
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

ACCURATE = Check(
    "failure-counts-accurate",
    Group.STABILITY,
    Whose.SERVICE,
    "The service counts as failed exactly the tasks that were answered with an error or given up, and loses none.",
    is_safety=True,
)

_EXHAUSTED = (Fate.EXHAUSTED, Fate.EXHAUSTED_ON_PURPOSE)


def failure_counts_accurate(case: Case) -> Finding:
    """Compare the counts job by job, where the service's have come to rest."""
    accounts = [one for one in case.fates.accounts if one.stream.is_last]
    if not accounts:
        return case.say(ACCURATE, Status.NOT_APPLICABLE, "no job handed anything out")
    if not case.facts.witnesses:
        missing = case.facts.witness_missing or "the service was not asked"
        return case.say(ACCURATE, Status.UNKNOWN, f"second witness missing: {missing}")
    problems, refs, tasks, unknown, agreed = [], [], [], [], []
    for one in accounts:
        judged = _judge(case, one)
        problems += judged.problems
        unknown += judged.unknown
        agreed += judged.agreed
        if judged.problems:
            refs += [ref for task in judged.tasks for ref in _refs(task)]
            tasks += judged.tasks
    if problems:
        return case.say(ACCURATE, Status.FAIL, "; ".join(problems), tasks, refs, judged=len(accounts))
    if unknown:
        return case.say(ACCURATE, Status.UNKNOWN, "; ".join(unknown), judged=len(accounts))
    return case.say(ACCURATE, Status.PASS, "; ".join(agreed), judged=len(accounts))


class _Judged:
    """What is to be said of one job."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.unknown: list[str] = []
        self.agreed: list[str] = []
        self.tasks: list[Task] = []


def _judge(case: Case, one: Account) -> _Judged:
    said, stream = _Judged(), one.stream
    name, witness = f"job {stream.job}", stream.witness
    if witness is None or witness.detail.failed is None:
        said.unknown.append(f"second witness missing for {name}: {stream.missing or 'it gave no counts'}")
        return said
    size, largest = witness.size, stream.size
    if size is not None and largest is not None and size < largest:
        said.problems.append(f"{name} had {largest} images and its counts now add up to {size}")
        said.tasks += [task for task in stream.tasks if case.fates.of(task).fate in _EXHAUSTED]
        return said
    if one.misnamed:
        said.agreed.append(f"{name}: not compared, since {one.misnamed} answers were about other images")
        return said
    failed, least, most = witness.detail.failed, _least(one), _most(one)
    if failed > most and not (case.facts.damage or stream.status == "REVOKED"):
        said.problems.append(f"{name} counts {failed} failed, and at most {most} were answered so or given up")
        said.tasks += _errors(stream.tasks)
    elif failed < least and (witness.settled and (stream.is_final or case.fates.drained(stream))):
        said.problems.append(f"{name} counts {failed} failed, and {least} errors were accepted")
        said.tasks += _errors(stream.tasks)
    elif failed < least:
        said.unknown.append(f"{name} was still at work: {failed} failed of {least} errors accepted")
    else:
        ours = f"{least}" if least == most else f"{least} to {most}"
        said.agreed.append(f"{name}: {failed} failed, {ours} by our count")
    return said


def _least(one: Account) -> int:
    """Return the fewest failures that there can be.

    What another worker may have answered first, and what had been given up before its answer came, is not counted
    again; an error that comes after the end of a job is not counted at all.
    """
    stream = one.stream
    given_up = stream.witness.given_up if stream.witness is not None else 0
    return max(0, one.failed - one.contested - stream.elsewhere - given_up)


def _most(one: Account) -> int:
    """Return the most failures that there can be: what others answered, and what nobody heard, may be among them."""
    stream = one.stream
    given_up = stream.witness.given_up if stream.witness is not None else 0
    delivered = stream.witness.delivered if stream.witness is not None else None
    others = stream.elsewhere
    # Without a whole log nobody knows whether another worker took what came after our last delivery.
    if stream.size is not None and delivered is None:
        others += max(0, stream.size - one.accepted - one.open)
    return one.failed + one.open + given_up + others


def _errors(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.has_error]


def _refs(task: Task) -> list[Ref]:
    return [post.heard_ref for _, post in task.accepted() if post.heard_ref is not None]
