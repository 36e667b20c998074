"""Checks on crashes: the tasks of a crashed worker come back, in time, and to another."""

from __future__ import annotations

from ami_fault_site.faults import Effect
from ami_fault_site.history import Lease, Ref, Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.ends import How
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

REQUEUED = Check(
    "crashed-tasks-requeued",
    Group.CRASHES,
    Whose.SERVICE,
    "Every task that a worker held when it crashed or hung is handed out again, as long as it has deliveries left.",
    is_safety=True,
)
IN_TIME = Check(
    "requeued-in-time",
    Group.CRASHES,
    Whose.SERVICE,
    "A task that nobody answered comes back once its ack_wait is over, to whoever asks next.",
)
ANOTHER = Check(
    "picked-up-by-another",
    Group.CRASHES,
    Whose.WORKER,
    "A task that came back after a crash is worked off by another life of a worker, or by one that survived it.",
)


def crashed_tasks_requeued(case: Case) -> Finding:
    """Look at every lease that a crash ended."""
    dropped = [(task, lease) for task, lease, end in case.ended(How.DROPPED) if lease.is_seen and end]
    if not dropped:
        return _nothing_dropped(case, REQUEUED)
    held = {task.key: task for task, _ in dropped}
    fates = {key: case.fates.of(task) for key, task in held.items()}
    lost = [held[key] for key, fated in fates.items() if fated.fate is Fate.LOST]
    refs = [ref for task in lost for ref in fates[task.key].refs]
    if lost:
        text = f"{len(lost)} of {len(held)} tasks that a crashed worker held were never handed out again"
        return case.say(REQUEUED, Status.FAIL, text, lost, refs, judged=len(held))
    unknown = [held[key] for key, fated in fates.items() if fated.fate in (Fate.PENDING, Fate.TAKEN_ELSEWHERE)]
    open_ones = [task for task in unknown if not _is_settled(case, task)]
    if open_ones:
        cause = fates[open_ones[0].key].cause
        text = f"of {len(open_ones)} of {len(held)} tasks that a crashed worker held it cannot be told: {cause}"
        return case.say(REQUEUED, Status.UNKNOWN, text, open_ones, judged=len(held))
    back = {task.key for task, lease in dropped if case.ends.came_back(task, lease)}
    used_up = sum(1 for key, fated in fates.items() if fated.fate is Fate.EXHAUSTED and key not in back)
    last = f"; {used_up} had no delivery left" if used_up else ""
    text = f"{len(held)} tasks were held by workers that crashed, {len(back)} of them came back{last}"
    return case.say(REQUEUED, Status.PASS, text, held.values(), judged=len(held))


def _is_settled(case: Case, task: Task) -> bool:
    """Say whether the service itself counts a task as processed, by whoever that was."""
    return case.stream(task).is_final and not case.waits_for(task)


def _nothing_dropped(case: Case, check: Check) -> Finding:
    if any(lease.is_seen for _, lease, _ in case.ended(How.DROPPED)):
        return case.say(check, Status.NOT_APPLICABLE, "no task that a crashed worker held came back")
    if case.struck(Effect.CRASH):
        return case.say(check, Status.VACUOUS, "no worker held a task when it crashed")
    if case.is_set(Effect.CRASH):
        return case.say(check, Status.VACUOUS, "crashes were set and none struck")
    return case.say(check, Status.NOT_APPLICABLE, "no crash was set, and no worker died")


def requeued_in_time(case: Case) -> Finding:
    """Compare each redelivery with the vain calls before it: late is what was asked for and not given when due."""
    wait = case.facts.parameters.ack_wait
    if wait is None:
        return case.say(IN_TIME, Status.NOT_APPLICABLE, "ack_wait is not known")
    slack = case.facts.parameters.slack
    late: dict[tuple[str, int, int], tuple[Task, float]] = {}
    refs: list[Ref] = []
    judged, slowest = 0, 0.0
    for task, lease, after in _redelivered(case):
        judged += 1
        slowest = max(slowest, after.received - lease.received)
        due = lease.received + wait + slack
        if case.streams.asked_in_vain(task.job, case.ends.clock(lease), due, until=after.sent) is not None:
            seconds = after.received - lease.received
            late[task.key] = (task, max(seconds, late[task.key][1]) if task.key in late else seconds)
            refs += [lease.ref, after.ref]
    if late:
        worst = max(seconds for _, seconds in late.values())
        text = f"{len(late)} of {judged} redeliveries came late, the latest after {worst:.1f} s (ack_wait {wait:g} s)"
        return case.say(IN_TIME, Status.FAIL, text, (task for task, _ in late.values()), refs, judged=judged)
    if not judged:
        return _nothing_dropped(case, IN_TIME)
    text = f"{judged} redeliveries, the slowest after {slowest:.1f} s (ack_wait {wait:g} s)"
    return case.say(IN_TIME, Status.PASS, text, judged=judged)


def _redelivered(case: Case) -> list[tuple[Task, Lease, Lease]]:
    """Return the leases after which the very next delivery was seen, on the same clock."""
    found = []
    for task in case.tasks():
        for lease in task.leases:
            after = task.lease(lease.delivery + 1)
            if (
                after is not None
                and lease.is_known
                and after.is_known
                and case.ends.clock(lease) == case.ends.clock(after)
            ):
                found.append((task, lease, after))
    return found


def picked_up_by_another(case: Case) -> Finding:
    """Look at what became of the tasks that came back after a crash."""
    dropped = [(task, lease, case.ends.came_back(task, lease)) for task, lease, _ in case.ended(How.DROPPED)]
    back = [(task, lease, after) for task, lease, after in dropped if after is not None]
    tasks = {task.key: task for task, _, _ in back}
    if not tasks:
        return _nothing_dropped(case, ANOTHER)
    stuck = [task for task in tasks.values() if case.fates.of(task).fate is Fate.STUCK]
    if stuck:
        text = f"{len(stuck)} of {len(tasks)} tasks came back after a crash, and the next worker never answered them"
        refs = [ref for task in stuck for ref in case.fates.of(task).refs]
        return case.say(ANOTHER, Status.FAIL, text, stuck, refs, judged=len(tasks))
    holder = case.lives.holder
    same = {task.key for task, lease, after in back if holder(lease.process).key == holder(after.process).key}
    text = f"{len(tasks)} tasks of crashed workers were handed to others"
    if same:
        text = f"{len(tasks)} tasks came back after a crash, {len(same)} of them to a worker that had survived it"
    return case.say(ANOTHER, Status.PASS, text, tasks.values(), judged=len(tasks))
