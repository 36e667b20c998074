"""Write a report as JUnit XML: a suite for each group of checks, a case for each check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ami_fault_site.report.contents import Report, ToldFinding
from ami_fault_site.report.refusals import MissingLibraryError
from ami_fault_site.verdict.terms import Group

if TYPE_CHECKING:
    import junitparser

_NAME = "ami-fault"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_JUDGED = (0, 1)  # exit codes of a run that has come to a verdict


def junit(report: Report) -> str:
    """Return the report as JUnit XML; raises MissingLibraryError without the library that writes it.

    Failures that the gate leaves out, or that were expected, are skipped cases. A case of its own says whether the run
    as a whole has come to a verdict, so that a run which shows nothing is not green.
    """
    try:
        import junitparser as library
    except ImportError as error:
        raise MissingLibraryError("--junit needs junitparser: pip install 'ami-fault-site[report]'") from error
    whole = library.JUnitXml(_NAME)
    for group in Group:
        suite = _suite(library.TestSuite(f"{_NAME}.{group.value}"), report)
        for finding in report.findings:
            if finding.group == group.value:
                suite.add_testcase(_case(finding, group, report))
        whole.add_testsuite(suite)
    suite = _suite(library.TestSuite(f"{_NAME}.run"), report)
    suite.add_testcase(_whole_run(report))
    whole.add_testsuite(suite)
    return str(whole.tostring().decode())  # type: ignore[no-untyped-call]


def _suite(suite: junitparser.TestSuite, report: Report) -> junitparser.TestSuite:
    for name, value in _properties(report):
        suite.add_property(name, _xml(value))
    return suite


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    for run in report.runs:
        yield "run", run.path
        yield "seed", str(run.seed)
        yield "again", run.again
    for row in report.parameters:
        yield row.name, "unknown" if row.value is None else f"{row.value:g} ({row.source})"


def _case(finding: ToldFinding, group: Group, report: Report) -> junitparser.TestCase:
    import junitparser as library

    case = library.TestCase(finding.check, f"{_NAME}.{group.value}")
    skipped = _why_skipped(finding, report)
    if skipped:
        case.result = [library.Skipped(_xml(skipped))]
    elif finding.status == "fail":
        case.result = [_with_text(library.Failure(_xml(finding.text), finding.whose), finding)]
    elif finding.status == "unknown":
        case.result = [_with_text(library.Error(_xml(finding.text), finding.status), finding)]
    told = [*([finding.text] if finding.status == "pass" else []), *(f"warning: {one}" for one in finding.warnings)]
    if told:
        case.system_out = _xml("\n".join(told))
    return case


def _why_skipped(finding: ToldFinding, report: Report) -> str:
    """Return why a case is neither passed nor failed, "" if it is."""
    if finding.status in ("vacuous", "not-applicable"):
        return f"{finding.status}: {finding.text}"
    if finding.status == "unknown" and not finding.is_safety:
        return f"unknown: {finding.text}"
    if finding.status == "fail" and finding.known:
        return f"known to fail ({finding.known}): {finding.text}"
    if finding.status == "fail" and not finding.is_gated:
        return f"not counted with --gate {report.gate}: {finding.whose}: {finding.text}"
    return ""


def _with_text(
    result: junitparser.Failure | junitparser.Error, finding: ToldFinding
) -> junitparser.Failure | junitparser.Error:
    tasks = [f"task {task}" for task in finding.tasks]
    told = [f"{finding.whose}: {finding.text}", finding.meaning, *tasks, *finding.evidence, *map(str, finding.notes)]
    result.text = _xml("\n".join(told))
    return result


def _whole_run(report: Report) -> junitparser.TestCase:
    import junitparser as library

    case = library.TestCase("comes-to-a-verdict", f"{_NAME}.run")
    if report.code in _JUDGED:
        case.system_out = _xml(report.headline)
    else:
        case.result = [library.Error(_xml(report.headline), f"exit code {report.code}")]
    return case


def _xml(text: str) -> str:
    """Return text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
