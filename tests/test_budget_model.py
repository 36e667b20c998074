"""The promise of the budget, in many runs of a model: time and the network are played, all else is the real thing."""

from __future__ import annotations

import copy
import io
import json
import random
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ami_fault_site import injector as injector_module
from ami_fault_site import runfolder
from ami_fault_site.antenna import Delivery, parse_reply_subject
from ami_fault_site.faults import Effect, Harm, InjectedTransientError, Mode, Phase, Point, Role
from ami_fault_site.grammar import parse_rules
from ami_fault_site.hooks import tasks
from ami_fault_site.hooks.crossing import Crossing
from ami_fault_site.injector import Injector
from ami_fault_site.ledger import Ledger
from ami_fault_site.settings import Settings
from ami_fault_site.witness import Witness
from tests.stage import reply_subject
from tests.thorough import times

pytestmark = pytest.mark.untraced

RUNS, TASKS, BATCH, PREFETCH, LOADERS, MOST, ACK_WAIT = times(100, 200), 24, 4, 4, 2, 2, 80
API = "http://h/api/v2"
LOADER_POINTS = (Point.AFTER_FETCH, Point.DOWNLOADING)
POSTING = (Point.POSTING_UNSENT, Point.POSTING_UNHEARD, Point.AFTER_POST, Point.IDLE)
CASES = (
    {"crash_points": (Point.BEFORE_BATCH, Point.IN_BATCH, Point.AFTER_BATCH)},
    {"crash_points": tuple(Point), "crash_process": tuple(Role)},
    {"crash_points": LOADER_POINTS, "crash_process": (Role.LOADER,)},
    {"crash_points": POSTING, "crash_mode": Mode.KILL},
)


class Died(BaseException):
    """Where a process would end."""


class Queue:
    """Hands each task out, at most twice, and again once it was not answered for so many steps."""

    def __init__(self, chance: random.Random) -> None:
        self.now, self.chance = 0, chance
        self.out: dict[int, tuple[int, int]] = dict.fromkeys(range(1, TASKS + 1), (0, -ACK_WAIT))
        self.answered: set[int] = set()

    def hand_out(self) -> list[Delivery]:
        """Take what is due, new tasks or old ones first."""
        due = [task for task, (count, at) in self.out.items() if count < MOST and self.now - at >= ACK_WAIT]
        due.sort(key=lambda task: self.out[task][0], reverse=self.chance.random() < 0.5)
        handed = []
        for task in [task for task in due if task not in self.answered][:BATCH]:
            count = self.out[task][0] + 1
            self.out[task] = (count, self.now)
            delivery = parse_reply_subject(reply_subject(task, count))
            assert delivery is not None
            handed.append(delivery)
        return handed


class World:
    """A queue, and what the worker that is alive now holds of it: each task by its latest delivery."""

    def __init__(self, folder: Path, seed: int) -> None:
        rules = parse_rules("tasks: 20%reset@after -> 5%refused\nresult: 20%reset -> 10%status(503)@after")
        chosen = dict(CASES[seed % len(CASES)])
        self.settings = Settings(
            True, 0.3, transient_error_rate=0.1, seed=seed, max_deliver=MOST, rules=rules, run_dir=str(folder), **chosen  # type: ignore[arg-type]
        )  # fmt: skip
        self.chance = random.Random(seed)
        self.queue = Queue(self.chance)
        self.held: dict[int, int] = {}
        self.on_its_way: tuple[Delivery, ...] = ()
        self.withheld = self.killed = self.refused = 0

    def last(self) -> set[int]:
        """Return the tasks that would be exhausted if the worker lost what it holds."""
        return {task for task, number in self.held.items() if number >= MOST and task not in self.queue.answered}

    def is_told(self, kind: str, why: str, effect: str, reason: str) -> None:
        """Compare what is booked with what is so."""
        if kind == "withheld" and why.startswith("budget:"):
            task = int(why.partition(" task ")[2].split()[0])
            moved = {one.sequence for one in self.on_its_way if one.delivery >= MOST}
            assert task in self.last() | moved, why
            self.withheld += 1
        if kind == "fault" and effect in (Effect.CRASH.value, Effect.TRANSIENT.value):
            assert self.last() == set(), reason
            self.killed += 1
        self.refused += kind == "fault" and reason.startswith("budget:")


class Watched(Injector):
    """An injector of a process of the role that it is given, whose bookings are compared."""

    world: World
    plays = Role.MAIN

    @property
    def role(self) -> Role:
        return self.plays

    def book(self, kind: str, /, **data: object) -> None:
        self.world.is_told(kind, *(str(data.get(key, "")) for key in ("why", "effect", "reason")))
        super().book(kind, **data)


class Process:
    """One process: its calls go through the real crossing, and are answered by the queue."""

    def __init__(self, world: World, injector: Watched) -> None:
        self.world, self.injector = world, injector
        self.witness = Witness(injector, lambda url: url)
        self.batches: list[list[Delivery]] = []
        self.is_alive = True

    def forked(self) -> Process:
        """Return a loader, which has what its parent knows of itself."""
        injector = copy.copy(self.injector)
        injector.plays, injector.budget = Role.LOADER, copy.copy(self.injector.budget)
        injector.budget.holdings = copy.copy(self.injector.budget.holdings)
        return Process(self.world, injector)

    def call(self, method: str, path: str, body: bytes = b"") -> requests.Response:
        """Make a call; raises ConnectionError, or Died."""
        passage = self.witness.recognize(method, f"{API}{path}", body)
        assert passage is not None
        crossing = Crossing(self.injector, self.witness, passage, False)
        harms: list[Harm | None] = [None]  # as the seam begins: it hears of what is to fail

        def send() -> requests.Response:
            harm = harms[-1]
            if harm is not None and harm.phase is Phase.BEFORE:
                raise requests.ConnectionError
            response = _answered(self._serve(path, passage.deliveries))
            if harm is not None and crossing.heard(response):
                raise requests.ConnectionError
            return response

        try:
            return crossing.go(send, harms.append)
        finally:
            self.world.on_its_way = ()

    def _serve(self, path: str, deliveries: tuple[Delivery, ...]) -> object:
        queue = self.world.queue
        queue.now += 1
        if path.endswith("/tasks/"):
            self.world.on_its_way = tuple(queue.hand_out())
            urls = [(f"{API}/{one.sequence}.jpg", one) for one in self.world.on_its_way]
            return {"tasks": [{"image_id": u, "image_url": u, "reply_subject": one.subject} for u, one in urls]}
        queue.answered.update(one.sequence for one in deliveries)
        return {"status": "accepted", "results": [{"id": 1}]}

    def fetch(self) -> None:
        """Load a batch, as a loader; it ends when there is nothing, or the call fails."""
        try:
            got = [parse_reply_subject(t["reply_subject"]) for t in self.call("POST", "/jobs/1/tasks/").json()["tasks"]]
            batch = [one for one in got if one is not None]
            self.world.held.update({one.sequence: one.delivery for one in batch})
            for one in batch:
                self.call("GET", f"/{one.sequence}.jpg")
            self.batches += [batch] if batch else []
            self.is_alive = bool(batch)
        except requests.RequestException:
            self.is_alive = False


def _answered(body: object) -> requests.Response:
    response = requests.Response()
    response.status_code, response.raw = 200, io.BytesIO(json.dumps(body).encode())
    return response


class Worker:
    """One life of a worker: polls, loads with loaders, works batches off, posts."""

    def __init__(self, world: World, number: int, folder: Path) -> None:
        settings = world.settings._replace(incarnation=number)
        joined = runfolder.join(settings, folder)
        injector = Watched(joined.settings, joined.run, Ledger(joined.run.ledger, number))
        injector.world = world
        self.world, self.main, self.crew = world, Process(world, injector), list[Process]()
        self.posts: list[list[Delivery]] = []
        self.module = types.ModuleType("loops")
        self.module.loop = lambda subjects: len(subjects)  # type: ignore[attr-defined]
        tasks.install(self.module, ("loop",), injector)
        world.held = {}

    def live(self) -> None:
        """Work until everything is answered, or this dies; then its orphans try to fetch on."""
        try:
            for _ in range(200):
                if len(self.world.queue.answered) == TASKS:
                    return
                self._poll()
            pytest.fail(f"tasks {sorted(self.world.last())} are never answered after 200 polls")
        except Died:
            for loader in self.crew * 2:
                self._load(loader)

    def _poll(self) -> None:
        try:
            self.main.call("GET", "/jobs?ids_only=1")
            for _ in self._steps():
                self._post()
        except InjectedTransientError:
            pass
        # What is still to be posted is; what was loaded and not worked off is given up.
        while self.posts:
            self._post()
        lost = {one.sequence for loader in self.crew for batch in loader.batches for one in batch} & self.world.last()
        assert lost == set(), "an aborted job took these along"
        self.crew = []
        self.world.queue.now += self.world.chance.randrange(ACK_WAIT)

    def _steps(self) -> Iterator[None]:
        """Let loaders and the loop take turns as chance has it; a dead loader is noticed a while later."""
        chance, notices = self.world.chance, 0
        self.crew = [self.main.forked()]
        while notices < 4 and (any(loader.is_alive or loader.batches for loader in self.crew) or self.posts):
            turn = chance.randrange(4)
            notices += any(self._load(chance.choice(self.crew)) for _ in range(turn))
            if notices:
                notices += chance.randrange(3)
            if len(self.crew) < LOADERS:
                self.crew.append(self.main.forked())
            loaded = [loader for loader in self.crew if loader.batches]
            if loaded and chance.random() < 0.5:
                batch = chance.choice(loaded).batches.pop(0)
                self.module.loop([one.subject for one in batch])
                self.posts.append(batch)
            yield

    def _load(self, loader: Process) -> bool:
        """Let a loader fetch; True if it dies."""
        if not loader.is_alive or len(loader.batches) >= PREFETCH:
            return False
        try:
            loader.fetch()
        except Died:
            loader.is_alive = False
            return True
        return False

    def _post(self) -> None:
        if not self.posts:
            return
        result: dict[str, list[str]] = {"source_images": [], "detections": []}
        items = [{"reply_subject": one.subject, "result": result} for one in self.posts.pop(0)]
        try:
            self.main.call("POST", "/jobs/1/result/", json.dumps({"results": items}).encode())
        except requests.RequestException:
            return


def test_no_fault_exhausts_a_task_and_none_is_withheld_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_mode: Mode) -> None:
        raise Died

    monkeypatch.setattr(injector_module, "die", die)
    worlds = []
    for seed in range(RUNS):
        world, lives = World(tmp_path / str(seed), seed), 0
        while len(world.queue.answered) < TASKS:
            lives += 1
            assert lives < 100, f"seed {seed}: {sorted(set(world.queue.out) - world.queue.answered)} are never answered"
            Worker(world, lives, tmp_path).live()
        worlds.append(world)
    told = {name: sum(getattr(world, name) for world in worlds) for name in ("killed", "withheld", "refused")}
    # Each of these was compared with what was so at that moment; without many of them this shows nothing.
    assert min(told.values()) > RUNS // 2, told
