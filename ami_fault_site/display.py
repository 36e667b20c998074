"""Show a run as it goes: a live line when stderr is a terminal, plain lines when it is not."""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ami_fault_site.history import History
from ami_fault_site.redaction import redact

_LONGEST = 20_000  # bytes of a line that has not ended
_EVERY = 15.0  # seconds between plain progress lines


def progress_text(history: History, waiting_for: str) -> str:
    """Say in one line how far the run is."""
    lives = max((number for _, number in history.lives), default=0)
    faults = sum(history.injected.values())
    handed_out = sum(1 for task in history.tasks.values() if task.handed_out)
    answered = sum(1 for task in history.tasks.values() if task.is_answered)
    return (
        f"incarnation {lives}, {faults} faults, {handed_out} tasks handed out, {answered} answered; "
        f"waiting for {waiting_for}"
    )


class PlainDisplay:
    """Lines on stderr, for logs. Writes the worker's bytes as they come."""

    def line(self, text: str) -> None:
        """Say something worth a line."""
        _put(f"ami-fault: {redact(text)}\n".encode(errors="replace"))

    def output(self, chunk: bytes) -> None:
        """Pass on what the worker wrote."""
        _put(chunk)

    def progress(self, history: History, waiting_for: str) -> None:
        """Say how far it is, once in a while."""
        now = time.monotonic()
        if now - getattr(self, "_said", now - _EVERY / 2) >= _EVERY:
            self._said = now
            self.line(progress_text(history, waiting_for))
        elif not hasattr(self, "_said"):
            self._said = now

    def __enter__(self) -> PlainDisplay:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clean up."""


class LiveDisplay:
    """One line at the bottom of the terminal, the worker's lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(Text(""), console=console, refresh_per_second=4, transient=True)
        self._rest = b""

    def line(self, text: str) -> None:
        """Say something worth a line."""
        self._console.print(Text(f"ami-fault: {redact(text)}", style="bold"))

    def output(self, chunk: bytes) -> None:
        """Pass on what the worker wrote, line by line."""
        # A progress bar redraws one line with \r; only its last state is worth a line.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest.rpartition(b"\r")[2][-_LONGEST:]
        for line in lines:
            self._console.print(Text.from_ansi(line.decode(errors="replace")), soft_wrap=True)

    def progress(self, history: History, waiting_for: str) -> None:
        """Show how far it is."""
        self._live.update(Text(progress_text(history, waiting_for), style="cyan", overflow="ellipsis", no_wrap=True))

    def __enter__(self) -> LiveDisplay:
        """Show the line."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away again."""
        if self._rest:
            self.output(b"\n")
        self._live.__exit__(kind, error, trace)


def choose(console: Console) -> PlainDisplay | LiveDisplay:
    """Return what suits the console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


def _put(chunk: bytes) -> None:
    try:
        os.write(2, chunk)
    except OSError:
        return  # closed: the run goes on unseen
