"""Checks on deliveries: one holder at a time, and an end to coming back."""

from __future__ import annotations

from ami_fault_site.history import Lease, Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Mark
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

ONE_HOLDER = Check(
    "one-holder-at-a-time",
    Group.CRASHES,
    Whose.SERVICE,
    "No task is handed out again before the ack_wait of its last delivery is over.",
)
REDELIVERY_ENDS = Check(
    "redelivery-ends",
    Group.CRASHES,
    Whose.SERVICE,
    "No task is handed out more often than max_deliver, nor again and again although it was answered.",
)

_AGAIN_AFTER_ANSWER = 2  # once may be a background worker that died between saving and acknowledging


def one_holder_at_a_time(case: Case) -> Finding:
    """Look for deliveries that came too soon after the one before."""
    if case.facts.parameters.ack_wait is None:
        copies = [task for task in case.tasks() if any(lease.copies for lease in task.leases)]
        if not copies:
            return case.say(ONE_HOLDER, Status.NOT_APPLICABLE, "ack_wait is not known")
    early = [task for task in case.tasks() if Mark.DELIVERED_EARLY in case.fates.of(task).marks]
    if not early:
        text = f"{len(case.history.tasks)} tasks, none handed out twice within ack_wait"
        return case.say(ONE_HOLDER, Status.PASS, text, judged=len(case.history.tasks))
    pairs = [pair for task in early if (pair := case.fates.early(task)) is not None]
    least = min(seconds for _, _, seconds in pairs)
    refs = [ref for first, second, _ in pairs for ref in (first.ref, second.ref, *first.copies)]
    text = f"{len(early)} tasks were handed out again while they were held, the soonest after {least:.1f} s"
    return case.say(ONE_HOLDER, Status.FAIL, text, early, refs, judged=len(case.history.tasks))


def redelivery_ends(case: Case) -> Finding:
    """Look for tasks that go on coming back."""
    most = case.facts.parameters.max_deliver
    over, again = [], []
    for task in case.tasks():
        if most is not None and max(lease.delivery for lease in task.leases) > most:
            over.append(task)
        elif len(task.leases) > _AGAIN_AFTER_ANSWER and len(_after_answer(case, task)) >= _AGAIN_AFTER_ANSWER:
            again.append(task)
    total = len(case.history.tasks)
    if not over and not again:
        return case.say(REDELIVERY_ENDS, Status.PASS, f"{total} tasks, none came back without end", judged=total)
    parts = [f"{len(over)} tasks were handed out more than {most} times"] if over else []
    parts += [f"{len(again)} tasks came back again and again after their answer was accepted"] if again else []
    refs = [lease.ref for task in [*over, *again] for lease in task.leases]
    return case.say(REDELIVERY_ENDS, Status.FAIL, "; ".join(parts), [*over, *again], refs, judged=total)


def _after_answer(case: Case, task: Task) -> list[Lease]:
    """Return the deliveries that were asked for after an answer to an earlier one had been accepted and kept."""
    found = []
    for lease, post in task.accepted():
        clock = case.history.processes[post.process].clock
        if post.heard is None or lease.named:
            continue
        due = post.heard + case.facts.parameters.longest
        found += [
            one
            for one in task.leases
            if one.is_known and one.delivery > lease.delivery and case.ends.clock(one) == clock and one.sent > due
        ]
    return list({id(one): one for one in found}.values())
