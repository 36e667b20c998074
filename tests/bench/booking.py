"""What it costs to read very large results and to book what happens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from tests.bench.environments import ON, Environments
from tests.bench.pairs import Contender, probe, told
from tests.bench.rows import Goal, Row, paired, spread

BODY = "on: a result of {:.0f} MB is posted over loopback"
LEDGER = "ledger"
_PROBES = Path(__file__).parent / "probes"
_TENTH = Goal("at most 10 % more", "ratio", most=1.10)
_RATES = {1: Goal("at least 50,000", "median", least=50_000), 16: Goal("at least 100,000", "median", least=100_000)}


def bodies(environments: Environments, scratch: Path, megabytes: int, rounds: int) -> Iterator[Row]:
    """Post a very large result, with the hook off and on."""
    command: list[str | Path] = [environments.ours, _PROBES / "post.py", str(megabytes), "5" if rounds > 1 else "1"]
    off, on = Contender("off", command), Contender("on", command, {**ON, "AMI_TEST_RUN_DIR": str(scratch / "bodies")})
    found = told([off, on], rounds)
    promise = BODY.format(found["off"]["megabytes"][0])
    yield Row(promise, "off", "ms", spread(found["off"]["ms"]))
    yield paired(promise, "on", "ms", found["on"]["ms"], ("off", found["off"]["ms"]), _TENTH)


def ledgers(environments: Environments, scratch: Path, rounds: int, seconds: float) -> Iterator[Row]:
    """Book as fast as it goes, one process by itself and sixteen together."""
    numbers = itertools.count()
    for processes, goal in _RATES.items():
        rates = []
        for _ in range(rounds):
            folder = scratch / "ledgers" / str(next(numbers))
            command: list[str | Path] = [
                environments.ours,
                _PROBES / "append.py",
                str(processes),
                f"{seconds:g}",
                folder,
            ]
            rates.append(probe(Contender("append", command))["per_second"])
        subject = "one process" if processes == 1 else f"{processes} processes together"
        yield Row(LEDGER, f"events a second, {subject}", "", spread(rates), goal=goal)
