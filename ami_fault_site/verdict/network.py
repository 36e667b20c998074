"""Checks on network errors: a failed call costs time and no task, and what always fails does not stop the rest."""

from __future__ import annotations

from ami_fault_site.faults import Effect, Site
from ami_fault_site.history import JobRecord, Ref, Task, TaskKey
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.ends import How
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

RESUMED = Check(
    "failed-fetch-resumed",
    Group.NETWORK,
    Whose.WORKER,
    "After a failed tasks call the worker asks again, until the job has ended.",
)
REDELIVERED = Check(
    "failed-post-redelivered",
    Group.NETWORK,
    Whose.SERVICE,
    "A task whose answer never arrived is handed out again, as long as it has deliveries left.",
    is_safety=True,
)
NOT_BLOCKED = Check(
    "persistent-errors-do-not-block",
    Group.NETWORK,
    Whose.WORKER,
    "Errors that last are reported, and the other tasks of the job are answered all the same.",
)


def failed_fetch_resumed(case: Case) -> Finding:
    """Look for a good tasks call after the last one that we made fail."""
    struck = [job for job in case.history.job_records.values() if job.struck_fetches]
    if not struck:
        return _nothing_struck(case, RESUMED, f"no {Site.TASKS.value} call was struck", Site.TASKS)
    count = sum(tally.count for job in struck for tally in job.struck_fetches.values())
    silent = [job for job in struck if not _is_resumed(case, job)]
    if not silent:
        calls = f"{count} tasks call{' was' if count == 1 else 's were'} made to fail"
        text = f"{calls}, {'and' if count == 1 else 'each'} was followed by another"
        return case.say(RESUMED, Status.PASS, text, judged=count)
    refs = [job.last_struck[clock][1] for job in silent for clock in _silent_clocks(job)]
    names = ", ".join(f"job {job.number}" for job in silent)
    if case.facts.damage:
        text = f"the ledger is not complete: whether tasks of {names} were asked for again cannot be told"
        return case.say(RESUMED, Status.UNKNOWN, text, refs=refs, judged=count)
    if any(_lived_on(case, job) for job in silent):
        text = f"after a failed tasks call the worker lived on and did not ask for tasks of {names} again"
        return case.say(RESUMED, Status.FAIL, text, refs=refs, judged=count)
    text = f"the run ended before the worker asked for tasks of {names} again"
    return case.say(RESUMED, Status.UNKNOWN, text, refs=refs, judged=count)


def _is_resumed(case: Case, job: JobRecord) -> bool:
    witness = case.facts.witnesses.get(job.number)
    if witness is not None and witness.detail.is_final:
        return True
    return not _silent_clocks(job)


def _silent_clocks(job: JobRecord) -> list[int]:
    """Return the clocks on which no good call came after the last that was struck."""
    good = {clock: tally.last for clock, tally in job.fetched.items()}
    return [clock for clock, tally in job.struck_fetches.items() if good.get(clock, tally.last) <= tally.last]


def _lived_on(case: Case, job: JobRecord) -> bool:
    """Say whether the life that was struck last was told of the job again, and went on to yet another poll.

    Between two polls a worker is done with all jobs that it was told of.
    """
    for clock in _silent_clocks(job):
        at, ref = job.last_struck[clock]
        holder = case.lives.holder(ref[0])
        for number, tally in job.listed.items():
            process = case.history.processes[number]
            again = bool(process.polls) and process.polls[-1] > tally.last
            if tally.last > at and again and case.lives.holder(number).key == holder.key:
                return True
    return False


def failed_post_redelivered(case: Case) -> Finding:
    """Look at every lease whose result post we made fail; what the service took all the same needs not come back."""
    tasks: dict[TaskKey, Task] = {}
    for task, lease, end in case.ended(How.ABANDONED):
        if lease.posts and end.is_ours:
            tasks[task.key] = task
    taken = sum(1 for task in case.tasks() for _, post in task.accepted() if post.lost)
    unheard = f"{taken} answers were accepted, and the reply was lost" if taken else ""
    if not tasks:
        if taken:
            return case.say(REDELIVERED, Status.PASS, f"{unheard}: none had to come back", judged=taken)
        return _nothing_struck(case, REDELIVERED, f"no {Site.RESULT.value} post was struck", Site.RESULT)
    lost = [task for task in tasks.values() if case.fates.of(task).fate is Fate.LOST]
    if lost:
        refs: list[Ref] = [ref for task in lost for ref in case.fates.of(task).refs]
        text = f"{len(lost)} of {len(tasks)} tasks whose answer never arrived were not handed out again"
        return case.say(REDELIVERED, Status.FAIL, text, lost, refs, judged=len(tasks))
    open_ones = [t for t in tasks.values() if case.fates.of(t).fate in (Fate.PENDING, Fate.TAKEN_ELSEWHERE)]
    waiting = [task for task in open_ones if case.waits_for(task)]
    if waiting:
        cause = case.fates.of(waiting[0]).cause
        text = f"of {len(waiting)} of {len(tasks)} tasks whose answer never arrived it cannot be told: {cause}"
        return case.say(REDELIVERED, Status.UNKNOWN, text, waiting, judged=len(tasks))
    text = f"the answers to {len(tasks)} tasks were kept from arriving; all of them are accounted for"
    text += f"; {unheard}" if unheard else ""
    return case.say(REDELIVERED, Status.PASS, text, tasks.values(), judged=len(tasks))


def persistent_errors_do_not_block(case: Case) -> Finding:
    """Look at the tasks that were not struck in jobs some of whose images always fail."""
    bad = case.fates.spoilt.images
    if not bad:
        if case.is_set(Effect.IMAGE_404, Effect.CORRUPT):
            return case.say(NOT_BLOCKED, Status.VACUOUS, "lasting errors were set and none struck")
        return case.say(NOT_BLOCKED, Status.NOT_APPLICABLE, "no lasting error was set")
    jobs = {task.job for task in case.tasks() if task.image_id in bad}
    others = [task for task in case.tasks() if task.job in jobs and task.image_id not in bad and task.handed_out]
    blocked = [task for task in others if case.fates.of(task).fate is Fate.STUCK]
    answered = [task for task in others if task.is_answered or task.is_unheard]
    if blocked:
        text = f"{len(blocked)} of {len(others)} tasks beside {len(bad)} bad images were held and never answered"
        refs = [ref for task in blocked for ref in case.fates.of(task).refs]
        return case.say(NOT_BLOCKED, Status.FAIL, text, blocked, refs, judged=len(others))
    text = f"{len(answered)} of {len(others)} tasks beside {len(bad)} bad images were answered"
    return case.say(NOT_BLOCKED, Status.PASS, text, judged=len(others))


def _nothing_struck(case: Case, check: Check, text: str, site: Site) -> Finding:
    if case.is_set(Effect.NETWORK, at=(site,)):
        return case.say(check, Status.VACUOUS, text)
    return case.say(check, Status.NOT_APPLICABLE, "no network error was set")
