"""Measure what this package promises, beside what people use in its place, and write one table of it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import booking, calls, crowds, judging, kills, soaks, startups, working
from tests.bench.environments import Environments, build
from tests.bench.rows import Row, as_json, as_markdown


@dataclass(frozen=True)
class Asked:
    """How it is to be measured: `full` as the README quotes it, or just so that everything has run once."""

    environments: Environments
    scratch: Path
    full: bool
    with_peers: bool

    def times(self, full: int, short: int) -> int:
        """Return how often."""
        return full if self.full else short


def _startups(asked: Asked) -> Iterator[Row]:
    yield from startups.identities(asked.environments)
    yield from startups.rows(asked.environments, asked.scratch, asked.times(100, 1), asked.with_peers)


def _calls(asked: Asked) -> Iterator[Row]:
    rounds, number = asked.times(7, 1), asked.times(1_500, 50)
    yield from calls.rows(asked.environments, asked.scratch, rounds, number, asked.with_peers)


def _booking(asked: Asked) -> Iterator[Row]:
    yield from booking.bodies(asked.environments, asked.scratch, asked.times(100, 2), asked.times(9, 1))
    yield from booking.ledgers(asked.environments, asked.scratch, asked.times(7, 1), 2.0 if asked.full else 0.1)


def _working(asked: Asked) -> Iterator[Row]:
    images, rounds, tasks = asked.times(2_000, 12), asked.times(5, 1), asked.times(10_000, 128)
    yield from working.rows(asked.environments, asked.scratch, images, rounds, tasks)


def _judging(asked: Asked) -> Iterator[Row]:
    sizes = (1_000_000, 5_000_000) if asked.full else (1_000, 2_000)
    yield from judging.rows(asked.environments, asked.scratch, sizes)


def _crowds(asked: Asked) -> Iterator[Row]:
    crowd = (1, 2, 4, 8, 16) if asked.full else (2,)
    yield from crowds.rows(asked.environments, asked.scratch, crowd, asked.times(60, 8))


def _kills(asked: Asked) -> Iterator[Row]:
    yield from kills.rows(asked.environments.ours, asked.scratch / "kills", asked.times(250, 2))


def _soaks(asked: Asked) -> Iterator[Row]:
    yield from soaks.growth(asked.environments, asked.scratch, asked.times(200_000, 200))
    yield from soaks.loaders(asked.environments, asked.scratch, asked.times(5_000, 20))


PARTS: dict[str, Callable[[Asked], Iterator[Row]]] = {
    "startups": _startups,
    "calls": _calls,
    "booking": _booking,
    "working": _working,
    "judging": _judging,
    "crowds": _crowds,
    "kills": _kills,
    "soaks": _soaks,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write `bench.md` and `bench.json`, and return 1 if a goal was not met."""
    given = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ami-fault-bench-") as folder:
        scratch = Path(folder)
        wheel = given.wheel or build(scratch / "dist")
        environments = Environments(given.environments or scratch / "environments", wheel.absolute())
        asked = Asked(environments, scratch, not given.short, not given.without_peers)
        rows: list[Row] = []
        for part in given.only or PARTS:
            began = time.monotonic()
            found = list(PARTS[part](asked))
            print(f"{part}: {len(found)} rows in {time.monotonic() - began:.0f} s", file=sys.stderr)
            rows += found
    given.out.mkdir(parents=True, exist_ok=True)
    text = f"{_machine()}\n\n{as_markdown(rows)}"
    (given.out / "bench.md").write_text(text)
    (given.out / "bench.json").write_text(json.dumps({"machine": _machine(), "rows": as_json(rows)}, indent=1) + "\n")
    print(text)
    return int(any(row.is_met is False for row in rows) and not given.short)


def _machine() -> str:
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    day = time.strftime("%Y-%m-%d", time.gmtime())
    cores = os.cpu_count() or 1
    return (
        f"{day}, {model.rpartition(':')[2].strip()}, {cores} processors, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.sh", description=__doc__)
    add = parser.add_argument
    add("--short", action="store_true", help="just see that everything runs: few rounds, no goal is asked for")
    add("--only", action="append", choices=list(PARTS), help="only this part; may be repeated")
    add("--without-peers", action="store_true", help="install and measure nothing but this package")
    add("--out", type=Path, default=Path(), metavar="DIR", help="where bench.md and bench.json go; here")
    add("--wheel", type=Path, metavar="FILE", help="measure this wheel; default: build one")
    add("--environments", type=Path, metavar="DIR", help="make the environments here and keep them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
