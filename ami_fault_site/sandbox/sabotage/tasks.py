"""Misbehave with the tasks of a job: hand out too few, too many, too often, too late."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property

from ami_fault_site.sandbox.backend import Backend, task
from ami_fault_site.sandbox.jobs import ACTIVE, Answer, Image, Job
from ami_fault_site.sandbox.queue import FETCH_TIMEOUT, Delivered
from ami_fault_site.sandbox.sabotage.ends import HoldsTheEnd
from ami_fault_site.sandbox.sabotage.places import Run, place_of, run_of, size_of
from ami_fault_site.sandbox.sabotage.queues import EndlessQueue, ForgetfulQueue, LateQueue

_TWICE = 4
_STRANDED = 4
_INVENTED = 3
_UNACKNOWLEDGED = 5
_RETURNS = 3


class NeverRedelivers(Backend):
    """Leave an unanswered task with whoever got it."""

    queue_kind = ForgetfulQueue


class RedeliversLate(Backend):
    """Let an unanswered task wait."""

    queue_kind = LateQueue


class RedeliversForever(HoldsTheEnd):
    """Record all answers and acknowledge only four tasks of five.

    The job does not end before one of the answered tasks has come back three times.
    """

    queue_kind = EndlessQueue

    @cached_property
    def _returns(self) -> defaultdict[Run, Counter[int]]:
        return defaultdict(Counter)

    async def acknowledge(self, job: Job, answer: Answer) -> None:
        """Tell the queue that a task is done, unless it is one to be handed out for ever."""
        place = place_of(answer.reply)
        if place is None or place.sequence % _UNACKNOWLEDGED:
            await super().acknowledge(job, answer)
        else:
            self._returns[run_of(job)][place.sequence] += 0  # answered, and not come back yet

    def note(self, job: Job, delivered: Sequence[Delivered]) -> None:
        """Count how often answered tasks come back."""
        returns = self._returns[run_of(job)]
        places = [place_of(one.reply) for one in delivered]
        returns.update(place.sequence for place in places if place is not None and place.sequence in returns)

    def may_end(self, job: Job) -> bool:
        """Say whether an answered task has come back often enough; in a very small job there is none."""
        returns = self._returns[run_of(job)].values()
        return size_of(job) < _UNACKNOWLEDGED or max(returns, default=0) >= _RETURNS


class HandsOutTwice(Backend):
    """Give some tasks back to the queue in the name of the worker that is about to get them."""

    async def take(self, job: Job, count: int) -> list[Delivered]:
        """Take tasks, and let some of them be taken again at once."""
        delivered = await super().take(job, count)
        for one in delivered:
            place = place_of(one.reply)
            if place is not None and place.delivery == 1 and place.sequence % _TWICE == 0:
                await self.queue.say(one.reply, b"-NAK")
        return delivered


class StrandsLastBatch(Backend):
    """Count the last images of a job, and make no tasks of them."""

    def tasks_of(self, job: Job, images: Sequence[Image]) -> list[bytes]:
        """Return a task for each image but the last ones."""
        stranded = min(_STRANDED, max(1, len(images) // 4))
        return super().tasks_of(job, images)[:-stranded]


class InventsTasks(HoldsTheEnd):
    """Put tasks behind those of the job; it does not end before they have been handed out."""

    @cached_property
    def _handed_out(self) -> defaultdict[Run, set[int]]:
        return defaultdict(set)

    def tasks_of(self, job: Job, images: Sequence[Image]) -> list[bytes]:
        """Return a task for each image, and some for images that are nowhere, whose pictures are those of others."""
        beyond = range(len(self._images) + 1, len(self._images) + 1 + _INVENTED)
        invented = [Image(str(number), images[number % len(images)].url) for number in beyond]
        return [*super().tasks_of(job, images), *(task(image) for image in invented)]

    def note(self, job: Job, delivered: Sequence[Delivered]) -> None:
        """Remember which of the invented tasks have been handed out."""
        places = [place_of(one.reply) for one in delivered]
        sequences = {place.sequence for place in places if place is not None}
        self._handed_out[run_of(job)] |= {sequence for sequence in sequences if sequence > size_of(job)}

    def may_end(self, job: Job) -> bool:
        """Say whether all of the invented tasks have been handed out."""
        return len(self._handed_out[run_of(job)]) == _INVENTED


class StarvesSecondJob(Backend):
    """Serve the job that was there first, also when it has ended; let the others wait in vain."""

    async def hand_out(self, job: Job, count: int) -> list[Delivered]:
        """Take tasks of the first job; of another there seem to be none just now."""
        first = min(number for number, one in self.jobs.items() if one.started_at is not None or one is job)
        if job.number == first or job.status not in ACTIVE:
            return await super().hand_out(job, count)
        await asyncio.sleep(FETCH_TIMEOUT)  # as long as an empty fetch takes
        return []
