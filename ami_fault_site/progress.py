"""Say how far a run is, from its history: for whoever watches it."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter

from ami_fault_site.endings import exit_text
from ami_fault_site.history import History, Life

_LAST = 6  # events that are told


@dataclass(frozen=True)
class WorkerStanding:
    """A worker: its latest incarnation, and what it does; `resumes_in` is None or the seconds to its next start."""

    number: int
    incarnation: int
    state: str
    resumes_in: float | None = None


@dataclass(frozen=True)
class JobStanding:
    """A job: our counts beside the service's last ones, None where it gave none."""

    number: int
    answered: int
    status: str
    processed: int | None
    failed: int | None
    remaining: int | None


@dataclass(frozen=True)
class Happened:
    """Something that happened, at `wall` seconds since 1970 by its host's clock."""

    wall: float
    text: str


@dataclass(frozen=True)
class Standing:
    """How far a run is. `out` are tasks that were handed out and not answered, `heard` is the last moment booked."""

    handed_out: int
    out: int
    answered: int
    failed: int
    came_back: int
    faults: dict[str, int]
    workers: tuple[WorkerStanding, ...]
    jobs: tuple[JobStanding, ...]
    last: tuple[Happened, ...]
    heard: float
    outcome: str

    @property
    def struck(self) -> int:
        """How many faults have struck."""
        return sum(self.faults.values())


def standing(history: History, now: float) -> Standing:
    """Return how far a run is at `now`, in seconds since 1970."""
    counts: Counter[str] = Counter()
    answered: Counter[int] = Counter()
    for task in history.tasks.values():
        is_answered = task.is_answered
        counts["handed_out"] += task.handed_out > 0
        counts["answered"] += is_answered
        counts["failed"] += is_answered and task.has_error
        counts["out"] += not is_answered and task.handed_out > 0
        counts["came_back"] += any(lease.is_known and lease.delivery > 1 for lease in task.leases)
        answered[task.job] += is_answered
    return Standing(
        counts["handed_out"],
        counts["out"],
        counts["answered"],
        counts["failed"],
        counts["came_back"],
        dict(sorted(history.injected.items())),
        _workers(history, now),
        _jobs(history, answered),
        _last(history),
        max((_wall(history, one.clock, one.last) for one in history.processes), default=0.0),
        next(iter(history.outcomes.values()), ""),
    )


def _wall(history: History, clock: int, mono: float) -> float:
    return history.files.wall_base(clock) + mono


def _workers(history: History, now: float) -> tuple[WorkerStanding, ...]:
    latest: dict[tuple[str, int], Life] = {}
    for life in history.lives.values():
        known = latest.get((life.run, life.worker))
        if life.number > 0 and (known is None or known.number < life.number):
            latest[life.run, life.worker] = life
    return tuple(_worker(history, life, now) for _, life in sorted(latest.items()))


def _worker(history: History, life: Life, now: float) -> WorkerStanding:
    if life.kind == "":
        state = "hangs by a fault" if life.hung else ("at work" if life.armed else "starting")
        return WorkerStanding(life.worker, life.number, state)
    ended = "crashed by a fault" if life.kind == "injected" else f"ended, {exit_text(life.code or 0)}"
    pause = history.pauses.get((life.run, life.worker))
    if pause is None or history.outcomes:
        return WorkerStanding(life.worker, life.number, ended)
    return WorkerStanding(life.worker, life.number, ended, max(0.0, _wall(history, *pause) - now))


def _jobs(history: History, answered: Counter[int]) -> tuple[JobStanding, ...]:
    found = []
    for number in sorted(history.jobs):
        seen = history.job(number).seen
        last = max(seen, key=lambda one: one.wall, default=None)
        counts = ("", None, None, None) if last is None else (last.status, last.processed, last.failed, last.remaining)
        found.append(JobStanding(number, answered[number], *counts))
    return tuple(found)


def _last(history: History) -> tuple[Happened, ...]:
    """Return what happened last, the latest last."""
    struck = ((_wall(history, history.processes[one.process].clock, one.at), one) for one in history.injections)
    latest = heapq.nlargest(_LAST, struck, key=itemgetter(0))  # files are read one after the other: no order to trust
    found = [Happened(wall, f"{one.effect.value}: {one.kind}") for wall, one in latest]
    for life in history.lives.values():
        worker = f"worker {life.worker}, " if any(one.worker > 1 for one in history.lives.values()) else ""
        if life.clock is not None and life.number > 0:
            name = f"{worker}incarnation {life.number}"
            if life.began is not None:
                found.append(Happened(_wall(history, life.clock, life.began), f"{name} started"))
            if life.ended is not None:
                how = "an injected crash" if life.kind == "injected" else exit_text(life.code or 0)
                found.append(Happened(_wall(history, life.clock, life.ended), f"{name} ended: {how}"))
    found += [Happened(one.wall, f"operator: {one.text}") for one in history.notes]
    return tuple(sorted(found, key=lambda one: one.wall)[-_LAST:])


def in_one_line(now: Standing) -> str:
    """Say in one line how far the run is."""
    lives = max((one.incarnation for one in now.workers), default=0)
    pause = min((one.resumes_in for one in now.workers if one.resumes_in is not None), default=None)
    again = "" if pause is None else f", next start in {pause:.0f} s"
    return (
        f"incarnation {lives}{again}, {now.struck} faults, {now.handed_out} tasks handed out, {now.answered} answered, "
        f"{now.failed} failed, {now.came_back} came back, {now.out} out"
    )
