"""Count what a job's answers amount to, and say when it has ended. Pure: the time is passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import islice

from ami_fault_site.sandbox.options import FAIL_THRESHOLD

LOGS_LIMIT = 1000
"""Log lines in a job's detail unless asked otherwise."""

LOGS_MOST = 5000
"""Log lines in a job's detail at most; older ones can be read by nobody and are dropped."""

_ERROR_IDS_SHOWN = 10


class JobState(str, Enum):
    """Where a job is in its life."""

    CREATED = "CREATED"
    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    RETRY = "RETRY"
    CANCELING = "CANCELING"
    REVOKED = "REVOKED"
    RECEIVED = "RECEIVED"
    UNKNOWN = "UNKNOWN"


FINAL = frozenset({JobState.SUCCESS, JobState.FAILURE, JobState.REVOKED})
ACTIVE = frozenset({JobState.STARTED, JobState.RETRY})
"""States in which tasks are handed out."""
RUNNING = frozenset({JobState.PENDING, JobState.STARTED, JobState.RETRY, JobState.CANCELING, JobState.UNKNOWN})
"""States in which the reaper looks at a job."""
ENDABLE = frozenset({JobState.CREATED, JobState.PENDING, JobState.STARTED, JobState.RETRY})
"""States from which a job may end by itself or by a cancel."""


@dataclass(frozen=True)
class Image:
    """A picture of the collection, as a task names it."""

    image_id: str
    url: str


@dataclass(frozen=True)
class Answer:
    """One item of a result body, without what nobody counts. `error` is None for a success."""

    reply: str
    images: frozenset[str]
    error: str | None = None
    detections: int = 0
    classifications: int = 0
    algorithms: frozenset[str] = frozenset()


@dataclass
class Stage:
    """One stage of a job; a value is "" until it is first set."""

    key: str
    values: dict[str, int | str]
    status: JobState = JobState.CREATED
    progress: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come in this stage."""
        return self.progress >= 1.0 and self.status in FINAL

    def reset(self) -> None:
        """Set status and numbers back, and leave "" where nothing was ever set."""
        self.status, self.progress = JobState.CREATED, 0.0
        self.values = {name: value if isinstance(value, str) else 0 for name, value in self.values.items()}

    def advance(self, share: float, verdict: JobState) -> None:
        """Move on, never back; a stage that has failed stays failed, also before it is over."""
        self.progress = max(self.progress, share)
        if JobState.FAILURE in (self.status, verdict):
            self.status = JobState.FAILURE
        else:
            self.status = verdict if self.progress >= 1.0 else JobState.STARTED

    def add(self, **numbers: int) -> None:
        """Add to the values of these names."""
        for name, number in numbers.items():
            before = self.values[name]
            self.values[name] = number + (before if isinstance(before, int) else 0)


def _collect() -> Stage:
    return Stage("collect", {"Total Images": ""})


def _process() -> Stage:
    return Stage("process", {"Processed": "", "Remaining": "", "Failed": ""})


def _results() -> Stage:
    return Stage("results", {"Captures": "", "Detections": "", "Classifications": ""})


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log; `at` is in seconds since 1970."""

    at: float
    level: str
    message: str

    def __str__(self) -> str:
        """Write it as the service does, in local time."""
        return f"[{datetime.fromtimestamp(self.at):%Y-%m-%d %H:%M:%S}] {self.level} {self.message}"


@dataclass
class Job:
    """A job's state and counts. Times are in seconds since 1970."""

    number: int
    name: str
    pipeline: str
    created_at: float
    limit: int | None = None
    fail_threshold: float = FAIL_THRESHOLD
    status: JobState = JobState.CREATED
    updated_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    errors: list[str] = field(default_factory=list)
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOGS_MOST))
    collect: Stage = field(default_factory=_collect)
    process: Stage = field(default_factory=_process)
    results: Stage = field(default_factory=_results)
    total: int | None = None  # None: not counting, because it was never started or has ended
    _to_process: set[str] = field(default_factory=set)
    _to_save: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """A new job was last touched when it was made."""
        self.updated_at = self.updated_at or self.created_at

    @property
    def stages(self) -> tuple[Stage, Stage, Stage]:
        """The three stages in their order."""
        return self.collect, self.process, self.results

    @property
    def progress(self) -> float:
        """The mean of the stages' progress, or 1 once the job has succeeded."""
        return sum(stage.progress for stage in self.stages) / len(self.stages)

    @property
    def is_complete(self) -> bool:
        """Whether every stage is over."""
        return all(stage.is_over for stage in self.stages)

    @property
    def is_listed_incomplete(self) -> bool:
        """Whether a poll for incomplete jobs shows it: the state of the results stage counts too."""
        return self.status not in FINAL and self.results.status not in FINAL

    @property
    def missing(self) -> frozenset[str]:
        """The images that are not yet both processed and saved."""
        return frozenset(self._to_process | self._to_save)

    def log(self, now: float, message: str, level: str = "INFO") -> None:
        """Write a line to the job's log."""
        self.lines.append(LogLine(now, level, message))

    def newest(self, limit: int = LOGS_LIMIT) -> list[LogLine]:
        """Return up to `limit` log lines, newest first."""
        return list(islice(reversed(self.lines), min(limit, LOGS_MOST)))

    def enqueue(self, now: float) -> None:
        """Put the job in line to be started."""
        self.status, self.started_at, self.finished_at, self.updated_at = JobState.PENDING, None, None, now

    def retry(self, now: float) -> None:
        """Set the job back as if it had done nothing, and put it in line again."""
        self.log(now, f'Re-running job #{self.number} "{self.name}" ({self.status.value})')
        for stage in self.stages:
            stage.reset()
        self.enqueue(now)

    def start(self, now: float, images: frozenset[str], available: int) -> None:
        """Begin with these images, out of so many available: collect them, and count from nothing."""
        self.status, self.started_at, self.finished_at, self.updated_at = JobState.STARTED, now, None, now
        self.collect.values["Total Images"] = available
        if len(images) < available:
            self.log(now, f"Limiting number of images to {len(images)} (out of {available})", "WARNING")
            self.collect.values["Limit"] = len(images)
        self.collect.advance(1.0, JobState.SUCCESS)
        self.total = len(images)
        self._to_process, self._to_save, self._failed = set(images), set(images), set()

    def count_processed(self, now: float, images: frozenset[str], failed: frozenset[str] = frozenset()) -> None:
        """Count images as processed, and these as failed: a second answer changes nothing, a failure is for ever."""
        self._to_process -= images
        self._failed |= failed
        left = len(self._to_process)
        self.process.values |= {"Processed": self._total - left, "Remaining": left, "Failed": len(self._failed)}
        self._advance(now, self.process, left)

    def count_saved(self, now: float, answer: Answer) -> None:
        """Count an answer's images as saved, and what was found on them if this is their first answer."""
        is_first = bool(answer.images & self._to_save)
        self._to_save -= answer.images
        is_success = is_first and answer.error is None
        self.results.add(
            Captures=len(answer.images) if is_success else 0,
            Detections=answer.detections if is_success else 0,
            Classifications=answer.classifications if is_success else 0,
        )
        self._advance(now, self.results, len(self._to_save))

    def _advance(self, now: float, stage: Stage, left: int) -> None:
        share = 1.0 if not self._total else (self._total - left) / self._total
        stage.advance(share, self._verdict)
        self.updated_at = now
        self.log(now, f"Updated job {self.number} progress in stage '{stage.key}' to {stage.progress * 100}%")
        if self.is_complete and self.status in ENDABLE:
            self.end(now, self._verdict)

    @property
    def _total(self) -> int:
        return self.total or 0

    @property
    def _verdict(self) -> JobState:
        share = len(self._failed) / self._total if self._total else 0.0
        return JobState.FAILURE if share > self.fail_threshold else JobState.SUCCESS

    def progress_line(self) -> str:
        """Say how far the job is, as its log does after every answer."""
        left = len(self._to_process)
        done = self._total - left
        share = done / self._total * 100 if self._total else 100.0
        return (
            f" Job {self.number} progress: {done}/{self._total} images processed ({share}%), "
            f"{left} remaining, {len(self._failed)} failed, 1 just processed"
        )

    def end(self, now: float, status: JobState) -> None:
        """Take the job to a final state; from then on it counts nothing."""
        self.status, self.finished_at, self.updated_at = status, now, now
        self.total = None
        self._to_process, self._to_save = set(), set()

    def give_up_missing(self, now: float, queue_says: str) -> None:
        """Mark every missing image failed, as the reaper does, which ends the job by its own rule."""
        lost = self.missing
        text = _lost_text(lost, queue_says)
        self.errors.append(text)
        self.count_processed(now, lost, lost)
        self.count_saved(now, Answer(reply="", images=lost, error="lost"))
        self.log(now, text, "WARNING")


def _lost_text(lost: frozenset[str], queue_says: str) -> str:
    ids = sorted(lost)
    more = len(ids) - _ERROR_IDS_SHOWN
    shown = f"{ids[:_ERROR_IDS_SHOWN]} ... and {more} more" if more > 0 else str(ids)
    return (
        f"jobs_health_check: marked {len(lost)} image(s) as failed "
        f"(job idle past cutoff; NATS consumer {queue_says}). IDs: {shown}"
    )


class Reaping(Enum):
    """What the reaper does with a job."""

    NOTHING = "nothing"
    GIVE_UP_MISSING = "give up the missing images"
    REVOKE = "revoke"


def reaping(job: Job, now: float, idle: float, has_consumer: bool) -> Reaping:
    """Decide what the reaper does with a job that may have been idle for `idle` seconds."""
    if job.status not in RUNNING or now - job.updated_at < idle:
        return Reaping.NOTHING
    return Reaping.GIVE_UP_MISSING if has_consumer and job.missing else Reaping.REVOKE
