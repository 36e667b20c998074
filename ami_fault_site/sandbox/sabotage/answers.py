"""Misbehave with the answers of workers: lose them, miscount them, refuse them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from ami_fault_site.sandbox.backend import Backend
from ami_fault_site.sandbox.jobs import Answer, Job, JobState
from ami_fault_site.sandbox.queue import ConsumerCounts, Delivered
from ami_fault_site.sandbox.sabotage.places import Run, place_of, run_of

_FORGOTTEN = 5
_MISTAKEN = 6
_REFUSED = 6


class AcksBeforeSaving(Backend):
    """Acknowledge first, and then save only four answers of five."""

    @cached_property
    def _settled(self) -> Counter[Run]:
        return Counter()

    async def settle(self, job: Job, answer: Answer) -> None:
        """Acknowledge an answer's task, and then save the answer, or forget it."""
        await self.acknowledge(job, answer)
        self._settled[run_of(job)] += 1
        if self._settled[run_of(job)] % _FORGOTTEN:
            await self.save(job, answer)


class RecordsHalf(Backend):
    """Record the first half of each post, and acknowledge all of it."""

    @cached_property
    def _dropped(self) -> set[str]:
        return set()

    def accept(self, job: Job, answers: Sequence[Answer]) -> list[str]:
        """Put answers in line, and remember which of them are not going to be recorded."""
        self._dropped.update(answer.reply for answer in answers[(len(answers) + 1) // 2 :])
        return super().accept(job, answers)

    def record(self, job: Job, answer: Answer) -> bool:
        """Count an answer of the first half; say of the others that they were saved."""
        return answer.reply in self._dropped or super().record(job, answer)


class ErrorAsSuccess(Backend):
    """Count an image that failed as one that was processed well."""

    def record(self, job: Job, answer: Answer) -> bool:
        """Count an answer without its error."""
        return super().record(job, replace(answer, error=None))


class SuccessAsFailure(Backend):
    """Count every 6th success as failed."""

    @cached_property
    def _successes(self) -> Counter[Run]:
        return Counter()

    def record(self, job: Job, answer: Answer) -> bool:
        """Count an answer, and some successes as errors; a second answer for an image is not another success."""
        if answer.error is None and answer.images & job.missing:
            self._successes[run_of(job)] += 1
            if self._successes[run_of(job)] % _MISTAKEN == 0:
                return super().record(job, replace(answer, error="results could not be saved"))
        return super().record(job, answer)


class CollapsesAfterFault(Backend):
    """Refuse the next posts after the first sign of trouble, and only after the first."""

    _to_refuse: int | None = None  # None: there has been no trouble yet

    async def take(self, job: Job, count: int) -> list[Delivered]:
        """Take tasks, and notice when one of them has come back."""
        delivered = await super().take(job, count)
        places = [place_of(one.reply) for one in delivered]
        if any(place is not None and place.delivery > 1 for place in places):
            self._collapse()
        return delivered

    def accept(self, job: Job, answers: Sequence[Answer]) -> list[str]:
        """Put answers in line, and notice an error among them."""
        if any(answer.error is not None for answer in answers):
            self._collapse()
        return super().accept(job, answers)

    def _collapse(self) -> None:
        if self._to_refuse is None:
            self._to_refuse = _REFUSED

    def refuses_results(self) -> bool:
        """Refuse this post if it is one of the next few after the trouble."""
        if not self._to_refuse:
            return False
        self._to_refuse -= 1
        return True


class ForgetsExhausted(Backend):
    """Drop the images that are given up from all counts."""

    def give_up(self, job: Job, _counts: ConsumerCounts) -> None:
        """End an idle job in SUCCESS as if its missing images had never been there."""
        lost, total = len(job.missing), job.total or 0
        failed = job.process.values["Failed"] or 0
        job.process.values |= {"Processed": total - lost, "Remaining": 0, "Failed": failed}
        for stage in (job.process, job.results):
            stage.advance(1.0, JobState.SUCCESS)
        job.end(self.clock(), JobState.SUCCESS)
