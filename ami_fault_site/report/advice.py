"""Say what to do next, one line for each thing that is to be done."""

from __future__ import annotations

import shlex

from ami_fault_site.endings import Outcome
from ami_fault_site.report.contents import NOT_JUDGED, Report, RunRow, ToldFinding
from ami_fault_site.report.ending import NOT_ARMED_CURE
from ami_fault_site.report.sentence import leading
from ami_fault_site.verdict.calm import CASCADE
from ami_fault_site.verdict.jobs import ENDS
from ami_fault_site.verdict.terms import Status
from ami_fault_site.verdict.work import OUTLIVE

_NAMED = 3  # checks that a line names
_HEAVIEST = "heavy"


def next_lines(report: Report) -> tuple[str, ...]:
    """Return what to do now, one line for each who failed, and one for every other outcome."""
    cut_short = _after_ending(report)
    if cut_short:
        return (cut_short,)
    if report.status == Status.FAIL.value:
        return _after_failures(report)
    if report.status == Status.UNKNOWN.value:
        return (_after_unknown(report),)
    if report.status == Status.VACUOUS.value:
        return (_after_vacuous(report),)
    return (_after_pass(report),)


def _after_ending(report: Report) -> str:
    """Say what to do about a run that did not get to its end, "" if it did or its failure is worth more."""
    if report.outcome == Outcome.NOT_ARMED.value:
        return NOT_ARMED_CURE
    if report.outcome == Outcome.SETTINGS.value:
        said = f"its output in {_folder(report)}/output says which"
        return f"mend the settings that the worker refused: {said}, and `ami-fault doctor` shows them all"
    if report.status == Status.FAIL.value:
        return ""
    if report.outcome == Outcome.INTERRUPTED.value:
        return f"let it run to its end: {_again(report)}"
    if report.outcome == Outcome.SERVICE_GONE.value:
        return f"see above why the sandbox has ended, and run it again: {_again(report)}"
    if report.outcome == Outcome.RESTARTS_EXHAUSTED.value:
        return f"see in {_folder(report)}/output why the worker ends, or let it start more often (--max-restarts)"
    return ""


def _after_failures(report: Report) -> tuple[str, ...]:
    lines = []
    for whose in dict.fromkeys(one.whose for one in sorted(report.failures, key=_order)):
        findings = [one for one in report.failures if one.whose == whose]
        if whose == "budget":
            lines.append(_spare_deliveries(report))
        elif whose == "setup":
            cures = [cure for one in findings if (cure := _cure(report, one))]
            lines += cures or [_look_at(report, findings)]
        else:
            lines.append(_look_at(report, findings))
    return tuple(lines)


def _order(finding: ToldFinding) -> int:
    return ("service", "worker", "budget", "setup").index(finding.whose)


def _spare_deliveries(report: Report) -> str:
    most = report.parameter("max_deliver")
    now = "" if most is None else f", now {most:g}"
    taking = {"crash": "crash rate", "transient-error": "transient rate", "network-error": "network rate"}
    rates = [
        f"{taking[row.effect]} ({row.set_rates[-1]:g})"
        for row in report.faults
        if row.effect in taking and row.injected and any(row.set_rates)
    ]
    lower = " and the ".join(rates) or "rates"
    return f"raise max_deliver of the service{now}, or lower the {lower}; `ami-fault plan` tells what to expect"


def _cure(report: Report, finding: ToldFinding) -> str:
    """Say how to put service and worker together such that a finding passes, "" if there is no one way."""
    if finding.check == OUTLIVE.slug:
        wait = report.parameter("ack_wait")
        now = "" if wait is None else f", now {wait:g} s"
        return f"raise ack_wait of the service{now}, or let the worker hold less: smaller batches, less prefetch"
    if finding.check == CASCADE.slug:
        return "give the worker a token that may take tasks and answer them (AMI_ANTENNA_API_AUTH_TOKEN)"
    return ""


def _look_at(report: Report, findings: list[ToldFinding]) -> str:
    """Point at a task's story, or, where no task is concerned, at the first line that proves it."""
    with_tasks = [one for one in findings if one.tasks]
    if with_tasks:
        first = leading(with_tasks)
        run = _run_of(report, first)
        named = "" if run is None else f"{shlex.quote(run.typed)} "
        return f"ami-fault explain {named}{first.tasks[0].job}/{first.tasks[0].sequence}"
    with_lines = [one for one in findings if one.evidence]
    if not with_lines:
        return f"look at what the service said of its jobs, in {_folder(report)}/jobs"
    first = leading(with_lines)
    run = _run_of(report, first)
    line = first.evidence[0] if run is None else f"{run.near}/{first.evidence[0].removeprefix(f'{run.name}/')}"
    return f"look at {line}"


def _after_unknown(report: Report) -> str:
    if report.ledger_problems:
        return f"the ledger is not complete, and will not be: run it again: {_again(report)}"
    if any(row.missing for row in report.jobs) and not any(row.status for row in report.jobs):
        return f"let the service be asked: {_check(report)} --wait 30m, with its token in AMI_ANTENNA_API_AUTH_TOKEN"
    if not report.tasks.total:
        return _no_tasks(report)
    unknown = [one for one in report.findings if one.status == "unknown" and one.is_safety]
    if any("not known" in one.text for one in unknown):
        missing = [row.name for row in report.parameters if row.value is None]
        options = " ".join(f"--{name.replace('_', '-')} N" for name in missing)
        if options:
            return f"say how the service is set: {_check(report)} {options}"
    if report.outcome == Outcome.TIMEOUT.value and report.tasks.still_out:  # and nobody works at them any more
        return f"give it more time (--timeout): {_again(report)}"
    ends = report.finding(ENDS.slug)
    if report.outcome == Outcome.TIMEOUT.value or (ends is not None and ends.status == "unknown"):
        return f"{_check(report)} --wait 30m"
    return _look_at(report, unknown) if unknown else f"run it again: {_again(report)}"


def _no_tasks(report: Report) -> str:
    hidden = report.hidden_jobs
    if hidden:
        named = ", ".join(str(job) for job in hidden[:_NAMED]) + (" and others" if len(hidden) > _NAMED else "")
        were = f"job {named} was" if len(hidden) == 1 else f"jobs {named} were"
        return f"{were} listed and kept from the worker by AMI_TEST_JOBS: name there what it is to work on"
    return f"see in {_folder(report)}/output whether the worker asks for tasks, and whether a started job has any"


def _after_vacuous(report: Report) -> str:
    if not report.tasks.handed_out:
        return _no_tasks(report)
    if report.dry is not None and report.nothing_fired:
        return "the same for real: without AMI_TEST_DRY_RUN"
    if report.nothing_fired:
        return "raise the rates, or take more images; `ami-fault plan` tells the chance that nothing strikes"
    open_ones = [one.check for one in report.findings if one.status in NOT_JUDGED[:2]]
    named = ", ".join(open_ones[:_NAMED]) + (" and others" if len(open_ones) > _NAMED else "")
    return f"raise the rates or take more images, to judge {named}; without --strict this run passes"


def _after_pass(report: Report) -> str:
    open_ones = [one.check for one in report.findings if one.status == "vacuous"]
    if open_ones:
        named = ", ".join(open_ones[:_NAMED]) + (" and others" if len(open_ones) > _NAMED else "")
        return f"higher rates or more images, to judge {named} too"
    if not report.faults:
        return "the same with faults: --profile medium"
    profile = report.runs[0].profile if report.runs else ""
    harder = "" if profile == _HEAVIEST else f", or a heavier profile (--profile {_HEAVIEST})"
    seed = f" (--seed {report.runs[0].seed + 1})" if report.runs and report.runs[0].seed >= 0 else ""
    return f"another seed{seed}{harder}"


def _again(report: Report) -> str:
    return report.runs[0].again if report.runs else "ami-fault run"


def _check(report: Report) -> str:
    return " ".join(["ami-fault check", *(shlex.quote(run.typed) for run in report.runs)])


def _run_of(report: Report, finding: ToldFinding) -> RunRow | None:
    """Return the run that a finding's first line of evidence is in, else the first; None without runs."""
    first = finding.evidence[0] if finding.evidence else ""
    of_it = (run for run in report.runs if run.name and first.startswith(f"{run.name}/"))
    return next(of_it, report.runs[0] if report.runs else None)


def _folder(report: Report) -> str:
    return report.runs[0].near if report.runs else "the run folder"
