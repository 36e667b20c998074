"""Lay out what struck and what the operator did as marks on the timeline."""

from __future__ import annotations

from dataclasses import dataclass

from ami_fault_site.history import Task
from ami_fault_site.report.page.concerns import Concerns
from ami_fault_site.report.page.lanes import Lanes
from ami_fault_site.report.page.timescale import Timescale
from ami_fault_site.verdict.case import Case


@dataclass(frozen=True)
class Mark:
    """One fault that struck, at `at` seconds of the timescale; `tasks` are those concerned."""

    effect: str
    kind: str
    where: str
    lane: int
    at: float
    job: int | None
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class NoteMark:
    """What the operator did, and when, in seconds of the timescale."""

    at: float
    text: str


def marks(case: Case, times: Timescale, lanes: Lanes, concerns: Concerns) -> list[Mark]:
    """Return every fault that struck, in the order of their times."""
    found = []
    for one in case.history.injections:
        process = case.history.processes[one.process]
        lane = lanes.of[case.lives.holder(one.process).key]
        where = one.point or f"{one.site}, {one.phase}"
        tasks = tuple(task for task, _ in concerns.of(one))
        at = times.at(process.clock, one.at)
        found.append(Mark(one.effect.value, one.kind, where, lane, at, one.job, tasks))
    return sorted(found, key=lambda one: (one.at, one.lane))


def notes(case: Case, times: Timescale) -> list[NoteMark]:
    """Return the operator's notes, in the order of their times."""
    return [NoteMark(times.of_wall(one.wall), one.text) for one in sorted(case.history.notes, key=lambda n: n.wall)]
