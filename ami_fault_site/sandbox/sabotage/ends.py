"""Misbehave with the end of a job: too early, never, not for good, or not for everybody."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from ami_fault_site.sandbox.backend import Backend
from ami_fault_site.sandbox.jobs import FINAL, Answer, Job, JobState
from ami_fault_site.sandbox.queue import Delivered
from ami_fault_site.sandbox.sabotage.places import Run, place_of, run_of, size_of
from ami_fault_site.sandbox.sabotage.queues import EndlessQueue

_REOPENED_AFTER = 1.5  # seconds: long enough that somebody has seen the end
_SERVED_ON = 4
_COMPLETED = (JobState.SUCCESS, JobState.FAILURE)


class HoldsTheEnd(Backend, ABC):
    """Keep back the answer that would complete a job, though it is acknowledged, until the job may end.

    Some misbehaviour would otherwise be seen by nobody: a worker asks no more when the job has ended.
    """

    @cached_property
    def _kept(self) -> defaultdict[Run, list[Answer]]:
        return defaultdict(list)

    @abstractmethod
    def may_end(self, job: Job) -> bool:
        """Say whether enough has been seen."""

    @abstractmethod
    def note(self, job: Job, delivered: Sequence[Delivered]) -> None:
        """Take note of what is about to be handed out."""

    async def hand_out(self, job: Job, count: int) -> list[Delivered]:
        """Take tasks; a job that may end does so when it is next asked, not while it still hands out."""
        await self._let_go(job)
        delivered = await super().hand_out(job, count)
        self.note(job, delivered)
        return delivered

    async def save(self, job: Job, answer: Answer) -> bool:
        """Record an answer, or keep it if it would be the last one too early."""
        await self._let_go(job)
        if job.total is not None and job.missing <= answer.images and not self.may_end(job):
            self._kept[run_of(job)].append(answer)
            return True
        return await super().save(job, answer)

    async def _let_go(self, job: Job) -> None:
        if job.total is not None and self.may_end(job):
            for answer in self._kept.pop(run_of(job), []):
                await super().save(job, answer)


class EarlySuccess(Backend):
    """End a job in SUCCESS half-way, with all that belongs to an end; answers are taken and ignored as always."""

    def record(self, job: Job, answer: Answer) -> bool:
        """Count an answer, and end the job at half of its images."""
        is_saved = super().record(job, answer)
        processed = job.process.values["Processed"]
        if job.total is not None and isinstance(processed, int) and processed * 2 >= job.total:
            job.end(self.clock(), JobState.SUCCESS)
        return is_saved


class _ListedForEver(Job):
    @property
    def is_listed_incomplete(self) -> bool:
        """Whether a poll for incomplete jobs shows it: also when it has ended, unless it was cancelled."""
        return self.status in _COMPLETED or super().is_listed_incomplete


class ServesAfterEnd(Backend):
    """Keep the stream of a job that has ended, and hand out again what was not acknowledged for this purpose."""

    job_kind = _ListedForEver
    queue_kind = EndlessQueue

    @cached_property
    def _unacknowledged(self) -> defaultdict[Run, dict[int, str]]:
        return defaultdict(dict)

    async def hand_out(self, job: Job, count: int) -> list[Delivered]:
        """Take tasks, whether the job has ended or not."""
        return await self.take(job, count) if job.status in _COMPLETED else await super().hand_out(job, count)

    async def acknowledge(self, job: Job, answer: Answer) -> None:
        """Tell the queue that a task is done, unless it is one of the last."""
        place = place_of(answer.reply)
        if place is None or job.started_at is None or place.sequence <= size_of(job) - _SERVED_ON:
            await super().acknowledge(job, answer)
        elif job.status not in FINAL:
            self._unacknowledged[run_of(job)][place.sequence] = answer.reply

    async def clean_up(self, job: Job) -> None:
        """Leave the stream where it is, and do not wait until its last tasks come back by themselves."""
        if job.status not in _COMPLETED:
            await super().clean_up(job)
            return
        for reply in self._unacknowledged.pop(run_of(job), {}).values():
            await self.queue.say(reply, b"-NAK")


class ReopensFinishedJob(Backend):
    """Set a job that has succeeded back to STARTED, without tasks and without anything left to count."""

    @cached_property
    def _reopening(self) -> set[Run]:
        return set()

    async def clean_up(self, job: Job) -> None:
        """Take away the stream, and open the job again some time later."""
        await super().clean_up(job)
        if job.status is JobState.SUCCESS and run_of(job) not in self._reopening:
            self._reopening.add(run_of(job))
            self._in_background(self._reopen(job, run_of(job)))

    async def _reopen(self, job: Job, run: Run) -> None:
        await asyncio.sleep(_REOPENED_AFTER)
        if run_of(job) == run and job.status is JobState.SUCCESS:
            job.status = JobState.STARTED

    async def save(self, job: Job, answer: Answer) -> bool:
        """Record an answer; one that comes after the end would show that the job counts nothing, and end it."""
        return run_of(job) in self._reopening or await super().save(job, answer)


class _Endless(Job):
    def end(self, now: float, status: JobState) -> None:
        """Take the job to a final state, unless it got there by having done everything."""
        if status not in _COMPLETED or not self.is_complete:
            super().end(now, status)


class NeverEnds(Backend):
    """Count everything, and never draw the conclusion."""

    job_kind = _Endless
