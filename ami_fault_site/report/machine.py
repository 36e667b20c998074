"""Write a report for a machine."""

from __future__ import annotations

import json
from dataclasses import asdict

from ami_fault_site.report.contents import Report


def as_json(report: Report) -> str:
    """Return the whole report as JSON: every task that is concerned, and every line that proves it.

    The worker's and the tasks' figures stand at the top level; `run` and `seed` are those of the first run.
    """
    told = asdict(report)
    worker, tasks = told.pop("worker"), told.pop("tasks")
    first = report.runs[0] if report.runs else None
    of_first = {"run": first.path if first else "", "seed": first.seed if first else -1}
    return json.dumps({**told, **of_first, **worker, **tasks}, indent=1)
