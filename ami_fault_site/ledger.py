"""Book what happens: one event = one line = one write; and read it back."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

VERSION = 1
# Kept from the start: what we rely on must not be something that a worker or a test has replaced since.
_write, _open, _close, _getpid = os.write, os.open, os.close, os.getpid


@dataclass(frozen=True)
class Event:
    """One line of a ledger. `wall` is seconds since 1970, `mono` the host's monotonic clock in seconds.

    `sequence` counts a process's events from 1 without gaps; `incarnation` is 0 where nobody supervised.
    """

    kind: str
    wall: float
    mono: float
    host: str
    pid: int
    thread: str
    incarnation: int
    sequence: int
    data: Mapping[str, object]

    def text(self, key: str) -> str:
        """Return a field as text, "" if it is missing."""
        value = self.data.get(key)
        return "" if value is None else str(value)

    def number(self, key: str) -> int | None:
        """Return a field as a whole number, None if it is missing or something else."""
        value = self.data.get(key)
        return value if isinstance(value, int) else None

    def rows(self, key: str) -> list[list[object]]:
        """Return a field that holds a table, [] if it is missing."""
        value = self.data.get(key)
        return [row for row in value if isinstance(row, list)] if isinstance(value, list) else []

    def words(self, key: str) -> list[str]:
        """Return a field that holds a list of texts, [] if it is missing."""
        value = self.data.get(key)
        return [str(item) for item in value] if isinstance(value, list) else []


@dataclass(frozen=True)
class Damage:
    """A place where a ledger cannot be read, or where lines are missing."""

    path: Path
    line: int
    problem: str


class Ledger:
    """The events of this process, one file for each process, opened at its first event.

    After a fork the child opens a file of its own: loaders are forked anew at every poll, and a lock that another
    thread held at the fork would stay locked for ever in the child, so it is replaced.
    """

    def __init__(self, folder: Path, incarnation: int) -> None:
        self._folder = folder
        self._incarnation = incarnation
        self._host = socket.gethostname()
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1
        self._owner = _getpid()
        self._sequence = 0
        self._ended = False
        self._broken = False

    def append(self, kind: str, /, **data: object) -> None:
        """Write one event; raises OSError if it could not be written whole.

        No fsync: the page cache survives the process, and a process is what dies here.
        """
        if _getpid() != self._owner:
            self._forget()
        with self._lock:
            if self._descriptor < 0:
                self._begin()
            self._put(kind, data)

    def end(self) -> None:
        """Book the orderly end of this process, once, if it has booked anything."""
        if _getpid() != self._owner or self._descriptor < 0 or self._ended or self._broken:
            return
        with self._lock, contextlib.suppress(OSError):
            self._ended = True
            self._put("end", {"events": self._sequence + 1})

    def _begin(self) -> None:
        name = f"{self._host}-{self._incarnation:04d}-{self._owner}-{time.time_ns()}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        descriptor = _open(self._folder / name, flags, 0o666)
        if descriptor < 3:
            # A standard stream is closed, and whoever still writes to it must not write in here.
            low, descriptor = descriptor, fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
            _close(low)
        self._descriptor = descriptor
        self._put("start", {"version": VERSION, "parent": os.getppid()})

    def _put(self, kind: str, data: Mapping[str, object]) -> None:
        if self._broken:
            raise OSError(5, "an event before this one could not be written whole")
        line = (
            json.dumps(
                {
                    **data,
                    "event": kind,
                    "wall": round(time.time(), 6),
                    "mono": round(time.monotonic(), 6),
                    "host": self._host,
                    "pid": self._owner,
                    "thread": threading.current_thread().name,
                    "inc": self._incarnation,
                    "seq": self._sequence + 1,
                },
                separators=(",", ":"),
                ensure_ascii=True,
            ).encode()
            + b"\n"
        )
        self._sequence += 1
        self._broken = True  # until it is whole: nothing may be written after half a line
        written = _write(self._descriptor, line)
        self._broken = written != len(line)
        if self._broken:
            raise OSError(28, f"only {written} of {len(line)} bytes could be written")


_HEAD = ("event", "wall", "mono", "host", "pid", "thread", "inc", "seq")


def parse_line(line: bytes) -> Event:
    """Read one line; raises ValueError if it is not an event."""
    parsed = json.loads(line)
    if not isinstance(parsed, dict) or not all(key in parsed for key in _HEAD):
        raise ValueError("not an event")
    head = [parsed.pop(key) for key in _HEAD]
    kind, wall, mono, host, pid, thread, incarnation, sequence = head
    return Event(
        str(kind), float(wall), float(mono), str(host), int(pid), str(thread), int(incarnation), int(sequence), parsed
    )


@dataclass
class _Place:
    """How far a file has been read."""

    offset: int = 0
    line: int = 0
    sequence: int = 0
    rest: bytes = b""


class Reader:
    """Reads a run's ledger, again and again as it grows, in memory that does not grow with it.

    One unterminated last line a file is accepted (its process was killed while writing, or is writing it); any other
    line that cannot be read, and any gap in a process's sequence, is damage.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[Path, _Place] = {}
        self.damage: list[Damage] = []

    def new(self) -> Iterator[Event]:
        """Yield the events that were written since the last call, file by file in the order of their names."""
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".jsonl")}
        for name in sorted(sizes):
            path = self._folder / name
            place = self._places.setdefault(path, _Place())
            if sizes[name] > place.offset:  # thousands of loaders may have come and gone: open what has grown
                yield from self._read(path, place)

    def _read(self, path: Path, place: _Place) -> Iterator[Event]:
        with path.open("rb") as stream:
            stream.seek(place.offset)
            for raw in stream:
                place.offset += len(raw)
                place.rest += raw
                if not raw.endswith(b"\n"):
                    return
                line, place.rest = place.rest, b""
                place.line += 1
                event = self._parse(path, place, line)
                if event is not None:
                    yield event

    def _parse(self, path: Path, place: _Place, line: bytes) -> Event | None:
        try:
            event = parse_line(line)
        except (ValueError, TypeError) as error:
            self.damage.append(Damage(path, place.line, f"cannot be read: {error}"))
            place.sequence += 1
            return None
        if event.sequence != place.sequence + 1:
            missing = f"events {place.sequence + 1} to {event.sequence - 1} are missing"
            if event.sequence <= place.sequence:
                missing = f"event {event.sequence} stands here again"
            self.damage.append(Damage(path, place.line, missing))
        place.sequence = event.sequence
        return event
