"""Do what happens behind the API: start jobs, hand out tasks, record answers and then acknowledge, reap."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import cycle
from typing import ClassVar

from ami_fault_site.sandbox.bodies import Declared
from ami_fault_site.sandbox.jobs import (
    ACTIVE,
    ENDABLE,
    FINAL,
    Answer,
    Image,
    Job,
    JobState,
    Reaping,
    reaping,
)
from ami_fault_site.sandbox.options import SandboxError, SandboxOptions
from ami_fault_site.sandbox.queue import ConsumerCounts, Delivered, QueueUnavailable, TaskQueue, consumer_name
from ami_fault_site.sandbox.shapes import Pipeline

_log = logging.getLogger(__name__)

DECLARED: Mapping[str, Mapping[str, str]] = {
    "moth_binary": {
        "fasterrcnn_for_ami_moth_traps_2023": "FasterRCNN for AMI Moth Traps 2023",
        "moth_nonmoth_classifier": "Moth / Non-Moth Classifier",
    }
}
"""The algorithms that the real worker registers for a pipeline, by key: results that name others are not saved. Of
pipelines that are not in here nothing is known until somebody registers them, and everything is saved."""


class Backend:
    """The jobs of one sandbox and the queue behind them. Lives on one event loop, so nothing here is locked twice.

    A service that misbehaves is made by naming another kind of queue or job, or by overriding the steps of a task's
    way (`tasks_of`, `hand_out`, `take`), of an answer's way (`refuses_results`, `accept`, `settle`, `save`, `record`,
    `acknowledge`) or of a job's end (`give_up`, `clean_up`).
    """

    queue_kind: ClassVar[type[TaskQueue]] = TaskQueue
    job_kind: ClassVar[type[Job]] = Job

    def __init__(
        self, options: SandboxOptions, queue: TaskQueue, images: Sequence[Image], clock: Callable[[], float] = time.time
    ) -> None:
        self.options = options
        self.queue = queue
        self.clock = clock
        self.chance = random.Random()
        self.jobs: dict[int, Job] = {}
        self.pipelines: dict[int, Pipeline] = {}
        self._images = tuple(images)
        self._accepted: asyncio.Queue[tuple[int, Answer]] = asyncio.Queue()
        self._streams = asyncio.Lock()  # a job's stream is made or removed by one at a time
        self._starting: set[asyncio.Task[None]] = set()
        for slug in options.pipelines:
            self._add_pipeline(slug, slug.replace("_", " ").capitalize()).algorithms |= DECLARED.get(slug, {})

    async def start_first_jobs(self) -> None:
        """Make and start the jobs that the options ask for, dealt to the pipelines in turn."""
        for number, pipeline in zip(range(1, self.options.jobs + 1), cycle(self.pipelines.values()), strict=False):
            job = self.create_job(f"sandbox job {number}", pipeline, None)
            job.enqueue(self.clock())
            await self.start(job)

    def create_job(self, name: str, pipeline: Pipeline, limit: int | None) -> Job:
        """Make a job that nobody has started."""
        number = max(self.jobs, default=0) + 1
        job = self.job_kind(number, name, pipeline.slug, self.clock(), limit, self.options.fail_threshold)
        self.jobs[number] = job
        return job

    def pipeline_of(self, job: Job) -> Pipeline:
        """Return the job's pipeline."""
        return next(pipeline for pipeline in self.pipelines.values() if pipeline.slug == job.pipeline)

    def register(self, declared: Sequence[Declared]) -> tuple[list[str], list[str]]:
        """Take in what a worker declares; return the pipelines and the algorithms that are new."""
        new_pipelines, new_algorithms = [], []
        for entry in declared:
            known = next((pipeline for pipeline in self.pipelines.values() if pipeline.slug == entry.slug), None)
            if known is None:
                known = self._add_pipeline(entry.slug, entry.name)
                new_pipelines.append(entry.slug)
            new_algorithms += [key for key in entry.algorithms if key not in known.algorithms]
            known.algorithms |= entry.algorithms
        return new_pipelines, new_algorithms

    def _add_pipeline(self, slug: str, name: str) -> Pipeline:
        number = len(self.pipelines) + 1
        self.pipelines[number] = Pipeline(number, slug, name, self.clock())
        return self.pipelines[number]

    def start_soon(self, job: Job) -> None:
        """Put a job in line and start it in the background: the answer to who asked shows it waiting."""
        job.enqueue(self.clock())
        self._in_background(self._start_or_fail(job))

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._starting.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._starting.discard)

    async def _start_or_fail(self, job: Job) -> None:
        try:
            await self.start(job)
        except (QueueUnavailable, SandboxError) as error:
            job.log(self.clock(), f"Aborting job {job.number}, images could not be queued to NATS: {error}", "ERROR")
            job.collect.status = JobState.FAILURE
            job.end(self.clock(), JobState.FAILURE)

    async def start(self, job: Job) -> None:
        """Make a new stream for a job that waits, and fill it.

        Raises what `TaskQueue.open` and `TaskQueue.publish` raise.
        """
        images = self._images[: job.limit or None]
        async with self._streams:
            if job.status != JobState.PENDING:  # cancelled meanwhile
                return
            settings = await self.queue.open(job.number)
            job.start(self.clock(), frozenset(image.image_id for image in images), len(self._images))
            job.log(self.clock(), f"Created NATS stream job_{job.number}")
            job.log(self.clock(), f"Created NATS consumer {consumer_name(job.number)} ({settings})")
            await self.queue.publish(job.number, self.tasks_of(job, images))
        queued = f"Successfully queued {len(images)}/{len(images)} images to stream for job '{job.number}'"
        job.log(self.clock(), queued)

    def tasks_of(self, _job: Job, images: Sequence[Image]) -> list[bytes]:
        """Return what is put into a job's stream: a task for each of its images."""
        return [task(image) for image in images]

    def retry(self, job: Job) -> None:
        """Run a job again from nothing: the new stream has the old one's name."""
        job.retry(self.clock())
        self._in_background(self._start_or_fail(job))

    async def cancel(self, job: Job) -> None:
        """Revoke a job that has not ended, and take its stream away."""
        if job.status in ENDABLE:
            job.end(self.clock(), JobState.REVOKED)
        await self.clean_up(job)

    async def hand_out(self, job: Job, count: int) -> list[Delivered]:
        """Take up to `count` tasks of a job for a worker; none at once unless the job is active."""
        if job.status not in ACTIVE:
            what = f"Tasks requested for non-active job (status={job.status.value}); returning empty."
            job.log(self.clock(), what)
            return []
        return await self.take(job, count)

    async def take(self, job: Job, count: int) -> list[Delivered]:
        """Take up to `count` tasks out of the job's stream, if it has one."""
        try:
            delivered = await self.queue.fetch(job.number, count)
        except QueueUnavailable as error:
            job.log(self.clock(), f"NATS unavailable while fetching tasks for job {job.number}: {error}", "WARNING")
            raise
        if delivered:
            job.log(self.clock(), f"Tasks fetched: requested={count}, delivered={len(delivered)}")
        return delivered

    def refuses_results(self) -> bool:
        """Say whether the next post of results is answered with an error of the server's own."""
        return False

    def accept(self, job: Job, answers: Sequence[Answer]) -> list[str]:
        """Put answers in line to be recorded, whatever they say, and return a number for each."""
        numbers = []
        for answer in answers:
            number = str(uuid.uuid4())
            job.log(self.clock(), f"Queued pipeline result: task_id={number}, reply_subject={answer.reply}")
            self._accepted.put_nowait((job.number, answer))
            numbers.append(number)
        return numbers

    async def settle_for_ever(self) -> None:
        """Settle accepted answers one after the other: a single background worker, whose counts are never torn."""
        while True:
            number, answer = await self._accepted.get()
            await self.settle(self.jobs[number], answer)

    async def settle(self, job: Job, answer: Answer) -> None:
        """Save an answer, and only then acknowledge its task; what cannot be saved is not acknowledged."""
        if await self.save(job, answer):
            await self.acknowledge(job, answer)

    async def save(self, job: Job, answer: Answer) -> bool:
        """Record an answer if the job still counts, and clean up if that was its end; False if it cannot be saved."""
        if job.total is None:
            self._refuse(job)
        elif not self.record(job, answer):
            return False
        if job.status in FINAL:
            await self.clean_up(job)
        return True

    def _refuse(self, job: Job) -> None:
        """Deal with an answer for a job that counts nothing: one never started fails, one that has ended does not."""
        status = job.status.value
        job.log(self.clock(), f"Job {job.number}: result arrived while the job was {status}; ignoring.")
        if job.status in ENDABLE:
            job.end(self.clock(), JobState.FAILURE)
            why = "Job state keys not found (never started)"
            job.log(self.clock(), f"Job {job.number} marked as FAILURE: {why}", "ERROR")

    def record(self, job: Job, answer: Answer) -> bool:
        """Count an answer; False if it cannot be saved, because it names an algorithm that nobody declared."""
        now, number = self.clock(), job.number
        job.count_processed(now, answer.images, answer.images if answer.error is not None else frozenset())
        job.log(now, f"Processing pipeline result for job {number}, reply_subject: {answer.reply}")
        job.log(now, job.progress_line())
        if answer.error is not None:
            image = next(iter(answer.images), None)
            job.log(now, f"Pipeline returned error for job {number}, image {image}: {answer.error}", "ERROR")
        unknown = self._undeclared(job, answer)
        if unknown:
            why = f"Detection algorithm {unknown[0]} is not a known algorithm"
            what = f"Error processing pipeline result for job {number}: {why}"
            job.log(now, f"{what}. NATS will re-deliver the task message.", "ERROR")
            return False
        if answer.error is None:
            job.log(now, f"Successfully saved results for job {number}")
        job.count_saved(now, answer)
        return True

    def _undeclared(self, job: Job, answer: Answer) -> list[str]:
        known = self.pipeline_of(job).algorithms
        return sorted(answer.algorithms - known.keys()) if known else []

    async def acknowledge(self, job: Job, answer: Answer) -> None:
        """Tell the queue that an answer's task is done."""
        if await self.queue.acknowledge(answer.reply):
            job.log(self.clock(), f"Successfully acknowledged task via NATS: {answer.reply}")
        else:
            job.log(self.clock(), f"Failed to acknowledge task via NATS: {answer.reply}", "ERROR")

    async def clean_up(self, job: Job) -> None:
        """Take away the stream of a job that has ended."""
        async with self._streams:
            if job.status not in FINAL:  # retried meanwhile: the stream is the new one
                return
            try:
                await self.queue.remove(job.number)
            except QueueUnavailable as error:
                job.log(self.clock(), f"Failed to clean up NATS resources for job {job.number}: {error}", "WARNING")
                return
        job.log(self.clock(), f"Cleaned up NATS resources for job {job.number}")

    async def reap_for_ever(self) -> None:
        """Look at the jobs every so often."""
        while True:
            await asyncio.sleep(self.options.reaper_interval)
            await self.reap()

    async def reap(self) -> None:
        """Give up the missing images of jobs that have been idle, and revoke other jobs that hang."""
        for job in list(self.jobs.values()):
            if reaping(job, self.clock(), self.options.reaper_idle, has_consumer=True) is Reaping.NOTHING:
                continue
            try:
                counts = await self.queue.counts(job.number)
            except QueueUnavailable as error:
                _log.warning("the reaper cannot ask the queue: %s", error)
                return
            await self._reap(job, counts)

    async def _reap(self, job: Job, counts: ConsumerCounts | None) -> None:
        # Decided again: an answer may have come while the queue was asked.
        what = reaping(job, self.clock(), self.options.reaper_idle, counts is not None)
        if what is Reaping.GIVE_UP_MISSING and counts is not None:
            self.give_up(job, counts)
        elif what is Reaping.REVOKE:
            job.log(self.clock(), f"Reaping stalled job: previous_status={job.status.value}", "WARNING")
            job.end(self.clock(), JobState.REVOKED)
        if job.status in FINAL:
            await self.clean_up(job)

    def give_up(self, job: Job, counts: ConsumerCounts) -> None:
        """Mark the missing images of an idle job as failed, and say so in its errors."""
        job.give_up_missing(self.clock(), _counts_text(counts))


def task(image: Image) -> bytes:
    """Write a task as it is published."""
    return json.dumps({"id": image.image_id, "image_id": image.image_id, "image_url": image.url}).encode()


def handed_out(delivered: Delivered) -> Mapping[str, str]:
    """Return a task as the service hands it out: as it was published, with where to acknowledge it."""
    return {**json.loads(delivered.data), "reply_subject": delivered.reply}


def _counts_text(counts: ConsumerCounts) -> str:
    return f"num_pending={counts.pending} num_ack_pending={counts.ack_pending} num_redelivered={counts.redelivered}"
