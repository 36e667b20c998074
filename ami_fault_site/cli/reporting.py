"""Make the HTML page of one or many runs."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ami_fault_site import report, runfolder, runs
from ami_fault_site.cli import pages, verdicts
from ami_fault_site.cli.speaking import RefusedError, app
from ami_fault_site.report.again import near
from ami_fault_site.verdict import judge
from ami_fault_site.verdict.terms import Gate


@app.command("report")
def report_command(
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Folders or names; latest.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; report.html in the first run's folder.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="A run of whatever service, whose throughput is set beside the others'. May be repeated.",
        ),
    ] = None,
    gate: verdicts.GateOption = Gate.ALL,
    known: verdicts.KnownOption = None,
    ack_wait: verdicts.AckWaitOption = None,
    max_deliver: verdicts.MaxDeliverOption = None,
    baseline: verdicts.BaselineOption = "",
    same_service: verdicts.SameServiceOption = False,
) -> None:
    """Write what one or many runs were as one HTML page, which opens anywhere and needs nothing else."""
    verdicts.require_finite("--ack-wait", ack_wait)
    paths = verdicts.find(run or [runfolder.LATEST])
    asked = verdicts.Asked(
        gate, verdicts.read_known(known or []), baseline=baseline, ack_wait=ack_wait, max_deliver=max_deliver,
        same_service=same_service,
    )  # fmt: skip
    each = [*paths, *verdicts.find(compare or [])]
    compared = {near(path): verdicts.case_of([path], verdicts.Asked()) for path in each} if len(each) > 1 else {}
    with runs.uncollected():
        case = verdicts.case_of(paths, asked)
        made = report.build(
            case,
            judge(case, asked.known),
            paths,
            gate=gate,
            strict=False,
            outcome=None,
            baseline=verdicts.judged_baseline(asked),
        )
    path = paths[0] / pages.PAGE if html is None else html
    try:
        pages.write(path, case, made, compared)
    except OSError as error:
        raise RefusedError(f"--html={str(path)!r}: cannot be written: {error.strerror}") from error
    print(near(path.absolute()))  # noqa: T201  a result
    if open_it and not webbrowser.open(path.absolute().as_uri()):
        raise RefusedError(f"--open: no browser was found; the page is {path}")
