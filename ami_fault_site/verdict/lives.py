"""Say who held a task and until when: processes -> the lives of workers that they belong to, and how those ended."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from ami_fault_site.faults import Effect, Mode, Site
from ami_fault_site.history import History, Injection, Life, Process, Ref

HolderKey: TypeAlias = tuple[str, str, int]
"""Run, host and incarnation; where nobody supervised, the negative number of the worker's first process."""


class HowEnded(Enum):
    """How the life of a worker ended."""

    CRASHED = "an injected crash"
    HUNG = "an injected hang"
    FOLLOWED = "an exit of its own after an injected death of its loader"
    DIED = "an exit of its own"
    STOPPED = "the operator's stop"
    ENDED = "the end of the run"
    LIVES = "no end that is known"

    @property
    def is_ours(self) -> bool:
        """Whether a fault of ours is why it ended."""
        return self in (HowEnded.CRASHED, HowEnded.HUNG, HowEnded.FOLLOWED)


@dataclass(frozen=True)
class Holder:
    """One life of a worker. `end` is in monotonic seconds of its `clock`, None if none is known."""

    key: HolderKey
    name: str
    clock: int
    how: HowEnded
    end: float | None = None
    ref: Ref | None = None


@dataclass(frozen=True)
class Abort:
    """A moment at which a worker gave up the whole job that it was working on; `injection` None if by itself.

    One that hangs has given it up as well, without knowing.
    """

    at: float
    job: int
    error: str
    ref: Ref
    injection: Injection | None = None

    @property
    def is_hang(self) -> bool:
        """Whether a fault of ours makes the worker wait for ever."""
        return self.injection is not None and self.injection.kind == Mode.HANG.value

    @property
    def is_by_crash(self) -> bool:
        """Whether a crash of ours did it, in whichever way: what it held was dropped, and not put back."""
        return self.injection is not None and self.injection.effect is Effect.CRASH

    @property
    def cause(self) -> str:
        """Why, in words."""
        if self.injection is None:
            return f"{self.error} left the worker's task loop"
        if self.injection.effect is Effect.TRANSIENT:
            return "an injected transient error"
        if self.is_hang:
            return "an injected hang"
        return "an injected death of a loader" if self.injection.is_of_loader else "an injected SystemExit"


_HOW = {
    "injected": HowEnded.CRASHED,
    "organic": HowEnded.DIED,
    "refused": HowEnded.DIED,
    "operator": HowEnded.STOPPED,
    "ended": HowEnded.ENDED,
}


_NOTICED = 10.0  # seconds within which a worker notices that a loader has died


@dataclass
class _Struck:
    """The faults that a life may have ended by: the first crash and the first hang in it, and its loaders' deaths."""

    crash: Injection | None = None
    hang: Injection | None = None
    loaders: list[Injection] = field(default_factory=list)


class Lives:
    """The lives in a history, and which process belongs to which."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._by_pid: dict[tuple[str, str, int], list[Process]] = {}
        for process in history.processes:
            if process.is_bystander:
                continue  # its number may be that of a worker's process of before
            self._by_pid.setdefault((process.run, process.host, process.pid), []).append(process)
        self._holders: dict[int, Holder] = {}
        self._pollers: dict[int, Process | None] = {}
        self._last: dict[HolderKey, float] = {}
        self._slowed: dict[HolderKey, list[tuple[float, float]]] | None = None
        self._loaders_died: dict[HolderKey, list[Injection]] = {}
        self._aborts = self._find_aborts()

    def holder(self, process: int) -> Holder:
        """Return the life that a process belongs to."""
        if process not in self._holders:
            self._holders[process] = self._find(self._history.processes[process])
        return self._holders[process]

    def all(self) -> list[Holder]:
        """Return every life that a worker's process belongs to, in the order of the processes."""
        found: dict[HolderKey, Holder] = {}
        for process in self._history.processes:
            if not process.is_bystander and not self._is_supervisor(process):
                holder = self.holder(process.number)
                found.setdefault(holder.key, holder)
        return list(found.values())

    def passage(self, process: int, at: float) -> tuple[float, float | None]:
        """Return between which two polls a process worked at this time; None if no poll came after.

        A worker asks for jobs again only once it is done with, or has given up, all that it was handed before.
        """
        if process not in self._pollers:
            line = self._line(self._history.processes[process])
            self._pollers[process] = next((one for one in line if one.polls), None)
        poller = self._pollers[process]
        if poller is None:
            return float("-inf"), None
        index = bisect_right(poller.polls, at)
        before = poller.polls[index - 1] if index else float("-inf")
        return before, poller.polls[index] if index < len(poller.polls) else None

    def abort(self, holder: Holder, job: int, since: float, until: float | None) -> Abort | None:
        """Return the first time in a passage at which this life gave up all that it held of a job."""
        aborts = self._aborts.get((holder.key, job), [])
        index = bisect_left(aborts, since, key=lambda one: one.at)
        found = aborts[index] if index < len(aborts) else None
        return found if found is not None and (until is None or found.at <= until) else None

    def slowed(self, holder: Holder, since: float, until: float) -> float:
        """Return for how many of these seconds a fault of ours kept some process of a life waiting."""
        if self._slowed is None:
            self._slowed = self._find_slowed()
        stretches = self._slowed.get(holder.key, [])
        first = max(0, bisect_right(stretches, (since, float("inf"))) - 1)
        total = 0.0
        for began, ended in stretches[first:]:
            if began >= until:
                break
            total += max(0.0, min(ended, until) - max(began, since))
        return total

    def loader_death(self, holder: Holder, since: float, until: float) -> Injection | None:
        """Return the first fault of ours that ended a loader of this life in this stretch of time."""
        deaths = self._loaders_died.get(holder.key, [])
        index = bisect_left(deaths, since, key=lambda one: one.at)
        return deaths[index] if index < len(deaths) and deaths[index].at <= until else None

    def silent_since(self, holder: Holder) -> float:
        """Return when a life last booked anything, in monotonic seconds of its clock."""
        if not self._last:
            for process in self._history.processes:
                key = self.holder(process.number).key
                self._last[key] = max(process.last, self._last.get(key, process.last))
        return self._last[holder.key]

    def _is_supervisor(self, process: Process) -> bool:
        if process.polls or process.job:
            return False  # a worker beside the supervised ones, in the same folder
        supervised = {(run, number) for run, number in self._history.lives if number > 0}
        return process.incarnation == 0 and any(run == process.run for run, _ in supervised)

    def _line(self, process: Process) -> list[Process]:
        """Return a process and those that it descends from, as far as they have booked anything."""
        line = [process]
        while True:
            last = line[-1]
            older = self._by_pid.get((last.run, last.host, last.parent), [])
            parents = [one for one in older if _may_be_parent(one, last) and one not in line]
            youngest = max(parents, key=lambda one: one.first, default=None)
            if youngest is None or youngest.incarnation != last.incarnation:
                return line
            line.append(youngest)

    def _find(self, process: Process) -> Holder:
        line = self._line(process)
        if process.incarnation > 0:
            life = self._history.lives.get((process.run, process.incarnation))
            return _supervised(process, life, self._struck_in(process), self._has_several(process.run))
        root = line[-1]
        key = (root.run, root.host, -root.number - 1)
        name = f"process {root.pid} on {root.host}"
        crash = next((one.struck_dead for one in line if one.struck_dead is not None), None)
        if crash is not None:
            return Holder(key, name, root.clock, HowEnded.CRASHED, crash.at, crash.ref)
        if root.ended is not None:
            return Holder(key, name, root.clock, HowEnded.STOPPED, root.ended, (root.number, root.last_line))
        return Holder(key, name, root.clock, HowEnded.LIVES)

    def _has_several(self, run: str) -> bool:
        """Say whether a run has several workers side by side."""
        if not hasattr(self, "_several"):
            self._several = {one.run for one in self._history.lives.values() if one.worker > 1}
        return run in self._several

    def _struck_in(self, process: Process) -> _Struck:
        """Return what struck this incarnation, in whichever of its processes."""
        if not hasattr(self, "_struck"):
            self._struck: dict[tuple[str, int], _Struck] = {}
            for one in self._history.processes:
                found = self._struck.setdefault((one.run, one.incarnation), _Struck())
                found.crash = _first(found.crash, one.struck_dead)
                found.hang = _first(found.hang, one.hung)
                found.loaders += [one.lost_loader] if one.lost_loader is not None else []
        return self._struck[process.run, process.incarnation]

    def _find_aborts(self) -> dict[tuple[HolderKey, int], list[Abort]]:
        found: dict[tuple[HolderKey, int], list[Abort]] = {}
        for one in self._history.injections:
            holder = self.holder(one.process) if one.effect in (Effect.TRANSIENT, Effect.CRASH) else None
            if holder is not None and _aborts(one, holder):
                abort = Abort(one.at, one.job or self._history.processes[one.process].job, one.kind, one.ref, one)
                found.setdefault((holder.key, abort.job), []).append(abort)
                if one.is_of_loader and not abort.is_hang:
                    self._loaders_died.setdefault(holder.key, []).append(one)
        exits = {(one.process, one.job) for one in self._history.injections if one.kind == Mode.SYSEXIT.value}
        for batch_job, batch in self._history.broken_batches:
            if batch.error == SystemExit.__name__ and (batch.process, batch_job) in exits:
                continue  # told above, with the fault
            abort = Abort(batch.ended or batch.began, batch_job, batch.error, batch.ref)
            found.setdefault((self.holder(batch.process).key, batch_job), []).append(abort)
        for aborts in found.values():
            aborts.sort(key=lambda one: one.at)
        for deaths in self._loaders_died.values():
            deaths.sort(key=lambda one: one.at)
        return found

    def _find_slowed(self) -> dict[HolderKey, list[tuple[float, float]]]:
        """Merge what overlaps: a life that waits twice at a time waits once."""
        found: dict[HolderKey, list[tuple[float, float]]] = {}
        slow = [(stretch, process.number) for process in self._history.processes for stretch in process.slowed]
        for (began, ended), process in sorted(slow):
            merged = found.setdefault(self.holder(process).key, [])
            if merged and began <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
            else:
                merged.append((began, ended))
        return found


def _aborts(one: Injection, holder: Holder) -> bool:
    """Say whether a fault makes a worker give up the job, and not the ghost."""
    if one.effect is Effect.TRANSIENT or one.is_of_loader or one.kind == Mode.HANG.value:
        return True
    survived = one.kind == Mode.SYSEXIT.value and holder.how is not HowEnded.CRASHED
    return survived and one.site != Site.POSTING.value


def _may_be_parent(one: Process, child: Process) -> bool:
    """Say whether a process with the number of a child's parent is that: the number may have been used before.

    It began when the child says, if both say so; else it was there before the child, on the same start of the host.
    """
    if one.born and child.parent_born and one.born != child.parent_born:
        return False
    return one.clock == child.clock and one.first <= child.first


def _first(one: Injection | None, other: Injection | None) -> Injection | None:
    both = [each for each in (one, other) if each is not None]
    return min(both, key=lambda each: each.at, default=None)


def _supervised(process: Process, life: Life | None, struck: _Struck, is_one_of_several: bool) -> Holder:
    key = (process.run, "", process.incarnation)
    worker = f"worker {life.worker}, " if is_one_of_several and life is not None else ""
    name = f"{worker}incarnation {process.incarnation}" + (f" of {process.run}" if process.run else "")
    crash = struck.crash
    if life is not None and life.ended is not None and life.clock is not None:
        how, cause = _how_ended(life, process, struck)
        end = min(life.ended, cause.at) if cause is not None and how is HowEnded.CRASHED else life.ended
        return Holder(key, name, life.clock, how, end, life.ref if cause is None else cause.ref)
    if crash is not None:  # the supervisor itself was killed before it could book the exit
        return Holder(key, name, process.clock, HowEnded.CRASHED, crash.at, crash.ref)
    return Holder(key, name, process.clock, HowEnded.LIVES)


def _how_ended(life: Life, process: Process, struck: _Struck) -> tuple[HowEnded, Injection | None]:
    """Say how a life ended whose exit was booked, and by which fault, if by any.

    A worker that hangs is ended by its supervisor. One that exits by itself just after a loader of it died by our doing
    has only not got over that.
    """
    how = _HOW.get(life.kind, HowEnded.DIED)
    if how is HowEnded.CRASHED and struck.crash is None and struck.hang is not None:
        return HowEnded.HUNG, struck.hang
    if how is HowEnded.CRASHED:
        return how, struck.crash
    if life.kind == "organic" and life.ended is not None and life.clock == process.clock:
        deaths = [one for one in struck.loaders if 0 <= life.ended - one.at <= _NOTICED]
        if deaths:
            return HowEnded.FOLLOWED, max(deaths, key=lambda one: one.at)
    return how, None
