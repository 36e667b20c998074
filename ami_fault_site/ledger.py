"""Book what happens: one event = one line = one write; and read it back."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ami_fault_site.forks import around_fork
from ami_fault_site.origins import origin

VERSION = 1
# Kept from the start: what we rely on must not be something that a worker or a test has replaced since.
_write, _open, _close, _getpid = os.write, os.open, os.close, os.getpid
# One encoder for all events, and the head written beside it: json.dumps makes an encoder for each.
_encode, _quoted = json.JSONEncoder(separators=(",", ":")).encode, json.encoder.encode_basestring_ascii


class Event(NamedTuple):
    """One line of a ledger. `wall` is seconds since 1970, `mono` the host's monotonic clock in seconds.

    `sequence` counts a process's events from 1 without gaps; `incarnation` is 0 where nobody supervised. `run`, `file`
    and `line` say where it was read, so that a finding can point at it.
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
    run: str = ""
    file: str = ""
    line: int = 0

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


class Damage(NamedTuple):
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
        around_fork(after_in_child=self._forget)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # a worker may have closed whatever was open
                _close(self._descriptor)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._descriptor = -1
        self._owner = _getpid()
        self._whose = f'"host":{_quoted(self._host)},"pid":{self._owner},'
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

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other thread of this process book anything meanwhile; who dies in here has had the last word."""
        with self._lock:
            yield

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
        self._put("start", {"version": VERSION, **origin(self._owner)})

    def _put(self, kind: str, data: Mapping[str, object]) -> None:
        if self._broken:
            raise OSError(5, "an event before this one could not be written whole")
        body = _encode(data)
        line = (
            f'{body[:-1]}{"," if data else ""}"event":{_quoted(kind)},"wall":{time.time():.6f},'
            f'"mono":{time.monotonic():.6f},{self._whose}"thread":{_quoted(threading.current_thread().name)},'
            f'"inc":{self._incarnation},"seq":{self._sequence + 1}}}\n'
        ).encode()
        self._sequence += 1
        self._broken = True  # until it is whole: nothing may be written after half a line
        written = _write(self._descriptor, line)
        self._broken = written != len(line)
        if self._broken:
            raise OSError(28, f"only {written} of {len(line)} bytes could be written")


def incarnation_of(name: str) -> int:
    """Return the incarnation that a ledger file's name tells, -1 if it is not such a name."""
    parts = name.rsplit("-", 3)
    return int(parts[1]) if len(parts) == 4 and parts[1].isdigit() else -1


_scan = json.JSONDecoder().raw_decode  # what json.loads does, without asking for each line anew how it is encoded


def decode(line: bytes) -> object:
    """Read one line of JSON; raises ValueError if it is none, or not alone."""
    text = line.decode()
    parsed, end = _scan(text)
    if len(text) - end > 1:
        raise ValueError(f"Extra data: column {end + 1}")
    return parsed


def parse_line(
    line: bytes, run: str = "", file: str = "", number: int = 0, decode: Callable[[bytes], object] = decode
) -> Event:
    """Read one line, which stands at this place; raises ValueError if it is not an event."""
    parsed = decode(line)
    if not isinstance(parsed, dict):
        raise ValueError("not an event")
    take = parsed.pop
    try:
        kind, wall, mono, host = take("event"), take("wall"), take("mono"), take("host")
        pid, thread, incarnation, sequence = take("pid"), take("thread"), take("inc"), take("seq")
    except KeyError as error:
        raise ValueError(f"not an event: it has no {error}") from None
    are_right = (
        type(sequence) is type(pid) is type(incarnation) is int and type(kind) is type(host) is type(thread) is str
    )
    if not are_right:
        raise ValueError("not an event: a field is of another kind")
    return Event(
        kind, float(wall), float(mono), host, pid, thread, incarnation, sequence, parsed, run, file, number
    )  # fmt: skip


class _Place:
    """How far a file has been read."""

    def __init__(self) -> None:
        self.offset = self.line = self.sequence = 0
        self.rest = b""


class Reader:
    """Reads a run's ledger, again and again as it grows, in memory that does not grow with it.

    One unterminated last line a file is accepted (its process was killed while writing, or is writing it); any other
    line that cannot be read, and any gap in a process's sequence, is damage.
    """

    def __init__(self, folder: Path, run: str = "", decode: Callable[[bytes], object] = decode) -> None:
        """Read the files of `folder`; `run` is the name by which the events say whose they are.

        `decode` reads a line of JSON and raises ValueError if it is none.
        """
        self._folder = folder
        self._run = run
        self._decode = decode
        self._places: dict[Path, _Place] = {}
        self.damage: list[Damage] = []

    def counts(self) -> dict[str, int]:
        """Return how many whole lines have been read of each file, by its name."""
        return {path.name: place.line for path, place in self._places.items()}

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
        run, name, offset, line, sequence = self._run, path.name, place.offset, place.line, place.sequence
        try:
            with path.open("rb") as stream:
                stream.seek(offset)
                for raw in stream:
                    offset += len(raw)
                    if place.rest:
                        raw, place.rest = place.rest + raw, b""
                    if raw[-1:] != b"\n":
                        place.rest = raw
                        return
                    line += 1
                    try:
                        event = parse_line(raw, run, name, line, self._decode)
                    except (ValueError, TypeError) as error:
                        self.damage.append(Damage(path, line, f"cannot be read: {error}"))
                        sequence += 1
                        continue
                    if event.sequence != sequence + 1:
                        self._miss(path, line, sequence, event.sequence)
                        if event.sequence <= sequence:
                            continue  # it has been read
                    sequence = event.sequence
                    yield event
        finally:
            place.offset, place.line, place.sequence = offset, line, sequence

    def _miss(self, path: Path, line: int, before: int, sequence: int) -> None:
        missing = f"events {before + 1} to {sequence - 1} are missing"
        if sequence <= before:
            missing = f"event {sequence} stands here again"
        self.damage.append(Damage(path, line, missing))
