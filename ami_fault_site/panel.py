"""Draw how far a run is, in a few lines for a terminal of any width."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ami_fault_site.progress import Standing, WorkerStanding
from ami_fault_site.redaction import redact

_LABEL = 8  # columns: a time of day


def panel(now: Standing, waiting_for: str = "") -> Group:
    """Return the lines; what is longer than the terminal is wide goes on below itself."""
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(no_wrap=True, style="dim", min_width=_LABEL)
    rows.add_column(overflow="fold")
    for label, text in _rows(now):
        rows.add_row(label, text)
    return Group(_counts(now), rows, *([Text(f"waiting for {shown(waiting_for)}", "cyan")] if waiting_for else []))


def _rows(now: Standing) -> Iterator[tuple[str, Text]]:
    faults = ", ".join(f"{number} {effect}" for effect, number in now.faults.items()) or "none yet"
    yield "faults", Text(faults)
    for worker in now.workers:
        yield f"worker {worker.number}", Text(_worker(worker))
    for job in now.jobs:
        processed, failed, remaining = (
            "?" if one is None else one for one in (job.processed, job.failed, job.remaining)
        )
        status = shown(job.status) or "not asked"
        theirs = f"service {processed} processed, {failed} failed, {remaining} remaining, {status}"
        yield f"job {job.number}", Text(f"ours {job.answered} answered; {theirs}")
    for one in now.last:
        yield time.strftime("%H:%M:%S", time.localtime(one.wall)), Text(shown(one.text))


def _counts(now: Standing) -> Text:
    told = Text()
    parts = (
        (now.out, "out"), (now.answered, "answered"), (now.failed, "failed"), (now.came_back, "came back"),
    )  # fmt: skip
    for number, what in parts:
        told.append(f"{number:,}", "bold").append(f" {what}   ")
    told.rstrip()
    return told


def _worker(worker: WorkerStanding) -> str:
    again = "" if worker.resumes_in is None else f"; starts again in {worker.resumes_in:.0f} s"
    return f"incarnation {worker.incarnation}, {worker.state}{again}"


def shown(text: str) -> str:
    """Return foreign text without what would move the cursor or colour what follows."""
    return "".join(one if one.isprintable() else " " for one in redact(text))
