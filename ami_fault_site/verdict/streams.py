"""Say what of each job's stream our ledgers saw: its tasks, the deliveries that others got, whether it was drained."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from ami_fault_site.history import History, Ref, Seen, Task
from ami_fault_site.verdict.facts import Facts, JobWitness
from ami_fault_site.verdict.lives import Lives

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


@dataclass
class Stream:
    """One filling of a job's stream; a retried job has another. `tasks` are in the order of their sequences.

    `elsewhere` counts the deliveries that nobody of ours has booked: the consumer sequences missing below the highest
    that we know, or as many as the job's log tells of beyond ours, which also counts those after our last. Another
    worker got them, or they were reserved by an answer that got lost: `unseen` counts the tasks calls that could have
    done that, and `unseen_ours` says whether each of them was cut off by an injected crash.
    """

    job: int
    tasks: list[Task]
    is_last: bool
    elsewhere: int = 0
    unseen: int = 0
    largest_fetch: int = 0
    unseen_ours: bool = False
    unseen_refs: list[Ref] = field(default_factory=list)
    witness: JobWitness | None = None
    missing: str = ""  # why the service could not be asked about the job
    largest_size: int | None = None

    @property
    def size(self) -> int | None:
        """How many tasks the job has by the service's own counts, at their largest; None if that is not known."""
        return self.largest_size if self.is_last else None

    @property
    def is_counted(self) -> bool:
        """Whether the job's log tells of every delivery: else one after our last may have gone to another worker."""
        return self.witness is not None and self.witness.delivered is not None

    @property
    def is_explained(self) -> bool:
        """Whether the tasks calls that were cut off explain every delivery that nobody booked."""
        return self.elsewhere <= self.unseen * self.largest_fetch

    @property
    def most_missed(self) -> int:
        """How many deliveries of one task there can be of which nothing is booked: one call has a task once at most."""
        return self.unseen if self.is_explained else self.elsewhere

    @property
    def is_final(self) -> bool:
        """Whether the service has ended the job."""
        return self.is_last and self.witness is not None and self.witness.detail.is_final

    @property
    def status(self) -> str:
        """What the service calls the job's state, "" if it was not asked."""
        return self.witness.detail.status if self.witness is not None and self.is_last else ""


class Streams:
    """The streams of all jobs in a history."""

    def __init__(self, history: History, lives: Lives, facts: Facts) -> None:
        self._history = history
        self._lives = lives
        self._facts = facts
        self._empty = {
            (job.number, clock): sorted(moments.values())
            for job in history.job_records.values()
            for clock, moments in job.empty.items()
        }
        by_name: dict[tuple[int, str], list[Task]] = {}
        for task in history.tasks.values():
            by_name.setdefault((task.job, task.key[0]), []).append(task)
        self.all: list[Stream] = []
        for (job, _), tasks in sorted(by_name.items()):
            fillings = list(_fillings(tasks))
            for number, filling in enumerate(fillings, 1):
                self.all.append(self._stream(job, filling, number == len(fillings), len(fillings) == 1))
        self._by_name: dict[tuple[int, str], list[Stream]] = {}
        for stream in self.all:
            self._by_name.setdefault((stream.job, stream.tasks[0].key[0]), []).append(stream)

    def of(self, task: Task) -> Stream:
        """Return the stream that a task is in."""
        fillings = self._by_name[task.job, task.key[0]]
        later = (one for one in reversed(fillings) if one.tasks[0].key[2] <= task.key[2])
        return fillings[0] if len(fillings) == 1 else next(later)

    def asked_in_vain(self, job: int, clock: int, since: float, until: float = float("inf")) -> float | None:
        """Return when, after `since`, tasks of a job were first asked for in vain; None if that never happened.

        Only a call that had been answered by `until` counts.
        """
        calls = self._empty.get((job, clock), [])
        index = bisect_left(calls, (since, 0.0))
        return calls[index][0] if index < len(calls) and calls[index][1] <= until else None

    def seen(self, job: int) -> list[Seen]:
        """Return what the service said of a job, in the order of the asking."""
        record = self._history.job_records.get(job)
        return sorted(record.seen, key=lambda one: (one.clock, one.asked)) if record is not None else []

    def served_until(self, stream: Stream, clock: int) -> float:
        """Return until when a vain call says that no task waits: once a job has ended, none is handed out any more.

        The last moment on this clock at which the service was asked and said that the job goes on.
        """
        if not stream.is_final:
            return float("inf")
        on = [one.asked for one in self.seen(stream.job) if one.clock == clock and one.status not in FINAL]
        return max(on, default=float("-inf"))

    def drained(self, stream: Stream) -> bool:
        """Say whether somebody of ours asked in vain, before the job ended, after every lease of it was due again."""
        parameters = self._facts.parameters
        last: dict[int, float] = {}
        for task in stream.tasks:
            for lease in task.leases:
                if lease.is_known:
                    clock = self._history.processes[lease.process].clock
                    last[clock] = max(last.get(clock, 0.0), lease.received)
        wait = parameters.longest + parameters.slack
        return any(
            self.asked_in_vain(stream.job, clock, at + wait, self.served_until(stream, clock)) is not None
            for clock, at in last.items()
        )

    def _stream(self, job: int, tasks: list[Task], is_last: bool, is_only: bool) -> Stream:
        known = sum(len(task.leases) for task in tasks)
        highest = max(lease.consumer_sequence for task in tasks for lease in task.leases)
        stream = Stream(job, tasks, is_last, elsewhere=max(0, highest - known))
        unseen = [(process, ref) for number, process, _, ref in self._history.unended_fetches if number == job]
        record = self._history.job_records.get(job)
        lost = record.lost_fetches if record is not None else None
        stream.largest_fetch = record.largest if record is not None else 0
        stream.unseen = len(unseen) + (lost.count if lost else 0)
        cut_off = all(self._is_cut_off(process) for process, _ in unseen)
        stream.unseen_ours = bool(unseen) and cut_off and not (lost and lost.count)
        stream.unseen_refs = [*(ref for _, ref in unseen), *(lost.refs if lost else [])]
        stream.witness = self._facts.witnesses.get(job)
        why = self._history.unwitnessed.get(job) or self._facts.witness_missing
        stream.missing = "" if stream.witness is not None else why or f"nothing was kept of what it said of job {job}"
        if is_only and stream.witness is not None and stream.witness.delivered is not None:
            stream.elsewhere = max(stream.elsewhere, stream.witness.delivered - known)
        stream.largest_size = self._size(job, stream.witness)
        return stream

    def _is_cut_off(self, process: int) -> bool:
        """Say whether a fault of ours ended a process, or the life that it belonged to."""
        lost_loader = self._history.processes[process].lost_loader is not None
        return lost_loader or self._lives.holder(process).how.is_ours

    def _size(self, job: int, witness: JobWitness | None) -> int | None:
        """Return the largest size that the service ever gave: counts may be lost, images are not added."""
        counts = ((one.processed, one.remaining) for one in self.seen(job))
        sizes = [done + left for done, left in counts if done is not None and left is not None]
        if witness is not None:
            sizes += [size for size in (witness.size, witness.queued) if size is not None]
        return max(sizes) if sizes else None


def _fillings(tasks: Iterable[Task]) -> Iterable[list[Task]]:
    """Split a stream's tasks where it was filled anew: in the order of publishing, sequences only rise."""
    current: list[Task] = []
    ordered = sorted(tasks, key=lambda one: one.key[1])
    ordered.sort(key=lambda one: one.key[2])  # twice, and not by pairs, which would be made for each of very many
    for task in ordered:
        if current and task.key[1] <= current[-1].key[1]:
            yield current
            current = []
        current.append(task)
    if current:
        yield current
