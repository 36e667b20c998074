"""The job and the worker that a run will have, checked; and how many tasks such a worker holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

MOST_OUT = 1000
"""Tasks of a job that the service lets be out at a time (max_ack_pending)."""


class LoadError(ValueError):
    """Everything that is wrong with a load, one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Load:
    """The job and the worker that a run will have. The worker's defaults are the real worker's.

    `images` 1 to 1,000,000; `batch` tasks a fetch, 1 to 10,000; `workers` loader subprocesses, 0 to 64, 0 loads
    serially; `prefetch` batches that each of them fetches ahead, 1 to 100. `ack_wait` (s) and `max_deliver` (1 to
    1000) are the service's; None takes them from the settings, and if they are not there either they are unknown.
    `seconds_an_image` is the models' time, 0 if unknown; `idle_sleep` (s) passes between the polls of an idle worker;
    `restart_delay` (s) and `max_restarts` are the supervisor's.
    `named` says how many of the images in AMI_TEST_PERMANENT_ERROR_IMAGES the job has, None if unknown.
    Raises LoadError.
    """

    images: int
    batch: int
    prefetch: int = 4
    workers: int = 4
    ack_wait: float | None = None
    max_deliver: int | None = None
    seconds_an_image: float = 0.0
    restart_delay: float = 5.0
    max_restarts: int = 50
    idle_sleep: float = 5.0
    named: int | None = None

    def __post_init__(self) -> None:
        """Check everything, so that all problems are told at once."""
        problems = [*self._counts(), *self._durations()]
        if problems:
            raise LoadError(problems)

    def _counts(self) -> Iterator[str]:
        bounds = {
            "images": (1, 1_000_000),
            "batch": (1, 10_000),
            "prefetch": (1, 100),
            "workers": (0, 64),
            "max_deliver": (1, 1000),
            "max_restarts": (0, 1_000_000),
            "named": (0, self.images),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if value is None and name in ("max_deliver", "named"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                yield f"{name}={value!r}: is a whole number from {least} to {most}"

    def _durations(self) -> Iterator[str]:
        for name in ("seconds_an_image", "restart_delay", "idle_sleep"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                yield f"{name}={value!r}: is a number of seconds, 0 or more"
        if self.ack_wait is not None and not 0.0 < self.ack_wait < math.inf:
            yield f"ack_wait={self.ack_wait!r}: is a number of seconds above 0"

    @property
    def held(self) -> int:
        """How many tasks the worker holds at most: (workers x prefetch + 1) x batch.

        Each loader keeps `prefetch` batches ready while the loop is busy with one more; a serial worker has that one
        only. Never more than the job has, nor than the service lets be out. When the process dies, or an exception
        leaves the task loop, all of them stay unanswered.
        """
        return min((self.workers * self.prefetch + 1) * self.batch, self.images, MOST_OUT)

    @property
    def held_seconds(self) -> float:
        """How long (s) a task is held at most until its turn is over: held x seconds_an_image, without posting.

        If ack_wait is shorter, the service hands the task out again although the worker is still going to answer it.
        """
        return self.held * self.seconds_an_image

    @property
    def batches(self) -> int:
        """In how many batches the job is handed out at first."""
        return math.ceil(self.images / min(self.batch, MOST_OUT))

    @property
    def batches_held(self) -> int:
        """How many batches the worker holds at most: one strike takes them all."""
        return math.ceil(self.held / min(self.batch, MOST_OUT))
