"""List every task in a row, with the story that `explain` tells of it."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass

from ami_fault_site.history import Task
from ami_fault_site.report.story import SOMEBODYS, tell
from ami_fault_site.verdict.case import Case


@dataclass(frozen=True)
class TaskRow:
    """One task: how often it was handed out, and what became of it. `whose` is "" where that is no failure."""

    job: int
    sequence: int
    image: str
    deliveries: int
    fate: str
    whose: str
    marks: str


def rows(case: Case) -> tuple[list[TaskRow], list[Task]]:
    """Return every task, those first that are neither done nor recovered; the tasks come in the same order."""
    notable = {task.key for task, _ in case.fates.notable}
    tasks = sorted(case.tasks(), key=lambda task: (task.key not in notable, task.job, task.key))
    return [_row(case, task) for task in tasks], tasks


def _row(case: Case, task: Task) -> TaskRow:
    fated = case.fates.of(task)
    marks = ", ".join(sorted(mark.value for mark in fated.marks))
    whose = fated.whose.value if fated.fate in SOMEBODYS else ""
    return TaskRow(task.job, task.key[1], task.image, len(task.leases), fated.fate.value, whose, marks)


def packed(case: Case, tasks: list[Task]) -> str:
    """Return the stories of these tasks, in their order, as JSON that is compressed and written in base64."""
    told = [tell(case, task) for task in tasks]
    return base64.b64encode(gzip.compress(json.dumps(told).encode(), compresslevel=6, mtime=0)).decode()
