"""What a ledger tells of, as things: processes, lives, tasks, leases, posts, batches, injections, jobs."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from ami_fault_site.faults import Effect, Role, Trigger

TaskKey: TypeAlias = tuple[str, int, int]
"""Stream, sequence, publish time in nanoseconds: equal on every delivery of a task, different for a retried job."""

LifeKey: TypeAlias = tuple[str, str, int]
"""Run, host and incarnation; where nobody supervised, the negative process id of the worker's first process."""

Ref: TypeAlias = tuple[int, int]
"""A line of a ledger: the number of its process in the history, and the line in that process's file."""

KEPT_REFS = 50
"""How many ledger lines are kept as evidence of something that can happen any number of times."""


@dataclass(frozen=True)
class Place:
    """A line of a ledger file, as people find it."""

    run: str
    file: str
    line: int

    def __str__(self) -> str:
        """Write it as editors and grep do."""
        return f"{self.run + '/' if self.run else ''}{self.file}:{self.line}"


@dataclass
class Process:
    """One process, which is one ledger file. Times are on the monotonic clock `clock`, in seconds.

    `ended` is when it booked its orderly end. `polls` are the times at which it asked for jobs, at most two a second: a
    worker does so only once it has done with, or given up, all that it had before. `job` is the last whose tasks it
    asked for, `slowed` the stretches in which faults of ours kept it waiting. `struck_dead` is the fault that it died
    of if it ran the loop, `lost_loader` if it only loaded, `hung` the fault that it waits in for ever. `marks` are
    moments and lines, a second apart; `is_bystander` is whether it only wrote down what the operator did. `born` and
    `parent_born` are when it and its parent began, in ticks of the host's start, 0 where that is not known.
    """

    number: int
    run: str
    host: str
    clock: int
    pid: int
    incarnation: int
    file: str
    parent: int = 0
    born: int = 0
    parent_born: int = 0
    first: float = 0.0
    last: float = 0.0
    last_line: int = 0
    ended: float | None = None
    polls: list[float] = field(default_factory=list)
    job: int = 0
    slowed: list[tuple[float, float]] = field(default_factory=list)
    struck_dead: Injection | None = None
    lost_loader: Injection | None = None
    hung: Injection | None = None
    marks: list[tuple[float, int]] = field(default_factory=list)
    is_bystander: bool = False

    def moment(self, line: int) -> float:
        """Return when a line was written, or up to a second before, in monotonic seconds."""
        index = bisect_right(self.marks, line, key=lambda mark: mark[1])
        return self.marks[index - 1][0] if index else self.first


@dataclass
class Life:
    """One incarnation of a worker: what is known of its beginning and its end. Times as for Process.

    `worker` is which of the workers it is of that one supervisor runs side by side, from 1.
    `crashed` is whether a fault ended its main process, `hung` whether one keeps it waiting for ever.
    """

    number: int
    run: str = ""
    worker: int = 1
    clock: int | None = None
    armed: bool = False
    crashed: bool = False
    hung: bool = False
    code: int | None = None
    kind: str = ""
    last_words: list[str] = field(default_factory=list)
    refused: bool = False
    began: float | None = None
    ended: float | None = None
    ref: Ref | None = None


@dataclass(slots=True)
class Post:
    """One attempt to post results: `outcome` is "" if nothing was booked of its end.

    `errors` are the error texts by sequence; `sent` and `heard` are monotonic seconds of its process's clock. `lost` is
    whether the service has answered and a fault kept that from the worker: then `outcome` is what the service made of
    it, and `heard` when it did. `cut` is the fault that ended or stopped the process before anything was sent.
    """

    process: int
    sent: float
    ref: Ref
    outcome: str = ""
    heard: float | None = None
    status: int = 0
    error: str = ""
    struck: bool = False
    heard_ref: Ref | None = None
    errors: dict[int, str] = field(default_factory=dict)
    lost: bool = False
    cut: Injection | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the service has taken it, which means queued, not saved."""
        return self.outcome == "accepted"

    @property
    def is_open(self) -> bool:
        """Whether it may have arrived and nobody heard so: the process died, or no answer came."""
        return self.outcome in ("", "unheard")


@dataclass(slots=True)
class Batch:
    """One passage through the worker's task loop."""

    process: int
    began: float
    ref: Ref
    ended: float | None = None
    error: str = ""


@dataclass(slots=True)
class Lease:
    """One delivery of one task. `process` is who received it, -1 if only what was done with it is known.

    `sent` is when it was asked for, `received` when it was there: monotonic seconds of that process's clock. `lost` is
    whether a fault kept it from the worker.
    """

    lost: ClassVar[bool] = False

    delivery: int
    consumer_sequence: int
    process: int = -1
    sent: float = 0.0
    received: float = 0.0
    ref: Ref = (-1, 0)
    copies: tuple[Ref, ...] = ()
    batch: Batch | None = None
    posts: tuple[Post, ...] = ()
    named: str = ""  # the image that its answer was about, if that is not the task's own

    @property
    def is_known(self) -> bool:
        """Whether it is booked when it was handed out: to a worker of ours, or on its way to one."""
        return self.process >= 0

    @property
    def is_seen(self) -> bool:
        """Whether a worker of ours has received it."""
        return self.process >= 0 and not self.lost


class LostLease(Lease):
    """One delivery that a fault kept from the worker: `process` is who had asked, and nobody ever held it."""

    __slots__ = ()  # nor has any other lease a field for this: there are very many
    lost = True


@dataclass(slots=True)
class Task:
    """What became of one task, delivery by delivery, in their order."""

    key: TaskKey
    job: int
    image_id: str = ""
    image: str = ""
    leases: tuple[Lease, ...] = ()

    def lease(self, delivery: int) -> Lease | None:
        """Return the delivery of this number, None if nothing is known of it."""
        for one in self.leases:
            if one.delivery == delivery:
                return one
        return None

    @property
    def handed_out(self) -> int:
        """How many deliveries a worker of ours has received."""
        return sum(1 for lease in self.leases if lease.is_seen)

    def accepted(self) -> list[tuple[Lease, Post]]:
        """Return the answers that the service has taken, in no order."""
        return [(lease, post) for lease in self.leases for post in lease.posts if post.is_accepted]

    @property
    def is_answered(self) -> bool:
        """Whether the service has accepted an answer for it, which means queued, not saved."""
        return any(post.is_accepted for lease in self.leases for post in lease.posts)

    @property
    def is_unheard(self) -> bool:
        """Whether an answer was sent and of its fate nothing is known."""
        return not self.is_answered and any(post.is_open for lease in self.leases for post in lease.posts)

    @property
    def has_error(self) -> bool:
        """Whether an accepted answer was an error."""
        return any(self.key[1] in post.errors for _, post in self.accepted())


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that was carried out. `tasks` are the (task, delivery) pairs in a struck batch, or kept from a worker.

    `point` is where in a worker's life a crash struck, `role` the process that it struck. `call` is the number of the
    call in its process, 0 if it struck none. `seconds` is how long it delays.
    """

    effect: Effect
    kind: str
    site: str
    phase: str
    process: int
    at: float
    ref: Ref
    job: int | None
    image: str
    subject: str
    tasks: tuple[tuple[TaskKey, int], ...] = ()
    point: str = ""
    role: str = Role.MAIN.value
    call: int = 0
    trigger: str = Trigger.RATE.value
    rule: str = ""
    seconds: float = 0.0

    @property
    def is_guard(self) -> bool:
        """Whether nobody asked for it: it keeps more from being lost to a fault that has struck."""
        return self.trigger == Trigger.GUARD.value

    @property
    def is_of_loader(self) -> bool:
        """Whether it struck a process that only loads for the one that runs the loop."""
        return self.role == Role.LOADER.value


@dataclass
class Tally:
    """How often something happened, when first and last, and the first lines that say so."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    earliest: list[tuple[float, Ref]] = field(default_factory=list)

    def add(self, at: float, ref: Ref) -> None:
        """Count one more; files are read in any order, so the earliest lines are kept and not the first read."""
        self.first = min(self.first, at) if self.count else at
        self.last = max(self.last, at) if self.count else at
        self.count += 1
        if len(self.earliest) < KEPT_REFS or at < self.earliest[-1][0]:
            insort(self.earliest, (at, ref))
            del self.earliest[KEPT_REFS:]

    @property
    def refs(self) -> list[Ref]:
        """The earliest lines, up to 50."""
        return [ref for _, ref in self.earliest]


@dataclass
class Seen:
    """What the service said of a job when the supervisor asked: `asked` and `heard` are monotonic seconds."""

    status: str
    processed: int | None
    remaining: int | None
    failed: int | None
    clock: int
    asked: float
    heard: float
    wall: float
    ref: Ref


@dataclass
class JobRecord:
    """What the workers and the supervisor saw of one job. Times by clock, in monotonic seconds.

    `empty` holds, for each whole second in which tasks were asked for and none came, the last such call: when it was
    sent and when it was answered; `asked` the first and the last call in each. So they grow with the length of the run
    and not with the polls.
    """

    number: int
    seen: list[Seen] = field(default_factory=list)
    empty: dict[int, dict[int, tuple[float, float]]] = field(default_factory=dict)
    asked: dict[int, dict[int, tuple[float, float]]] = field(default_factory=dict)
    fetched: dict[int, Tally] = field(default_factory=dict)
    struck_fetches: dict[int, Tally] = field(default_factory=dict)
    last_struck: dict[int, tuple[float, Ref]] = field(default_factory=dict)  # when, and where that is written
    lost_fetches: Tally = field(default_factory=Tally)
    largest: int = 0  # the most tasks that one call was given
    listed: dict[int, Tally] = field(default_factory=dict)  # by process


@dataclass
class Trouble:
    """Failures of one kind that we did not inject: 5xx, refusals, hangs, at one site."""

    site: str
    what: str
    tally: Tally = field(default_factory=Tally)


@dataclass
class Pace:
    """How fast the service answered in a stretch of time: calls by powers of two of milliseconds."""

    calls: int = 0
    buckets: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Note:
    """What the operator did, in words: at `wall` (seconds since 1970), `at` in monotonic seconds of its `clock`."""

    wall: float
    at: float
    clock: int
    text: str
    ref: Ref
    run: str
