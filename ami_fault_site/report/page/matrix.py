"""Say what became of the tasks that each kind of fault struck."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ami_fault_site.faults import Site
from ami_fault_site.history import Task
from ami_fault_site.report.page.concerns import Concerns
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Fate


class Became(Enum):
    """What became of what a fault struck, the gravest last."""

    NO_TASK = "no task held"
    ABSORBED = "absorbed: answered all the same"
    CAME_BACK = "came back and answered"
    FAILED = "failed for ever"
    OPEN = "cannot be told"
    EXHAUSTED = "exhausted"
    LOST = "lost"


_FAILED = {Fate.FAILED_EXPECTED, Fate.FAILED_TRANSIENT, Fate.FAILED_ORGANIC, Fate.CONFLICT}
_EXHAUSTED = {Fate.EXHAUSTED, Fate.EXHAUSTED_ON_PURPOSE}
_LOST = {Fate.LOST, Fate.STUCK, Fate.UNRECORDED, Fate.NEVER_DELIVERED}
_ANSWERED = {Fate.DONE, Fate.RECOVERED}
_GRAVITY = list(Became)
_AT_IMAGES = (Site.IMAGE.value, Site.OPEN.value)


@dataclass(frozen=True)
class Row:
    """One kind of fault, how often it struck, and what became of it: of several tasks the gravest counts."""

    fault: str
    struck: int
    became: dict[Became, int]


def matrix(case: Case, concerns: Concerns) -> list[Row]:
    """Return a row for each kind of fault that struck, by effect and kind."""
    counts: defaultdict[str, Counter[Became]] = defaultdict(Counter)
    for one in case.history.injections:
        is_of_image = one.site in _AT_IMAGES
        became = _gravest(_of_task(case, task, delivery, is_of_image) for task, delivery in concerns.of(one))
        counts[f"{one.effect.value}: {one.kind}"][became] += 1
    return [
        Row(fault, sum(counts[fault].values()), {one: counts[fault][one] for one in Became if counts[fault][one]})
        for fault in sorted(counts)
    ]


def _gravest(each: Iterable[Became]) -> Became:
    return max(each, key=_GRAVITY.index, default=Became.NO_TASK)


def _of_task(case: Case, task: Task, delivery: int, is_of_image: bool) -> Became:
    """Say what became of a task that was struck at this delivery, 0 if that is not known.

    A task whose image another fault had made bad did not fail for one that struck its batch or its call.
    """
    fate = case.fates.of(task).fate
    if fate in _LOST:
        return Became.LOST
    if fate in _EXHAUSTED:
        return Became.EXHAUSTED
    is_answered = fate in _ANSWERED or (fate is Fate.FAILED_EXPECTED and not is_of_image)
    if fate in _FAILED and not is_answered:
        return Became.FAILED
    if not is_answered:
        return Became.OPEN
    accepted = max((lease.delivery for lease, _ in task.accepted()), default=delivery)
    return Became.CAME_BACK if accepted > max(delivery, 1) else Became.ABSORBED
