"""Whether a long run grows, and whether very many short-lived loaders burden the reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench.environments import ON, Environments
from tests.bench.judging import judged
from tests.bench.pairs import Contender, probe
from tests.bench.rows import Goal, Row, paired, spread

GROWTH = "a worker of {:,} calls, from a quarter of them to their end"
LOADERS = "short-lived loaders: `ami-fault check`"
_PROBES = Path(__file__).parent / "probes"
_TASKS = 4  # of each loader
_MEMORY = Goal("at most 1,000 kB more", "median", most=1_000.0)
_DESCRIPTORS = Goal("none more", "median", most=0.0)
_BURDEN = Goal("at most 2 s more", "added", most=2.0)


def growth(environments: Environments, scratch: Path, calls: int) -> Iterator[Row]:
    """Do a worker's calls in one process, and look at what it holds."""
    one = Contender(
        "growing",
        [environments.ours, _PROBES / "growing.py", str(calls)],
        {**ON, "AMI_TEST_RUN_DIR": str(scratch / "grown")},
    )
    found = probe(one)
    promise = GROWTH.format(calls)
    yield Row(promise, "memory", "kB more", spread([found["kilobytes"]]), goal=_MEMORY)
    yield Row(promise, "descriptors", "more", spread([found["descriptors"]]), goal=_DESCRIPTORS)


def loaders(environments: Environments, scratch: Path, number: int) -> Iterator[Row]:
    """Judge the run of very many loaders against one of as many tasks in very few."""
    costs = {}
    for many in (number, 1):
        folder = scratch / f"loaders-{many}"
        command: list[str | Path] = [environments.ours, _PROBES / "loaders.py", str(many), str(number * _TASKS // many)]
        probe(Contender("loaders", command, {**ON, "AMI_TEST_RUN_DIR": str(folder)}))
        python = environments.python("whole", f"{environments.wheel}[report,sandbox]")
        costs[many] = judged(Contender("check", [python.with_name("ami-fault"), "check", folder])).seconds
    against = (f"{number * _TASKS:,} tasks of one loader", [costs[1]])
    yield paired(LOADERS, f"{number * _TASKS:,} tasks of {number:,} loaders", "s", [costs[number]], against, _BURDEN)
