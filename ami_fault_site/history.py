"""The ledger read back: events -> incarnations, tasks, injections; grows with the tasks and not with the events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ami_fault_site.faults import Effect
from ami_fault_site.ledger import Event

TaskKey = tuple[str, int, int]
"""Stream, sequence, publish time in nanoseconds: equal on every delivery of a task, different for a retried job."""


@dataclass
class Task:
    """What became of one task: how often it was handed out, and what was answered for it."""

    key: TaskKey
    job: int
    image: str
    leases: int = 0
    unheard: int = 0  # answers that were sent, or about to be, and of whose fate nothing is known
    accepted: int = 0
    errors: int = 0

    @property
    def is_answered(self) -> bool:
        """Whether the service has accepted an answer for it, which means queued, not saved."""
        return self.accepted > 0


@dataclass
class Life:
    """One incarnation of the worker: what is known of its beginning and its end."""

    number: int
    armed: bool = False
    crashed: bool = False
    code: int | None = None
    kind: str = ""
    last_words: list[str] = field(default_factory=list)
    refused: bool = False


@dataclass
class History:
    """Folds events in any order of files."""

    lives: dict[int, Life] = field(default_factory=dict)
    tasks: dict[TaskKey, Task] = field(default_factory=dict)
    jobs: set[int] = field(default_factory=set)
    injected: Counter[str] = field(default_factory=Counter)
    injected_by_rate: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    eligible: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    refused_host: str = ""
    last_traffic: float = 0.0  # monotonic seconds of the last lease or answer on this host

    def add(self, events: Iterable[Event]) -> None:
        """Take in more events."""
        for event in events:
            self._add(event)

    def life(self, number: int) -> Life:
        """Return the record of an incarnation, made at first sight."""
        return self.lives.setdefault(number, Life(number))

    @property
    def out(self) -> list[Task]:
        """The tasks that were handed out and for which no answer was ever on its way."""
        return [task for task in self.tasks.values() if not task.is_answered and task.unheard < 1]

    @property
    def unheard(self) -> list[Task]:
        """The tasks whose answer was sent by a process that died, or that no answer reached: only the service knows."""
        return [task for task in self.tasks.values() if not task.is_answered and task.unheard > 0]

    def observed_rate(self, effect: Effect) -> float | None:
        """Return injections by rate / eligible calls; None if no call was eligible.

        A call that died before it was booked as eligible is not counted.
        """
        eligible = self.eligible[effect.value]
        return self.injected_by_rate[effect.value] / eligible if eligible else None

    def _add(self, event: Event) -> None:
        for effect in event.words("eligible"):
            self.eligible[effect] += 1
        handler = getattr(self, f"_on_{event.kind.replace('-', '_')}", None)
        if handler is not None:
            handler(event)

    def _task(self, key: TaskKey, event: Event) -> Task:
        return self.tasks.setdefault(key, Task(key, event.number("job") or 0, ""))

    def _on_armed(self, event: Event) -> None:
        self.life(event.incarnation).armed = True

    def _on_refused(self, event: Event) -> None:
        self.life(event.incarnation).refused = True
        self.refused_host = event.text("target")

    def _on_call(self, event: Event) -> None:
        for key in _keys(event):
            self._task(key, event).unheard += 1

    def _on_leases(self, event: Event) -> None:
        job = event.number("job") or 0
        for row in event.rows("leases"):
            sequence, _, _, published, _, image, name = row
            task = self._task((event.text("stream"), int(str(sequence)), int(str(published))), event)
            task.image = str(name or image)
            task.leases += 1
            self.jobs.add(job)
            self.last_traffic = max(self.last_traffic, event.mono)

    def _on_answer(self, event: Event) -> None:
        if event.text("outcome") == "unheard":
            return
        accepted = event.text("outcome") == "accepted"
        failed = {row[0] for row in event.rows("errors")}
        for key in _keys(event):
            task = self._task(key, event)
            task.unheard -= 1
            task.accepted += accepted
            task.errors += accepted and key[1] in failed
        if accepted:
            self.last_traffic = max(self.last_traffic, event.mono)

    def _on_fault(self, event: Event) -> None:
        effect = event.text("effect")
        self.injected[effect] += 1
        self.kinds[f"{effect}: {event.text('kind')}"] += 1
        if event.data.get("counted"):
            self.injected_by_rate[effect] += 1
        if effect == Effect.CRASH.value:
            self.life(event.incarnation).crashed = True

    def _on_withheld(self, event: Event) -> None:
        self.withheld[event.text("why")] += 1

    def _on_exit(self, event: Event) -> None:
        life = self.life(event.number("incarnation") or 0)
        life.code = event.number("code")
        life.kind = event.text("kind")
        life.last_words = event.words("last_words")


def _keys(event: Event) -> list[TaskKey]:
    """Return the tasks that a result post names, in the event before it and in the one after."""
    rows = event.rows("tasks")
    return [(event.text("stream"), int(str(row[0])), int(str(row[3]))) for row in rows]
