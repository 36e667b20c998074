"""Show a run as it goes: a panel below the worker's lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ami_fault_site.history import History
from ami_fault_site.panel import panel
from ami_fault_site.progress import in_one_line, standing
from ami_fault_site.redaction import redact

_LONGEST = 20_000  # bytes of a line that has not ended
_EVERY = 15.0  # seconds between plain progress lines
_ONE_AT_A_TIME = threading.Lock()
_REDRAWN = 0.5  # seconds between two states of the panel: all tasks are looked through for one


class Lines:
    """Cuts what several workers write into whole lines, each with its worker's number before it."""

    def __init__(self) -> None:
        self._rests: dict[int, bytes] = {}

    def of(self, chunk: bytes, worker: int) -> list[bytes]:
        """Return the lines that are whole by now, without their ends. A worker alone has no number, 0."""
        *lines, rest = (self._rests.get(worker, b"") + chunk).split(b"\n")
        self._rests[worker] = _last_state(rest)[-_LONGEST:]
        return [_marked(_last_state(line).rstrip(b"\r"), worker) for line in lines]

    def rest(self) -> list[bytes]:
        """Return the lines that never ended."""
        return [_marked(rest.rstrip(b"\r"), worker) for worker, rest in sorted(self._rests.items()) if rest]


def _last_state(line: bytes) -> bytes:
    """Return what is left of a line that a progress bar has redrawn with carriage returns; one may end it as yet."""
    last = line.rstrip(b"\r")
    return line[last.rfind(b"\r") + 1 :]


def _marked(line: bytes, worker: int) -> bytes:
    return b"%d| %b" % (worker, line) if worker else line


class PlainDisplay:
    """Lines on stderr, for logs. A single worker's bytes are written as they come."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._said: float | None = None

    def line(self, text: str) -> None:
        """Say something worth a line."""
        _put(f"ami-fault: {redact(text)}\n".encode(errors="replace"))

    def output(self, chunk: bytes, worker: int = 0) -> None:
        """Pass on what a worker wrote."""
        if worker:
            chunk = b"".join(line + b"\n" for line in self._lines.of(chunk, worker))
        _put(chunk)

    def progress(self, history: History, waiting_for: str) -> None:
        """Say how far it is, once in a while."""
        now = time.monotonic()
        self._said = now - _EVERY / 2 if self._said is None else self._said
        if now - self._said >= _EVERY:
            self._said = now
            self.line(f"{in_one_line(standing(history, time.time()))}; waiting for {waiting_for}")

    def __enter__(self) -> PlainDisplay:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was left without an end."""
        _put(b"".join(line + b"\n" for line in self._lines.rest()))


class LiveDisplay:
    """A panel at the bottom of the terminal, the worker's lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(Text(""), console=console, refresh_per_second=4, transient=True)
        self._lines = Lines()
        self._drawn = 0.0

    def line(self, text: str) -> None:
        """Say something worth a line."""
        self._console.print(Text(f"ami-fault: {redact(text)}", style="bold"))

    def output(self, chunk: bytes, worker: int = 0) -> None:
        """Pass on what a worker wrote, line by line."""
        self._print(self._lines.of(chunk, worker))

    def progress(self, history: History, waiting_for: str) -> None:
        """Show how far it is."""
        now = time.monotonic()
        if now - self._drawn >= _REDRAWN:
            self._drawn = now
            self._live.update(panel(standing(history, time.time()), waiting_for))

    def _print(self, lines: list[bytes]) -> None:
        for line in lines:
            self._console.print(Text.from_ansi(line.decode(errors="replace")), soft_wrap=True)

    def __enter__(self) -> LiveDisplay:
        """Show the panel."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the panel away again."""
        self._print(self._lines.rest())
        self._live.__exit__(kind, error, trace)


def choose(console: Console) -> PlainDisplay | LiveDisplay:
    """Return what suits the console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


def _put(chunk: bytes) -> None:
    """Write to stderr, whole: several workers' threads write here, and a pipe takes a part at a time."""
    with _ONE_AT_A_TIME:
        try:
            while chunk:
                chunk = chunk[os.write(2, chunk) :]
        except OSError:
            return  # closed: the run goes on unseen
