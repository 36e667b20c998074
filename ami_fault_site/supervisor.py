"""Run the worker, restart it, book its exits, keep its last words: until the job has ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol
from urllib.parse import urlsplit

from ami_fault_site.connections import endpoints, talks_to
from ami_fault_site.endings import PLAINLY, ExitKind, Options, Outcome, Until, decide_restart, exit_text, kind_of
from ami_fault_site.faults import SETTINGS_EXIT_CODE
from ami_fault_site.guardian import Guardian
from ami_fault_site.history import History
from ami_fault_site.incarnation import END_FOR_OPERATOR, END_ORPHANS, END_WORKER, Incarnation
from ami_fault_site.ledger import Ledger, Reader, incarnation_of
from ami_fault_site.runfolder import TREE, RunFolder
from ami_fault_site.service import JobWatch
from ami_fault_site.target import Target

TICK = 0.1
_UNARMED_TICK = 0.02  # a call without the hook may be over soon
IDLE_UNKNOWN = 330.0
"""Seconds without a lease or an answer after which a run is idle if ack_wait is not known: the longest ack_wait seen
in use (300 s) and the time to hand out again."""
_BEYOND_ACK_WAIT = 2.0  # s that a worker may hang once what it holds is handed out again
_SEALED_AT_ONCE = 200  # files in one event
_FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotStartError(Exception):
    """The command is not there, or cannot be executed."""


class Display(Protocol):
    """Shows a run as it goes."""

    def line(self, text: str) -> None:
        """Say something worth a line."""

    def output(self, chunk: bytes) -> None:
        """Pass on what the worker wrote."""

    def progress(self, history: History, waiting_for: str) -> None:
        """Show how far it is."""


class Supervisor:
    """One run from the worker's first start to its last exit."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        run: RunFolder,
        target: Target,
        watch: JobWatch,
        options: Options,
        display: Display,
        service_is_gone: Callable[[], bool] = lambda: False,
        invocation: str = "",
    ) -> None:
        self.history = History()
        self.reader = Reader(run.ledger)
        self._command = command
        self._environ = dict(environ)
        self._run = run
        self._target = target
        self._watch = watch
        self._options = options
        self._display = display
        self._service_is_gone = service_is_gone
        self._invocation = invocation
        self._said: dict[int, tuple[object, ...]] = {}
        self._ledger = Ledger(run.ledger, 0)
        self._told: dict[int, str] = {}
        self._stop_signal = 0
        self._max_deliver_known = False
        self._hangs_since: float | None = None
        self._has_ended_hung = False
        parts = urlsplit(target.base_url)
        self._endpoints = endpoints(target.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self._current: Incarnation | None = None
        self._began = time.monotonic()

    def run(self) -> Outcome:
        """Supervise until the end. Raises CannotStartError if the command cannot be started at all."""
        # What was ignored when we began stays ignored: that is how nohup keeps a run alive.
        stopping = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, self._on_stop) for number in stopping}
        handlers.update({number: signal.signal(number, self._on_forward) for number in _FORWARDED})
        self._book("began", invocation=self._invocation)
        try:
            self._watch.start()
            with Guardian() as guardian:
                return self._lives(guardian)
        finally:
            if self._current is not None:
                self._current.end_group(((signal.SIGKILL, 5.0),))
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._read_ledger()

    def conclude(self, outcome: Outcome) -> None:
        """Book how the run ended, what the service said last of each job, and of which it could not be asked."""
        self._book_seen()
        for job, reason in sorted(self._watch.trouble().items()):
            self._book("unwitnessed", job=job, why=reason if self._target.token else "no token")
        self._book("outcome", outcome=outcome.value)
        self._ledger.end()
        self._read_ledger()

    def waiting_for(self) -> str:
        """Say in words what the run waits for."""
        if self._options.until is Until.EXIT:
            return "the worker's first exit with status 0"
        if self._options.until is Until.IDLE:
            return f"{self._idle_after():g} s without a lease or an answer"
        if not self.history.jobs:
            return "a first task"
        return "the end of " + ", ".join(f"job {job} ({self._status(job)})" for job in sorted(self.history.jobs))

    def _lives(self, guardian: Guardian) -> Outcome:
        number = 0
        while True:
            number += 1
            outcome = self._live(number, guardian)
            if outcome is not None:
                return outcome
            self._display.line(f"starting again in {self._options.restart_delay:g} s")
            outcome = self._pause(self._options.restart_delay)
            if outcome is not None:
                return outcome

    def _live(self, number: int, guardian: Guardian) -> Outcome | None:
        environ = {**self._environ, "AMI_TEST_INCARNATION": str(number)}
        environ.setdefault("PYTHONUNBUFFERED", "1")  # or the last words of a crash stay in its buffer
        output = self._run.output / f"{number:04d}.log"
        secrets = (self._target.token,)
        try:
            self._current = life = Incarnation(self._command, environ, output, secrets, self._display.output)
        except OSError as error:
            raise CannotStartError(f"{self._command[0]!r} cannot be started: {error.strerror}") from error
        guardian.watch(life.group)
        self._book("spawn", incarnation=number, child=life.process.pid)
        self._display.line(f"incarnation {number} started (process {life.process.pid})")
        outcome = self._watch_over(life, number)
        if outcome not in (None, Outcome.INTERRUPTED) and not any(map(self._armed_now, range(1, number + 1))):
            outcome = Outcome.NOT_ARMED  # whatever else ended it: this run tested nothing
        life.end_group(self._ending(outcome))
        guardian.watch(None)
        self._current = None
        return self._book_exit(life, number, outcome)

    def _watch_over(self, life: Incarnation, number: int) -> Outcome | None:
        """Wait until the worker has ended by itself (None) or must end."""
        while life.poll() is None:
            outcome = self._look()
            if outcome is not None:
                return outcome
            if self._speaks_unarmed(life, number):
                return Outcome.NOT_ARMED
            self._end_if_hung(life, number)
        return None

    def _end_if_hung(self, life: Incarnation, number: int) -> None:
        """End a worker that one of our faults keeps waiting for ever, as a watchdog would, once its tasks are back."""
        if not self.history.life(number).hung or not any(map(is_there, self._hung(number))):
            self._hangs_since = None  # or somebody else has ended what hung
            return
        now, patience = time.monotonic(), _BEYOND_ACK_WAIT + (self._ack_wait() or IDLE_UNKNOWN)
        if self._hangs_since is None:
            self._hangs_since = now
            self._display.line(f"incarnation {number} hangs by an injected fault; it is ended after {patience:g} s")
        elif now - self._hangs_since >= patience:
            self._has_ended_hung = True
            life.end_group(((signal.SIGKILL, 5.0),))

    def _hung(self, number: int) -> list[int]:
        """Return the processes of an incarnation that one of our faults keeps waiting for ever."""
        return [one.pid for one in self.history.processes if one.incarnation == number and one.hung is not None]

    def _pause(self, seconds: float) -> Outcome | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            outcome = self._look()
            if outcome is not None:
                return outcome
            time.sleep(min(TICK, seconds))
        return None

    def _look(self) -> Outcome | None:
        self._read_ledger()
        self._watch.follow(self.history.jobs | self.history.asked_jobs)
        self._book_seen()
        self._pass_on_max_deliver()
        self._tell_trouble()
        self._display.progress(self.history, self.waiting_for())
        if self._stop_signal:
            return Outcome.INTERRUPTED
        if self.history.refused_host:
            return Outcome.SETTINGS
        if self._service_is_gone():
            return Outcome.SERVICE_GONE
        if self._options.timeout is not None and time.monotonic() - self._began >= self._options.timeout:
            return Outcome.TIMEOUT
        return self._is_over()

    def _is_over(self) -> Outcome | None:
        if self._options.until is Until.DRAINED:
            details = self._watch.details()
            jobs = self.history.jobs
            if jobs and all(job in details and details[job].is_final for job in jobs):
                return Outcome.DRAINED
        if self._options.until is Until.IDLE:
            since = max(self._began, self.history.last_traffic)
            if time.monotonic() - since >= self._idle_after():
                return Outcome.IDLE
        return None

    def _book_exit(self, life: Incarnation, number: int, outcome: Outcome | None) -> Outcome | None:
        last_words = self._last_words(life)
        self._read_ledger()
        record = self.history.life(number)
        code = life.process.returncode
        refused = record.refused or (code == SETTINGS_EXIT_CODE and not record.armed)
        by_hang = self._has_ended_hung or life.process.pid in self._hung(number)
        kind = kind_of(outcome, record.crashed or by_hang, refused)
        self._has_ended_hung = False
        shown = last_words if kind is ExitKind.ORGANIC or not record.armed else []
        seconds = round(time.monotonic() - life.started, 3)
        seen = {"incarnation": number, "code": code, "kind": kind.value, "seconds": seconds, "last_words": shown}
        self._book("exit", **seen)
        self._seal(number)
        self._read_ledger()
        self._display.line(f"incarnation {number} ended: {PLAINLY[kind]}, {exit_text(code)}")
        if outcome is not None:
            return outcome
        return decide_restart(kind, code, record.armed, number - 1, self._options)

    def _seal(self, number: int) -> None:
        """Book how many lines each file of this incarnation has: its processes are gone, none may have fewer later."""
        counts = self.reader.counts()
        files = [[name, lines] for name, lines in sorted(counts.items()) if incarnation_of(name) == number]
        for start in range(0, len(files), _SEALED_AT_ONCE):
            self._book("sealed", files=files[start : start + _SEALED_AT_ONCE])

    def _book_seen(self) -> None:
        """Book what the service says of each job whenever that has changed."""
        for job, seen in sorted(self._watch.seen().items()):
            detail = seen.detail
            said = (detail.status, detail.processed, detail.remaining, detail.failed)
            if self._said.get(job) != said:
                self._said[job] = said
                names = ("status", "processed", "remaining", "failed")
                times = {"asked": round(seen.asked, 6), "heard": round(seen.at, 6)}
                self._book("seen", job=job, **dict(zip(names, said, strict=True)), **times)

    def _pass_on_max_deliver(self) -> None:
        """Let the worker's processes know how often a task is handed out, once a job's log has said so."""
        most = self._watch.consumer().get("max_deliver")
        if most is None or self._max_deliver_known:
            return
        self._max_deliver_known = True
        try:
            self._run.tell_max_deliver(int(most))
        except OSError as error:
            self._display.line(f"the run folder cannot be written: {error.strerror}")

    def _ending(self, outcome: Outcome | None) -> Sequence[tuple[int, float]]:
        if outcome is None:
            return END_ORPHANS
        return END_FOR_OPERATOR if outcome is Outcome.INTERRUPTED else END_WORKER

    def _read_ledger(self) -> None:
        self.history.add(self.reader.new())

    def _armed_now(self, number: int) -> bool:
        self._read_ledger()
        return self.history.life(number).armed

    def _speaks_unarmed(self, life: Incarnation, number: int) -> bool:
        """Wait for a tick, and say whether the worker has spoken to the service without the hook."""
        deadline = time.monotonic() + TICK
        while time.monotonic() < deadline:
            if self.history.life(number).armed:
                time.sleep(TICK)
            elif self._endpoints and talks_to(life.group, self._endpoints) and not self._armed_now(number):
                return True
            else:
                time.sleep(_UNARMED_TICK)
        return False

    def _book(self, kind: str, /, **data: object) -> None:
        """Write one event; if that fails the run goes on, and is not complete."""
        try:
            self._ledger.append(kind, **data)
        except OSError as error:
            self._run.mark_incomplete()
            self._display.line(f"the ledger cannot be written: {error.strerror}")

    def _last_words(self, life: Incarnation) -> list[str]:
        try:
            return life.finish()
        except OSError as error:
            self._run.mark_incomplete()
            self._display.line(f"the worker's output cannot be kept: {error.strerror}")
            return []

    def _tell_trouble(self) -> None:
        trouble = self._watch.trouble()
        for job, reason in trouble.items():
            if self._told.get(job) != reason:
                self._display.line(f"nothing is known of job {job} just now: {reason}")
        self._told = trouble

    def _idle_after(self) -> float:
        if self._options.idle_after is not None:
            return self._options.idle_after
        known = self._ack_wait()
        return 2 * known if known else IDLE_UNKNOWN

    def _ack_wait(self) -> float | None:
        return self._options.ack_wait or self._watch.consumer().get("ack_wait")

    def _status(self, job: int) -> str:
        detail = self._watch.details().get(job)
        return "not known" if detail is None else detail.status

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        again, self._stop_signal = self._stop_signal, number
        if again and self._current is not None:
            self._current.signal_group(signal.SIGKILL)  # asked twice: at once

    def _on_forward(self, number: int, _frame: FrameType | None) -> None:
        if self._current is not None:
            self._current.signal_group(number)


def is_there(pid: int) -> bool:
    """Say whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def child_environ(environ: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment: the supervisor's own, with the hook switched on and the run's values."""
    inherited = {name: text for name, text in environ.items() if name != TREE}
    return {**inherited, **values, "AMI_TEST_FAULT_INJECTION_ENABLED": "true"}
