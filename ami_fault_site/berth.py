"""One worker's place in a run: its lives follow one another here, with a pause between."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ami_fault_site.books import Books
from ami_fault_site.endings import PLAINLY, ExitKind, Options, Outcome, decide_restart, exit_text, kind_of
from ami_fault_site.faults import SETTINGS_EXIT_CODE
from ami_fault_site.incarnation import Incarnation

IDLE_UNKNOWN = 330.0
"""Seconds without a lease or an answer after which a run is idle if ack_wait is not known: the longest ack_wait seen
in use (300 s) and the time to hand out again."""
_BEYOND_ACK_WAIT = 2.0  # s that a worker may hang once what it holds is handed out again


class CannotStartError(Exception):
    """The command is not there, or cannot be executed."""


@dataclass(frozen=True)
class Starting:
    """How a worker is started: its command and environment, where its output is kept, and what must not stand there."""

    command: Sequence[str]
    environ: Mapping[str, str]
    output: Path
    secrets: tuple[str, ...]


class Berth:
    """Where the lives of one worker follow one another. `number` counts the workers of a run from 1.

    `life` is the current one, None in between; `incarnation` its number in the run, which counts those of all workers;
    `resumes` the monotonic time of the next start, None if none is due; `outcome` why no more will follow.
    """

    def __init__(
        self,
        number: int,
        starting: Starting,
        options: Options,
        books: Books,
        tell: Callable[[str], None],
        echo: Callable[[bytes], None],
    ) -> None:
        self.number = number
        self.life: Incarnation | None = None
        self.incarnation = 0
        self.resumes: float | None = time.monotonic()
        self.outcome: Outcome | None = None
        self._starting = starting
        self._options = options
        self._books = books
        self._tell = tell
        self._echo = echo
        self._starts = 0
        self._hangs_since: float | None = None
        self._has_ended_hung = False

    def start(self, incarnation: int) -> Incarnation:
        """Begin a life; raises CannotStartError if the command cannot be started at all."""
        environ = {**self._starting.environ, "AMI_TEST_INCARNATION": str(incarnation)}
        environ.setdefault("PYTHONUNBUFFERED", "1")  # or the last words of a crash stay in its buffer
        output = self._starting.output / f"{incarnation:04d}.log"
        command = self._starting.command
        try:
            life = Incarnation(command, environ, output, self._starting.secrets, self._echo)
        except OSError as error:
            raise CannotStartError(f"{command[0]!r} cannot be started: {error.strerror}") from error
        self.life, self.incarnation, self.resumes = life, incarnation, None
        self._starts += 1
        self._books.write("spawn", incarnation=incarnation, child=life.process.pid, worker=self.number)
        self._tell(f"incarnation {incarnation} started (process {life.process.pid})")
        return life

    def end_if_hung(self, ack_wait: float | None) -> None:
        """End a worker that one of our faults keeps waiting for ever, as a watchdog would, once its tasks are back."""
        if self.life is None:
            return
        if not self._books.history.life(self.incarnation).hung or not any(map(is_there, self._hung())):
            self._hangs_since = None  # or somebody else has ended what hung
            return
        now, patience = time.monotonic(), _BEYOND_ACK_WAIT + (ack_wait or IDLE_UNKNOWN)
        if self._hangs_since is None:
            self._hangs_since = now
            self._tell(f"incarnation {self.incarnation} hangs by an injected fault; it is ended after {patience:g} s")
        elif now - self._hangs_since >= patience:
            self._has_ended_hung = True
            self.life.end_group(((signal.SIGKILL, 5.0),))

    def close(self, outcome: Outcome | None, by_itself: bool = False) -> Outcome | None:
        """Book the end of a life whose processes are gone, and say how the run ends with it; None if it goes on.

        `outcome` is how the run ends that took it along, None if it ended alone; `by_itself` if the run ended without
        having ended it.
        """
        life, number = self.life, self.incarnation
        if life is None:
            return outcome
        self.life = None
        last_words = self._last_words(life)
        self._books.read()
        record = self._books.history.life(number)
        code = life.process.returncode
        refused = record.refused or (code == SETTINGS_EXIT_CODE and not record.armed)
        by_hang = self._has_ended_hung or life.process.pid in self._hung()
        kind = kind_of(None if by_itself else outcome, record.crashed or by_hang, refused)
        self._has_ended_hung, self._hangs_since = False, None
        shown = last_words if kind is ExitKind.ORGANIC or not record.armed else []
        seconds = round(time.monotonic() - life.started, 3)
        seen = {"incarnation": number, "code": code, "kind": kind.value, "seconds": seconds, "last_words": shown}
        self._books.write("exit", **seen)
        self._books.seal(number)
        self._books.read()
        self._tell(f"incarnation {number} ended: {PLAINLY[kind]}, {exit_text(code)}")
        if outcome is not None:
            return outcome
        self.outcome = decide_restart(kind, code, record.armed, self._starts - 1, self._options)
        if self.outcome is None:
            self._pause()
        return self.outcome

    def _pause(self) -> None:
        seconds = self._options.restart_delay
        self.resumes = time.monotonic() + seconds
        self._books.write("waiting", worker=self.number, seconds=seconds)
        self._tell(f"starting again in {seconds:g} s")

    def _hung(self) -> list[int]:
        """Return the processes of this incarnation that one of our faults keeps waiting for ever."""
        processes = self._books.history.processes
        return [one.pid for one in processes if one.incarnation == self.incarnation and one.hung is not None]

    def _last_words(self, life: Incarnation) -> list[str]:
        try:
            return life.finish()
        except OSError as error:
            self._books.mark_incomplete()
            self._tell(f"the worker's output cannot be kept: {error.strerror}")
            return []


def is_there(pid: int) -> bool:
    """Say whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
