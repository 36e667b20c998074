"""Write histories as data: what each process of a worker and its supervisor would have booked."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ami_fault_site.faults import Effect
from ami_fault_site.history import History, Place, Task
from ami_fault_site.jobdetail import JobDetail
from ami_fault_site.ledger import Event
from ami_fault_site.settings import Settings
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.facts import Facts, JobWitness, Parameters
from ami_fault_site.verdict.terms import Finding

PUBLISHED = 1_795_438_299_585_001_400
WALL = 1_795_438_300.0
ACK_WAIT = 8.0


@dataclass
class Process:
    """One process: one ledger file. Times are seconds since the beginning of its host's clock."""

    books: Books
    pid: int
    incarnation: int
    host: str
    run: str
    base: float
    part: int = 1  # tells apart processes that had the same number, one after the other
    thread: str = "MainThread"
    events: list[Event] = field(default_factory=list)
    calls: int = 0

    @property
    def file(self) -> str:
        return f"{self.host}-{self.incarnation:04d}-{self.pid}-{self.part}.jsonl"

    def book(self, kind: str, at: float, /, **data: object) -> Event:
        """Book one event."""
        line = len(self.events) + 1
        told = (kind, WALL + self.base + at, at, self.host, self.pid, self.thread, self.incarnation, line)
        self.events.append(Event(*told, data, self.run, self.file, line))
        return self.events[-1]

    def start(self, at: float, parent: int = 1, **origin: object) -> Process:
        """Book the beginning; `origin` is what ledgers of the first days do not tell of it."""
        self.book("start", at, version=1, parent=parent, **origin)
        self.book("armed", at)
        return self

    def poll(self, at: float, *jobs: int) -> None:
        number = self._call("jobs", at, None)
        self.book("jobs", at + 0.05, call=number, job=None, status=200, seconds=0.05, struck=False, jobs=list(jobs))

    def fetch(self, at: float, job: int, *rows: tuple[int, int], seconds: float = 0.05) -> None:
        """Ask for tasks and get these (sequence, delivery) rows."""
        number = self._call("tasks", at - seconds, job)
        leases = [[*self.books.row(job, s, d), 0, str(s), f"{s}.jpg"] for s, d in rows]
        stream = f"job_{job}" if rows else ""
        about = {"call": number, "job": job, "status": 200, "seconds": seconds, "struck": False}
        self.book("leases", at, **about, stream=stream, leases=leases)

    def ask(self, at: float, job: int) -> None:
        """Ask for tasks, and book nothing of what came."""
        self._call("tasks", at, job)

    def refuse_fetch(self, at: float, job: int) -> None:
        """Refuse a tasks call of a loader, because what it fetched now would be lost to a fault that has struck."""
        number = self._call("tasks", at, job)
        why = "budget: an injected fault gave up the job, what is fetched now would be lost"
        told = {"kind": "refused", "site": "tasks", "counted": False, "trigger": "guard", "role": "loader"}
        self.strike(at, Effect.NETWORK, job, call=number, reason=why, **told)  # type: ignore[arg-type]
        about = {"call": number, "job": job, "status": 0, "seconds": 0.001, "struck": True}
        self.book("no-answer", at, **about, error="ConnectionError")

    def hide(self, at: float, *jobs: int) -> None:
        """Book that jobs were taken out of the answer to the last poll."""
        self.book("hidden", at, call=self.calls, jobs=list(jobs))

    def fail(self, at: float, site: str, job: int | None, *, struck: bool, error: str = "", status: int = 0) -> None:
        """Make a call of this site that fails: with an exception, or with a status."""
        number = self._call(site, at, job)
        about = {"call": number, "job": job, "status": status, "seconds": 0.05, "struck": struck}
        if error:
            self.book("no-answer", at + 0.05, **about, error=error)
        else:
            self.book({"tasks": "leases", "jobs": "jobs"}[site], at + 0.05, **about, stream="", leases=[], jobs=[])

    def post(
        self,
        at: float,
        job: int,
        *rows: tuple[int, int],
        outcome: str | None = "accepted",
        failed: tuple[int, ...] = (),
        status: int = 200,
        struck: bool = False,
        error: str = "",
        images: Mapping[int, str] | None = None,
    ) -> None:
        """Post answers to these (sequence, delivery) rows; without an outcome nothing is booked of the end."""
        tasks = [self.books.row(job, s, d) for s, d in rows]
        number = self._call("result", at, job, stream=f"job_{job}", tasks=tasks, failed=list(failed))
        if outcome is None:
            return
        named = [(images or {}).get(s, str(s)) for s, _ in rows]
        about = {"call": number, "job": job, "status": status, "seconds": 0.1, "struck": struck, "error": error}
        errors = [[s, "failed to load image"] for s in failed]
        said = {"outcome": outcome, "stream": f"job_{job}", "tasks": tasks, "errors": errors, "images": named}
        self.book("answer", at + 0.1, **about, **said)

    def image(
        self,
        at: float,
        job: int,
        sequence: int,
        *,
        status: int = 200,
        error: str = "",
        struck: bool = False,
        call: int = 0,
        delivery: int = 1,
    ) -> None:
        about = {"job": job, "status": status, "error": error, "image": str(sequence), "name": f"{sequence}.jpg"}
        row = [sequence, delivery, sequence, PUBLISHED + sequence]
        self.book("image", at, **about, struck=struck, task=row, call=call)

    def open(self, at: float, sequence: int, *, error: str = "", struck: bool = False) -> None:
        self.book("open", at, image=str(sequence), error=error, struck=struck, draw=None, eligible=[])

    def batch(self, at: float, job: int, *rows: tuple[int, int], ends: float | None = 0.5, error: str = "") -> None:
        tasks = [self.books.row(job, s, d) for s, d in rows]
        self.book("batch", at, site="batch", job=job, stream=f"job_{job}", tasks=tasks, draw=None, eligible=[])
        if ends is not None:
            self.book("batch-end", at + ends, job=job, error=error, seconds=ends)

    def strike(
        self,
        at: float,
        effect: Effect,
        job: int | None = None,
        *rows: tuple[int, int],
        image: str = "",
        kind: str = "",
        counted: bool = True,
        site: str = "",
        **more: object,
    ) -> None:
        """Book a fault that is about to strike; `more` are fields that older ledgers have not."""
        tasks = [self.books.row(job or 0, s, d) for s, d in rows]
        sites = {Effect.IMAGE_404: "image", Effect.CORRUPT: "open", Effect.NETWORK: "result"}
        told = {"site": site or sites.get(effect, "batch"), "kind": kind, "phase": "before", "counted": counted}
        about = {"job": job, "stream": f"job_{job}", "image": image, "subject": image, "tasks": tasks, "why": ""}
        self.book("fault", at, effect=effect.value, **{**told, **about, **more})

    def crash(
        self, at: float, mode: str = "exit", *, role: str = "main", job: int | None = None, **more: object
    ) -> None:
        """Book a crash that is about to strike, or a hang."""
        self.strike(at, Effect.CRASH, job, kind=mode, role=role, **more)  # type: ignore[arg-type]

    def attempt(
        self,
        at: float,
        site: str,
        call: int,
        *,
        status: int = 200,
        error: str = "",
        kind: str = "",
        retry_after: float | None = None,
        seconds: float = 0.0,
        job: int | None = None,
        sequence: int = 0,
        phase: str = "before",
    ) -> None:
        """Book the end of an attempt at a call; with a kind, a fault of ours has struck it."""
        image = str(sequence) if sequence else ""
        if kind:
            self.strike(
                at - seconds,
                Effect.NETWORK,
                job,
                image=image,
                kind=kind,
                site=site,
                call=call,
                phase=phase,
                trigger="rule",
            )
        row = [sequence, 1] if sequence else []
        told = {"call": call, "site": site, "job": job, "image": image, "task": row, "number": 1, "status": status}
        how = {"error": error, "struck": bool(kind), "kind": kind, "retry_after": retry_after, "seconds": seconds}
        self.book("try", at, **told, **how, draw=None, eligible=[])

    def lose_tasks(self, at: float, job: int, *rows: tuple[int, int], then: tuple[tuple[int, int], ...] = ()) -> None:
        """Ask for tasks, of which a fault keeps these from the worker; `then` are those that it is given."""
        number = self._call("tasks", at - 0.05, job)
        lost, given = ([[*self.books.row(job, s, d), 0, str(s), f"{s}.jpg"] for s, d in some] for some in (rows, then))
        about = {"call": number, "job": job, "status": 200}
        self.book("lost", at, site="tasks", stream=f"job_{job}", leases=lost, **about)
        if given:
            self.book("leases", at, **about, seconds=0.05, struck=False, stream=f"job_{job}", leases=given)
        else:
            self.book("no-answer", at, **about, seconds=0.05, struck=True, error="ReadTimeout")

    def lose_answer(
        self,
        at: float,
        job: int,
        *rows: tuple[int, int],
        accepted: bool = True,
        closes: bool = True,
        failed: tuple[int, ...] = (),
    ) -> None:
        """Post answers that the service gets, and of which a fault keeps the worker from hearing."""
        tasks = [self.books.row(job, s, d) for s, d in rows]
        number = self._call("result", at, job, stream=f"job_{job}", tasks=tasks, failed=list(failed))
        about = {"call": number, "job": job, "status": 200 if accepted else 500, "stream": f"job_{job}", "tasks": tasks}
        self.book("lost", at + 0.1, site="result", accepted=accepted, **about)
        if closes:
            errors = [[s, "failed to load image"] for s in failed]
            said = {"outcome": "unheard", "error": "ReadTimeout", "errors": errors, "images": [str(s) for s, _ in rows]}
            self.book("answer", at + 0.1, **{**about, "status": 0}, **said, seconds=0.1, struck=True)

    def end(self, at: float) -> None:
        self.book("end", at, events=len(self.events) + 1)

    def _call(self, site: str, at: float, job: int | None, **data: object) -> int:
        self.calls += 1
        told = {"call": self.calls, "site": site, "job": job, "eligible": [], "draw": None}
        self.book("call", at, **{"stream": "", "tasks": [], **told, **data})
        return self.calls


@dataclass
class Supervisor(Process):
    """The supervisor's own file."""

    def spawn(self, at: float, incarnation: int, child: int = 0, worker: int = 1) -> None:
        self.book("spawn", at, incarnation=incarnation, child=child or 10 * incarnation, worker=worker)

    def wait(self, at: float, seconds: float, worker: int = 1) -> None:
        self.book("waiting", at, worker=worker, seconds=seconds)

    def exit(self, at: float, incarnation: int, kind: str, code: int = 86) -> None:
        self.book("exit", at, incarnation=incarnation, code=code, kind=kind, seconds=1.0, last_words=[])

    def seen(
        self, at: float, job: int, status: str, processed: int | None, remaining: int | None, failed: int | None = 0
    ) -> None:
        counts = {"processed": processed, "remaining": remaining, "failed": failed}
        self.book("seen", at, job=job, status=status, **counts, asked=at - 0.02, heard=at)


@dataclass
class Books:
    """All the ledger files of a history."""

    processes: list[Process] = field(default_factory=list)
    numbers: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    counters: dict[int, itertools.count[int]] = field(default_factory=dict)
    fillings: Counter[int] = field(default_factory=Counter)

    def process(
        self, pid: int, incarnation: int = 1, host: str = "h", run: str = "", base: float = 0.0, part: int = 1
    ) -> Process:
        self.processes.append(Process(self, pid, incarnation, host, run, base, part))
        return self.processes[-1]

    def supervisor(self, host: str = "h", run: str = "") -> Supervisor:
        made = Supervisor(self, 1, 0, host, run, 0.0)
        self.processes.append(made)
        return made

    def consumer_sequence(self, job: int, sequence: int, delivery: int) -> int:
        """Number the deliveries of a job in the order in which they are first spoken of."""
        key = (job, self.fillings[job], sequence, delivery)
        if key not in self.numbers:
            self.numbers[key] = next(self.counters.setdefault(job, itertools.count(1)))
        return self.numbers[key]

    def skip(self, job: int, count: int = 1) -> None:
        """Let somebody else have the next deliveries of a job."""
        for _ in range(count):
            next(self.counters.setdefault(job, itertools.count(1)))

    def refill(self, job: int) -> None:
        """Let a job be run again: its stream has the same name, and its numbers begin anew."""
        self.fillings[job] += 1
        self.counters.pop(job, None)

    def row(self, job: int, sequence: int, delivery: int) -> list[object]:
        """Return what a reply subject says: sequence, delivery, consumer sequence and publish time."""
        published = _published(sequence, self.fillings[job])
        return [sequence, delivery, self.consumer_sequence(job, sequence, delivery), published]

    def events(self) -> list[Event]:
        return [event for process in self.processes for event in process.events]

    def history(self) -> History:
        history = History()
        history.add(self.events())
        return history

    def case(self, facts: Facts) -> Case:
        return Case(self.history(), facts)


def witness(
    job: int,
    status: str,
    processed: int | None,
    remaining: int | None,
    failed: int | None = 0,
    *,
    at: float = 100.0,
    settled: bool = True,
    errors: tuple[str, ...] = (),
    given_up: int = 0,
    delivered: int | None = None,
    restarted: bool = False,
    recorded: frozenset[str] | None = None,
    unsaved: frozenset[str] = frozenset(),
    undeclared: Mapping[str, str] | None = None,
    queued: int | None = None,
) -> JobWitness:
    """Return what the service said last of a job."""
    detail = JobDetail(job, status, processed, remaining, failed, errors)
    return JobWitness(
        detail, WALL + at, settled, recorded, unsaved, undeclared or {}, delivered, given_up, restarted, queued
    )


def facts(
    *witnesses: JobWitness,
    ack_wait: float | None = ACK_WAIT,
    max_deliver: int | None = 2,
    damage: tuple[str, ...] = (),
    missing: str = "",
    baseline: float | None = None,
    **settings: object,
) -> Facts:
    """Return what is known besides; `settings` are those of the run."""
    told = Settings(enabled=True, **settings)  # type: ignore[arg-type]
    by_job = {one.detail.job: one for one in witnesses}
    parameters = Parameters(ack_wait, max_deliver)
    return Facts((told,), parameters, by_job, damage, missing, baseline)


def task(history: History, job: int, sequence: int, filling: int = 0) -> Task:
    """Return a task of a history; `filling` counts how often its job had been run again."""
    return history.tasks[f"job_{job}", sequence, _published(sequence, filling)]


def told(finding: Finding) -> tuple[str, str, str]:
    """Return a finding's status, whose it is, and its text."""
    return finding.status.value, finding.whose.value, finding.text


def concerned(finding: Finding) -> list[int]:
    """Return the sequences of the tasks that a finding concerns."""
    return [sequence for _, sequence, _ in finding.tasks]


def lines(places: Iterable[Place]) -> list[str]:
    """Write places as the number of the process that wrote them and the line: `10:3`."""
    return [f"{place.file.split('-')[2]}:{place.line}" for place in places]


def _published(sequence: int, filling: int) -> int:
    return PUBLISHED + filling * 10**9 + sequence
