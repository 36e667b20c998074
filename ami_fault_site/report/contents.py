"""What a report holds, as plain data: whatever shows it needs nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ami_fault_site.history import Place

NOT_JUDGED = ("unknown", "vacuous", "not-applicable")
"""The states of a check that has come to no judgement."""


@dataclass(frozen=True)
class NamedTask:
    """A task by its names; `published` is in nanoseconds, and tells the tasks of a retried job from the first."""

    job: int
    sequence: int
    image: str
    image_id: str
    published: int

    def __str__(self) -> str:
        """Name it as `ami-fault explain` takes it, with the image behind."""
        return f"{self.job}/{self.sequence} ({self.image})" if self.image else f"{self.job}/{self.sequence}"


@dataclass(frozen=True)
class NoteRow:
    """What the operator did, in words, at `wall` (seconds since 1970). `line` is where it stands in the ledger."""

    wall: float
    text: str
    run: str
    line: str

    def __str__(self) -> str:
        """Say it with its time of day, which is UTC as all names of runs are."""
        return f"operator, {time.strftime('%H:%M:%S', time.gmtime(self.wall))} UTC: {self.text}"


def ledger_line(place: Place) -> str:
    """Say where a line of a ledger stands, seen from the run's folder; with several runs the run's name comes first."""
    return f"{place.run + '/' if place.run else ''}ledger/{place.file}:{place.line}"


@dataclass(frozen=True)
class ToldFinding:
    """What one check says. `is_gated` is whether its failure decides the exit code, `known` why it was expected.

    `evidence` are lines of ledger files under the run's folder, as file:line, `notes` what the operator did shortly
    before one of them was written. `in_baseline` is whether it fails in the run without faults as well.
    """

    check: str
    group: str
    whose: str
    status: str
    text: str
    meaning: str
    is_safety: bool
    is_gated: bool
    judged: int
    known: str
    tasks: tuple[NamedTask, ...]
    evidence: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[NoteRow, ...] = ()
    in_baseline: bool = False

    @property
    def fails(self) -> bool:
        """Whether it is a failure that nobody had expected."""
        return self.status == "fail" and not self.known


@dataclass(frozen=True)
class FaultRow:
    """One kind of fault: how often it was set to strike (in each run), could have struck, and struck."""

    effect: str
    set_rates: tuple[float, ...]
    eligible: int
    injected: int
    observed_rate: float | None


@dataclass(frozen=True)
class AttemptRow:
    """The calls of one site where faults strike each attempt at them.

    `absorbed` are the calls that a fault struck and that came well through it, `failed` those that failed for it.
    """

    site: str
    calls: int
    absorbed: int
    failed: int
    tries: int
    struck: int


@dataclass(frozen=True)
class OrganicExit:
    """An end of the worker's own making, with the last lines of its output.

    `is_after_loader` is whether a fault of ours had just ended a loader of it: it did not get over that.
    """

    run: str
    incarnation: int
    exit: str
    last_words: tuple[str, ...]
    is_after_loader: bool = False


@dataclass(frozen=True)
class WorkerFigures:
    """The lives of the worker: those that a supervisor numbered, and those that nobody supervised.

    `injected_exits` are lives that a crash or a hang of ours ended, `loader_crashes` those that struck a loader,
    `outlived_crashes` those that ended nothing: much code swallows a SystemExit, or the run ended before a hang.
    """

    incarnations: int
    injected_exits: int
    organic_exits: tuple[OrganicExit, ...]
    unsupervised: int
    unsupervised_crashes: int
    loader_crashes: int = 0
    outlived_crashes: int = 0


@dataclass(frozen=True)
class TaskFigures:
    """What became of the tasks, in numbers.

    `total` are those that anything is known of, `taken_by_others` those of `still_out` that another worker has.
    `fates` and `marks` are counted by name, `exhausted_by` says by whose doing deliveries were used up. Of what a fault
    kept from the worker, `lost_answers` are tasks whose answer was accepted all the same, `lost_leases` deliveries that
    got lost on their way, `kept_back` those that were kept back on purpose.
    """

    total: int
    handed_out: int
    answered: int
    answered_with_error: int
    came_back: int
    unheard: int
    still_out: int
    taken_by_others: int
    fates: dict[str, int]
    marks: dict[str, int]
    exhausted_by: dict[str, int]
    lost_answers: int = 0
    lost_leases: int = 0
    kept_back: int = 0


@dataclass(frozen=True)
class Recovery:
    """How long unanswered tasks took to come back, in seconds from receipt to receipt on one clock."""

    redeliveries: int
    median_seconds: float | None
    slowest_seconds: float | None


@dataclass(frozen=True)
class JobRow:
    """Our counts of a job beside the service's own, None where it gave none.

    A job that was filled anew has a row for each filling, and the service's counts stand in the last. `elsewhere` are
    deliveries that others got, `missing` says why the service could not be asked.
    """

    job: int
    filling: int
    is_last: bool
    tasks: int
    answered: int
    with_error: int
    unheard: int
    elsewhere: int
    status: str
    processed: int | None
    failed: int | None
    remaining: int | None
    given_up: int
    missing: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class ParameterRow:
    """How the service is set, as far as that is known, and where it was learnt."""

    name: str
    value: float | None
    unit: str
    source: str

    def __str__(self) -> str:
        """Say it with its source, or that it is not known."""
        if self.value is None:
            return f"{self.name} unknown"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} {self.value:g}{unit} ({self.source})"


@dataclass(frozen=True)
class RunRow:
    """One run folder.

    `path` is its whole path and `near` the same seen from here; `name` tells it from others in the same report, ""
    if it is alone; `typed` is how a command takes it, and `again` the line that does the same run again.
    """

    path: str
    near: str
    name: str
    typed: str
    seed: int
    profile: str
    outcome: str
    again: str


@dataclass(frozen=True)
class Report:
    """Everything that a rendering shows. `status` is the verdict in one word, `headline` in one sentence.

    `deaths` counts crashes and hangs by how and where, `dry` what a dry run would have struck (None if it was none).
    `guarded` are fetches that were refused to keep more from being lost to a fault, `hidden_jobs` those that
    AMI_TEST_JOBS kept from the worker.
    """

    headline: str
    status: str
    code: int
    outcome: str
    gate: str
    strict: bool
    nothing_fired: bool
    runs: tuple[RunRow, ...]
    findings: tuple[ToldFinding, ...]
    worker: WorkerFigures
    faults: tuple[FaultRow, ...]
    kinds: dict[str, int]
    deaths: dict[str, int]
    attempts: tuple[AttemptRow, ...]
    dry: dict[str, int] | None
    withheld: dict[str, int]
    guarded: int
    hidden_jobs: tuple[int, ...]
    tasks: TaskFigures
    recovery: Recovery
    jobs: tuple[JobRow, ...]
    parameters: tuple[ParameterRow, ...]
    ledger_problems: tuple[str, ...]
    next: tuple[str, ...]
    notes: tuple[NoteRow, ...] = ()

    def finding(self, check: str) -> ToldFinding | None:
        """Return what a check says, None if it was not carried out."""
        return next((one for one in self.findings if one.check == check), None)

    def parameter(self, name: str) -> float | None:
        """Return how the service is set, None if that is not known."""
        return next((one.value for one in self.parameters if one.name == name), None)

    @property
    def failures(self) -> tuple[ToldFinding, ...]:
        """The unexpected failures that decide the exit code."""
        return tuple(one for one in self.findings if one.fails and one.is_gated)

    @property
    def ungated(self) -> tuple[ToldFinding, ...]:
        """The unexpected failures that do not, because of the gate."""
        return tuple(one for one in self.findings if one.fails and not one.is_gated)

    @property
    def known(self) -> tuple[ToldFinding, ...]:
        """The failures that were expected."""
        return tuple(one for one in self.findings if one.status == "fail" and one.known)
