"""The modelled service: JetStream's deliveries and Antenna's counts, and what a sabotage makes of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from ami_fault_site import antenna
from tests.model.booking import EPOCH
from tests.model.queue import Answer, Handed, Job, Post, Task
from tests.model.scenario import Sabotage, Scenario
from tests.model.timeline import Timeline

EMPTY_FETCH = 0.5
"""Seconds that an empty fetch waits for a task to come back."""

FAIL_SHARE = 0.5
_PARTIAL = 0.1  # the chance that a fetch gets fewer than it asked for
_STRANDED, _INVENTED, _SERVED_ON, _COLLAPSE = 4, 3, 4, 6

_UNTIMELY = (Sabotage.REDELIVERS_LATE, Sabotage.REDELIVERS_EARLY, Sabotage.HANDS_OUT_TWICE)

Reply = Callable[[list[Handed]], None]


class Service:
    """One stream and one consumer a job; an accepted answer is counted, and its task acknowledged, a little later."""

    def __init__(self, timeline: Timeline, rng: random.Random, scenario: Scenario) -> None:
        self.timeline = timeline
        self.jobs: dict[int, Job] = {}
        self.pending = 0  # answers that are accepted and not counted yet
        self.bitten = 0  # how often the sabotage has acted
        self.rng = rng
        self._scenario = scenario
        self._sabotage = scenario.sabotage
        self._answers = 0
        self._failing = -1  # posts still to be refused; -1 before the collapse
        for number in range(1, scenario.jobs + scenario.unstarted + 1):
            self._make(number, is_started=number <= scenario.jobs)
        if scenario.reaper is not None:
            timeline.after(scenario.reaper.every, self._reap)

    # --- jobs

    def _make(self, number: int, is_started: bool) -> None:
        size = self._scenario.images
        starts = (number - 1) * self._scenario.job_gap
        published = int((EPOCH + starts) * 1e9)
        extra = _INVENTED if self._sabotage is Sabotage.INVENTS_TASKS else 0
        tasks = []
        for sequence in range(1, size + extra + 1):
            published += self.rng.randrange(3_000, 80_000)
            tasks.append(self._task(number, sequence, published, sequence > size))
        job = self.jobs[number] = Job(number, starts, tasks, size)
        if is_started:
            self.timeline.at(starts, lambda: self._start(job))
        else:
            job.status = "CREATED"

    def _task(self, job: int, sequence: int, published: int, is_invented: bool) -> Task:
        image = str(sequence if not is_invented else 90_000 + sequence)
        url = f"http://127.0.0.1:9000/captures/{int(image):04d}.jpg?X-Signature=secret"
        names = antenna.image_names(image, url)
        kinds = ("404", "open")
        is_broken = self._scenario.broken and random.Random(f"{self._scenario.seed}/{image}").random()
        broken = kinds[int(image) % 2] if is_broken and is_broken < self._scenario.broken else ""
        return Task(job, sequence, published, image, url, antenna.file_name(url), names, is_invented, broken)

    def _start(self, job: Job) -> None:
        job.status, job.updated = "STARTED", self.timeline.now
        self._log(job, f"Created NATS stream job_{job.number}")
        numbers = f"max_deliver={self._scenario.max_deliver}, ack_wait={float(self._scenario.ack_wait)}s"
        rest = "max_ack_pending=1000, deliver_policy=all, ack_policy=explicit"
        self._log(job, f"Created NATS consumer job-{job.number}-consumer ({numbers}, {rest})")
        self._log(job, f"Successfully queued {job.size}/{job.size} images to stream for job '{job.number}'")

    def _log(self, job: Job, text: str, level: str = "INFO") -> None:
        job.lines.append((self.timeline.now, level, text))

    def listed(self) -> list[int]:
        """Return what a poll lists: one random job that has not ended."""
        served_on = self._sabotage is Sabotage.SERVES_AFTER_END
        numbers = [n for n, job in self.jobs.items() if job.starts <= self.timeline.now]
        open_jobs = [n for n in numbers if served_on or not self.jobs[n].is_final]
        return [self.rng.choice(open_jobs)] if open_jobs else []

    # --- handing out

    def pull(self, number: int, count: int, make: Callable[[Task, int, int], Handed], reply: Reply) -> None:
        """Hand out up to so many tasks, or wait half a second for the first that comes back; then none."""
        self._try(self.jobs[number], count, make, reply, self.timeline.now + EMPTY_FETCH)

    def _try(
        self, job: Job, count: int, make: Callable[[Task, int, int], Handed], reply: Reply, deadline: float
    ) -> None:
        now = self.timeline.now
        if not self._serves(job):
            reply([])
            return
        handed = self._take(job, count, make)
        due = job.next_due()
        if handed or now >= deadline:
            if handed:
                self._log(job, f"Tasks fetched: requested={count}, delivered={len(handed)}")
            reply(handed)
        else:
            again = deadline if due is None else min(max(due, now), deadline)
            self.timeline.at(again, lambda: self._try(job, count, make, reply, deadline))

    def _serves(self, job: Job) -> bool:
        if self._sabotage is Sabotage.SERVES_AFTER_END and job.is_final:
            return True
        return job.status == "STARTED"

    def _take(self, job: Job, count: int, make: Callable[[Task, int, int], Handed]) -> list[Handed]:
        if self._sabotage is Sabotage.STARVES_SECOND_JOB and job.number > 1:
            self.bitten += 1
            return []
        if self.rng.random() < _PARTIAL:
            count = self.rng.randint(1, count)
        handed: list[Handed] = []
        while len(handed) < count:
            task = job.take_due(self.timeline.now) or self._next_fresh(job)
            if task is None:
                break
            handed.append(self._deliver(job, task, make))
        return handed

    def _next_fresh(self, job: Job) -> Task | None:
        end = len(job.tasks)
        if self._sabotage is Sabotage.STRANDS_LAST_BATCH:
            end -= _STRANDED
        if job.fresh >= end or job.is_final:
            self.bitten += self._sabotage is Sabotage.STRANDS_LAST_BATCH and job.fresh >= end
            return None
        task = job.tasks[job.fresh]
        job.fresh += 1
        self.bitten += task.is_invented
        return task

    def _deliver(self, job: Job, task: Task, make: Callable[[Task, int, int], Handed]) -> Handed:
        job.delivered += 1
        handed = make(task, job.delivered, len(job.tasks) - job.fresh)
        task.handed.append(handed)
        task.due = None
        self._collapse(is_fault=len(task.handed) > 1)
        self._note_redelivery(task, handed)
        wait = self._wait(job, task)
        if wait is not None:
            job.requeue(task, self.timeline.now + wait)
        return handed

    def _note_redelivery(self, task: Task, handed: Handed) -> None:
        if self._sabotage is Sabotage.NEVER_REDELIVERS:
            delay = self._scenario.ack_wait
            self.timeline.after(delay, lambda: setattr(self, "bitten", self.bitten + (not task.is_acked)))
        elif self._sabotage in _UNTIMELY and len(task.handed) > 1:
            gap = handed.at - task.handed[-2].at
            self.bitten += abs(gap - self._scenario.ack_wait) > 0.1 * self._scenario.ack_wait

    def _wait(self, job: Job, task: Task) -> float | None:
        """Return after how long the task comes back if it is not answered, None if it never does."""
        kind, wait = self._sabotage, self._scenario.ack_wait
        last = len(task.handed) >= self._scenario.max_deliver
        if kind is Sabotage.REDELIVERS_FOREVER and task.sequence % 5 == 0:
            self.bitten += last
            return wait
        if kind is Sabotage.SERVES_AFTER_END and job.is_final:
            self.bitten += 1
            return wait
        if last or kind is Sabotage.NEVER_REDELIVERS:
            return None
        if kind is Sabotage.REDELIVERS_LATE:
            return 3 * wait + 3
        if kind is Sabotage.REDELIVERS_EARLY:
            return 0.3 * wait
        if kind is Sabotage.HANDS_OUT_TWICE and task.sequence % 4 == 0 and len(task.handed) == 1:
            return 0.0
        return wait

    # --- taking answers

    def receive(self, number: int, post: Post) -> int:
        """Take answers, whatever they say, and return the status: 200 means queued, not counted."""
        self._collapse(is_fault=any(one.error is not None for one in post.items))
        if self._sabotage is Sabotage.COLLAPSES_AFTER_FAULT and self._failing > 0 and post.is_ours:
            self._failing -= 1
            self.bitten += 1
            return 500
        post.arrived = True
        job = self.jobs[number]
        self.pending += len(post.items)
        delay = self.rng.random() * self._scenario.saving
        self.timeline.after(delay, lambda: self._record_all(job, post.items))
        return 200

    def _collapse(self, is_fault: bool) -> None:
        if is_fault and self._failing < 0:
            self._failing = _COLLAPSE

    def _record_all(self, job: Job, answers: list[Answer]) -> None:
        self.pending -= len(answers)
        for index, answer in enumerate(answers):
            if job.counts_nothing:
                continue
            self._answers += 1
            half = self._sabotage is Sabotage.RECORDS_HALF and index >= (len(answers) + 1) // 2
            fifth = self._sabotage is Sabotage.ACKS_BEFORE_SAVING and self._answers % 5 == 0
            if half or fifth:
                self.bitten += 1
            else:
                self._record(job, answer)
            self._acknowledge(job, answer)

    def _acknowledge(self, job: Job, answer: Answer) -> None:
        task = answer.handed.task
        if self._sabotage is Sabotage.REDELIVERS_FOREVER and task.sequence % 5 == 0:
            return
        task.is_acked, task.due = True, None

    def _record(self, job: Job, answer: Answer) -> None:
        task, failed = answer.handed.task, answer.error is not None
        answer.is_recorded = True
        if self._scenario.knows_log:  # else nobody will read it
            job.recorded.append(answer.handed)
            subject = answer.handed.reply_subject
            self._log(job, f"Processing pipeline result for job {job.number}, reply_subject: {subject}")
        if task.is_invented:
            return
        if self._sabotage is Sabotage.ERROR_AS_SUCCESS and failed:
            failed = False
            self.bitten += 1
        elif self._sabotage is Sabotage.SUCCESS_AS_FAILURE and not failed and self._answers % 6 == 0:
            failed = True
            self.bitten += 1
        self._count(job, [task], failed)

    def _count(self, job: Job, tasks: Iterable[Task], failed: bool) -> None:
        """Count tasks as processed: a second answer changes nothing, except that a failure is for ever."""
        job.processed, job.failed = job.processed or 0, job.failed or 0
        for task in tasks:
            job.processed += not task.is_counted
            job.failed += failed and not task.is_failed
            task.is_counted, task.is_failed = True, task.is_failed or failed
        job.updated = self.timeline.now
        self._end_if_complete(job)

    def _end_if_complete(self, job: Job) -> None:
        early = self._sabotage is Sabotage.EARLY_SUCCESS and 2 * (job.processed or 0) >= job.size
        if job.is_final or not (job.processed == job.size or early):
            return
        if self._sabotage is Sabotage.NEVER_ENDS:
            self.bitten += 1
            return
        self.bitten += early and job.processed != job.size
        self.end(job, "FAILURE" if (job.failed or 0) / job.size > FAIL_SHARE else "SUCCESS")

    def end(self, job: Job, status: str) -> None:
        """End a job: from then on it counts nothing, and its stream is gone."""
        job.status, job.ended, job.updated, job.counts_nothing = status, self.timeline.now, self.timeline.now, True
        self._log(job, f"Cleaned up NATS resources for job {job.number}")
        if self._sabotage is Sabotage.SERVES_AFTER_END:
            for task in job.tasks[-_SERVED_ON:]:
                job.requeue(task, self.timeline.now)
        elif self._sabotage is Sabotage.REOPENS_FINISHED_JOB:
            self.bitten += 1
            self.timeline.after(1.5, lambda: setattr(job, "status", "STARTED"))

    # --- the reaper

    def _reap(self) -> None:
        reaper = self._scenario.reaper
        assert reaper is not None
        for job in self.jobs.values():
            if job.status == "STARTED" and self.timeline.now - job.updated >= reaper.idle:
                self._give_up(job, [task for task in job.tasks if not task.is_counted and not task.is_invented])
        self.timeline.after(reaper.every, self._reap)

    def _give_up(self, job: Job, missing: list[Task]) -> None:
        if not missing:
            return
        if self._sabotage is Sabotage.FORGETS_EXHAUSTED:
            self.bitten += len(missing)
            self.end(job, "SUCCESS")
            return
        ids = [task.image_id for task in missing[:10]]
        text = f"jobs_health_check: marked {len(missing)} image(s) as failed (job idle past cutoff). IDs: {ids}"
        job.errors.append(text)
        self._log(job, text, "WARNING")
        job.given_up += len(missing)
        for task in missing:
            task.is_given_up = True
        self._count(job, missing, failed=True)
