"""The options of a verdict, and how one is made, shown and kept: what `run` and `check` share."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ami_fault_site import report, runfolder, runs
from ami_fault_site.cli import pages
from ami_fault_site.cli.speaking import RefusedError, say
from ami_fault_site.endings import Outcome
from ami_fault_site.history import History
from ami_fault_site.verdict import SLUGS, Case, Verdict, judge
from ami_fault_site.verdict.calm import usual_answer_time
from ami_fault_site.verdict.terms import Gate

GateOption = Annotated[Gate, typer.Option(help="Whose failures decide the exit code.")]
KnownOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CHECK=REASON", help="A failure that is expected: told, and not counted. May be repeated."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 4 if a check could not be judged here.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
JunitOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the findings as JUnit XML.")]
MarkdownOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the report as Markdown, for the summary of a CI job.")
]
BaselineOption = Annotated[
    str, typer.Option(metavar="RUN", help="A run without faults: what fails there too is not blamed on the faults.")
]
AckWaitOption = Annotated[float | None, typer.Option(min=0.001, help="What the service is set to, in seconds.")]
MaxDeliverOption = Annotated[int | None, typer.Option(min=1, help="What the service is set to.")]
SameServiceOption = Annotated[
    bool, typer.Option("--same-service", help="The runs tested one service, under several addresses.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="List the checks that pass, too.")]


@dataclass(frozen=True)
class Asked:
    """How a verdict is to be judged, shown and kept."""

    gate: Gate = Gate.ALL
    known: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    as_json: bool = False
    junit: Path | None = None
    markdown: Path | None = None
    baseline: str = ""
    verbose: bool = False
    ack_wait: float | None = None
    max_deliver: int | None = None
    same_service: bool = False


def read_known(given: Sequence[str]) -> dict[str, str]:
    """Read CHECK=REASON; raises RefusedError that names what is allowed."""
    known = {}
    for text in given:
        slug, equals, reason = text.partition("=")
        if slug not in SLUGS:
            close = difflib.get_close_matches(slug, SLUGS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise RefusedError(f"--known={text!r}: {slug!r} is not a check{hint}; there are {', '.join(SLUGS)}")
        if not equals or not reason.strip():
            raise RefusedError(f"--known={text!r}: is CHECK=REASON, such as {slug}='the service is being mended'")
        known[slug] = reason.strip()
    return known


def find(names: Sequence[str]) -> list[Path]:
    """Return the run folders of these names; raises RefusedError if one is none."""
    try:
        return [runfolder.find(name, Path.cwd() / runfolder.HOME) for name in names]
    except FileNotFoundError as error:
        raise RefusedError(str(error)) from error


def case_of(paths: Sequence[Path], asked: Asked) -> Case:
    """Read run folders for the judge."""
    baseline = None
    if asked.baseline:
        baseline = usual_answer_time(runs.read(find([asked.baseline]))[0])
        if baseline is None:
            raise RefusedError(f"--baseline={asked.baseline!r}: nothing was handed out or answered in that run")
    runs.refuse_copies(paths)
    history, facts = runs.read(paths, runs.Overrides(asked.ack_wait, asked.max_deliver, baseline))
    _refuse_several_services(history, asked)
    return Case(history, replace(facts, damage=(*facts.damage, *runs.gaps(history))))


def judged_baseline(asked: Asked) -> Verdict | None:
    """Judge the run without faults that is compared with, None if there is none."""
    if not asked.baseline:
        return None
    return judge(case_of(find([asked.baseline]), replace(asked, baseline="")))


def _refuse_several_services(history: History, asked: Asked) -> None:
    """Raise RefusedError if the runs tested different services: job 1 of one is not job 1 of another."""
    named = {", ".join(sorted(hosts)): run for run, hosts in history.targets.items()}
    if len(named) > 1 and not asked.same_service:
        told = "; ".join(f"{run} tested {hosts}" for hosts, run in sorted(named.items(), key=lambda pair: pair[1]))
        raise RefusedError(f"{told}: judge them one by one, or say --same-service if that is one service")


def require_writable(asked: Asked) -> None:
    """Raise RefusedError, before a run and not after it, if a file that was asked for cannot be written."""
    for option, path in (("--markdown", asked.markdown), ("--junit", asked.junit)):
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise RefusedError(f"{option}={str(path)!r}: cannot be written: is there such a folder, and is it yours?")


def require_finite(name: str, seconds: float | None) -> None:
    """Raise RefusedError if a number of seconds is none."""
    if seconds is not None and not 0.0 < seconds < float("inf"):
        raise RefusedError(f"{name}={seconds!r}: is a number of seconds above 0")


def deliver(paths: Sequence[Path], asked: Asked, outcome: Outcome | None = None) -> int:
    """Judge, print the report, write what was asked for, and return the exit code.

    `outcome` is how the run has just ended; None judges what is written only, whatever ended it.
    """
    with runs.uncollected():
        case = case_of(paths, asked)
        verdict = judge(case, asked.known)
        before = judged_baseline(asked)
        made = report.build(
            case, verdict, paths, gate=asked.gate, strict=asked.strict, outcome=outcome, baseline=before
        )
    if outcome is not None:
        pages.keep(paths[0], case, made)
    try:
        if asked.as_json:
            print(report.as_json(made), flush=True)  # noqa: T201  the result
        else:
            report.to_terminal(made, Console(highlight=False), verbose=asked.verbose)
    except OSError as error:
        # Nobody reads, or nothing can be written: the exit code still says how it went.
        say(f"the report cannot be printed: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if asked.markdown is not None:
        _write(asked.markdown, report.to_markdown(made), "--markdown")
    if asked.junit is not None:
        _write(asked.junit, report.junit(made), "--junit")
    return made.code


def _write(path: Path, text: str, option: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{option}={str(path)!r}: cannot be written: {error.strerror}") from error
