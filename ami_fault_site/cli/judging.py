"""Judge a run again, and tell one task's story."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ami_fault_site import report, runfolder, target
from ami_fault_site.cli import verdicts
from ami_fault_site.cli.speaking import RefusedError, app, say, seconds
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.service import JobWatch, Service
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.terms import Gate

_EVERY = 5.0


@app.command()
def check(
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Folders or names; latest.")] = None,
    gate: verdicts.GateOption = Gate.ALL,
    known: verdicts.KnownOption = None,
    strict: verdicts.StrictOption = False,
    ack_wait: verdicts.AckWaitOption = None,
    max_deliver: verdicts.MaxDeliverOption = None,
    baseline: verdicts.BaselineOption = "",
    wait: Annotated[
        str, typer.Option(metavar="TIME", help="Ask the service until every job has ended, so long at most: 30m.")
    ] = "",
    as_json: verdicts.JsonOption = False,
    junit: verdicts.JunitOption = None,
    markdown: verdicts.MarkdownOption = None,
    verbose: verdicts.VerboseOption = False,
    same_service: verdicts.SameServiceOption = False,
) -> None:
    """Judge what is written in one or many run folders, again and offline."""
    verdicts.require_finite("--ack-wait", ack_wait)
    files = (as_json, junit, markdown)
    expected = verdicts.read_known(known or [])
    paths = verdicts.find(run or [runfolder.LATEST])
    asked = verdicts.Asked(gate, expected, strict, *files, baseline, verbose, ack_wait, max_deliver, same_service)
    if wait:
        _wait_for_ends(paths, seconds("--wait", wait), asked)
    raise typer.Exit(verdicts.deliver(paths, asked))


def _wait_for_ends(paths: Sequence[Path], most: float, asked: verdicts.Asked) -> None:
    """Ask the service about the jobs of a run until all have ended, and keep what it says in the run folder."""
    case = verdicts.case_of(paths, asked)
    jobs = {number for number in case.history.jobs if not _has_ended(case, number)}
    if not jobs:
        return
    where = target.find(os.environ, Path.cwd())
    if not where.token:
        say("second witness missing: no token; judging what is there")
        return
    service = Service(where)
    service.probe()
    watch = JobWatch(service, RunFolder(paths[-1]).jobs, (where.token,), every=min(_EVERY, most))
    watch.follow(jobs)
    watch.start()
    say(f"waiting up to {most:g} s for the end of {', '.join(f'job {job}' for job in sorted(jobs))}")
    deadline = time.monotonic() + most
    while time.monotonic() < deadline:
        details = watch.details()
        if all(job in details and details[job].is_final for job in jobs):
            break
        time.sleep(0.2)
    watch.finish(settle=2.0)
    for job, reason in watch.trouble().items():
        say(f"nothing is known of job {job} just now: {reason}")


def _has_ended(case: Case, job: int) -> bool:
    witness = case.facts.witnesses.get(job)
    return witness is not None and witness.detail.is_final


@app.command()
def explain(
    words: Annotated[
        list[str], typer.Argument(metavar="[RUN] TASK", help="TASK: job/sequence, sequence, image id or file name.")
    ],
    ack_wait: verdicts.AckWaitOption = None,
    max_deliver: verdicts.MaxDeliverOption = None,
) -> None:
    """Tell one task's whole story in order: handed out, struck, came back, answered, counted."""
    *run, wanted = words
    if len(run) > 1:
        raise RefusedError(f"explain takes a run and a task, not {' '.join(words)!r}")
    asked = verdicts.Asked(ack_wait=ack_wait, max_deliver=max_deliver)
    case = verdicts.case_of(verdicts.find(run or [runfolder.LATEST]), asked)
    for number, task in enumerate(report.find(case, wanted)):
        print("\n".join(["", *report.tell(case, task)][not number :]))  # noqa: T201  a result
