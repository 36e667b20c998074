"""Make a report: a judged case -> everything that a rendering shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ami_fault_site.endings import Outcome
from ami_fault_site.report import figures, notes
from ami_fault_site.report.advice import next_lines
from ami_fault_site.report.again import run_rows
from ami_fault_site.report.contents import NamedTask, Report, ToldFinding, ledger_line
from ami_fault_site.report.ending import exit_code, standing
from ami_fault_site.report.sentence import first_line
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.terms import Finding, Gate, Status, Verdict


def build(
    case: Case,
    verdict: Verdict,
    runs: Sequence[Path],
    *,
    gate: Gate,
    strict: bool,
    outcome: Outcome | None,
    code: int | None = None,
    baseline: Verdict | None = None,
) -> Report:
    """Make the report on a case. `runs` are the folders that it was read from, in that order.

    `outcome` is how the run ended that has just been supervised, None where nothing was run; it has a say in the exit
    code. A `code` that is given takes its place. `baseline` is the verdict on a run without faults: what fails there
    too is not blamed on the faults.
    """
    if code is None:
        code = exit_code(outcome, verdict, gate, strict)
    report = Report(
        headline="",
        status=standing(code, verdict, gate).value,
        code=code,
        outcome=outcome.value if outcome is not None else "",
        gate=gate.value,
        strict=strict,
        nothing_fired=verdict.nothing_fired,
        runs=run_rows(case, runs),
        findings=tuple(_told(case, finding, gate, _fails(baseline, finding)) for finding in verdict.findings),
        worker=figures.worker_figures(case),
        faults=figures.fault_rows(case),
        kinds=dict(sorted(case.history.kinds.items())),
        deaths=figures.deaths(case),
        attempts=figures.attempt_rows(case),
        dry=dict(sorted(case.history.dry.items())) if case.is_dry else None,
        withheld=figures.withheld(case),
        guarded=case.history.guarded,
        hidden_jobs=tuple(sorted(case.history.hidden)),
        tasks=figures.task_figures(case),
        recovery=figures.recovery(case),
        jobs=figures.job_rows(case),
        parameters=figures.parameter_rows(case),
        ledger_problems=case.facts.damage,
        next=(),
        notes=tuple(notes.row(case, one) for one in notes.within(case, 0.0, float("inf"))),
    )
    return replace(report, headline=first_line(report), next=next_lines(report))


def _fails(baseline: Verdict | None, finding: Finding) -> bool:
    """Say whether a check that fails does so without faults, too."""
    if baseline is None or finding.status is not Status.FAIL:
        return False
    return baseline.finding(finding.check.slug).status is Status.FAIL


def _told(case: Case, finding: Finding, gate: Gate, in_baseline: bool) -> ToldFinding:
    tasks = [case.history.tasks[key] for key in finding.tasks]
    if finding.status is Status.FAIL:  # those first that are the doing of whoever is blamed
        tasks.sort(key=lambda task: case.fates.of(task).whose is not finding.whose)
    return ToldFinding(
        check=finding.check.slug,
        group=finding.check.group.value,
        whose=finding.whose.value,
        status=finding.status.value,
        text=f"{finding.text}; fails without faults, too" if in_baseline else finding.text,
        meaning=finding.check.meaning,
        is_safety=finding.check.is_safety,
        is_gated=gate is Gate.ALL or gate.value == finding.whose.value,
        judged=finding.judged,
        known=finding.known,
        tasks=tuple(NamedTask(one.job, one.key[1], one.image, one.image_id, one.key[2]) for one in tasks),
        evidence=tuple(ledger_line(place) for place in finding.evidence),
        warnings=finding.warnings,
        notes=tuple(notes.row(case, one) for one in notes.beside(case, finding)),
        in_baseline=in_baseline,
    )
