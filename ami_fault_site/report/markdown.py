"""Write a report as Markdown, for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ami_fault_site.report import wording
from ami_fault_site.report.contents import Report, ToldFinding

_FIRST_TASKS = 50  # a job's summary may have a megabyte
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&])")
_SHORT = {"fail": "**FAIL**", "not-applicable": "n/a"}


def to_markdown(report: Report) -> str:
    """Return the report as GitHub shows it: the sentence, the findings, the counts, and the rest folded."""
    parts = [f"### {escaped(report.headline)}", _scores(report)]
    findings = wording.worth_a_line(report)
    if findings:
        parts.append(_table(("", "whose", "check", "what"), [_row(one) for one in findings]))
    parts.append(_jobs(report))
    proved = [one for one in findings if one.tasks or one.evidence]
    parts += [_folded(f"{one.check}: tasks and evidence", _proof(one)) for one in proved]
    parts.append(_folded("what happened", "\n".join(f"- {line}" for line in _what_happened(report))))
    parts += [
        _folded(f"last words of incarnation {one.incarnation}: {one.exit}", fenced("\n".join(one.last_words)))
        for one in report.worker.organic_exits
    ]
    others = [one for one in report.findings if one not in findings]
    parts.append(_folded("the other checks", _table(("", "whose", "check", "what"), [_row(one) for one in others])))
    if report.runs:
        parts.append("To run it again:\n\n" + fenced("\n".join(run.again for run in report.runs)))
    parts += [f"Next: {escaped(line)}" for line in report.next]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Return foreign text such that nothing in it is taken for Markdown, in a table or out of it."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def fenced(text: str) -> str:
    """Return text as a block of code, within a fence that is longer than any in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _scores(report: Report) -> str:
    told = [
        f"{row}: {', '.join(f'{times} {wording.plainly(status)}' for status, times in counts.items())}"
        for row, counts in wording.scores(report)
    ]
    return " · ".join(told)


def _row(finding: ToldFinding) -> tuple[str, str, str, str]:
    state = wording.state(finding)
    expected = f" (expected: {finding.known})" if state == "known" else ""
    what = [escaped(f"{finding.text}{expected}"), *(f"warning: {escaped(one)}" for one in finding.warnings)]
    what += [escaped(str(note)) for note in finding.notes]
    return _SHORT.get(state, state), finding.whose, f"`{finding.check}`", "<br>".join(what)


def _jobs(report: Report) -> str:
    rows = [(f"job {row.job}", escaped(wording.ours(row)), escaped(wording.theirs(row))) for row in report.jobs]
    return _table(("", "ours", "the service's"), rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _proof(finding: ToldFinding) -> str:
    parts = [escaped(finding.meaning)]
    if finding.tasks:
        parts.append(escaped(wording.first_tasks(finding.tasks, _FIRST_TASKS)))
    if finding.evidence:
        parts.append(fenced("\n".join(finding.evidence)))
    return "\n\n".join(parts)


def _what_happened(report: Report) -> Iterator[str]:
    yield f"worker: {escaped(wording.worker_line(report))}"
    for row in report.faults:
        yield f"{row.effect}: set to {wording.rates(row)}, struck {row.injected} of {row.eligible} times"
    for line in wording.fault_lines(report):
        yield escaped(line)
    yield f"tasks: {escaped(wording.task_line(report))}"
    for line in wording.more_of_tasks(report):
        yield escaped(line)
    yield f"queue: {escaped(', '.join(str(row) for row in report.parameters))}"
    for note in report.notes:
        yield escaped(str(note))
    for problem in report.ledger_problems:
        yield f"ledger: {escaped(problem)}"
    for run in report.runs:
        yield f"run: {escaped(wording.run_line(run))}"


def _folded(title: str, content: str) -> str:
    summary = title.replace("&", "&amp;").replace("<", "&lt;")
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"
