"""Draw how far a run is, in a few lines for a terminal of any width."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from ami_fault_site.progress import Standing, WorkerStanding
from ami_fault_site.redaction import redact


def panel(now: Standing, waiting_for: str = "") -> Group:
    """Return the lines; each is cut at the width of the terminal."""
    return Group(*(_cut(line) for line in _lines(now, waiting_for)))


def _lines(now: Standing, waiting_for: str) -> Iterator[Text]:
    yield _counts(now)
    faults = ", ".join(f"{number} {effect}" for effect, number in now.faults.items()) or "none yet"
    yield Text.assemble(("faults   ", "dim"), faults)
    for worker in now.workers:
        yield Text.assemble((f"worker {worker.number} ".ljust(9), "dim"), _worker(worker))
    for job in now.jobs:
        processed, failed, remaining = (
            "?" if one is None else one for one in (job.processed, job.failed, job.remaining)
        )
        theirs = f"service {processed} processed, {failed} failed, {remaining} remaining, {job.status or 'not asked'}"
        yield Text.assemble((f"job {job.number} ".ljust(9), "dim"), f"ours {job.answered} answered; {theirs}")
    for one in now.last:
        at = time.strftime("%H:%M:%S", time.localtime(one.wall))
        yield Text.assemble((f"{at} ", "dim"), _shown(one.text))
    if waiting_for:
        yield Text(f"waiting for {_shown(waiting_for)}", "cyan")


def _counts(now: Standing) -> Text:
    told = Text()
    parts = (
        (now.out, "out"), (now.answered, "answered"), (now.failed, "failed"), (now.came_back, "came back"),
    )  # fmt: skip
    for number, what in parts:
        told.append(f"{number:,}", "bold").append(f" {what}   ")
    return told


def _worker(worker: WorkerStanding) -> str:
    again = "" if worker.resumes_in is None else f"; starts again in {worker.resumes_in:.0f} s"
    return f"incarnation {worker.incarnation}, {worker.state}{again}"


def _cut(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _shown(text: str) -> str:
    """Return foreign text without what would move the cursor or colour what follows."""
    return "".join(one if one.isprintable() else " " for one in redact(text))
