"""Say in one sentence how it stands, whose failure it is, and why the exit code is what it is."""

from __future__ import annotations

from collections.abc import Sequence

from ami_fault_site.endings import Outcome
from ami_fault_site.faults import Effect
from ami_fault_site.report.contents import NOT_JUDGED, Report, ToldFinding
from ami_fault_site.report.ending import ENDINGS
from ami_fault_site.verdict.losses import NOT_LOST
from ami_fault_site.verdict.terms import EXIT_CODES, Status

_NAMED = 3  # other checks that the sentence names; the rest are counted
_CUT_SHORT = {
    Outcome.RESTARTS_EXHAUSTED.value,
    Outcome.SERVICE_GONE.value,
    Outcome.NOT_ARMED.value,
    Outcome.SETTINGS.value,
    Outcome.INTERRUPTED.value,
}
"""Endings before which nothing could be judged to its end: they are why it is unknown."""


def first_line(report: Report) -> str:
    """Return the sentence that a report leads with."""
    said = {
        Status.PASS.value: _passed,
        Status.FAIL.value: _failed,
        Status.UNKNOWN.value: _unknown,
        Status.VACUOUS.value: _vacuous,
    }[report.status](report)
    return f"{report.status.upper()} {said}{_aside(report)}{_odd_code(report)}"


def leading(findings: Sequence[ToldFinding]) -> ToldFinding:
    """Return the finding to begin with; raises ValueError if there is none."""
    return min(findings, key=weight)


def weight(finding: ToldFinding) -> tuple[bool, bool, bool]:
    """Return by what findings are put in order: what fails under faults only, lost tasks, other matters of safety."""
    return finding.in_baseline, finding.check != NOT_LOST.slug, not finding.is_safety


def counted(number: int, noun: str, plural: str = "") -> str:
    """Say a number with its noun; `plural` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _passed(report: Report) -> str:
    lost = report.finding(NOT_LOST.slug)
    so_far = "nothing lost" if lost is not None and lost.status == "pass" else "nothing that counts here failed"
    return f"{so_far}: {_numbers(report)}"


def _failed(report: Report) -> str:
    if not report.failures:
        return _numbers(report)
    first = _first_failure(report)
    if first.whose == "budget" and report.tasks.exhausted_by.get("budget"):
        most = report.parameter("max_deliver")
        allowed = "" if most is None else f" (max_deliver {most:g})"
        used_up = f"{report.tasks.exhausted_by['budget']} of {counted(report.tasks.total, 'task')}"
        said = f"budget: our own faults used up every delivery of {used_up}{allowed}: {first.check}"
    else:
        said = f"{first.whose}: {first.check}: {first.text}"
    return said + _others("also fails", [one for one in report.failures if one is not first])


def _first_failure(report: Report) -> ToldFinding:
    """Return the first failure of whoever comes first: service, worker, budget, setup."""
    order = ("service", "worker", "budget", "setup")
    foremost = min((one.whose for one in report.failures), key=order.index)
    return leading([one for one in report.failures if one.whose == foremost])


def _unknown(report: Report) -> str:
    if report.outcome in _CUT_SHORT:
        return ENDINGS[Outcome(report.outcome)] + (f": {_numbers(report)}" if report.tasks.total else "")
    cut = f"{ENDINGS[Outcome.TIMEOUT]}: " if report.outcome == Outcome.TIMEOUT.value else ""
    unknown = [one for one in report.findings if one.status == "unknown" and one.is_safety]
    if not unknown:
        return f"{cut}{_numbers(report)}"
    first = leading(unknown)
    return f"{cut}{first.check}: {first.text}" + _others("unknown too", [one for one in unknown if one is not first])


def _vacuous(report: Report) -> str:
    if not report.tasks.handed_out:
        return "no task was handed out: this run shows nothing"
    if report.dry is not None and report.nothing_fired:
        would = counted(sum(report.dry.values()), "fault")
        return f"a dry run: {would} would have struck, and nothing was touched: this run shows nothing"
    if report.nothing_fired:
        return "no fault ever struck: this run shows nothing"
    open_ones = [one for one in report.findings if one.status in NOT_JUDGED[:2]]
    named = ", ".join(one.check for one in open_ones[:_NAMED])
    more = f" and {len(open_ones) - _NAMED} more" if len(open_ones) > _NAMED else ""
    return f"not judged here: {named}{more} (--strict); {_passed(report)}"


def _numbers(report: Report) -> str:
    """Say what was answered, what struck, and what came back."""
    tasks, recovery = report.tasks, report.recovery
    parts = [f"{tasks.answered} of {tasks.total} answered"]
    parts += [f"{tasks.unheard} more unheard"] if tasks.unheard else []
    parts += [f"{tasks.taken_by_others} taken by others"] if tasks.taken_by_others else []
    out = tasks.still_out - tasks.taken_by_others
    parts += [f"{out} still out"] if out else []
    parts.append(_faults(report))
    parts += [f"{tasks.came_back} came back"] if tasks.came_back else []
    if recovery.slowest_seconds is not None:
        wait = report.parameter("ack_wait")
        known = "ack_wait unknown" if wait is None else f"ack_wait {wait:g} s"
        parts.append(f"slowest {recovery.slowest_seconds:.1f} s ({known})")
    return ", ".join(parts)


def _faults(report: Report) -> str:
    crashes = sum(row.injected for row in report.faults if row.effect == Effect.CRASH.value)
    others = sum(row.injected for row in report.faults) - crashes
    if crashes and others:
        return f"{counted(crashes, 'crash', 'crashes')} and {counted(others, 'other fault')}"
    if crashes:
        return counted(crashes, "crash", "crashes")
    return counted(others, "fault") if report.faults else "no fault was set"


def _others(label: str, findings: Sequence[ToldFinding]) -> str:
    if not findings:
        return ""
    named = ", ".join(f"{one.check} ({one.whose})" for one in findings[:_NAMED])
    more = f" and {len(findings) - _NAMED} more" if len(findings) > _NAMED else ""
    return f"; {label}: {named}{more}"


def _aside(report: Report) -> str:
    """Say which failures did not make it a failure, and why."""
    if report.status == Status.FAIL.value:
        return _others(f"beyond --gate {report.gate}", report.ungated)
    seen = _others("fails all the same", report.failures) if report.failures else ""
    return seen + _others("known to fail", report.known) + _others(f"beyond --gate {report.gate}", report.ungated)


def _odd_code(report: Report) -> str:
    """Name the exit code where the first word does not, and what is to blame for it."""
    if report.code == EXIT_CODES[Status(report.status)]:
        return ""
    told = report.status != Status.FAIL.value or not report.outcome
    ending = "" if told else f"{ENDINGS[Outcome(report.outcome)]}, "
    return f" ({ending}exit code {report.code})"
