"""Say who held a task and until when: processes -> the lives of workers that they belong to, and how those ended."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from ami_fault_site.faults import Effect
from ami_fault_site.history import History, Injection, Life, Process, Ref

HolderKey: TypeAlias = tuple[str, str, int]
"""Run, host and incarnation; where nobody supervised, the negative number of the worker's first process."""


class HowEnded(Enum):
    """How the life of a worker ended."""

    CRASHED = "an injected crash"
    DIED = "an exit of its own"
    STOPPED = "the operator's stop"
    ENDED = "the end of the run"
    LIVES = "no end that is known"


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
    """A moment at which a worker gave up the whole job that it was working on; `injection` None if by itself."""

    at: float
    job: int
    error: str
    ref: Ref
    injection: Injection | None = None


_HOW = {
    "injected": HowEnded.CRASHED,
    "organic": HowEnded.DIED,
    "refused": HowEnded.DIED,
    "operator": HowEnded.STOPPED,
    "ended": HowEnded.ENDED,
}


class Lives:
    """The lives in a history, and which process belongs to which."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._by_pid: dict[tuple[str, str, int], list[Process]] = {}
        for process in history.processes:
            self._by_pid.setdefault((process.run, process.host, process.pid), []).append(process)
        self._holders: dict[int, Holder] = {}
        self._pollers: dict[int, Process | None] = {}
        self._last: dict[HolderKey, float] = {}
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
            if not self._is_supervisor(process):
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

    def silent_since(self, holder: Holder) -> float:
        """Return when a life last booked anything, in monotonic seconds of its clock."""
        if not self._last:
            for process in self._history.processes:
                key = self.holder(process.number).key
                self._last[key] = max(process.last, self._last.get(key, process.last))
        return self._last[holder.key]

    def _is_supervisor(self, process: Process) -> bool:
        supervised = {(run, number) for run, number in self._history.lives if number > 0}
        return process.incarnation == 0 and any(run == process.run for run, _ in supervised)

    def _line(self, process: Process) -> list[Process]:
        """Return a process and those that it descends from, as far as they have booked anything."""
        line = [process]
        while True:
            last = line[-1]
            older = self._by_pid.get((last.run, last.host, last.parent), [])
            parents = [one for one in older if one.first <= last.first and one not in line]
            youngest = max(parents, key=lambda one: one.first, default=None)  # its number may have been used before
            if youngest is None or youngest.incarnation != last.incarnation:
                return line
            line.append(youngest)

    def _find(self, process: Process) -> Holder:
        line = self._line(process)
        if process.incarnation > 0:
            life = self._history.lives.get((process.run, process.incarnation))
            return _supervised(process, life, self._crash_in(process))
        root = line[-1]
        key = (root.run, root.host, -root.number - 1)
        name = f"process {root.pid} on {root.host}"
        crash = next((one.struck_dead for one in line if one.struck_dead is not None), None)
        if crash is not None:
            return Holder(key, name, root.clock, HowEnded.CRASHED, crash.at, crash.ref)
        if root.ended is not None:
            return Holder(key, name, root.clock, HowEnded.STOPPED, root.ended, (root.number, root.last_line))
        return Holder(key, name, root.clock, HowEnded.LIVES)

    def _crash_in(self, process: Process) -> Injection | None:
        """Return the crash that struck this incarnation, in whichever of its processes."""
        if not hasattr(self, "_crashes"):
            self._crashes: dict[tuple[str, int], Injection] = {}
            for one in self._history.processes:
                key, crash = (one.run, one.incarnation), one.struck_dead
                if crash is not None and crash.at <= self._crashes.get(key, crash).at:
                    self._crashes[key] = crash
        return self._crashes.get((process.run, process.incarnation))

    def _find_aborts(self) -> dict[tuple[HolderKey, int], list[Abort]]:
        found: dict[tuple[HolderKey, int], list[Abort]] = {}
        for one in self._history.injections:
            if one.effect is Effect.TRANSIENT:
                abort = Abort(one.at, one.job or 0, one.kind, one.ref, one)
                found.setdefault((self.holder(one.process).key, abort.job), []).append(abort)
        for batch_job, batch in self._history.broken_batches:
            abort = Abort(batch.ended or batch.began, batch_job, batch.error, batch.ref)
            found.setdefault((self.holder(batch.process).key, batch_job), []).append(abort)
        for aborts in found.values():
            aborts.sort(key=lambda one: one.at)
        return found


def _supervised(process: Process, life: Life | None, crash: Injection | None) -> Holder:
    key = (process.run, "", process.incarnation)
    name = f"incarnation {process.incarnation}" + (f" of {process.run}" if process.run else "")
    if life is not None and life.ended is not None and life.clock is not None:
        how = _HOW.get(life.kind, HowEnded.DIED)
        end = min(life.ended, crash.at) if crash is not None and how is HowEnded.CRASHED else life.ended
        return Holder(key, name, life.clock, how, end, crash.ref if crash and how is HowEnded.CRASHED else life.ref)
    if crash is not None:  # the supervisor itself was killed before it could book the exit
        return Holder(key, name, process.clock, HowEnded.CRASHED, crash.at, crash.ref)
    return Holder(key, name, process.clock, HowEnded.LIVES)
