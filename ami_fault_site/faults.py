"""The words as types: seam, site, layer, phase, point, mode, effect, harm, trigger, call, decision."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

CRASH_EXIT_CODE = 86
"""Exit status of an injected crash, chosen because shells, Python and the real worker never use it."""

SETTINGS_EXIT_CODE = 78
"""Exit status of "on but wrong": EX_CONFIG of sysexits.h."""


class Seam(Enum):
    """A place in someone else's code where we stand."""

    HTTP = "http"
    TRANSPORT = "transport"
    IMAGE = "image"
    TASK = "task"


class Layer(Enum):
    """Where an HTTP call is struck: as a whole, or each attempt that the caller's own retries make of it."""

    CALL = "call"
    ATTEMPT = "attempt"


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
    # Passages at which nothing but a crash can strike; they are rolled for apart from the calls that they are part of.
    FETCHED = "fetched"
    DOWNLOADING = "downloading"
    POSTING = "posting"
    IDLE = "idle"


API_SITES = (Site.JOBS, Site.TASKS, Site.RESULT, Site.REGISTER)
HTTP_SITES = (*API_SITES, Site.IMAGE)
LOOP_SITES = (Site.BATCH, Site.JOB_PASS)


class Phase(Enum):
    """Whether a fault comes instead of the real call (not sent), cuts it short, or comes after it (done, not heard)."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


class Point(Enum):
    """Where in a worker's life a crash strikes."""

    AFTER_FETCH = "after-fetch"  # tasks were received, nothing was done with them
    DOWNLOADING = "downloading"  # an image is about to be downloaded
    BEFORE_BATCH = "before-batch"
    IN_BATCH = "in-batch"
    AFTER_BATCH = "after-batch"
    POSTING_UNSENT = "posting-unsent"  # results are about to be sent
    POSTING_UNHEARD = "posting-unheard"  # the service has answered, the worker has not heard it
    AFTER_POST = "after-post"  # the worker has heard the answer
    IDLE = "idle"  # the worker is about to ask for jobs: it holds nothing


POINTS_AT: dict[Site, tuple[Point, ...]] = {
    Site.BATCH: (Point.BEFORE_BATCH, Point.IN_BATCH, Point.AFTER_BATCH),
    Site.JOB_PASS: (Point.BEFORE_BATCH, Point.IN_BATCH, Point.AFTER_BATCH),
    Site.FETCHED: (Point.AFTER_FETCH,),
    Site.DOWNLOADING: (Point.DOWNLOADING,),
    Site.POSTING: (Point.POSTING_UNSENT, Point.POSTING_UNHEARD, Point.AFTER_POST),
    Site.IDLE: (Point.IDLE,),
}
"""The passages at which a crash may strike, and the points of each; one roll a passage."""


class Role(Enum):
    """What a worker's process is: one that runs the loop, or a subprocess that loads for it (a daemon process)."""

    MAIN = "main"
    LOADER = "loader"


class Mode(Enum):
    """How a process dies, or comes to a stop."""

    EXIT = "exit"  # os._exit: no exception, nothing flushed
    KILL = "kill"  # SIGKILL
    SEGV = "segv"  # SIGSEGV, as a bug in native code
    ABORT = "abort"  # SIGABRT, as a failed assertion in native code
    HANG = "hang"  # the thread waits for ever
    SYSEXIT = "sysexit"  # SystemExit, which much code catches or swallows


KILLING = frozenset({Mode.EXIT, Mode.KILL, Mode.SEGV, Mode.ABORT})


class Effect(Enum):
    """What a fault does to the call it strikes."""

    CRASH = "crash"
    TRANSIENT = "transient-error"
    NETWORK = "network-error"
    IMAGE_404 = "image-404"
    CORRUPT = "corrupt-image"
    SLOW = "slow"
    WITHHOLD = "withheld-lease"  # a task handed out, and kept from the worker, until no delivery is left


class Trigger(Enum):
    """When a fault strikes: by its rate, because the image was named, by a rule, or to guard against another."""

    RATE = "rate"
    PERMANENT = "permanent"
    RULE = "rule"
    EXHAUST = "exhaust"
    GUARD = "guard"  # not asked for by anybody: it keeps more from being lost to a fault that has struck


NETWORK_KINDS = (
    "refused",
    "connect-timeout",
    "read-timeout",
    "http-500",
    "http-502",
    "http-503",
    "http-504",
)
"""The ways an API call fails unless others are named, equally likely."""

CONNECT_KINDS = ("refused", "dns", "tls", "connect-timeout")
"""Ways in which no connection comes about: only before."""

ANSWER_KINDS = ("reset", "closed", "read-timeout", "stall", "garbage", "bad-json")
"""Ways in which a request has no good answer; a status ("http-503") is another. Before: it is not sent at all."""

DAMAGE_KINDS = ("empty", "html", "bad-magic", "cut-header")
"""The ways an image is damaged by a rate, equally likely: each visible when the image is opened, not only when it is
decoded."""

SUBTLE_DAMAGE_KINDS = ("truncated", "wrong-size")
"""Damage that opening does not show (but of a truncated WebP). The real worker sets PIL's LOAD_TRUNCATED_IMAGES and
answers a truncated image as a success."""


class Harm(NamedTuple):
    """What exactly a fault does. Durations in seconds.

    `kind` is one of the kinds of its effect: for NETWORK a connect or answer kind, "truncated" (during), or "http-" and
    a status; for SLOW "delay" or "trickle"; for CRASH a Mode's value; for CORRUPT a damage kind. `retry_after` is what
    a status's Retry-After says. `seconds` is how long a delay or a trickle takes, `jitter` by how much it may be longer
    or shorter, drawn anew each time.
    """

    effect: Effect
    kind: str
    phase: Phase = Phase.BEFORE
    retry_after: float | None = None
    seconds: float = 0.0
    jitter: float = 0.0

    @property
    def status(self) -> int:
        """The HTTP status that is answered, 0 if none is."""
        return int(self.kind[5:]) if self.kind.startswith("http-") else 0


class Draw(NamedTuple):
    """What one roll of chance is keyed on: a subject, and which attempt at it this is ("" if all are alike)."""

    subject: str
    attempt: str


class Call(NamedTuple):
    """One outer passage through a seam.

    `draws` holds one key for most calls and one per task for a batch. `names` are all the ways in which
    AMI_TEST_PERMANENT_ERROR_IMAGES may name the image; the first is what reports show. `job` is None where the call
    belongs to no single job. `tasks` are the (sequence, delivery) pairs that it is about. `attempt` counts the
    attempts at a call from 1; 0 is the call as a whole. `secure` is whether it is HTTPS.
    """

    site: Site
    draws: tuple[Draw, ...]
    job: int | None = None
    names: tuple[str, ...] = ()
    tasks: tuple[tuple[int, int], ...] = ()
    attempt: int = 0
    role: Role = Role.MAIN
    secure: bool = False


class Limit(NamedTuple):
    """How often a term of a rule may strike in the whole run: `most` times, counted under `name`."""

    name: str
    most: int


class Decision(NamedTuple):
    """A fault, or the reason why not.

    `eligible` lists the effects that could have struck by their rate: the denominator of the observed rates.
    `struck` is the key whose draw decided; for a batch it names the task. `rule` is the text of the rule that decided.
    """

    reason: str
    harm: Harm | None = None
    trigger: Trigger = Trigger.RATE
    point: Point | None = None
    rate: float = 0.0
    draw: float | None = None
    struck: Draw | None = None
    eligible: tuple[Effect, ...] = ()
    rule: str = ""
    limit: Limit | None = None

    @property
    def effect(self) -> Effect | None:
        """What the fault does, None if there is none."""
        return None if self.harm is None else self.harm.effect

    @property
    def kind(self) -> str:
        """How exactly, "" if there is no fault."""
        return "" if self.harm is None else self.harm.kind

    @property
    def phase(self) -> Phase:
        """When, relative to the real call."""
        return Phase.BEFORE if self.harm is None else self.harm.phase


class InjectedTransientError(RuntimeError):
    """The passing failure that leaves the task loop, so that its tasks stay unanswered and are handed out again."""
