"""The words of a judgement: status, whose it is, finding, verdict; how findings merge, and which exit code that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ami_fault_site.history import Place, TaskKey


class Status(Enum):
    """What one check says, or all together.

    *vacuous*: its fault was set and never fired. *not-applicable*: its fault was not set, or cannot occur here.
    """

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    VACUOUS = "vacuous"
    NOT_APPLICABLE = "not-applicable"


class Whose(Enum):
    """Whose failure it is. *budget*: our own faults took the last delivery. *setup*: how the two were put together."""

    SERVICE = "service"
    WORKER = "worker"
    BUDGET = "budget"
    SETUP = "setup"


class Gate(Enum):
    """Whose failures decide the exit code."""

    ALL = "all"
    SERVICE = "service"
    WORKER = "worker"


class Group(Enum):
    """The tester's list: what is to be handled."""

    CRASHES = "crashes"
    NETWORK = "network"
    IMAGES = "images"
    STABILITY = "stability"


@dataclass(frozen=True)
class Check:
    """One named question. `meaning` says in one sentence what holds if it passes.

    A *safety* check is one whose "unknown" makes the whole unknown: whether anything was lost, and whether the counts
    and the end are right.
    """

    slug: str
    group: Group
    whose: Whose
    meaning: str
    is_safety: bool = False


@dataclass(frozen=True)
class Finding:
    """What one check says of one history.

    `tasks` are those concerned, `evidence` the ledger lines that prove it, `warnings` what is worth a line and no
    failure. `known` is the reason why a failure was expected (--known), "" otherwise.
    """

    check: Check
    status: Status
    text: str
    whose: Whose
    tasks: tuple[TaskKey, ...] = ()
    evidence: tuple[Place, ...] = ()
    warnings: tuple[str, ...] = ()
    judged: int = 0
    known: str = ""

    @property
    def counts_as(self) -> Status:
        """The status as it enters the whole: a known failure has been accounted for."""
        return Status.PASS if self.known and self.status is Status.FAIL else self.status


_RANK = (Status.FAIL, Status.UNKNOWN, Status.VACUOUS, Status.PASS)
_GATED: Mapping[Gate, frozenset[Whose]] = {
    Gate.ALL: frozenset(Whose),
    Gate.SERVICE: frozenset({Whose.SERVICE}),
    Gate.WORKER: frozenset({Whose.WORKER}),
}
EXIT_CODES: Mapping[Status, int] = {Status.PASS: 0, Status.FAIL: 1, Status.UNKNOWN: 3, Status.VACUOUS: 4}


@dataclass(frozen=True)
class Verdict:
    """All findings together.

    `nothing_fired` is whether faults were set and none struck in the whole run, `nothing_handed_out` whether no worker
    was given a task: either way the run shows nothing.
    """

    findings: tuple[Finding, ...]
    nothing_fired: bool
    nothing_handed_out: bool = False

    def status(self, gate: Gate = Gate.ALL) -> Status:
        """Merge: fail > unknown > vacuous > pass. Unknown counts from safety checks only, not-applicable never."""
        gated = _GATED[gate]
        seen = {
            finding.counts_as
            for finding in self.findings
            if (finding.status is Status.FAIL and finding.whose in gated)
            or (finding.status is Status.UNKNOWN and finding.check.is_safety)
        }
        if self.nothing_fired or self.nothing_handed_out:
            seen.add(Status.VACUOUS)
        return next((status for status in _RANK if status in seen), Status.PASS)

    def exit_code(self, gate: Gate = Gate.ALL, strict: bool = False) -> int:
        """Return 0 pass, 1 fail, 3 unknown, 4 vacuous; with `strict` 4 also if a check could not be judged here."""
        status = self.status(gate)
        if status is Status.PASS and strict and self.not_judged:
            return EXIT_CODES[Status.VACUOUS]
        return EXIT_CODES[status]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that fail and were not expected to, the service's first."""
        order = list(Whose)
        failed = [f for f in self.findings if f.counts_as is Status.FAIL]
        return tuple(sorted(failed, key=lambda f: order.index(f.whose)))

    @property
    def not_judged(self) -> tuple[Finding, ...]:
        """The findings of which this run shows nothing: their fault was set and never fired, or nothing is known."""
        return tuple(f for f in self.findings if f.status in (Status.VACUOUS, Status.UNKNOWN))

    def finding(self, slug: str) -> Finding:
        """Return the finding of a check; raises KeyError if there is none."""
        for finding in self.findings:
            if finding.check.slug == slug:
                return finding
        raise KeyError(slug)


def with_known(findings: Iterable[Finding], known: Mapping[str, str]) -> tuple[Finding, ...]:
    """Mark the findings whose failure is known, by slug and reason; one that passes says that it has begun to."""
    marked = []
    for finding in findings:
        reason = known.get(finding.check.slug, "")
        if reason and finding.status is Status.PASS:
            told = f"known to fail ({reason}), and it passes now: take it off --known"
            finding = replace(finding, known=reason, warnings=(*finding.warnings, told))
        elif reason:
            finding = replace(finding, known=reason)
        marked.append(finding)
    return tuple(marked)
