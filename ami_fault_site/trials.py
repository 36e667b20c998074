"""The trials of the judge: each way to misbehave, what provokes it, and the check that must catch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ami_fault_site.verdict.terms import Whose

ACK_WAIT = 2.0
"""Seconds: short, so that a redelivery costs little of a trial."""

_CRASHES = {"AMI_TEST_WORKER_CRASH_RATE": "0.6", "AMI_TEST_MAX_FAULTS": "2"}
_MISSING = {"AMI_TEST_IMAGE_404_RATE": "0.3"}
_UNTIL_IDLE = ("--until", "idle", "--idle-after")
_PASSING = {"AMI_TEST_TRANSIENT_ERROR_RATE": "0.6", "AMI_TEST_MAX_FAULTS": "2"}
_UNSTEADY = {"AMI_TEST_NETWORK_LAYER": "attempt", "AMI_TEST_RULES": "image.get: 60%status(503)"}
_CROWDED = {"AMI_TEST_NETWORK_LAYER": "attempt", "AMI_TEST_RULES": "image.get: 30%status(429, retry_after=1)"}
_KEPT_BACK = {"AMI_TEST_EXHAUST": "3,5"}
_NONE = {"AMI_TEST_WORKER_CRASH_RATE": "0"}


Strike: TypeAlias = tuple[str, str, str]
"""Site, kind and phase of a fault."""


@dataclass(frozen=True)
class Trial:
    """One run of the sample worker against a sandbox.

    `check` is the slug of the check that must fail, and `whose` whose failure it must be; "" and None for a healthy
    trial, in which nothing may fail but the checks that are `allowed` to: what the sample worker has in common with the
    real one is no misbehaviour of its own. `settings` are the faults, `options` of `ami-fault run`; `timeout` in
    seconds. `strikes` must have struck, or the scenario is not what it says.
    """

    name: str
    check: str = ""
    whose: Whose | None = None
    settings: Mapping[str, str] = field(default_factory=lambda: _NONE)
    options: tuple[str, ...] = ()
    worker: Mapping[str, str] = field(default_factory=dict)
    images: int = 48
    max_deliver: int = 8
    timeout: float = 90.0
    allowed: tuple[str, ...] = ()
    strikes: tuple[Strike, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether nothing misbehaves in it."""
        return self.whose is None


def _sabotage(
    name: str,
    check: str,
    settings: Mapping[str, str] = _NONE,
    options: tuple[str, ...] = (),
    max_deliver: int = 8,
    timeout: float = 40.0,
) -> Trial:
    more = ("--sabotage", name, *options)
    return Trial(name, check, Whose.SERVICE, settings, more, max_deliver=max_deliver, timeout=timeout)


def _misbehaviour(name: str, check: str, settings: Mapping[str, str] = _NONE, timeout: float = 40.0) -> Trial:
    return Trial(name, check, Whose.WORKER, settings, worker={"AMI_SAMPLE_MISBEHAVE": name}, timeout=timeout)


SERVICE_TRIALS = (
    _sabotage("never-redelivers", "crashed-tasks-requeued", _CRASHES, timeout=20),
    _sabotage("acks-before-saving", "no-task-lost", timeout=20),
    _sabotage("records-half", "no-task-lost", timeout=20),
    _sabotage("hands-out-twice", "one-holder-at-a-time"),
    _sabotage("error-as-success", "failure-counts-accurate", _MISSING),
    _sabotage("success-as-failure", "failure-counts-accurate"),
    _sabotage("early-success", "no-early-success"),
    _sabotage("strands-last-batch", "no-task-lost", timeout=20),
    _sabotage("starves-second-job", "no-starvation", options=("--jobs", "2", *_UNTIL_IDLE, "6")),
    _sabotage("redelivers-late", "requeued-in-time", _CRASHES),
    _sabotage("redelivers-forever", "redelivery-ends", max_deliver=3, timeout=25),
    _sabotage("serves-after-end", "nothing-served-after-the-end", options=(*_UNTIL_IDLE, "5"), timeout=20),
    _sabotage("invents-tasks", "no-invented-tasks", timeout=20),
    _sabotage("forgets-exhausted", "failure-counts-accurate", _KEPT_BACK, ("--reaper", "8"), max_deliver=2, timeout=40),
    _sabotage("reopens-finished-job", "job-reaches-its-end"),
    _sabotage("collapses-after-fault", "no-cascade", _MISSING),
    _sabotage("never-ends", "job-reaches-its-end", timeout=20),
)

WORKER_TRIALS = (
    _misbehaviour("drops-posts", "held-tasks-are-answered"),
    _misbehaviour("wrong-image", "answers-name-their-image", timeout=20),
    _misbehaviour("keeps-a-batch", "held-tasks-are-answered"),
    _misbehaviour("hangs", "held-tasks-are-answered", timeout=12),
    _misbehaviour("transient-as-final", "transient-errors-requeued", _PASSING),
    _misbehaviour("fails-the-batch", "batch-survives-a-bad-image", _MISSING),
    _misbehaviour("swallows-errors", "permanent-errors-reported", _MISSING),
    _misbehaviour("never-retries", "transient-errors-retried", _UNSTEADY),
    _misbehaviour("retries-at-once", "backoff-grows", _UNSTEADY),
    _misbehaviour("ignores-retry-after", "retry-after-honoured", _CROWDED),
)

SETUP_TRIALS = (
    Trial(
        "undeclared-algorithm", "no-task-lost", Whose.SETUP, worker={"AMI_SAMPLE_MISBEHAVE": "undeclared-algorithm"},
        max_deliver=2, timeout=20.0,
    ),
)  # fmt: skip

# Where a loader dies, the sample worker fails an innocent batch for good, as the real one does.
_FAILS_THE_INNOCENT = ("transient-errors-requeued",)
_DEATHS = ("loader-deaths", "poison-image", "everything")
_SHORTER = {"blackout": {"AMI_TEST_STOP_AFTER": "15"}}  # a minute is long for a trial

# What must have struck in each scenario, for it to be what its head says: it takes neither a lucky nor an unlucky seed.
_STRIKES: Mapping[str, tuple[Strike, ...]] = {
    "lost-answers": (("result", "reset", "after"), ("posting", "kill", "after")),
    "lost-leases": (("tasks", "reset", "after"),),
    "loader-deaths": (("downloading", "kill", "before"),),
    "slow-worker": (("batch", "delay", "before"), ("image", "trickle", "during")),
    "rate-limited": (
        ("tasks", "http-429", "before"), ("result", "http-429", "before"),
        ("image", "http-429", "before"), ("image", "http-503", "before"),
    ),
    "flaky-images": tuple(("image", kind, "before") for kind in ("http-503", "reset", "read-timeout", "refused")),
    "poison-image": (
        ("image", "http-403", "before"), ("open", "bad-magic", "before"), ("downloading", "kill", "before"),
    ),
    "blackout": (("jobs", "refused", "before"), ("tasks", "refused", "before")),
    "everything": (
        ("fetched", "kill", "after"), ("downloading", "segv", "before"), ("batch", "abort", "during"),
        ("posting", "exit", "after"), ("image", "http-503", "before"), ("image", "http-403", "before"),
    ),
}  # fmt: skip

HEALTHY_TRIALS = (
    Trial("healthy without faults"),
    Trial("healthy crashes", settings=_CRASHES),
    Trial("healthy passing errors", settings=_PASSING),
    Trial("healthy medium, two jobs", settings={"AMI_TEST_PROFILE": "medium"}, options=("--jobs", "2")),
    Trial("healthy network", settings={"AMI_TEST_NETWORK_ERROR_RATE": "0.3", "AMI_TEST_MAX_FAULTS": "12"}),
    Trial("healthy images", settings={"AMI_TEST_PROFILE": "images"}),
    *(
        Trial(
            f"healthy {profile}",
            settings={"AMI_TEST_PROFILE": profile, **_SHORTER.get(profile, {})},
            timeout=90.0,
            allowed=_FAILS_THE_INNOCENT if profile in _DEATHS else (),
            strikes=strikes,
        )
        for profile, strikes in _STRIKES.items()
    ),
)

TRIALS = (*SERVICE_TRIALS, *WORKER_TRIALS, *SETUP_TRIALS, *HEALTHY_TRIALS)
