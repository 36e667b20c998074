"""What the modelled service keeps: jobs, their tasks, every delivery of them, and the answers that were sent."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from ami_fault_site.history import TaskKey


@dataclass(eq=False, slots=True)
class Post:
    """One post of results. `outcome` is None until its answer is booked; `arrived` is whether the service took it."""

    is_ours: bool
    host: int = -1
    sent: float = 0.0
    outcome: str | None = None
    arrived: bool = False
    items: list[Answer] = field(default_factory=list)

    @property
    def is_heard(self) -> bool:
        return self.outcome == "accepted"

    @property
    def is_open(self) -> bool:
        """Whether a ledger cannot say if it arrived."""
        return self.outcome in (None, "unheard")


@dataclass(eq=False, slots=True)
class Answer:
    """An answer to one delivery: a success, or an error with its text and, for the truth, its cause."""

    handed: Handed
    error: str | None
    cause: str
    post: Post
    is_recorded: bool = False


@dataclass(eq=False, slots=True)
class Handed:
    """One delivery of a task, made at `at`.

    `is_seen` is whether our ledgers tell of its receipt, `is_lost` whether they tell that it got lost on its way.
    `freed` is when its holder was done with it, and `how` tells in what way: answered, failed-post, dropped,
    lost, abandoned (at an injected error), silently (given up, and no ledger tells of it), unposted, stopped, ended; ""
    while it is held.
    """

    task: Task
    number: int
    consumer: int
    at: float
    left: int
    is_ours: bool
    host: int = -1
    sent: float = 0.0
    received: float | None = None
    stage: str = "loading"
    freed: float | None = None
    how: str = ""
    cause: str = ""
    is_lost: bool = False
    answers: list[Answer] = field(default_factory=list)

    @property
    def is_seen(self) -> bool:
        return self.received is not None

    @property
    def row(self) -> list[object]:
        return [self.task.sequence, self.number, self.consumer, self.task.published]

    @property
    def lease_row(self) -> list[object]:
        return [*self.row, self.left, self.task.image_id, self.task.image_name]

    @property
    def reply_subject(self) -> str:
        task = self.task
        numbers = f"{self.number}.{task.sequence}.{self.consumer}.{task.published}.{self.left}"
        return f"$JS.ACK.job_{task.job}.job-{task.job}-consumer.{numbers}"

    def free(self, now: float, how: str) -> None:
        if self.freed is None:
            self.freed, self.how = now, how


@dataclass(eq=False, slots=True)
class Task:
    """One image of a job. `is_due` is when it may be handed out again, None if never."""

    job: int
    sequence: int
    published: int
    image_id: str
    image_url: str
    image_name: str
    names: tuple[str, ...]
    is_invented: bool = False
    broken: str = ""
    handed: list[Handed] = field(default_factory=list)
    due: float | None = None
    is_acked: bool = False
    is_counted: bool = False
    is_failed: bool = False
    is_given_up: bool = False

    @property
    def key(self) -> TaskKey:
        return f"job_{self.job}", self.sequence, self.published


@dataclass(eq=False)
class Job:
    """A job's state and counts; `processed` and `failed` are None until first set."""

    number: int
    starts: float
    tasks: list[Task]
    size: int
    status: str = "PENDING"
    processed: int | None = None
    failed: int | None = None
    given_up: int = 0
    errors: list[str] = field(default_factory=list)
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    recorded: list[Handed] = field(default_factory=list)
    updated: float = 0.0
    ended: float | None = None
    counts_nothing: bool = False
    fresh: int = 0  # the index of the first task that was never handed out
    delivered: int = 0  # to anybody: the consumer sequence
    vain: list[tuple[float, int]] = field(default_factory=list)  # when, and on which host, ours asked in vain
    has_lost_fetch: bool = False
    _due: list[tuple[float, int, Task]] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "REVOKED")

    @property
    def remaining(self) -> int | None:
        return None if self.processed is None else self.size - self.processed

    def requeue(self, task: Task, at: float) -> None:
        """Let a task be handed out again from this moment on."""
        task.due = at
        heapq.heappush(self._due, (at, len(task.handed) * 10**9 + task.sequence, task))

    def next_due(self) -> float | None:
        """Return when the next task is due again, None if none is."""
        while self._due:
            at, _, task = self._due[0]
            if task.due == at:
                return at
            heapq.heappop(self._due)
        return None

    def take_due(self, now: float) -> Task | None:
        """Take a task whose time is up."""
        at = self.next_due()
        if at is None or at > now:
            return None
        return heapq.heappop(self._due)[2]
