"""Book what the modelled processes do, as events in files, on hosts with clocks of their own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ami_fault_site.ledger import VERSION, Event
from tests.model.timeline import Timeline

EPOCH = 1_795_438_299.0
"""Seconds since 1970 at the model's moment 0, by the service's clock, which is right."""

_PIDS = 400  # a host uses its numbers again, as containers do
_WRONG_BY = 300.0


_UNTOLD = {"parent_born": 0, "born": 0, "boot": ""}
"""Where a process comes from, as it is booked where the system does not tell: clocks and numbers must do."""


@dataclass
class Host:
    """A machine of ours: its wall clock is wrong by minutes, its monotonic clock began when it was switched on."""

    name: str
    mono: float
    wall: float
    _pid: int

    @classmethod
    def draw(cls, number: int, rng: random.Random) -> Host:
        wall = EPOCH + rng.uniform(-_WRONG_BY, _WRONG_BY)
        return cls(f"host-{number}", rng.uniform(1e3, 1e6), wall, rng.randrange(_PIDS))

    def new_pid(self) -> int:
        self._pid = (self._pid + 1) % _PIDS
        return 100 + self._pid


class Shelf(Protocol):
    """Where the files of a ledger go."""

    def open(self, run: str, file: str) -> Callable[[Event], None]:
        """Begin a file, and return what writes an event into it."""

    def close(self, run: str, file: str) -> None:
        """Nothing more is written to this file."""


@dataclass
class MemoryShelf:
    """Keeps the events."""

    files: dict[tuple[str, str], list[Event]] = field(default_factory=dict)

    def open(self, run: str, file: str) -> Callable[[Event], None]:
        return self.files.setdefault((run, file), []).append

    def close(self, run: str, file: str) -> None:
        """Keep them all the same."""


_line = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


def as_line(event: Event) -> str:
    """Write an event as the ledger does."""
    head = {
        "event": event.kind,
        "wall": event.wall,
        "mono": event.mono,
        "host": event.host,
        "pid": event.pid,
        "thread": event.thread,
        "inc": event.incarnation,
        "seq": event.sequence,
    }
    return _line({**event.data, **head}) + "\n"


@dataclass
class DiskShelf:
    """Writes the events to ledger folders, one for each run, and keeps nothing."""

    folders: dict[str, Path]
    events: int = 0
    _streams: dict[tuple[str, str], IO[str]] = field(default_factory=dict)

    def open(self, run: str, file: str) -> Callable[[Event], None]:
        stream = self._streams[run, file] = (self.folders[run] / file).open("w", buffering=1 << 16)

        def write(event: Event) -> None:
            self.events += 1
            stream.write(as_line(event))

        return write

    def close(self, run: str, file: str) -> None:
        stream = self._streams.pop((run, file), None)
        if stream is not None:
            stream.close()

    def close_all(self) -> None:
        for run, file in list(self._streams):
            self.close(run, file)


class Book:
    """One process's file, begun at its first event."""

    def __init__(
        self, shelf: Shelf, timeline: Timeline, host: Host, run: str, incarnation: int, pid: int, parent: int
    ) -> None:
        self.file = ""
        self.sequence = 0
        self._shelf = shelf
        self._timeline = timeline
        self._host = host
        self._run = run
        self._incarnation = incarnation
        self._pid = pid
        self._parent = parent
        self._write: Callable[[Event], None] | None = None

    def put(self, kind: str, thread: str, data: dict[str, object]) -> None:
        """Book one event at this moment."""
        if self._write is None:
            self._write = self._begin()
            self._put(self._write, "start", thread, {"version": VERSION, "parent": self._parent, **_UNTOLD})
        self._put(self._write, kind, thread, data)

    def end(self, thread: str = "MainThread") -> None:
        """Book the orderly end, if anything was booked."""
        if self._write is not None:
            self._put(self._write, "end", thread, {"events": self.sequence + 1})
        self.close()

    def close(self) -> None:
        """Nothing more comes, in order or not."""
        if self.file:
            self._shelf.close(self._run, self.file)

    def _begin(self) -> Callable[[Event], None]:
        nanoseconds = int((self._host.wall + self._timeline.now) * 1e9)
        self.file = f"{self._host.name}-{self._incarnation:04d}-{self._pid}-{nanoseconds}.jsonl"
        return self._shelf.open(self._run, self.file)

    def _put(self, write: Callable[[Event], None], kind: str, thread: str, data: dict[str, object]) -> None:
        now, host = self._timeline.now, self._host
        self.sequence = number = self.sequence + 1
        wall, mono = round(host.wall + now, 6), round(host.mono + now, 6)
        place = (self._run, self.file, number)
        write(Event(kind, wall, mono, host.name, self._pid, thread, self._incarnation, number, data, *place))
