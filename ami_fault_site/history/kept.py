"""What is kept of a ledger, and what can be asked of it without judging."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ami_fault_site.faults import Effect, Site
from ami_fault_site.history.attempts import Attempts, Try
from ami_fault_site.history.files import Files
from ami_fault_site.history.records import (
    Batch,
    Injection,
    JobRecord,
    Life,
    Note,
    Pace,
    Place,
    Post,
    Process,
    Ref,
    Task,
    TaskKey,
    Trouble,
)


@dataclass
class Pending:
    """A call that has begun: how it ends stands further down in the same file, or nowhere.

    `is_told` is whether it is booked what the service handed out for it, although a fault kept that from the worker.
    """

    site: str
    job: int
    at: float
    ref: Ref
    post: Post | None = None
    is_told: bool = False


@dataclass
class Kept:
    """Everything that was booked, task by task; its size goes with the tasks and the length of the run.

    `lost_images` are the downloads that failed for good by our doing, by job, sequence, publish time and delivery.
    """

    files: Files = field(default_factory=Files)
    lives: dict[tuple[str, int], Life] = field(default_factory=dict)
    tasks: dict[TaskKey, Task] = field(default_factory=dict)
    job_records: dict[int, JobRecord] = field(default_factory=dict)
    jobs: set[int] = field(default_factory=set)  # of which a worker of ours was handed a task
    injections: list[Injection] = field(default_factory=list)
    broken_batches: list[tuple[int, Batch]] = field(default_factory=list)  # that an exception of the worker's own left
    failed_images: dict[str, Ref] = field(default_factory=dict)  # that we did not touch, and could not be had or opened
    downloads: int = 0  # of task images, as far as they pass through a seam of ours
    troubles: dict[tuple[str, str], Trouble] = field(default_factory=dict)
    paces: dict[tuple[int, int], Pace] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)
    injected_by_rate: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    eligible: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    withheld_as: dict[str, str] = field(default_factory=dict)  # one of many reasons that are alike, for an example
    guarded: int = 0  # fetches that were refused to keep more from being lost to a fault that had struck
    hidden: set[int] = field(default_factory=set)  # jobs that AMI_TEST_JOBS took out of an answer to a poll
    dry: Counter[str] = field(default_factory=Counter)  # what would have struck
    budget: tuple[int, str] | None = None  # max_deliver as the faults were held back by it, and where that is from
    attempts: Attempts = field(default_factory=Attempts)
    lost_images: dict[tuple[int, int, int, int], Injection] = field(default_factory=dict)
    events: int = 0
    unreadable: list[tuple[Ref, str]] = field(default_factory=list)  # events whose fields are not what they should be
    seals: dict[tuple[str, str], int] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    targets: dict[str, set[str]] = field(default_factory=dict)  # the hosts that each run has called
    invocations: dict[str, str] = field(default_factory=dict)
    unwitnessed: dict[int, str] = field(default_factory=dict)  # why the service could not be asked about a job
    pauses: dict[tuple[str, int], tuple[int, float]] = field(default_factory=dict)  # a worker's next start, by clock
    notes: list[Note] = field(default_factory=list)  # in no order
    versions: set[str] = field(default_factory=set)  # program, Python and this package, of every process that armed
    refused_host: str = ""
    last_traffic: float = 0.0  # monotonic seconds of the last lease or answer on this host
    _pending: dict[tuple[int, int], Pending] = field(default_factory=dict)
    _batches: dict[tuple[int, str], Batch] = field(default_factory=dict)
    _faults: dict[tuple[int, int], list[Injection]] = field(default_factory=dict)  # by call, while it is open
    _tries: dict[tuple[int, int], list[Try]] = field(default_factory=dict)  # likewise

    def life(self, number: int, run: str = "") -> Life:
        """Return the record of an incarnation, made at first sight."""
        return self.lives.setdefault((run, number), Life(number, run))

    def job(self, number: int) -> JobRecord:
        """Return the record of a job, made at first sight."""
        return self.job_records.setdefault(number, JobRecord(number))

    @property
    def processes(self) -> list[Process]:
        """Every process that has booked anything, by its number."""
        return self.files.processes

    def place(self, ref: Ref) -> Place:
        """Say where a line stands."""
        return self.files.place(ref)

    @property
    def asked_jobs(self) -> set[int]:
        """The jobs for whose tasks a worker of ours has asked."""
        return {number for number, job in self.job_records.items() if job.fetched or job.empty}

    @property
    def out(self) -> list[Task]:
        """The tasks that were handed out and for which no answer was ever on its way."""
        return [task for task in self.tasks.values() if not task.is_answered and not task.is_unheard]

    @property
    def unheard(self) -> list[Task]:
        """The tasks whose answer was sent by a process that died, or that no answer reached: only the service knows."""
        return [task for task in self.tasks.values() if task.is_unheard]

    @property
    def unended_fetches(self) -> list[tuple[int, int, float, Ref]]:
        """Tasks calls whose end nobody booked, as (job, process, when, line): what they reserved nobody ever saw."""
        calls = self._pending.items()
        fetches = ((key, one) for key, one in calls if one.site == Site.TASKS.value and not one.is_told)
        return [(one.job, key[0], one.at, one.ref) for key, one in fetches]

    def observed_rate(self, effect: Effect) -> float | None:
        """Return injections by rate / eligible calls; None if no call was eligible.

        A call that died before it was booked as eligible is not counted.
        """
        eligible = self.eligible[effect.value]
        return self.injected_by_rate[effect.value] / eligible if eligible else None

    def shortened(self) -> list[tuple[Place, int]]:
        """Return the last line of each file that has fewer than the supervisor counted when its process was gone.

        With the number that it counted; line 0 of a file that is not there any more.
        """
        lines = {(process.run, process.file): process.last_line for process in self.processes}
        found = [(Place(run, file, lines.get((run, file), 0)), sealed) for (run, file), sealed in self.seals.items()]
        return sorted((p for p in found if p[1] > p[0].line), key=lambda pair: (pair[0].run, pair[0].file))

    def unfinished(self) -> list[tuple[str, str]]:
        """Return the supervised runs whose supervisor has not booked its end, as (run, what is missing)."""
        supervised = {process.run for process in self.processes if process.incarnation > 0} | set(self.invocations)
        told = {
            run: "the supervisor's own ledger is missing"
            if run not in self.invocations
            else "the supervisor has not booked the end of the run: it was killed, or the run goes on"
            for run in supervised
            if run not in self.outcomes
        }
        return sorted(told.items())
