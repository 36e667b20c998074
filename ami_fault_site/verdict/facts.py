"""What a judge knows besides the ledger: the service's parameters, and what the service itself said of its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ami_fault_site.jobdetail import JobDetail
from ami_fault_site.settings import Settings

LONGEST_ACK_WAIT = 300.0
"""Seconds: the longest ack_wait seen in use. Where it is not known, nothing is late before it."""


@dataclass(frozen=True)
class Parameters:
    """How the service is set: `ack_wait` in seconds, `max_deliver` in deliveries; None is not known.

    `sources` says where each came from: an option, a setting, or a job's log.
    """

    ack_wait: float | None = None
    max_deliver: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def longest(self) -> float:
        """Seconds after which an unanswered task is certainly due again."""
        return self.ack_wait if self.ack_wait is not None else LONGEST_ACK_WAIT

    @property
    def slack(self) -> float:
        """Seconds that a redelivery may be late before it counts as late: timers and busy machines are not exact."""
        return 2.0 + 0.5 * (self.ack_wait or 0.0)

    @property
    def haste(self) -> float:
        """Seconds that a redelivery may be early before it counts as early."""
        return max(0.1, 0.05 * (self.ack_wait or 0.0))


@dataclass(frozen=True)
class JobWitness:
    """The second witness: what the service said of a job when it was last asked, at `wall` (seconds since 1970).

    `settled` is whether the counts had stopped changing by then. `recorded` are the reply subjects that the job's log
    tells as processed and `unsaved` those whose saving failed, None where the log does not reach back to the job's
    start; `undeclared` of these name an algorithm, the value, that the pipeline does not declare. `delivered` is how
    many deliveries the log tells of, to anybody, None likewise. `given_up` is how many images the reaper has marked as
    failed, `restarted` whether somebody has run the job again, and `queued` how many tasks the log says were put into
    its stream, None if it does not.
    """

    detail: JobDetail
    wall: float
    settled: bool
    recorded: frozenset[str] | None = None
    unsaved: frozenset[str] = frozenset()
    undeclared: Mapping[str, str] = field(default_factory=dict)
    delivered: int | None = None
    given_up: int = 0
    restarted: bool = False
    queued: int | None = None

    @property
    def size(self) -> int | None:
        """How many images the job has: processed + remaining, None until both are set."""
        if self.detail.processed is None or self.detail.remaining is None:
            return None
        return self.detail.processed + self.detail.remaining


@dataclass(frozen=True)
class Facts:
    """Everything that is known besides the history. `damage` is what could not be read, one place a line.

    `witness_missing` says why the service could not be asked, "" if it was. `baseline` is the median answer time in
    seconds of a run without faults, if one was given.
    """

    settings: tuple[Settings, ...] = ()
    parameters: Parameters = Parameters()
    witnesses: Mapping[int, JobWitness] = field(default_factory=dict)
    damage: tuple[str, ...] = ()
    witness_missing: str = ""
    baseline: float | None = None
