"""Checks on how leases and work go together: what is held is answered, and before its time is up."""

from __future__ import annotations

from ami_fault_site.history import Lease, Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.ends import End, How
from ami_fault_site.verdict.fates import Fate, Mark
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

ANSWERED = Check(
    "held-tasks-are-answered",
    Group.STABILITY,
    Whose.WORKER,
    "A worker that lives answers what it holds, unless a fault keeps it from that.",
)
OUTLIVE = Check(
    "leases-outlive-their-work",
    Group.STABILITY,
    Whose.SETUP,
    "No lease expires while a live worker still works on it: ack_wait is long enough for batch and prefetch.",
)


def held_tasks_are_answered(case: Case) -> Finding:
    """Look for leases that a live worker simply did not answer."""
    kept = [(t, lease, end) for t, lease, end in case.ended(How.ABANDONED) if _is_neglect(case, lease, end)]
    stuck = case.with_fate(Fate.STUCK)
    judged = sum(task.handed_out for task in case.tasks())
    if not kept and not stuck:
        return case.say(ANSWERED, Status.PASS, f"{judged} leases, none neglected by a live worker", judged=judged)
    tasks = {task.key: task for task in (*(t for t, _, _ in kept), *(t for t, _ in stuck))}
    refs = [ref for _, lease, end in kept for ref in (lease.ref, *end.refs)]
    refs += [ref for _, fated in stuck for ref in fated.refs]
    why = kept[0][2].cause if kept else stuck[0][1].cause
    text = f"{len(tasks)} tasks were held by a live worker and not answered: {why}"
    return case.say(ANSWERED, Status.FAIL, text, tasks.values(), refs, judged=judged)


def _is_neglect(case: Case, lease: Lease, end: End) -> bool:
    """Say whether a worker had no reason for leaving a task: it finished the batch, and posted nothing.

    What it had not begun it may have given up with its whole job, because a loader died: that is no neglect.
    """
    if end.whose is not Whose.WORKER or lease.posts or case.facts.damage:
        return False
    return lease.batch is not None and lease.batch.ended is not None and not lease.batch.error


def leases_outlive_their_work(case: Case) -> Finding:
    """Look for tasks that came back while their worker still had them."""
    marked = [task for task in case.tasks() if Mark.EXPIRED_WHILE_HELD in case.fates.of(task).marks]
    late = {task.key: task for task in marked}
    late |= {task.key: task for task, _, _ in case.ended(How.EXPIRED)}
    tasks = {key: task for key, task in late.items() if _is_setups(case, task)}
    slowed = len(late) - len(tasks)
    ours = f"; {slowed} more did since faults of ours slowed their worker" if slowed else ""
    judged = sum(task.handed_out for task in case.tasks())
    wait = case.facts.parameters.ack_wait
    known = "" if wait is None else f" (ack_wait {wait:g} s)"
    if not tasks:
        text = f"{judged} leases, none expired while it was held{known}"
        text += f", but for {slowed} tasks whose worker faults of ours had slowed" if slowed else ""
        return case.say(OUTLIVE, Status.PASS, text, judged=judged)
    used_up = [t for t in tasks.values() if case.fates.of(t).fate in (Fate.EXHAUSTED, Fate.LOST)]
    refs = [lease.ref for task in tasks.values() for lease in task.leases if lease.is_seen]
    if used_up:
        text = f"leases of {len(tasks)} tasks expired while they were held{known}, and {len(used_up)} had no more left"
        return case.say(OUTLIVE, Status.FAIL, text, used_up, refs, judged=judged)
    text = f"leases of {len(tasks)} tasks expired while they were held{known}: each cost a delivery{ours}"
    warning = f"ack_wait is short for batch and prefetch: {len(tasks)} tasks came back while they were held"
    return case.say(OUTLIVE, Status.PASS, text, tasks.values(), refs, warnings=(warning,), judged=judged)


def _is_setups(case: Case, task: Task) -> bool:
    """Say whether a lease of this task expired while it was held, and no fault of ours had slowed its worker."""
    return any(
        (case.ends.of(task, lease).how is How.EXPIRED or case.ends.expired_while_held(task, lease))
        and not case.ends.is_slowed(task, lease)
        for lease in task.leases
    )
