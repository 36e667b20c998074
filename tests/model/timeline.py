"""Let things happen in their order: a queue of moments, and agents that live through them step by step."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Timeline:
    """The model's own time, in seconds from 0. Nothing waits: the next moment is simply the next one due."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, moment: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (moment, self._number, action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def run(self, until: float, is_over: Callable[[], bool]) -> None:
        """Go on until it is over, until this moment, or until nothing is left to come."""
        due = self._due
        while due and not is_over():
            if due[0][0] > until:
                self.now = until
                return
            self.now, _, action = heapq.heappop(due)
            action()


class Signal:
    """Something to wait for. Who is woken looks for himself whether it was what he waits for."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def wait(self, step: Callable[[], None]) -> None:
        self._waiting.append(step)

    def notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for step in waiting:
            step()


Steps: TypeAlias = "Generator[float | Signal, None, T]"
"""What an agent does: it yields seconds to let pass, or a signal to wait for."""

NEVER = Signal()
"""Nobody ever notifies it, so nobody may be kept waiting on it: agents that yield it are dropped."""


class Mortal(Protocol):
    """What an agent belongs to: once it is not alive any more, its agents do nothing more."""

    @property
    def alive(self) -> bool: ...


class Always:
    """An owner that does not die."""

    alive = True


class Agent:
    """Lives through its steps, for as long as its owner is alive."""

    __slots__ = ("_is_ended", "_owner", "_steps", "_timeline")

    def __init__(self, timeline: Timeline, owner: Mortal, steps: Steps[None]) -> None:
        self._timeline = timeline
        self._owner = owner
        self._steps = steps
        self._is_ended = False

    def start(self, delay: float = 0.0) -> Agent:
        self._timeline.after(delay, self.step)
        return self

    def stop(self) -> None:
        self._is_ended = True

    def step(self) -> None:
        if self._is_ended or not self._owner.alive:
            return
        try:
            wish = next(self._steps)
        except StopIteration:
            self._is_ended = True
            return
        if isinstance(wish, float):
            self._timeline.after(wish, self.step)
        elif wish is not NEVER:
            wish.wait(self._step_soon)

    def _step_soon(self) -> None:
        """Go on at this very moment, but not inside of whoever gave the signal."""
        self._timeline.after(0.0, self.step)
