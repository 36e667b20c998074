"""Measure contenders side by side: turn by turn in one run, so that what else the machine does strikes them alike."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

Found = TypeVar("Found")


@dataclass(frozen=True)
class Contender:
    """A command that is measured, by name; `environ` is added to an environment without anything of ours."""

    name: str
    command: Sequence[str | Path]
    environ: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return what it is run with: nothing that changes how Python starts but what was asked for."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("AMI_", "PYTHON", "VIRTUAL_"))}
        return {**kept, **self.environ}


class ContenderError(Exception):
    """A contender that could not be run; the text says what it said."""


def turns(names: Sequence[str], rounds: int, take: Callable[[str], Found]) -> dict[str, list[Found]]:
    """Let each take its turn in every round, each round beginning with another.

    Where there are several, one more comes first, for nothing: files get known, and modules compiled.
    """
    found: dict[str, list[Found]] = {name: [] for name in names}
    for number in range(-1 if rounds > 1 else 0, rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            got = take(name)
            if number >= 0:
                found[name].append(got)
    return found


def durations(contenders: Sequence[Contender], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds that each takes from its start to its end, by name; raises ContenderError."""
    by_name = {one.name: one for one in contenders}
    return turns(list(by_name), rounds, lambda name: _duration(by_name[name]))


def _duration(one: Contender) -> float:
    command, environ = [os.fspath(part) for part in one.command], one.environment()
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    code = process.wait()
    took = time.perf_counter() - began
    if code:
        raise ContenderError(f"{one.name}: {' '.join(command)} ended with {code}")
    return took * 1000


def told(contenders: Sequence[Contender], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run probes, which print a JSON object of lists of figures; return the medians: name -> figure -> a run each."""
    by_name = {one.name: one for one in contenders}
    found = turns(list(by_name), rounds, lambda name: probe(by_name[name]))
    return {name: {figure: [run[figure] for run in runs] for figure in runs[0]} for name, runs in found.items()}


def probe(one: Contender) -> dict[str, float]:
    """Run a probe once and return the median of each figure that it printed; raises ContenderError."""
    command = [os.fspath(part) for part in one.command]
    done = subprocess.run(command, env=one.environment(), capture_output=True, text=True, check=False, timeout=600)
    if done.returncode or not done.stdout:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise ContenderError(f"{one.name}: ended with {done.returncode}: {said}")
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return {name: median(values) for name, values in figures.items()}
