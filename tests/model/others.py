"""Workers that are not ours and in no ledger: they take deliveries, and answer, answer late, or do not."""

from __future__ import annotations

from tests.model.queue import Answer, Handed, Post, Task
from tests.model.scenario import Scenario
from tests.model.service import Service
from tests.model.timeline import Agent, Always, Signal, Steps

_ERRORS = 0.05


class Other:
    """One worker of somebody else's."""

    def __init__(self, service: Service, scenario: Scenario) -> None:
        self._service = service
        self._scenario = scenario
        self._timeline = service.timeline
        self._rng = service.rng

    def start(self) -> None:
        """Begin after a while; it works for ever."""
        Agent(self._timeline, Always(), self._work()).start(self._rng.random() * self._scenario.others_every)

    def _work(self) -> Steps[None]:
        scenario, rng = self._scenario, self._rng
        while True:
            for job in self._service.listed():
                handed = yield from self._fetch(job)
                if handed and rng.random() < scenario.others_crash:
                    continue
                if handed:
                    late = rng.random() < scenario.others_late
                    delay = scenario.ack_wait * rng.uniform(0.9, 1.6) if late else scenario.others_work
                    self._timeline.after(delay, self._answering(job, handed))
            yield scenario.others_every * rng.uniform(0.5, 1.5)

    def _fetch(self, job: int) -> Steps[list[Handed]]:
        signal, answers = Signal(), list[list[Handed]]()

        def make(task: Task, consumer: int, left: int) -> Handed:
            return Handed(task, len(task.handed) + 1, consumer, self._timeline.now, left, is_ours=False)

        def reply(handed: list[Handed]) -> None:
            answers.append(handed)
            signal.notify()

        self._service.pull(job, self._scenario.others_batch, make, reply)
        while not answers:
            yield signal
        return answers[0]

    def _answering(self, job: int, handed: list[Handed]) -> _Send:
        return _Send(self, job, handed)

    def send(self, job: int, handed: list[Handed]) -> None:
        """Post the answers to a batch."""
        answers = Post(is_ours=False)
        for one in handed:
            error = "failed to load image" if self._rng.random() < _ERRORS else None
            answers.items.append(Answer(one, error, "elsewhere", answers))
            one.answers.append(answers.items[-1])
        self._service.receive(job, answers)


class _Send:
    """A post that is to be made later."""

    def __init__(self, other: Other, job: int, handed: list[Handed]) -> None:
        self._other, self._job, self._handed = other, job, handed

    def __call__(self) -> None:
        self._other.send(self._job, self._handed)
