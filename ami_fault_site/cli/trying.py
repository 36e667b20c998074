"""Put the judge on trial, and print which misbehaviour it has caught."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ami_fault_site.cli.speaking import RefusedError, app, say
from ami_fault_site.report.sentence import counted
from ami_fault_site.selftest import Result, run_all
from ami_fault_site.trials import TRIALS, Trial

_MISSED = 1
_PARTS = ("fastapi", "nats", "uvicorn")


@app.command()
def selftest(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds every trial is run with.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 1,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="One trial; may be repeated.")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Trials at a time; three a processor.")] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the run folders here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the matrix as JSON.")] = False,
) -> None:
    """Sabotage a sandbox in every way we know, and see whether the right check catches each; 1 if one is missed."""
    missing = [name for name in _PARTS if find_spec(name) is None]
    if missing:
        raise RefusedError(f"selftest needs {', '.join(missing)}: pip install 'ami-fault-site[sandbox]'")
    trials = _chosen(only or [])
    wanted = range(first_seed, first_seed + seeds)
    with _folder(keep) as folder:
        say(f"{counted(len(trials), 'trial')} with {counted(seeds, 'seed')}, about a minute a seed")
        results = run_all(trials, wanted, folder, at_once or 3 * (os.cpu_count() or 1), _tell)
    console = Console(highlight=False)
    if as_json:
        print(json.dumps([_plain(one) for one in results], indent=1))  # noqa: T201  the result
    else:
        _print(console, results, wanted)
    raise typer.Exit(0 if all(one.is_passed for one in results) else _MISSED)


def _chosen(names: Sequence[str]) -> list[Trial]:
    known = {trial.name: trial for trial in TRIALS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RefusedError(f"--only={unknown[0]!r}: is not a trial; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(TRIALS)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise RefusedError(f"--keep={str(keep)!r}: is a folder that is new or empty")
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="ami-fault-selftest-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _tell(result: Result) -> None:
    word = "right" if result.is_passed else "once more by itself" if result.is_untold else "WRONG"
    say(f"{word}  {result.trial.name}, seed {result.seed}, {result.seconds:.0f} s: {result.problem or result.told}")


def _print(console: Console, results: Sequence[Result], seeds: Sequence[int]) -> None:
    """Print the matrix: a line a trial, a column a seed."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("trial", "to be caught by", "whose", *(f"seed {seed}" for seed in seeds)):
        table.add_column(name)
    for trial in dict.fromkeys(one.trial.name for one in results):
        own = [one for one in results if one.trial.name == trial]
        words = [_word(one) for one in own]
        expected = own[0].trial
        table.add_row(trial, expected.check or "nothing", expected.whose.value if expected.whose else "", *words)
    console.print(table)
    wrong = [one for one in results if not one.is_passed]
    for one in wrong:
        text = f"WRONG  {one.trial.name}, seed {one.seed}: {one.problem}: {one.told}"
        console.print(text, markup=False, soft_wrap=True)
    told = f"{len(results) - len(wrong)} of {counted(len(results), 'trial')} judged rightly"
    console.print(told, style="bold red" if wrong else "bold green")


def _word(result: Result) -> str:
    if not result.is_passed:
        return "WRONG"
    return "clean" if result.trial.is_healthy else "caught"


def _plain(result: Result) -> dict[str, object]:
    return {
        "trial": result.trial.name,
        "check": result.trial.check,
        "whose": result.trial.whose.value if result.trial.whose else "",
        "seed": result.seed,
        "right": result.is_passed,
        "problem": result.problem,
        "told": result.told,
        "seconds": result.seconds,
    }
