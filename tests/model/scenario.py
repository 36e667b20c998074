"""Say what is to be modelled: service, workers, hosts, others, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ami_fault_site.settings import Settings


class Sabotage(Enum):
    """The ways in which the modelled service misbehaves; named as the sandbox's, as far as that knows them too."""

    NEVER_REDELIVERS = "never-redelivers"
    REDELIVERS_LATE = "redelivers-late"
    REDELIVERS_EARLY = "redelivers-early"
    REDELIVERS_FOREVER = "redelivers-forever"
    HANDS_OUT_TWICE = "hands-out-twice"
    STRANDS_LAST_BATCH = "strands-last-batch"
    INVENTS_TASKS = "invents-tasks"
    STARVES_SECOND_JOB = "starves-second-job"
    ACKS_BEFORE_SAVING = "acks-before-saving"
    RECORDS_HALF = "records-half"
    ERROR_AS_SUCCESS = "error-as-success"
    SUCCESS_AS_FAILURE = "success-as-failure"
    COLLAPSES_AFTER_FAULT = "collapses-after-fault"
    FORGETS_EXHAUSTED = "forgets-exhausted"
    EARLY_SUCCESS = "early-success"
    SERVES_AFTER_END = "serves-after-end"
    REOPENS_FINISHED_JOB = "reopens-finished-job"
    NEVER_ENDS = "never-ends"


class Misbehaviour(Enum):
    """The ways in which the modelled worker misbehaves."""

    DROPS_POSTS = "drops-posts"  # batches with a task whose sequence ends in 3 are finished and never posted
    HANGS = "hangs"  # in its third batch, for ever
    FINAL_TRANSIENT = "final-transient"  # a passing error is answered as a final one


SLUGS: Mapping[Sabotage | Misbehaviour, tuple[str, ...]] = {
    Sabotage.NEVER_REDELIVERS: ("no-task-lost", "crashed-tasks-requeued"),
    Sabotage.REDELIVERS_LATE: ("requeued-in-time",),
    Sabotage.REDELIVERS_EARLY: ("one-holder-at-a-time",),
    Sabotage.REDELIVERS_FOREVER: ("redelivery-ends",),
    Sabotage.HANDS_OUT_TWICE: ("one-holder-at-a-time",),
    Sabotage.STRANDS_LAST_BATCH: ("no-task-lost",),
    Sabotage.INVENTS_TASKS: ("no-invented-tasks",),
    Sabotage.STARVES_SECOND_JOB: ("no-starvation",),
    Sabotage.ACKS_BEFORE_SAVING: ("no-task-lost",),
    Sabotage.RECORDS_HALF: ("no-task-lost",),
    Sabotage.ERROR_AS_SUCCESS: ("failure-counts-accurate",),
    Sabotage.SUCCESS_AS_FAILURE: ("failure-counts-accurate",),
    Sabotage.COLLAPSES_AFTER_FAULT: ("no-cascade",),
    Sabotage.FORGETS_EXHAUSTED: ("no-early-success",),
    Sabotage.EARLY_SUCCESS: ("no-early-success",),
    Sabotage.SERVES_AFTER_END: ("nothing-served-after-the-end",),
    Sabotage.REOPENS_FINISHED_JOB: ("job-reaches-its-end",),
    Sabotage.NEVER_ENDS: ("job-reaches-its-end",),
    Misbehaviour.DROPS_POSTS: ("held-tasks-are-answered", "no-task-lost"),
    Misbehaviour.HANGS: ("held-tasks-are-answered", "no-task-lost"),
    Misbehaviour.FINAL_TRANSIENT: ("transient-errors-requeued",),
}
"""The checks that should fail, the likeliest first."""


@dataclass(frozen=True)
class Reaper:
    """Looks at the jobs every so often, and gives up the missing images of those that are idle; in seconds."""

    every: float = 60.0
    idle: float = 300.0


@dataclass(frozen=True)
class Scenario:
    """What happens; everything that is not said here follows from the seed. Durations in seconds, chances 0 to 1.

    `images` is for each of `jobs`; `unstarted` jobs are listed and never served. `workers` are ours, in turn on `hosts`
    hosts, each with a run folder of its own; `others` are not ours and in no ledger. `settings` are those of all runs,
    whose seeds are `seed`, `seed + 1`... `until` is "drained" or "idle". `stop_after` is the operator's stop.
    `broken` is the share of images that nobody can load, `trouble` the share of API calls that fail by themselves,
    `organic_crash` the chance for each batch that the worker dies of it, `loader_death` that for each fetch.
    `latency` is the longest that a request or an answer travels, `saving` the longest from acceptance to the counts.
    """

    seed: int = 0
    jobs: int = 1
    images: int = 40
    unstarted: int = 0
    job_gap: float = 0.0  # from the start of one job to that of the next
    batch: int = 8
    loaders: int = 2
    prefetch: int = 2
    ack_wait: float = 30.0
    max_deliver: int = 2
    settings: Settings = field(default_factory=lambda: Settings(enabled=True))
    hosts: int = 1
    workers: int = 1
    unsupervised: bool = False
    until: str = "drained"
    idle_after: float | None = None  # None: twice ack_wait
    timeout: float = 600.0
    stop_after: float | None = None
    restart_delay: float = 5.0
    max_restarts: int = 50
    watch_every: float = 1.0
    model_time: float = 0.05  # an image
    load_time: float = 0.02  # an image
    idle_sleep: float = 5.0
    latency: float = 0.02
    saving: float = 0.3
    reaper: Reaper | None = None
    others: int = 0
    others_batch: int = 4
    others_every: float = 4.0
    others_work: float = 2.0
    others_crash: float = 0.1
    others_late: float = 0.1
    broken: float = 0.0
    trouble: float = 0.0
    organic_crash: float = 0.0
    loader_death: float = 0.0
    knows_parameters: bool = True
    knows_log: bool = True
    token: bool = True
    sabotage: Sabotage | None = None
    misbehaviour: Misbehaviour | None = None
