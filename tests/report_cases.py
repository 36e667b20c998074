"""Cases for the reports: a short run that was booked, and verdicts made by hand that say what is to be shown of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ami_fault_site import report
from ami_fault_site.endings import Outcome
from ami_fault_site.faults import Effect
from ami_fault_site.history import Place, TaskKey
from ami_fault_site.report import Report
from ami_fault_site.settings import Settings
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.facts import Facts, JobWitness, Parameters
from ami_fault_site.verdict.terms import Check, Finding, Gate, Group, Status, Verdict, Whose
from tests.booked import PUBLISHED, Books, Process, Supervisor, witness

RUN = Path("/runs/20261123T083731Z-26")
SETTINGS = Settings(seed=26, profile="medium", worker_crash_rate=0.05, image_404_rate=0.02)
PARAMETERS = Parameters(8.0, 2, {"ack_wait": "AMI_TEST_ACK_WAIT", "max_deliver": "the log of job 7"})
INVOCATION = "ami-fault run --sandbox --profile medium --seed 26 --images 4"


@dataclass(frozen=True)
class ShortRun:
    """A run of four tasks of job 7: the second's image is missing, and a crash costs the last two a delivery."""

    books: Books
    supervisor: Supervisor
    first: Process
    second: Process

    def without(self, effect: Effect) -> ShortRun:
        """Return the same without what was booked of a fault."""
        for process in self.books.processes:
            process.events[:] = [one for one in process.events if one.data.get("effect") != effect.value]
        return self


def short_run() -> ShortRun:
    """Book the short run."""
    books = Books()
    supervisor = books.supervisor()
    supervisor.book("began", 0.0, invocation=INVOCATION)
    supervisor.spawn(0.1, 1)
    first = books.process(11).start(0.5)
    first.fetch(1.0, 7, (1, 1), (2, 1), (3, 1), (4, 1))
    first.strike(1.1, Effect.IMAGE_404, 7, image="2", kind="http-404")
    first.batch(1.2, 7, (1, 1), (2, 1), ends=0.2)
    first.post(1.5, 7, (1, 1), (2, 1), failed=(2,))
    rows = [books.row(7, 3, 1), books.row(7, 4, 1)]
    first.book("batch", 1.7, site="batch", job=7, stream="job_7", tasks=rows, draw=0.01, eligible=["crash"])
    first.strike(1.8, Effect.CRASH, 7, (3, 1), (4, 1), kind="exit")
    supervisor.exit(1.9, 1, "injected")
    supervisor.spawn(2.9, 2)
    second = books.process(21, incarnation=2).start(3.0)
    second.fetch(9.3, 7, (3, 2), (4, 2))
    second.batch(9.4, 7, (3, 2), (4, 2), ends=0.2)
    second.post(9.7, 7, (3, 2), (4, 2))
    supervisor.exit(12.0, 2, "ended", code=-15)
    supervisor.book("outcome", 12.1, outcome="drained")
    return ShortRun(books, supervisor, first, second)


def reply_subject(sequence: int, delivery: int = 1) -> str:
    """Return the reply subject of a delivery of job 7."""
    return f"$JS.ACK.job_7.job-7-consumer.{delivery}.{sequence}.{sequence}.{PUBLISHED + sequence}.0"


ENDED = witness(
    7, "SUCCESS", 4, 0, 1, recorded=frozenset({*map(reply_subject, (1, 2)), reply_subject(3, 2), reply_subject(4, 2)})
)
"""What the service says of the short run: all is counted, and its log tells of every answer."""


def facts(*witnesses: JobWitness, settings: Settings = SETTINGS, damage: tuple[str, ...] = ()) -> Facts:
    """Return what is known of the short run besides what was booked."""
    return Facts((settings,), PARAMETERS, {one.detail.job: one for one in witnesses}, damage)


def short_case(known: Facts | None = None) -> Case:
    """Return the short run as a case."""
    return short_run().books.case(facts(ENDED) if known is None else known)


def finding(
    slug: str,
    status: Status = Status.PASS,
    text: str = "all is well",
    whose: Whose = Whose.SERVICE,
    *,
    tasks: Sequence[int] = (),
    lines: Sequence[int] = (),
    group: Group = Group.CRASHES,
    is_safety: bool = False,
    warnings: Sequence[str] = (),
    known: str = "",
) -> Finding:
    """Make a finding about tasks of job 7, proved by lines of the first worker's file."""
    check = Check(slug, group, whose, f"What {slug} means.", is_safety)
    evidence = tuple(Place("", "h-0001-11-1.jsonl", line) for line in lines)
    keys: tuple[TaskKey, ...] = tuple(("job_7", sequence, PUBLISHED + sequence) for sequence in tasks)
    return Finding(check, status, text, whose, keys, evidence, tuple(warnings), len(keys), known)


ACCOUNTED = finding("no-task-lost", text="4 of 4 tasks are accounted for", is_safety=True)
IN_TIME = finding("requeued-in-time", text="2 redeliveries, the slowest after 8.3 s")
ANSWERED = finding("held-tasks-are-answered", text="6 leases", whose=Whose.WORKER, group=Group.STABILITY)
LOST = finding("no-task-lost", Status.FAIL, "2 lost (why)", tasks=(3,), lines=(5,), is_safety=True)
OPEN = finding("no-task-lost", Status.UNKNOWN, "of 2 of 4 tasks it cannot be told", tasks=(4,), is_safety=True)
NOT_STARVED = replace(
    finding("no-starvation", Status.NOT_APPLICABLE, "there were not two jobs to serve", group=Group.STABILITY), judged=0
)


def verdict_of(*findings: Finding, nothing_fired: bool = False) -> Verdict:
    """Return a verdict of these findings, beside some that pass."""
    slugs = {one.check.slug for one in findings}
    passing = [one for one in (ACCOUNTED, IN_TIME, ANSWERED) if one.check.slug not in slugs]
    return Verdict((*passing, *findings), nothing_fired)


def report_of(
    *findings: Finding,
    case: Case | None = None,
    runs: Sequence[Path] = (RUN,),
    gate: Gate = Gate.ALL,
    strict: bool = False,
    outcome: Outcome | None = Outcome.DRAINED,
    code: int | None = None,
    nothing_fired: bool = False,
    baseline: Verdict | None = None,
) -> Report:
    """Make a report on the short run, or on another case."""
    judged = verdict_of(*findings, nothing_fired=nothing_fired)
    about = short_case() if case is None else case
    return report.build(about, judged, runs, gate=gate, strict=strict, outcome=outcome, code=code, baseline=baseline)


def shown(made: Report, verbose: bool = False, width: int = 120, colours: bool = False) -> str:
    """Return what a terminal, or a file, would show."""
    stream = io.StringIO()
    system = "standard" if colours else None
    console = Console(
        file=stream, width=width, highlight=False, force_terminal=colours, color_system=system  # type: ignore[arg-type]
    )  # fmt: skip
    report.to_terminal(made, console, verbose=verbose)
    return stream.getvalue()


def dry_run() -> ShortRun:
    """Book the short run as it is if nothing is touched."""
    run = short_run()
    for process in run.books.processes:
        process.events[:] = [one for one in process.events if one.kind != "fault"]
    for effect in (Effect.CRASH, Effect.IMAGE_404, Effect.CRASH):
        run.second.book("dry", 9.5, effect=effect.value, kind="exit")
    return run


def dry_case() -> Case:
    """Return the dry run as a case."""
    return dry_run().books.case(facts(ENDED, settings=SETTINGS._replace(dry_run=True)))
