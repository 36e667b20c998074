from __future__ import annotations

import pytest

from ami_fault_site.endings import Outcome
from ami_fault_site.report.ending import ENDINGS, exit_code, standing
from ami_fault_site.verdict.terms import Gate, Status, Whose
from tests.report_cases import finding, verdict_of

PASSED = verdict_of()
FAILED = verdict_of(finding("no-task-lost", Status.FAIL))
WORKER_FAILED = verdict_of(finding("held-tasks-are-answered", Status.FAIL, whose=Whose.WORKER))
UNKNOWN = verdict_of(finding("no-task-lost", Status.UNKNOWN, is_safety=True))
NOTHING_FIRED = verdict_of(nothing_fired=True)
NOT_JUDGED = verdict_of(finding("crashed-tasks-requeued", Status.VACUOUS))


@pytest.mark.parametrize("outcome", [None, Outcome.DRAINED, Outcome.IDLE, Outcome.EXITED])
def test_a_run_that_came_to_its_end_leaves_with_what_the_verdict_says(outcome: Outcome | None) -> None:
    verdicts = (PASSED, FAILED, UNKNOWN, NOTHING_FIRED, NOT_JUDGED)

    assert [exit_code(outcome, verdict) for verdict in verdicts] == [0, 1, 3, 4, 0]


def test_the_gate_and_strictness_have_their_say_in_it() -> None:
    assert [exit_code(Outcome.DRAINED, WORKER_FAILED, gate) for gate in Gate] == [1, 0, 1]
    assert exit_code(None, NOT_JUDGED, strict=True) == 4


def test_a_run_whose_time_was_up_is_a_failure_or_unknown_and_never_better() -> None:
    verdicts = (PASSED, FAILED, UNKNOWN, NOTHING_FIRED, NOT_JUDGED)

    assert [exit_code(Outcome.TIMEOUT, verdict) for verdict in verdicts] == [3, 1, 3, 3, 3]
    assert exit_code(Outcome.TIMEOUT, WORKER_FAILED, Gate.SERVICE) == 3


def test_a_worker_that_may_not_start_again_leaves_6_unless_the_verdict_fails() -> None:
    assert [exit_code(Outcome.RESTARTS_EXHAUSTED, one) for one in (PASSED, UNKNOWN, NOTHING_FIRED, FAILED)] == [
        6,
        6,
        6,
        1,
    ]
    assert exit_code(Outcome.RESTARTS_EXHAUSTED, WORKER_FAILED, Gate.SERVICE) == 6


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.INTERRUPTED, 130), (Outcome.NOT_ARMED, 78), (Outcome.SETTINGS, 78), (Outcome.SERVICE_GONE, 3)],
)
def test_an_ending_that_is_nobodys_verdict_has_its_own_code_whatever_was_found(outcome: Outcome, code: int) -> None:
    assert [exit_code(outcome, verdict) for verdict in (PASSED, FAILED, UNKNOWN, NOTHING_FIRED)] == [code] * 4


def test_the_first_word_is_what_the_exit_code_says() -> None:
    assert [standing(code, PASSED) for code in (0, 1, 3, 4)] == [
        Status.PASS, Status.FAIL, Status.UNKNOWN, Status.VACUOUS,
    ]  # fmt: skip
    assert standing(3, FAILED) is Status.UNKNOWN  # the sandbox has gone: what was seen after that means nothing


def test_where_the_code_says_nothing_of_it_the_first_word_is_a_failure_or_unknown() -> None:
    assert [standing(130, verdict) for verdict in (PASSED, FAILED)] == [Status.UNKNOWN, Status.FAIL]
    assert [standing(6, verdict) for verdict in (PASSED, UNKNOWN)] == [Status.UNKNOWN, Status.UNKNOWN]
    assert standing(130, WORKER_FAILED, Gate.SERVICE) is Status.UNKNOWN
    assert standing(78, FAILED) is Status.UNKNOWN


def test_every_ending_has_words() -> None:
    assert set(ENDINGS) == set(Outcome)
