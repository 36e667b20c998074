from __future__ import annotations

import sys
from xml.etree import ElementTree as ET

import pytest

from ami_fault_site import report
from ami_fault_site.endings import Outcome
from ami_fault_site.report import MissingLibraryError, Report
from ami_fault_site.verdict.terms import Gate, Group, Status, Whose
from tests.report_cases import INVOCATION, LOST, NOT_STARVED, OPEN, RUN, finding, report_of


def parsed(made: Report) -> ET.Element:
    return ET.fromstring(report.junit(made))


def result(made: Report, check: str) -> tuple[str, str, str]:
    """Return what became of a case: the element's name, its message and its text."""
    case = parsed(made).find(f".//testcase[@name='{check}']")
    assert case is not None
    for name in ("failure", "error", "skipped"):
        found = case.find(name)
        if found is not None:
            return name, found.get("message", ""), found.text or ""
    return "passed", "", case.findtext("system-out", "")


def test_there_is_a_suite_for_each_group_and_a_case_for_each_check() -> None:
    fetched = finding("failed-fetch-resumed", whose=Whose.WORKER, group=Group.NETWORK)
    named = finding("answers-name-their-image", whose=Whose.WORKER, group=Group.IMAGES)
    suites = parsed(report_of(LOST, fetched, named, NOT_STARVED))

    assert {suite.get("name"): [case.get("name") for case in suite.iter("testcase")] for suite in suites} == {
        "ami-fault.crashes": ["requeued-in-time", "no-task-lost"],
        "ami-fault.network": ["failed-fetch-resumed"],
        "ami-fault.images": ["answers-name-their-image"],
        "ami-fault.stability": ["held-tasks-are-answered", "no-starvation"],
        "ami-fault.run": ["comes-to-a-verdict"],
    }
    first = suites[0]
    assert [first.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["2", "1", "0", "0"]


def test_a_failure_says_whose_it_is_and_proves_it() -> None:
    made = report_of(LOST)

    assert result(made, "no-task-lost") == (
        "failure",
        "2 lost (why)",
        "service: 2 lost (why)\nWhat no-task-lost means.\ntask 7/3 (3.jpg)\nledger/h-0001-11-1.jsonl:5",
    )
    assert parsed(made).find(".//failure[@type='service']") is not None


def test_a_pass_says_what_it_has_seen_and_what_it_warns_of() -> None:
    warned = finding("leases-outlive-their-work", text="6 leases", warnings=("ack_wait is short",))

    assert result(report_of(), "requeued-in-time") == ("passed", "", "2 redeliveries, the slowest after 8.3 s")
    assert result(report_of(warned), "leases-outlive-their-work") == (
        "passed", "", "6 leases\nwarning: ack_wait is short",
    )  # fmt: skip


def test_what_cannot_be_told_is_an_error_where_it_is_a_matter_of_safety_and_else_skipped() -> None:
    other = finding("failed-fetch-resumed", Status.UNKNOWN, "the run ended before")

    assert result(report_of(OPEN), "no-task-lost")[:2] == ("error", "of 2 of 4 tasks it cannot be told")
    assert result(report_of(other), "failed-fetch-resumed")[:2] == ("skipped", "unknown: the run ended before")


def test_what_was_not_judged_is_skipped_with_its_reason() -> None:
    vacuous = finding("crashed-tasks-requeued", Status.VACUOUS, "crashes were set and none struck", is_safety=True)

    assert result(report_of(vacuous), "crashed-tasks-requeued")[:2] == (
        "skipped", "vacuous: crashes were set and none struck",
    )  # fmt: skip
    assert result(report_of(NOT_STARVED), "no-starvation")[:2] == (
        "skipped", "not-applicable: there were not two jobs to serve",
    )  # fmt: skip


def test_a_failure_that_was_expected_or_is_beyond_the_gate_is_skipped() -> None:
    known = finding("no-cascade", Status.FAIL, "3 calls failed", known="being mended")
    worker = finding("held-tasks-are-answered", Status.FAIL, "2 kept", whose=Whose.WORKER)

    assert result(report_of(known), "no-cascade")[:2] == ("skipped", "known to fail (being mended): 3 calls failed")
    assert result(report_of(worker, gate=Gate.SERVICE), "held-tasks-are-answered")[:2] == (
        "skipped", "not counted with --gate service: worker: 2 kept",
    )  # fmt: skip
    assert result(report_of(worker, gate=Gate.WORKER), "held-tasks-are-answered")[0] == "failure"


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (report_of(), "passed"),
        (report_of(LOST), "passed"),
        (report_of(outcome=Outcome.TIMEOUT), "error"),
        (report_of(outcome=Outcome.INTERRUPTED), "error"),
        (report_of(nothing_fired=True), "error"),
    ],
    ids=["pass", "fail", "timeout", "interrupted", "vacuous"],
)
def test_a_run_that_comes_to_no_verdict_is_not_green(made: Report, kind: str) -> None:
    name, message, text = result(made, "comes-to-a-verdict")

    assert (name, message or text) == (kind, made.headline)


def test_run_seed_and_parameters_are_properties_of_every_suite() -> None:
    for suite in parsed(report_of()):
        assert [(one.get("name"), one.get("value")) for one in suite.iter("property")] == [
            ("run", str(RUN)),
            ("seed", "26"),
            ("again", INVOCATION),
            ("ack_wait", "8 (AMI_TEST_ACK_WAIT)"),
            ("max_deliver", "2 (the log of job 7)"),
        ]


def test_what_xml_cannot_hold_is_replaced() -> None:
    odd = finding("no-cascade", Status.FAIL, "a\x1b[2Jb <&> \x00")

    assert result(report_of(odd), "no-cascade")[1] == "a\ufffd[2Jb <&> \ufffd"


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "junitparser", None)

    with pytest.raises(MissingLibraryError) as error:
        report.junit(report_of())
    assert str(error.value) == "--junit needs junitparser: pip install 'ami-fault-site[report]'"
