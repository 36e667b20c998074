"""The words that all renderings share: checks counted by whose they are, figures told in lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ami_fault_site.endings import Outcome
from ami_fault_site.report.contents import (
    NOT_JUDGED,
    FaultRow,
    JobRow,
    NamedTask,
    Report,
    RunRow,
    ToldFinding,
    WorkerFigures,
)
from ami_fault_site.report.ending import ENDINGS
from ami_fault_site.report.sentence import counted, weight

_OWNERS = ("service", "worker", "setup", "budget")
_RANK = {"fail": 0, "known": 1, "unknown": 2, "vacuous": 3, "pass": 5}
_WARNING = 4
AFTER_LOADER = "after an injected death of its loader"
"""Said of an exit of the worker's own."""

_PLAINLY = {
    "pass": "passed",
    "fail": "failed",
    "known": "known to fail",
    "unknown": "unknown",
    "vacuous": "vacuous",
    "not-applicable": "not applicable",
}


def state(finding: ToldFinding) -> str:
    """Return a finding's status, with a word of its own for a failure that was expected."""
    return "known" if finding.status == "fail" and finding.known else finding.status


def plainly(status: str) -> str:
    """Say a status as one counts it: 3 passed, 1 known to fail."""
    return _PLAINLY[status]


def scores(report: Report) -> list[tuple[str, dict[str, int]]]:
    """Count the checks by whose they are, and those that came to no judgement apart; rows without any are left out."""
    by_row: dict[str, Counter[str]] = {}
    for finding in report.findings:
        row = "not judged" if finding.status in NOT_JUDGED else finding.whose
        by_row.setdefault(row, Counter())[state(finding)] += 1
    return [
        (row, {status: by_row[row][status] for status in _PLAINLY if by_row[row][status]})
        for row in (*_OWNERS, "not judged")
        if row in by_row
    ]


def worth_a_line(report: Report, verbose: bool = False) -> list[ToldFinding]:
    """Return the findings that are not a plain pass, the gravest first; with `verbose` the passed ones too.

    What is not applicable is told apart, by reasons.
    """
    chosen = [one for one in report.findings if one.status != "pass" or one.warnings or verbose]

    def rank(one: ToldFinding) -> tuple[int, int, tuple[bool, bool, bool]]:
        place = _WARNING if one.status == "pass" and one.warnings else _RANK[state(one)]
        return place, _OWNERS.index(one.whose), weight(one)

    return sorted((one for one in chosen if one.status != "not-applicable"), key=rank)


def not_applicable(report: Report) -> dict[str, list[str]]:
    """Return why some checks could not be carried out here, and which those are."""
    found: dict[str, list[str]] = {}
    for one in report.findings:
        if one.status == "not-applicable":
            found.setdefault(one.text, []).append(one.check)
    return found


def saying(finding: ToldFinding) -> str:
    """Say a finding in a line: the check, what it found, and why that was expected, if it was."""
    expected = f" (expected: {finding.known})" if state(finding) == "known" else ""
    return f"{finding.check}: {finding.text}{expected}"


def first_tasks(tasks: Sequence[NamedTask], most: int) -> str:
    """Name the first tasks, and count the rest; "" if there are none."""
    named = ", ".join(str(task) for task in tasks[:most])
    return f"{named} and {len(tasks) - most} more" if len(tasks) > most else named


def worker_line(report: Report) -> str:
    """Count the worker's lives and their ends."""
    worker = report.worker
    parts = []
    if worker.incarnations or not worker.unsupervised:
        crashes = _crashes(worker, worker.injected_exits)
        organic = counted(len(worker.organic_exits), "exit")
        after = sum(one.is_after_loader for one in worker.organic_exits)
        told = f" ({after} {AFTER_LOADER})" if after else ""
        parts.append(f"{counted(worker.incarnations, 'incarnation')}: {crashes}, {organic} of its own{told}")
    if worker.unsupervised:
        crashes = counted(worker.unsupervised_crashes, "injected crash", "injected crashes")
        crashes = crashes if parts else _crashes(worker, worker.unsupervised_crashes)
        parts.append(f"{counted(worker.unsupervised, 'life', 'lives')} that nobody supervised: {crashes}")
    return "; ".join(parts)


def _crashes(worker: WorkerFigures, ended: int) -> str:
    """Count all crashes that struck, and tell apart what they struck if that was not always a life."""
    loaders, outlived = worker.loader_crashes, worker.outlived_crashes
    told = counted(ended + loaders + outlived, "injected crash", "injected crashes")
    if not loaders and not outlived:
        return told
    each = ((ended, "ended a life"), (loaders, "in a loader"), (outlived, "that ended no life"))
    return f"{told} ({', '.join(f'{number} {what}' for number, what in each if number)})"


def task_line(report: Report) -> str:
    """Count what became of the tasks, as a worker saw it."""
    tasks = report.tasks
    answered = f"{tasks.answered} answered ({tasks.answered_with_error} of them with an error)"
    return f"{tasks.handed_out} handed out, {answered}, {tasks.came_back} came back, {tasks.still_out} still out"


def unheard_line(report: Report) -> str:
    """Count the answers of which nobody heard, "" if there are none."""
    if not report.tasks.unheard:
        return ""
    return f"{report.tasks.unheard} more answered, but the reply was never heard: only the service knows"


def lost_line(report: Report) -> str:
    """Count what faults kept from the worker, "" if nothing was."""
    tasks = report.tasks
    told = [f"{tasks.lost_answers} answered, and the answer lost: the service has it"] if tasks.lost_answers else []
    if tasks.lost_leases:
        told.append(f"{counted(tasks.lost_leases, 'delivery', 'deliveries')} lost on the way to the worker")
    if tasks.kept_back:
        told.append(f"{counted(tasks.kept_back, 'delivery', 'deliveries')} kept back on purpose")
    return "; ".join(told)


def rates(row: FaultRow) -> str:
    """Say how often a fault was set to strike, in each run; "-" where only names or rules say so."""
    return "/".join(f"{rate:g}" for rate in row.set_rates) if any(row.set_rates) else "-"


def fault_lines(report: Report) -> Iterator[str]:
    """Say what else is to be told of the faults: where they struck, what came well through them, what was held back."""
    if report.dry is not None:
        would = ", ".join(f"{number} {effect}" for effect, number in report.dry.items()) or "nothing"
        yield f"a dry run: would have struck {would}; nothing was touched"
    if report.deaths:
        yield "deaths: " + ", ".join(f"{number} {how}" for how, number in report.deaths.items())
    for row in report.attempts:
        share = f"{row.struck / row.tries:.3f}"
        failed = f"{row.failed} of {counted(row.calls, 'call')} failed for it ({row.failed / row.calls:.3f})"
        tries = f"{row.struck} of {counted(row.tries, 'attempt')} struck ({share})"
        yield f"{row.site}: {tries}, {failed}, {row.absorbed} absorbed by a retry"
    if report.guarded:
        were = "1 fetch was" if report.guarded == 1 else f"{report.guarded} fetches were"
        yield f"{were} refused to keep what was given up from being lost"
    for why, times in report.withheld.items():
        yield f"{times} withheld: {why}"


def more_of_tasks(report: Report) -> Iterator[str]:
    """Say what else is to be told of the tasks, as far as there is anything."""
    lines = (unheard_line(report), lost_line(report), fate_line(report), recovery_line(report))
    yield from (line for line in lines if line)


def fate_line(report: Report) -> str:
    """Count the fates and the marks that were set besides, "" if there was no task."""
    told = [f"{number} {fate}" for fate, number in report.tasks.fates.items()]
    told += [f"{number} {mark}" for mark, number in report.tasks.marks.items()]
    return ", ".join(told)


def recovery_line(report: Report) -> str:
    """Say how long tasks took to come back, "" if none did."""
    recovery = report.recovery
    if recovery.median_seconds is None or recovery.slowest_seconds is None:
        return ""
    took = f"half within {recovery.median_seconds:.1f} s, the slowest after {recovery.slowest_seconds:.1f} s"
    return f"{counted(recovery.redeliveries, 'redelivery', 'redeliveries')}: {took}, from receipt to receipt"


def ours(row: JobRow) -> str:
    """Say our counts of a job."""
    parts = [f"{row.answered} answered", f"{row.with_error} with an error"]
    parts += [f"{row.unheard} unheard"] if row.unheard else []
    parts += [f"{counted(row.elsewhere, 'delivery', 'deliveries')} to others"] if row.elsewhere else []
    return ", ".join(parts)


def theirs(row: JobRow) -> str:
    """Say the service's counts of a job, or why there are none."""
    if not row.is_last:
        return "filled anew since"
    if not row.status:
        return f"not asked: {row.missing}"
    counts = (("processed", row.processed), ("failed", row.failed), ("remaining", row.remaining))
    parts = [f"{'?' if number is None else number} {name}" for name, number in counts]
    parts += [f"{row.given_up} given up by the reaper"] if row.given_up else []
    return ", ".join([*parts, row.status])


def run_line(run: RunRow) -> str:
    """Say where a run is, its seed, and how it ended."""
    seed = f", seed {run.seed}" if run.seed >= 0 else ""
    return f"{run.near}{seed}{_ended(run.outcome)}"


def _ended(outcome: str) -> str:
    try:
        return f"; {outcome}: {ENDINGS[Outcome(outcome)]}"
    except ValueError:
        return ""
