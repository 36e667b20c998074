"""The modelled worker: polls, loads, works batch by batch, posts behind its own back, and polls again."""

from __future__ import annotations

from collections import deque
from functools import partial

from ami_fault_site.faults import Call, Draw, Effect, Point, Site
from tests.model import calls
from tests.model.lives import MAIN, Life, Process
from tests.model.queue import Handed, Post
from tests.model.scenario import Misbehaviour
from tests.model.timeline import NEVER, Signal, Steps

_THREADS = 2
_MOST_POSTS = 5
_HANGS_IN = 3  # the batch
_POOL = 8
_NOTICED = 0.5  # seconds until a dead loader is noticed
_TAKING = 0.02  # seconds that it takes at most to take the next batch
_KILLED = -9

Batch = list[tuple[Handed, str]]
"""Deliveries and why their image cannot be had, "" if it can."""


class Poster:
    """The posting threads of one pass. A post that fails is not repeated."""

    def __init__(self, process: Process, job: int) -> None:
        self.signal = Signal()
        self._process = process
        self._job = job
        self._waiting: deque[Post] = deque()
        self._busy = [False] * _THREADS

    @property
    def unfinished(self) -> int:
        return len(self._waiting) + sum(self._busy)

    def submit(self, answers: Post) -> None:
        self._waiting.append(answers)
        for number, is_busy in enumerate(self._busy):
            if not is_busy:
                self._busy[number] = True
                self._process.spawn(self._work(number), delay=0.0005)
                return

    def forget(self) -> None:
        """Post nothing that is not under way yet."""
        self._waiting.clear()

    def _work(self, number: int) -> Steps[None]:
        while self._waiting:
            yield from calls.post(self._process, f"result_poster_{number}", self._job, self._waiting.popleft())
            self.signal.notify()
        self._busy[number] = False
        self.signal.notify()


class Pass:
    """One working off of a job, from the fork of its loaders to the last post."""

    def __init__(self, worker: Worker, job: int) -> None:
        self.worker = worker
        self.job = job
        self.is_stopped = False
        self.is_broken = False
        self.is_struck = False  # broken by a fault
        self.signal = Signal()
        self.batches: deque[tuple[Loader | None, Batch]] = deque()
        self.poster = Poster(worker.life.main, job)
        number = worker.life.run.scenario.loaders
        self.loaders = [Loader(self) for _ in range(number)]
        worker.life.current = self

    def stop(self) -> None:
        """Begin nothing more: no fetch, no post."""
        self.is_stopped = True
        self.poster.forget()
        for loader in self.loaders:
            loader.stop()

    @property
    def how_broken(self) -> str:
        """How what is held is given up once a loader has died."""
        return "abandoned" if self.is_struck else "silently"

    @property
    def is_drained(self) -> bool:
        return all(not loader.is_running for loader in self.loaders)


class Loader:
    """A subprocess that fetches tasks and loads their images ahead of the main process."""

    def __init__(self, mine: Pass) -> None:
        life = mine.worker.life
        self.process = Process(life, parent=life.main.pid, calls=life.main.calls)
        self.process.knows_budget = life.main.knows_budget
        self.process.die = self._die_of_a_fault
        self.permits = life.run.scenario.prefetch
        self.permitted = Signal()
        self.is_running = True
        self._pass = mine
        self.process.spawn(self._work(), delay=life.run.rng.random() * 0.05)

    def permit(self) -> None:
        self.permits += 1
        self.permitted.notify()

    def stop(self) -> None:
        self.permitted.notify()

    def _work(self) -> Steps[None]:
        mine, life, run = self._pass, self.process.life, self.process.run
        while True:
            while not self.permits and not mine.is_stopped:
                yield self.permitted
            if mine.is_stopped or not life.alive:
                break
            self.permits -= 1
            handed = yield from calls.fetch(self.process, MAIN, mine.job, run.scenario.batch)
            if not handed:
                break
            if mine.is_stopped:
                for one in handed:
                    life.free(one, mine.how_broken if mine.is_broken else "abandoned")
                break
            if run.scenario.loader_death and run.rng.random() < run.scenario.loader_death:
                self._die()
                return
            batch = yield from self._load(handed)
            mine.batches.append((self, batch))
            mine.signal.notify()
        self.is_running = False
        self.process.end()
        mine.signal.notify()

    def _load(self, handed: list[Handed]) -> Steps[Batch]:
        batch = []
        for number, one in enumerate(handed):
            cause = yield from calls.picture(self.process, f"download_{number % _POOL}", one)
            batch.append((one, cause))
        return batch

    def _die_of_a_fault(self) -> None:
        self._pass.is_struck = True
        self._die()

    def _die(self) -> None:
        self.is_running = False
        self._pass.is_broken = True
        self.process.kill()
        self._pass.signal.notify()


class Worker:
    """What the main process of a life does."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.run = life.run
        self._batches = 0

    def work(self) -> Steps[None]:
        """Poll for ever."""
        run, main = self.run, self.life.main
        told = {"version": "0.2.0", "python": "3.12.3", "program": "ami-sample-worker", "seed": run.settings.seed}
        main.put("armed", MAIN, dict(told))
        yield 0.1 + 0.4 * run.rng.random()
        while True:
            worked = False
            for job in (yield from calls.poll(main)):
                worked = (yield from self._pass(job)) or worked
            if not worked:
                yield run.scenario.idle_sleep

    def _pass(self, job: int) -> Steps[bool]:
        """Work a job off until it looks drained, and say whether there was anything to do."""
        mine = Pass(self, job)
        steps = self._with_loaders(mine) if mine.loaders else self._serially(mine)
        worked = yield from steps
        yield from self._wait_for_posts(mine)
        return worked

    def _with_loaders(self, mine: Pass) -> Steps[bool]:
        worked = False
        while True:
            while not mine.batches and not mine.is_drained and not mine.is_broken:
                yield mine.signal
            if mine.is_broken:
                yield self.run.rng.random() * _NOTICED
                yield from self._abort(mine, mine.how_broken)
                return True
            if not mine.batches:
                return worked
            loader, batch = mine.batches.popleft()
            if loader is not None:
                loader.permit()
            worked = True
            yield self.run.rng.random() * _TAKING  # meanwhile the last batch's post may have begun
            if not (yield from self._process(mine, batch)):
                yield from self._abort(mine)
                return True

    def _serially(self, mine: Pass) -> Steps[bool]:
        worked, main = False, self.life.main
        while True:
            handed = yield from calls.fetch(main, MAIN, mine.job, self.run.scenario.batch)
            if not handed:
                return worked
            batch = []
            for one in handed:
                cause = yield from calls.picture(main, MAIN, one)
                batch.append((one, cause))
            worked = True
            if not (yield from self._process(mine, batch)):
                yield from self._abort(mine)
                return True

    def _abort(self, mine: Pass, how: str = "abandoned") -> Steps[None]:
        """Give up the job for this time: what is posted or on its way is kept, everything else is not answered."""
        mine.is_stopped = True
        self.life.free_all(how, except_posting=True)
        for loader in mine.loaders:
            loader.stop()
        while not mine.is_drained:
            yield mine.signal
            self.life.free_all(how, except_posting=True)
        self.life.free_all(how, except_posting=True)

    def _wait_for_posts(self, mine: Pass) -> Steps[None]:
        while mine.poster.unfinished:
            yield mine.poster.signal

    def _process(self, mine: Pass, batch: Batch) -> Steps[bool]:
        """Take a batch through the task loop and hand its answers to the poster; False if the job is to be given up."""
        run, main = self.run, self.life.main
        ordered = [one for one in batch if not one[1]] + [one for one in batch if one[1]]
        handed = [one for one, _ in ordered]
        rows = [one.row for one in handed]
        draws = tuple(Draw(str(one.task.sequence), str(one.number)) for one in handed)
        call = Call(Site.BATCH, draws, mine.job)
        decision = run.decide(call)
        eligible = [effect.value for effect in decision.eligible]
        told = {"site": "batch", "job": mine.job, "stream": f"job_{mine.job}", "tasks": rows, "draw": decision.draw}
        main.put("batch", MAIN, {**told, "eligible": eligible})
        self._batches += 1
        began, transient, harm = run.timeline.now, False, decision.harm
        strikes = partial(run.grant, main, MAIN, call, decision, tasks=rows, stream=f"job_{mine.job}")
        if decision.point is not Point.AFTER_BATCH and strikes():
            if decision.effect is Effect.CRASH:
                self.life.crash()
                yield NEVER
            if harm is not None and decision.effect is Effect.SLOW:
                yield harm.seconds
            transient = decision.effect is Effect.TRANSIENT
            if transient and run.scenario.misbehaviour is not Misbehaviour.FINAL_TRANSIENT:
                return False
        if not transient:
            yield from self._think(handed, began)
        if decision.point is Point.AFTER_BATCH and strikes():
            self.life.crash()
            yield NEVER
        yield from self._hand_over(mine, ordered, transient)
        return True

    def _think(self, handed: list[Handed], began: float) -> Steps[None]:
        run, main = self.run, self.life.main
        if run.scenario.misbehaviour is Misbehaviour.HANGS and self._batches == _HANGS_IN:
            self.life.is_hung = True
            run.service.bitten += 1
            yield NEVER
        yield run.scenario.model_time * len(handed)
        if run.scenario.organic_crash and run.rng.random() < run.scenario.organic_crash:
            self.life.die(_KILLED)
            yield NEVER
        seconds = round(run.timeline.now - began, 4)
        main.put("batch-end", MAIN, {"job": handed[0].task.job, "error": "", "seconds": seconds})

    def _hand_over(self, mine: Pass, ordered: Batch, transient: bool) -> Steps[None]:
        """Give the answers of a batch to the poster; waits while too many are pending."""
        run = self.run
        if run.scenario.misbehaviour is Misbehaviour.DROPS_POSTS and any(
            one.task.sequence % 10 == 3 for one, _ in ordered
        ):
            run.service.bitten += 1
            for one, _ in ordered:
                self.life.free(one, "unposted")
            return
        answers = Post(is_ours=True)
        for one, cause in ordered:
            error = calls.FAILED_TO_LOAD if cause else None
            if transient and not cause:
                error, cause = "Batch processing error: injected by ami-fault-site", "transient"
                run.service.bitten += 1
            calls.answer(one, error, cause, answers)
        while mine.poster.unfinished >= _MOST_POSTS:
            yield mine.poster.signal
        mine.poster.submit(answers)
