"""How long `ami-fault check` takes to judge a run of very many events, and how much memory."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.environments import Environments
from tests.bench.pairs import Contender, ContenderError
from tests.bench.rows import Goal, Row, spread
from tests.model.folders import BigRun, write_big
from tests.model.scenarios import PROFILES

JUDGING = "judging"
_SAMPLE = 2000  # images of the run from which the number of events an image is taken
_FAULTS = PROFILES["medium"]._replace(ack_wait=60.0, max_deliver=25)
_BATCH = 24
_MEGABYTE = 1024 * 1024 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
_SECONDS = Goal("under 15 s for a million", "median", most=15.0)
_MEMORY = Goal("under 300 MB for a million", "median", most=300.0)
_LINEAR = 1.25  # of the seconds an event of the smaller run
_VERDICTS = (0, 1, 3, 4)


@dataclass(frozen=True)
class Cost:
    """What judging cost: seconds, and megabytes at the peak."""

    seconds: float
    megabytes: float


def rows(environments: Environments, scratch: Path, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Judge a run of each of these numbers of events."""
    python = environments.python("whole", f"{environments.wheel}[report,sandbox]")
    first: float | None = None
    for events in sizes:
        run = _written(scratch, events)
        cost = judged(Contender("check", [python.with_name("ami-fault"), "check", run.path]))
        each = cost.seconds / run.events
        first = first or each
        is_million = 900_000 < run.events < 1_100_000
        subject = f"{run.events:,} events of {run.images:,} tasks"
        yield Row(JUDGING, subject, "s", spread([cost.seconds]), goal=_SECONDS if is_million else None)
        yield Row(JUDGING, f"{subject}, memory", "MB", spread([cost.megabytes]), goal=_MEMORY if is_million else None)
        if events != sizes[0]:
            goal = Goal(f"linear: at most {_LINEAR} times the seconds an event", "ratio", most=_LINEAR)
            against = f"{sizes[0]:,} events"
            yield Row(JUDGING, "microseconds an event", "us", spread([each * 1e6]), against, each / first, goal=goal)


def judged(one: Contender) -> Cost:
    """Run the judge and return what it cost; raises ContenderError if it gave no verdict."""
    command = [os.fspath(part) for part in one.command]
    began = time.monotonic()
    process = subprocess.Popen(command, env=one.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # of this child alone
    seconds, process.returncode = time.monotonic() - began, os.waitstatus_to_exitcode(status)
    if process.returncode not in _VERDICTS:
        raise ContenderError(f"{one.name}: ended with {process.returncode}")
    return Cost(seconds, usage.ru_maxrss / _MEGABYTE)


def _written(scratch: Path, events: int) -> BigRun:
    """Write a modelled run, in a process of its own: a child's peak is never told as less than its parent's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_write, scratch / f"judged-{events}", events).result()


def _write(folder: Path, events: int) -> BigRun:
    sample = write_big(folder / "sample", min(_SAMPLE, max(_BATCH, events // 10)), _FAULTS, batch=_BATCH)
    return write_big(folder / "run", round(events * sample.images / sample.events), _FAULTS, batch=_BATCH)
