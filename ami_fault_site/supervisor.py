"""Run the workers, start them again, watch over them: until the job has ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Protocol
from urllib.parse import urlsplit

from ami_fault_site.berth import IDLE_UNKNOWN, Berth, Starting
from ami_fault_site.books import Books
from ami_fault_site.connections import endpoints, talks_to
from ami_fault_site.endings import Options, Outcome, Until
from ami_fault_site.guardian import Guardian
from ami_fault_site.history import History
from ami_fault_site.incarnation import END_FOR_OPERATOR, END_ORPHANS, END_WORKER, end_groups
from ami_fault_site.runfolder import TREE, RunFolder
from ami_fault_site.service import JobWatch
from ami_fault_site.target import Target

TICK = 0.1
_UNARMED_TICK = 0.02  # a call without the hook may be over soon
_FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ASKED_ONCE = 1.0  # s within which two signals are one request: timeout(1) sends its own to us and to our group
_AT_ONCE = ((signal.SIGKILL, 5.0),)


class Display(Protocol):
    """Shows a run as it goes."""

    def line(self, text: str) -> None:
        """Say something worth a line."""

    def output(self, chunk: bytes, worker: int = 0) -> None:
        """Pass on what a worker wrote; `worker` is its number where there are several."""

    def progress(self, history: History, waiting_for: str) -> None:
        """Show how far it is."""


class Supervisor:
    """One run from the workers' first start to their last exit."""

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
        self.books = Books(run, display.line)
        self._run = run
        self._target = target
        self._watch = watch
        self._options = options
        self._display = display
        self._service_is_gone = service_is_gone
        self._invocation = invocation
        self._told: dict[int, str] = {}
        self._stop_signal, self._stopped_at = 0, 0.0
        self._max_deliver_known = False
        parts = urlsplit(target.base_url)
        self._endpoints = endpoints(target.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        starting = Starting(command, dict(environ), run.output, (target.token,))
        self._berths = [self._berth(number, starting) for number in range(1, options.workers + 1)]
        self._incarnations = 0
        self._began = time.monotonic()

    @property
    def history(self) -> History:
        """What has been read of the run so far."""
        return self.books.history

    def run(self) -> Outcome:
        """Supervise until the end. Raises CannotStartError if the command cannot be started at all."""
        # What was ignored when we began stays ignored: that is how nohup keeps a run alive.
        stopping = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, self._on_stop) for number in stopping}
        handlers.update({number: signal.signal(number, self._on_forward) for number in _FORWARDED})
        self.books.write("began", invocation=self._invocation)
        try:
            self._watch.start()
            with Guardian() as guardian:
                outcome = self._tend(guardian)
                return self._end(outcome, guardian)
        finally:
            end_groups([berth.life for berth in self._berths if berth.life is not None], _AT_ONCE)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.books.read()

    def conclude(self, outcome: Outcome) -> None:
        """Book how the run ended, what the service said last of each job, and of which it could not be asked."""
        self.books.write_seen(self._watch.seen())
        for job, reason in sorted(self._watch.trouble().items()):
            self.books.write("unwitnessed", job=job, why=reason if self._target.token else "no token")
        self.books.write("outcome", outcome=outcome.value)
        self.books.close()

    def waiting_for(self) -> str:
        """Say in words what the run waits for."""
        if self._options.until is Until.EXIT:
            whose = "the worker's" if self._options.workers == 1 else "every worker's"
            return f"{whose} first exit with status 0"
        if self._options.until is Until.IDLE:
            return f"{self._idle_after():g} s without a lease or an answer"
        if not self.history.jobs:
            return "a first task"
        return "the end of " + ", ".join(f"job {job} ({self._status(job)})" for job in sorted(self.history.jobs))

    # --- the workers

    def _berth(self, number: int, starting: Starting) -> Berth:
        if self._options.workers == 1:
            return Berth(number, starting, self._options, self.books, self._display.line, self._display.output)
        tell = partial(self._tell_of, number)
        echo = partial(self._display.output, worker=number)
        return Berth(number, starting, self._options, self.books, tell, echo)

    def _tell_of(self, worker: int, text: str) -> None:
        self._display.line(f"worker {worker}: {text}")

    def _tend(self, guardian: Guardian) -> Outcome:
        """Start each worker when it is due, watch over it, and see how it ends, until the run is over."""
        while True:
            for berth in self._berths:
                if berth.life is None and berth.resumes is not None and time.monotonic() >= berth.resumes:
                    self._incarnations += 1
                    berth.start(self._incarnations)
                    self._guard(guardian)
            outcome = self._unless_unarmed(self._look())
            if outcome is None:
                outcome = self._see_ends(guardian)
            if outcome is None and self._speaks_unarmed():
                outcome = Outcome.NOT_ARMED
            if outcome is not None:
                return outcome

    def _see_ends(self, guardian: Guardian) -> Outcome | None:
        """Look which workers have ended by themselves; say how the run ends with that, None if it goes on."""
        for berth in self._berths:
            berth.end_if_hung(self._ack_wait())
            if berth.life is None or berth.life.poll() is None:
                continue
            berth.life.end_group(END_ORPHANS)
            outcome = berth.close(None)
            self._guard(guardian)
            if outcome not in (None, Outcome.EXITED, Outcome.RESTARTS_EXHAUSTED):
                return outcome
        ends = [berth.outcome for berth in self._berths]
        if None in ends:
            return None
        return Outcome.RESTARTS_EXHAUSTED if Outcome.RESTARTS_EXHAUSTED in ends else Outcome.EXITED

    def _end(self, outcome: Outcome, guardian: Guardian) -> Outcome:
        """End all workers that still run, each in order and all at once."""
        if outcome is not Outcome.INTERRUPTED:  # the operator's signal went to them as well
            self._close_ended(outcome)
        steps = END_FOR_OPERATOR if outcome is Outcome.INTERRUPTED else END_WORKER
        left = [berth for berth in self._berths if berth.life is not None]
        end_groups([berth.life for berth in left if berth.life is not None], steps)
        for berth in left:
            berth.close(outcome)
        self._guard(guardian)
        return outcome

    def _close_ended(self, outcome: Outcome) -> None:
        """Book the ends of those that have gone by themselves while the run came to its end: not our doing."""
        gone = [berth for berth in self._berths if berth.life is not None and berth.life.poll() is not None]
        end_groups([berth.life for berth in gone if berth.life is not None], END_ORPHANS)
        for berth in gone:
            berth.close(outcome, by_itself=True)

    def _unless_unarmed(self, outcome: Outcome | None) -> Outcome | None:
        """Say that a run has tested nothing, whatever else ended it, if none of its workers has ever armed."""
        if outcome in (None, Outcome.INTERRUPTED) or all(berth.life is None for berth in self._berths):
            return outcome
        armed = any(self.books.is_armed(number) for number in range(1, self._incarnations + 1))
        return outcome if armed else Outcome.NOT_ARMED

    def _guard(self, guardian: Guardian) -> None:
        guardian.watch([berth.life.group for berth in self._berths if berth.life is not None])

    def _speaks_unarmed(self) -> bool:
        """Wait for a tick, and say whether a worker has spoken to the service without the hook."""
        due = [berth.resumes for berth in self._berths if berth.resumes is not None]
        deadline = min([time.monotonic() + TICK, *due])
        while (now := time.monotonic()) < deadline:
            unarmed = [one for one in self._berths if one.life and not self.history.life(one.incarnation).armed]
            if self._endpoints and unarmed:
                for one in unarmed:
                    speaks = one.life is not None and talks_to(one.life.group, self._endpoints)
                    if speaks and not self.books.is_armed(one.incarnation):
                        return True
                time.sleep(min(_UNARMED_TICK, deadline - now))
            else:
                time.sleep(deadline - now)
        return False

    # --- the run

    def _look(self) -> Outcome | None:
        self.books.read()
        self._watch.follow(self.history.jobs | self.history.asked_jobs)
        self.books.write_seen(self._watch.seen())
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
        now = time.monotonic()
        if not self._stop_signal:
            self._stop_signal, self._stopped_at = number, now
        elif now - self._stopped_at > _ASKED_ONCE:
            self._signal(signal.SIGKILL)  # asked twice: at once

    def _on_forward(self, number: int, _frame: FrameType | None) -> None:
        self._signal(number)

    def _signal(self, number: int) -> None:
        for berth in self._berths:
            if berth.life is not None:
                berth.life.signal_group(number)


def child_environ(environ: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment: the supervisor's own, with the hook switched on and the run's values."""
    inherited = {name: text for name, text in environ.items() if name != TREE}
    return {**inherited, **values, "AMI_TEST_FAULT_INJECTION_ENABLED": "true"}
