"""The words as types: seam, site, effect, trigger, phase, call, decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

CRASH_EXIT_CODE = 86
"""Exit status of an injected crash, chosen because shells, Python and the real worker never use it."""

SETTINGS_EXIT_CODE = 78
"""Exit status of "on but wrong": EX_CONFIG of sysexits.h."""


class Seam(Enum):
    """A place in someone else's code where we stand."""

    HTTP = "http"
    IMAGE = "image"
    TASK = "task"


class Site(Enum):
    """What a call is, in the terms of the worker: the sites at which chance is rolled, once a call."""

    JOBS = "jobs"
    TASKS = "tasks"
    RESULT = "result"
    REGISTER = "register"
    IMAGE = "image"
    OPEN = "open"
    BATCH = "batch"
    JOB_PASS = "job-pass"  # a worker whose loop function takes a whole job: so is its rate


API_SITES = (Site.JOBS, Site.TASKS, Site.RESULT, Site.REGISTER)
LOOP_SITES = (Site.BATCH, Site.JOB_PASS)


class Effect(Enum):
    """What a fault does to the call it strikes."""

    CRASH = "crash"
    TRANSIENT = "transient-error"
    NETWORK = "network-error"
    IMAGE_404 = "image-404"
    CORRUPT = "corrupt-image"


class Trigger(Enum):
    """When a fault strikes: by its rate, or because the image was named permanent."""

    RATE = "rate"
    PERMANENT = "permanent"


class Phase(Enum):
    """Whether the fault comes instead of the real call or after it."""

    BEFORE = "before"
    AFTER = "after"


NETWORK_KINDS = (
    "connection-error",
    "connect-timeout",
    "read-timeout",
    "http-500",
    "http-502",
    "http-503",
    "http-504",
)
"""The ways an API call fails, equally likely."""

DAMAGE_KINDS = ("empty", "html", "bad-magic", "cut-header")
"""The ways an image is damaged, equally likely: each visible when the image is opened, not only when it is decoded."""


@dataclass(frozen=True)
class Draw:
    """What one roll of chance is keyed on: a subject, and which attempt at it this is ("" if all are alike)."""

    subject: str
    attempt: str


@dataclass(frozen=True)
class Call:
    """One outer passage through a seam.

    `draws` holds one key for most calls and one per task for a batch. `names` are all the ways in which
    AMI_TEST_PERMANENT_ERROR_IMAGES may name the image; the first is what reports show. `job` is None where the call
    belongs to no single job.
    """

    site: Site
    draws: tuple[Draw, ...]
    job: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """A fault, or the reason why not.

    `eligible` lists the effects that could have struck by their rate: the denominator of the observed rates.
    `struck` is the key whose draw decided; for a batch it names the task.
    """

    reason: str
    effect: Effect | None = None
    trigger: Trigger = Trigger.RATE
    kind: str = ""
    phase: Phase = Phase.BEFORE
    rate: float = 0.0
    draw: float | None = None
    struck: Draw | None = None
    eligible: tuple[Effect, ...] = ()


class InjectedTransientError(RuntimeError):
    """The passing failure that leaves the task loop, so that its tasks stay unanswered and are handed out again."""
