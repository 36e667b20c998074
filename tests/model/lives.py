"""The modelled worker's processes: a run, the lives of its worker, their processes, and how they end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ami_fault_site import plan
from ami_fault_site.faults import CRASH_EXIT_CODE, Call, Decision, Draw, Site, Trigger
from ami_fault_site.settings import Settings
from tests.counting import Counting
from tests.model.booking import Book, Host, Shelf
from tests.model.queue import Handed
from tests.model.scenario import Scenario
from tests.model.service import Service
from tests.model.timeline import Agent, Signal, Steps, Timeline

MAIN = "MainThread"
_ORPHANS_LIVE = 0.15  # seconds until the supervisor has found a dead worker's loaders
_ORPHANS_ALONE = 2.0  # where nobody looks for them


class Run:
    """One run folder: its settings, its counters, and one worker after the other."""

    def __init__(
        self, name: str, settings: Settings, host: Host, number: int, shelf: Shelf, service: Service, scenario: Scenario
    ) -> None:
        self.name = name
        self.settings = settings
        self.host = host
        self.host_number = number
        self.shelf = shelf
        self.service = service
        self.scenario = scenario
        self.timeline: Timeline = service.timeline
        self.rng: random.Random = service.rng
        self.injected: Counter[str] = Counter()
        self.asked_jobs: set[int] = set()
        self.handed_jobs: set[int] = set()
        self.struck_images: set[str] = set()
        self.last_traffic = 0.0
        self._counts: Counter[str] = Counter()
        self._granted = 0
        self._of_images: dict[tuple[str, int], tuple[Decision, Decision]] = {}

    def attempt(self, site: Site) -> str:
        self._counts[site.value] += 1
        return str(self._counts[site.value])

    def decide(self, call: Call) -> Decision:
        return plan.decide(self.settings, call, Counting())

    def decide_image(self, handed: Handed) -> tuple[Decision, Decision]:
        """Return the decisions on an image's download and opening, which are the same every time."""
        task = handed.task
        key = (task.image_id, task.job)
        if key not in self._of_images:
            draws = (Draw(task.image_id, ""),)
            both = [self.decide(Call(site, draws, task.job, task.names)) for site in (Site.IMAGE, Site.OPEN)]
            self._of_images[key] = (both[0], both[1])
        return self._of_images[key]

    def grant(self, process: Process, thread: str, call: Call, decision: Decision, /, **more: object) -> bool:
        """Book the fault that is about to strike, or why it is withheld."""
        if decision.effect is None:
            return False
        most = self.settings.max_faults
        withheld = "" if most is None or self._granted < most else f"AMI_TEST_MAX_FAULTS={most} is reached"
        told = {**_told(call, decision), **more}
        if withheld:
            process.put("withheld", thread, {**told, "why": withheld})
            return False
        process.put("fault", thread, told)
        self._granted += 1
        if call.names:
            self.struck_images.add(call.draws[0].subject)
        self.injected[decision.effect.value] += 1
        return True


def _told(call: Call, decision: Decision) -> dict[str, object]:
    struck, point, harm = decision.struck, decision.point, decision.harm
    assert harm is not None
    assert struck is not None
    return {
        "site": call.site.value,
        "effect": harm.effect.value,
        "trigger": decision.trigger.value,
        "kind": decision.kind,
        "phase": (plan.phase_of(point) if point else decision.phase).value,
        "point": point.value if point else "",
        "reason": decision.reason,
        "rate": decision.rate,
        "draw": decision.draw,
        "job": call.job,
        "subject": struck.subject,
        "attempt": struck.attempt,
        "try": call.attempt,
        "role": call.role.value,
        "image": call.names[0] if call.names else "",
        "counted": decision.trigger is Trigger.RATE,
        **({"rule": decision.rule} if decision.rule else {}),
        **({"seconds": round(harm.seconds, 3)} if harm.seconds else {}),
    }


class Request:
    """A request on its way. Once it is sent it goes on without its sender, unless it died with him.

    `fetches_of` is the job whose tasks it asks for, 0 if it asks for none.
    """

    __slots__ = ("_is_lost", "answer", "fetches_of", "has_arrived", "is_answered", "signal")

    def __init__(self, fetches_of: int = 0) -> None:
        self.fetches_of = fetches_of
        self.signal = Signal()
        self.answer: list[Handed] = []
        self.is_answered = False
        self.has_arrived = False
        self._is_lost = False

    def arrive(self, act: Callable[[], None]) -> None:
        if not self._is_lost:
            self.has_arrived = True
            act()

    def lose(self) -> None:
        """Let it die with its sender, if it is still on its way."""
        self._is_lost = not self.has_arrived

    def reply(self, handed: list[Handed]) -> None:
        self.answer, self.is_answered = handed, True
        self.signal.notify()


class Process:
    """One process: its file, the number of its last call, and whether it is alive."""

    def __init__(self, life: Life, parent: int, calls: int = 0) -> None:
        run = life.run
        self.run = run
        self.life = life
        self.alive = True
        self.pid = run.host.new_pid()
        self.calls = calls
        self.outgoing: dict[Request, None] = {}  # in their order
        self.knows_budget = False
        self.die: Callable[[], None] = life.crash  # of a fault
        self.book = Book(run.shelf, run.timeline, run.host, run.name, life.number, self.pid, parent)
        life.processes.append(self)

    def put(self, kind: str, thread: str, data: dict[str, object]) -> None:
        assert self.alive, f"a dead process books {kind}"
        self.book.put(kind, thread, data)

    def next_call(self) -> int:
        self.calls += 1
        return self.calls

    def spawn(self, steps: Steps[None], delay: float = 0.0) -> Agent:
        return Agent(self.run.timeline, self, steps).start(delay)

    def end(self) -> None:
        """Leave in order."""
        if self.alive:
            self.book.end()
            self._gone()

    def kill(self) -> None:
        """Leave at once; what is on its way may still arrive, or not."""
        if self.alive:
            for request in self.outgoing:
                if request.fetches_of:
                    self.run.service.jobs[request.fetches_of].has_lost_fetch = True
                if self.run.rng.random() < 0.5:
                    request.lose()
            self.book.close()
            self._gone()

    def _gone(self) -> None:
        self.alive = False


class Stoppable(Protocol):
    """What a worker is at, and can be told to begin nothing more of."""

    def stop(self) -> None: ...


class Life:
    """One life of the worker: its main process and the loaders that are forked from it."""

    def __init__(self, run: Run, number: int, parent: int) -> None:
        self.run = run
        self.number = number
        self.processes: list[Process] = []
        self.held: dict[Handed, None] = {}
        self.held_to_the_end: frozenset[Handed] = frozenset()
        self.died = Signal()
        self.code = 0
        self.is_injected = False
        self.is_hung = False
        self.has_met_host = False
        self.main = Process(self, parent)
        self.agent: Agent | None = None
        self.current: Stoppable | None = None

    @property
    def alive(self) -> bool:
        return self.main.alive

    def hold(self, handed: Handed) -> None:
        """A delivery was made to this life; if it is dead by then, nobody holds it."""
        if self.alive:
            self.held[handed] = None
        else:
            handed.free(self.run.timeline.now, "dropped")

    def free(self, handed: Handed, how: str) -> None:
        handed.free(self.run.timeline.now, how)
        self.held.pop(handed, None)

    def free_all(self, how: str, except_posting: bool = False) -> None:
        if how in ("ended", "stopped"):
            self.held_to_the_end = frozenset(self.held)
        for handed in list(self.held):
            if not (except_posting and handed.stage == "posting"):
                self.free(handed, how)

    def die(self, code: int, how: str = "dropped", is_injected: bool = False) -> None:
        """Let the main process die at once, and its loaders a moment later."""
        if not self.alive:
            return
        self.code, self.is_injected = code, is_injected
        self.main.kill()
        self.free_all(how)
        longest = _ORPHANS_LIVE if self.number else _ORPHANS_ALONE
        delay = self.run.rng.choice((0.0, self.run.rng.random() * longest))
        if delay:
            self.run.timeline.after(delay, self.kill_loaders)
        else:
            self.kill_loaders()
        self.died.notify()

    def crash(self) -> None:
        self.die(CRASH_EXIT_CODE, is_injected=True)

    def kill_loaders(self) -> None:
        for process in self.processes:
            process.kill()

    def interrupt(self) -> None:
        """Ask the worker to leave: what is under way goes on, nothing new is begun."""
        if self.agent is not None:
            self.agent.stop()
        if self.current is not None:
            self.current.stop()

    def leave(self, code: int) -> None:
        """Leave, in order where nothing is under way any more; the free ones first, as children do."""
        self.code = code
        for process in reversed(self.processes):
            if process.outgoing:
                process.kill()
            else:
                process.end()
        self.free_all("stopped")
