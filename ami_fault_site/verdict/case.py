"""The case before the judge: a history, what is known besides, and how each lease and task ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

from ami_fault_site.faults import API_SITES, Effect, Layer, Site
from ami_fault_site.history import History, Injection, Lease, Place, Ref, Task, TaskKey
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.ends import End, Ends, How
from ami_fault_site.verdict.facts import Facts
from ami_fault_site.verdict.fates import Fate, Fated, Fates
from ami_fault_site.verdict.lives import Lives
from ami_fault_site.verdict.streams import Stream, Streams
from ami_fault_site.verdict.terms import Check, Finding, Status, Whose

_EVIDENCE = 20  # lines a finding points at; more prove nothing more

_RATES = {
    Effect.CRASH: "worker_crash_rate",
    Effect.TRANSIENT: "transient_error_rate",
    Effect.NETWORK: "network_error_rate",
    Effect.IMAGE_404: "image_404_rate",
    Effect.CORRUPT: "corrupt_image_rate",
}


class Case:
    """Everything that a check may ask. Deciding is left to the checks."""

    def __init__(self, history: History, facts: Facts) -> None:
        self.history = history
        self.facts = facts
        self.lives = Lives(history)
        self.ends = Ends(history, self.lives, facts.parameters)
        self.streams = Streams(history, self.lives, facts)
        self.fates = Fates(history, self.lives, self.streams, self.ends, facts)

    # --- what was asked for, and what struck

    def is_set(self, *effects: Effect, at: Collection[Site] = ()) -> bool:
        """Say whether one of these faults was set to strike, in any of the runs; with `at` at one of these sites."""
        return any(is_set(settings, effect, at) for settings in self.facts.settings for effect in effects)

    @property
    def strikes_attempts(self) -> bool:
        """Whether faults strike each attempt at a call, below the worker's own retries, in any of the runs."""
        return any(settings.network_layer is Layer.ATTEMPT for settings in self.facts.settings)

    @property
    def is_dry(self) -> bool:
        """Whether nothing was to be touched in any of the runs."""
        return bool(self.facts.settings) and all(settings.dry_run for settings in self.facts.settings)

    def struck(self, *effects: Effect) -> list[Injection]:
        """Return the injections with one of these effects, in the order of their ledgers' wall clocks."""
        found = [one for one in self.history.injections if one.effect in effects]
        return sorted(found, key=lambda one: (self.wall(one.process, one.at), one.ref))

    def wall(self, process: int, mono: float) -> float:
        """Return a process's monotonic time as seconds since 1970 by its own host's clock."""
        return self.history.files.wall_base(self.history.processes[process].clock) + mono

    def about(self, task: Task) -> list[Injection]:
        """Return the injections that name a task or its image, in the order in which they were read."""
        by_task, by_image, _ = self._index
        numbers = {*by_task.get(task.key, ()), *by_image.get(task.image_id, ())}
        return [self.history.injections[number] for number in sorted(numbers)]

    def struck_in(self, process: int) -> list[Injection]:
        """Return the injections in one process, in the order in which they were read."""
        return [self.history.injections[number] for number in self._index[2].get(process, ())]

    @cached_property
    def _index(self) -> tuple[dict[TaskKey, list[int]], dict[str, list[int]], dict[int, list[int]]]:
        by_task: dict[TaskKey, list[int]] = {}
        by_image: dict[str, list[int]] = {}
        by_process: dict[int, list[int]] = {}
        for number, one in enumerate(self.history.injections):
            for key in {key for key, _ in one.tasks}:
                by_task.setdefault(key, []).append(number)
            by_image.setdefault(one.image or one.subject, []).append(number)
            by_process.setdefault(one.process, []).append(number)
        return by_task, by_image, by_process

    # --- tasks and leases

    def tasks(self) -> Iterable[Task]:
        """Return every task that anything is known of."""
        return self.history.tasks.values()

    def with_fate(self, *fates: Fate) -> list[tuple[Task, Fated]]:
        """Return the tasks that have one of these fates, in order; not for done and recovered, which are nearly all."""
        found = [(task, fated) for task, fated in self.fates.notable if fated.fate in fates]
        return sorted(found, key=lambda pair: (pair[0].job, pair[0].key))

    def ended(self, *hows: How) -> Iterator[tuple[Task, Lease, End]]:
        """Yield the leases that ended in one of these ways; not those whose answer was accepted, which are most."""
        if not hasattr(self, "_ends_of_all"):
            of = self.ends.of
            each = ((task, lease, of(task, lease)) for task in self.tasks() for lease in task.leases)
            self._ends_of_all = [one for one in each if one[2].how is not How.ACCEPTED]
        return (one for one in self._ends_of_all if one[2].how in hows)

    def stream(self, task: Task) -> Stream:
        """Return the stream that a task is in."""
        return self.streams.of(task)

    def waits_for(self, task: Task) -> bool:
        """Say whether the service itself may still wait for an answer to this task, as far as its counts tell."""
        witness = self.stream(task).witness
        return witness is None or bool(witness.detail.remaining) or witness.given_up > 0

    # --- what a check says

    def say(
        self,
        check: Check,
        status: Status,
        text: str,
        tasks: Iterable[Task] = (),
        refs: Iterable[Ref] = (),
        *,
        whose: Whose | None = None,
        warnings: Iterable[str] = (),
        judged: int = 0,
    ) -> Finding:
        """Make a finding; the lines that prove it are named once each. Of a pass no tasks are named: all are well."""
        keys = () if status is Status.PASS else tuple(sorted(task.key for task in tasks))
        return Finding(
            check, status, text, whose or check.whose, keys, self.places(refs), tuple(warnings), judged=judged
        )

    def places(self, refs: Iterable[Ref], most: int = _EVIDENCE) -> tuple[Place, ...]:
        """Return where the first of these lines stand, in the order of files and lines."""
        known = dict.fromkeys(self.history.place(ref) for ref in refs if ref[0] >= 0 and ref[1] > 0)
        return tuple(sorted(list(known)[:most], key=lambda place: (place.run, place.file, place.line)))

    def name(self, task: Task) -> str:
        """Name a task as people look for it."""
        return task_name(task)


def task_name(task: Task) -> str:
    """Name a task as people look for it: job, sequence and image."""
    image = f" ({task.image})" if task.image else ""
    return f"job {task.job} task {task.key[1]}{image}"


def is_set(settings: Settings, effect: Effect, at: Collection[Site] = ()) -> bool:
    """Say whether a fault was set to strike by its rate, by names or by a rule; with `at` at one of these sites."""
    for rule in settings.rules:
        struck = any(term.harm is not None and term.harm.effect is effect for term in rule.terms)
        if struck and (not at or set(at) & set(rule.sites)):
            return True
    if effect is Effect.WITHHOLD:
        return bool(settings.exhaust)
    if effect is Effect.NETWORK and at and not set(at) & set(API_SITES):
        return False
    named = bool(settings.permanent_error_images) and effect in (Effect.IMAGE_404, Effect.CORRUPT)
    return named or (effect in _RATES and float(getattr(settings, _RATES[effect])) > 0)
