"""Play a scenario from its first moment to its last, and hand over what was booked, what is known, and the truth."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ami_fault_site.ledger import Event
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.facts import Facts, JobWitness, Parameters
from tests.model.booking import Host, MemoryShelf, Shelf
from tests.model.lives import Run
from tests.model.others import Other
from tests.model.queue import Job
from tests.model.scenario import Scenario
from tests.model.service import Service
from tests.model.supervisor import Alone, Look, Supervisor, look_at
from tests.model.timeline import Timeline
from tests.model.truth import JobTruth, Omniscience, Truth

SETTLING = 3.0
"""Seconds that the service has after the last run before it is asked for the last time."""

_SETTLED = 1.0  # seconds without a change that count as rest


@dataclass(frozen=True)
class Modelled:
    """A history with its truth. `events` are in file order, by run and file name."""

    scenario: Scenario
    events: Mapping[tuple[str, str], list[Event]]
    facts: Facts
    truth: Truth
    runs: Mapping[str, Settings]
    looks: Mapping[str, tuple[Look, ...]]
    log: Mapping[int, tuple[tuple[float, str, str], ...]]
    wall: float  # what the first host's wall clock showed at the model's moment 0

    def all_events(self) -> list[Event]:
        """Return the events file by file, the files in the order of their names, as a reader yields them."""
        return [event for place in sorted(self.events) for event in self.events[place]]


class Stage:
    """Everything that plays together in one scenario."""

    def __init__(self, scenario: Scenario, shelf: Shelf) -> None:
        self.scenario = scenario
        rng = random.Random(scenario.seed)
        self.timeline = Timeline()
        self.service = Service(self.timeline, rng, scenario)
        self.hosts = [Host.draw(number, rng) for number in range(1, scenario.hosts + 1)]
        self.runs = [self._run(number, shelf) for number in range(scenario.workers)]
        self._last: dict[int, JobWitness] = {}
        kind = Alone if scenario.unsupervised else Supervisor
        self.keepers: list[Alone | Supervisor] = [kind(run) for run in self.runs]
        self.ended = self.asked_at = 0.0
        self.settled = False
        self._last_looks: list[Look] = []
        for keeper in self.keepers:
            keeper.start()
        for _ in range(scenario.others):
            Other(self.service, scenario).start()

    def _run(self, number: int, shelf: Shelf) -> Run:
        settings = self.scenario.settings._replace(enabled=True, seed=self.scenario.seed + number)
        host = number % len(self.hosts)
        name = f"run-{number + 1}" if self.scenario.workers > 1 else ""  # as they are named when they are read
        return Run(name, settings, self.hosts[host], host, shelf, self.service, self.scenario)

    def play(self) -> None:
        """Go on until the last run is over, and let the service come to rest.

        After an operator's stop nobody waits for that: the service is asked for the last time at once.
        """
        self.timeline.run(float("inf"), lambda: not any(keeper.alive for keeper in self.keepers))
        self.ended = self.timeline.now
        is_stopped = all(isinstance(one, Supervisor) and one.outcome == "interrupted" for one in self.keepers)
        if is_stopped:
            self._ask(settled=False)
        self.timeline.run(self.ended + SETTLING - _SETTLED, _never)
        before = self._counts()
        self.timeline.run(self.ended + SETTLING, _never)
        if not is_stopped:
            self._ask(settled=before == self._counts() and not self.service.pending)

    def _ask(self, settled: bool) -> None:
        """Ask the service for the last time about the jobs that anybody of ours has asked for tasks of."""
        self.settled, self.asked_at = settled, self.timeline.now
        asked = sorted({job for run in self.runs for job in run.asked_jobs})
        self._last = {number: self._witness(self.service.jobs[number]) for number in asked}
        why = "settled" if settled else "end"
        self._last_looks = [look_at(self.service.jobs[number], self.asked_at, why) for number in asked]

    def _counts(self) -> list[tuple[str, int | None, int | None]]:
        return [(job.status, job.processed, job.failed) for job in self.service.jobs.values()]

    @property
    def parameters(self) -> Parameters:
        if not self.scenario.knows_parameters:
            return Parameters()
        sources = dict.fromkeys(("ack_wait", "max_deliver"), "an option")
        return Parameters(self.scenario.ack_wait, self.scenario.max_deliver, sources)

    def facts(self) -> Facts:
        """Return what a judge would know besides the ledgers."""
        settings = tuple(run.settings for run in self.runs)
        if not self.scenario.token:
            return Facts(settings, self.parameters, witness_missing="no token")
        return Facts(settings, self.parameters, self._last)

    def _witness(self, job: Job) -> JobWitness:
        now = self.timeline.now
        knows = self.scenario.knows_log and job.status != "CREATED"  # its log would begin with its start
        return JobWitness(
            detail=look_at(job, now, "").detail,
            wall=self.hosts[0].wall + now,
            settled=self.settled,
            recorded=frozenset(one.reply_subject for one in job.recorded) if knows else None,
            delivered=job.delivered if knows else None,
            given_up=job.given_up,
            queued=job.size if knows else None,
        )

    def last_looks(self, run: Run) -> list[Look]:
        """Return what the service says in the end of the jobs that a run has asked for tasks of."""
        return [look for look in self._last_looks if look.detail.job in run.asked_jobs]

    def no_truth(self) -> Truth:
        """Return an empty truth, for histories that are too large to have one."""
        return Truth({}, {}, {}, (), {}, 0, self.ended)

    def truth(self) -> Truth:
        """Return what really happened."""
        lives = [life for keeper in self.keepers for life in keeper.lives]
        hung = frozenset(handed for life in lives if life.is_hung for handed in life.held_to_the_end)
        struck = frozenset(image for run in self.runs for image in run.struck_images)
        omniscience = Omniscience(self.scenario, self.parameters, self.ended, hung, struck)
        jobs = self.service.jobs.values()
        tasks = (omniscience.of(job, task) for job in jobs if job.status != "CREATED" for task in job.tasks)
        supervisors = [keeper for keeper in self.keepers if isinstance(keeper, Supervisor)]
        injected: Counter[str] = Counter()
        for run in self.runs:
            injected.update(run.injected)
        return Truth(
            tasks={one.key: one for one in tasks},
            jobs={job.number: _job_truth(job) for job in jobs},
            outcomes={one.run.name: one.outcome for one in supervisors},
            exits=tuple((one.run.name, code, kind) for one in supervisors for code, kind in one.exits),
            injected=injected,
            bitten=self.service.bitten,
            ended=self.ended,
        )


def play(scenario: Scenario) -> Modelled:
    """Play a scenario and keep everything. The same scenario always gives the same."""
    shelf = MemoryShelf()
    stage = Stage(scenario, shelf)
    stage.play()
    looks: dict[str, tuple[Look, ...]] = {}
    for keeper in stage.keepers:
        last = [] if not scenario.token else stage.last_looks(keeper.run)
        looks[keeper.run.name] = (*(keeper.looks if isinstance(keeper, Supervisor) else ()), *last)
    return Modelled(
        scenario,
        shelf.files,
        stage.facts(),
        stage.truth(),
        {run.name: run.settings for run in stage.runs},
        looks,
        {number: tuple(job.lines) for number, job in stage.service.jobs.items()},
        stage.hosts[0].wall,
    )


def _never() -> bool:
    return False


def _job_truth(job: Job) -> JobTruth:
    others = sum(not handed.is_ours for task in job.tasks for handed in task.handed)
    counts = (job.processed, job.failed, job.given_up, job.delivered)
    return JobTruth(job.number, job.status, job.size, *counts, others)
