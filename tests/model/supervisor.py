"""The modelled supervisor: starts the worker again after each exit, watches the jobs, and books both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ami_fault_site.jobdetail import JobDetail
from tests.model.booking import Book
from tests.model.lives import MAIN, Life, Run
from tests.model.queue import Job
from tests.model.timeline import Agent, Always, Signal, Steps
from tests.model.worker import Worker

_STARTS_IN = 0.5  # seconds from the start of a process to its first event
_TICK = 0.1
_INTERRUPTED, _TERMINATED = 130, -15
_SEALED_AT_ONCE = 200
_FINAL_ROUNDS = 10  # every so many looks, jobs that have ended are looked at too
_SETTLES = {"interrupted": 0.0, "drained": 1.0}  # seconds; all other outcomes 0.2


@dataclass(frozen=True)
class Look:
    """What the service said of a job at a moment of the model, and why it was asked."""

    at: float
    why: str
    detail: JobDetail
    lines: int  # how many lines the job's log had by then


def look_at(job: Job, at: float, why: str) -> Look:
    """Ask the service about a job."""
    errors = tuple(job.errors)
    detail = JobDetail(job.number, job.status, job.processed, job.remaining, job.failed, errors)
    return Look(at, why, detail, len(job.lines))


def begin_life(run: Run, number: int, parent: int) -> Life:
    """Start the worker."""
    life = Life(run, number, parent)
    life.agent = life.main.spawn(Worker(life).work(), delay=_STARTS_IN * (0.5 + run.rng.random()))
    return life


class Supervisor:
    """One supervised run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.alive = True
        self.outcome = ""
        self.exits: list[tuple[int, str]] = []
        self.lives: list[Life] = []
        self.looks: list[Look] = []
        self._woken = Signal()
        self._seen: dict[int, JobDetail] = {}
        self._book = Book(run.shelf, run.timeline, run.host, run.name, 0, run.host.new_pid(), parent=1)

    def start(self) -> None:
        """Begin, and end at the latest when the time is over or the operator says so."""
        timeline, scenario = self.run.timeline, self.run.scenario
        Agent(timeline, self, self._supervise()).start()
        Agent(timeline, self, self._watch()).start()
        timeline.after(scenario.timeout, lambda: self._decide("timeout"))
        if scenario.stop_after is not None:
            timeline.after(scenario.stop_after, lambda: self._decide("interrupted"))

    def _decide(self, outcome: str) -> None:
        if not self.outcome:
            self.outcome = outcome
            self._woken.notify()

    def _put(self, kind: str, data: dict[str, object]) -> None:
        self._book.put(kind, MAIN, data)

    def _supervise(self) -> Steps[None]:
        run = self.run
        self._put("began", {"invocation": f"invocation-{run.settings.seed}"})
        number = 0
        while not self.outcome:
            number += 1
            life = begin_life(run, number, parent=100)
            self.lives.append(life)
            began = run.timeline.now
            self._put("spawn", {"incarnation": number, "child": life.main.pid, "worker": 1})
            life.died.wait(self._woken.notify)
            while life.alive and not self.outcome:
                yield self._woken
            yield run.rng.random() * _TICK
            yield from self._end(life)
            self._book_exit(life, number, began)
            if not self.outcome and number > run.scenario.max_restarts:
                self.outcome = "restarts-exhausted"
            yield from self._pause()
        yield from self._finish()

    def _end(self, life: Life) -> Steps[None]:
        """End the worker, if it has not ended by itself, and whoever is left of it."""
        rng = self.run.rng
        if life.alive:
            if self.outcome != "interrupted":
                life.die(_TERMINATED, "ended")
            else:
                life.interrupt()
                yield rng.uniform(0.05, 1.0)
                if rng.random() < 0.5:
                    life.leave(_INTERRUPTED)
                else:
                    life.die(_TERMINATED, "stopped")
            self.exits.append((life.code, "operator" if self.outcome == "interrupted" else "ended"))
        else:
            self.exits.append((life.code, "injected" if life.is_injected else "organic"))
        yield rng.random() * _TICK
        life.kill_loaders()

    def _book_exit(self, life: Life, number: int, began: float) -> None:
        code, kind = self.exits[-1]
        last_words = ["Killed"] if kind == "organic" else []
        seconds = round(self.run.timeline.now - began, 3)
        told = {"incarnation": number, "code": code, "kind": kind, "seconds": seconds, "last_words": last_words}
        self._put("exit", told)
        files = sorted([one.book.file, one.book.sequence] for one in life.processes if one.book.file)
        for start in range(0, len(files), _SEALED_AT_ONCE):
            self._put("sealed", {"files": files[start : start + _SEALED_AT_ONCE]})

    def _pause(self) -> Steps[None]:
        """Wait until the worker is to be started again, or the run is over."""
        if self.outcome:
            return
        self._put("waiting", {"worker": 1, "seconds": self.run.scenario.restart_delay})
        timeline = self.run.timeline
        until = timeline.now + self.run.scenario.restart_delay
        timeline.at(until, self._woken.notify)
        while timeline.now < until and not self.outcome:
            yield self._woken

    def _finish(self) -> Steps[None]:
        yield _SETTLES.get(self.outcome, 0.2)
        for job in sorted(self.run.asked_jobs):
            if self.run.scenario.token:
                yield from self._look(job, "end")
            else:
                self._put("unwitnessed", {"job": job, "why": "no token"})
        self._put("outcome", {"outcome": self.outcome})
        self._book.end()
        self.alive = False

    # --- watching the jobs

    def _watch(self) -> Steps[None]:
        run, rounds = self.run, 0
        while not self.outcome:
            rounds += 1
            for job in sorted(run.asked_jobs) if run.scenario.token else ():
                if rounds % _FINAL_ROUNDS == 0 or job not in self._seen or not self._seen[job].is_final:
                    yield from self._look(job, "later")
            self._decide_if_over()
            yield run.scenario.watch_every

    def _look(self, number: int, why: str) -> Steps[None]:
        run = self.run
        asked = run.timeline.now
        yield run.rng.random() * run.scenario.latency
        seen = look_at(run.service.jobs[number], run.timeline.now, why)
        yield run.rng.random() * run.scenario.latency
        before = self._seen.get(number)
        self._seen[number] = seen.detail
        why = "first" if before is None else why
        if before is None or why == "end" or before.status != seen.detail.status:
            self.looks.append(seen)
        if before is None or _counts(before) != _counts(seen.detail):
            self._put("seen", self._told(number, seen.detail, asked))

    def _told(self, number: int, detail: JobDetail, asked: float) -> dict[str, object]:
        base, now = self.run.host.mono, self.run.timeline.now
        counts = {"processed": detail.processed, "remaining": detail.remaining, "failed": detail.failed}
        asked, heard = round(base + asked, 6), round(base + now, 6)
        return {"job": number, "status": detail.status, **counts, "asked": asked, "heard": heard}

    def _decide_if_over(self) -> None:
        run = self.run
        if run.scenario.until == "idle":
            idle_after = run.scenario.idle_after or 2 * run.scenario.ack_wait
            if run.timeline.now - run.last_traffic >= idle_after:
                self._decide("idle")
        elif run.handed_jobs and all(job in self._seen and self._seen[job].is_final for job in run.handed_jobs):
            self._decide("drained")


def _counts(detail: JobDetail) -> tuple[object, ...]:
    return detail.status, detail.processed, detail.remaining, detail.failed


class Alone:
    """A worker that nobody supervises: something starts it again when it dies, and books nothing."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.alive = True
        self.lives: list[Life] = []
        self._woken = Signal()
        self._is_over = False

    def start(self) -> None:
        """Begin; it works until its time is over, or a moment longer than its jobs need it."""
        timeline, scenario = self.run.timeline, self.run.scenario
        Agent(timeline, Always(), self._keep_alive()).start()
        Agent(timeline, Always(), self._watch()).start()
        stop = scenario.timeout if scenario.stop_after is None else min(scenario.timeout, scenario.stop_after)
        timeline.after(stop, self._end)

    def _end(self) -> None:
        self._is_over = True
        self._woken.notify()

    def _watch(self) -> Steps[None]:
        run = self.run
        while not self._is_over:
            yield run.scenario.watch_every
            jobs = [run.service.jobs[number] for number in run.handed_jobs]
            if jobs and all(job.is_final for job in jobs):
                yield 2.0
                self._end()

    def _keep_alive(self) -> Steps[None]:
        run = self.run
        while not self._is_over:
            life = begin_life(run, 0, parent=1)
            self.lives.append(life)
            wake: Callable[[], None] = self._woken.notify
            life.died.wait(wake)
            while life.alive and not self._is_over:
                yield self._woken
            if life.alive:
                life.interrupt()
                yield 1.0
                if run.rng.random() < 0.5:
                    life.leave(0)
                else:
                    life.die(_TERMINATED, "stopped")
            else:
                yield run.scenario.restart_delay
        self.alive = False
