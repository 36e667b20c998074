"""The promises of the checks on repetition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ami_fault_site.faults import Layer
from ami_fault_site.grammar import parse_rules
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.retries import backoff_grows, retry_after_honoured, transient_errors_retried
from ami_fault_site.verdict.terms import Finding, Group, Whose
from tests.booked import Books, Process, concerned, facts, lines, told

ATTEMPTS: dict[str, Any] = {"network_layer": Layer.ATTEMPT, "network_error_rate": 0.5}
JUDGES = (transient_errors_retried, backoff_grows, retry_after_honoured)


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def main(books: Books) -> Process:
    made = books.process(10).start(0.0)
    made.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    return made


def judged(judge: Callable[[Case], Finding], books: Books, **settings: object) -> Finding:
    return judge(books.case(facts(**(settings or ATTEMPTS))))


def download(
    main: Process,
    call: int,
    sequence: int,
    *ends: float,
    status: int = 503,
    good: bool = True,
    wait: float | None = None,
) -> None:
    """Try to load an image at these moments; the last attempt is good, or all fail."""
    for number, end in enumerate(ends, 1):
        well = good and number == len(ends)
        about: dict[str, Any] = (
            {"status": 200} if well else {"status": status, "kind": f"http-{status}", "retry_after": wait}
        )
        main.attempt(end, "image", call, job=7, sequence=sequence, **about)
    main.image(ends[-1], 7, sequence, call=call, status=200 if good else status, struck=not good)


@pytest.mark.parametrize(
    ("judge", "slug"),
    [
        (transient_errors_retried, "transient-errors-retried"),
        (backoff_grows, "backoff-grows"),
        (retry_after_honoured, "retry-after-honoured"),
    ],
)
def test_repetition_is_the_workers_and_makes_no_run_unknown(judge: Callable[[Case], Finding], slug: str) -> None:
    check = judge(Books().case(facts())).check

    assert (check.slug, check.group, check.whose, check.is_safety) == (slug, Group.NETWORK, Whose.WORKER, False)


@pytest.mark.parametrize("judge", JUDGES)
def test_where_whole_calls_are_struck_no_attempt_is_judged(judge: Callable[[Case], Finding], books: Books) -> None:
    finding = judged(judge, books, network_error_rate=0.5)
    text = "faults strike whole calls here (AMI_TEST_NETWORK_LAYER=call)"

    assert told(finding) == ("not-applicable", "worker", text)


@pytest.mark.parametrize("judge", JUDGES)
def test_without_faults_at_the_network_no_attempt_is_judged(judge: Callable[[Case], Finding], books: Books) -> None:
    assert judged(judge, books, network_layer=Layer.ATTEMPT).status.value == "not-applicable"


# --- transient-errors-retried


def retried(books: Books) -> Finding:
    return judged(transient_errors_retried, books)


def test_downloads_and_polls_that_were_tried_again_are_well(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 2.5)
    main.attempt(3.0, "jobs", 6, status=503, kind="http-503")
    main.book("jobs", 3.0, call=6, job=None, status=503, seconds=0.1, struck=True, jobs=[])
    main.post(4.0, 7, (1, 1))
    text = "2 GETs failed in passing (1 polls, 1 image downloads), none was given up without another try"

    assert told(retried(books)) == ("pass", "worker", text)


def test_a_poll_that_failed_is_tried_again_at_the_next(books: Books, main: Process) -> None:
    number = main._call("jobs", 3.0, None)
    main.attempt(3.0, "jobs", number, status=503, kind="http-503")
    main.book("jobs", 3.0, call=number, job=None, status=503, seconds=0.1, struck=True, jobs=[])
    text = "1 GETs failed in passing (1 polls), none was given up without another try"

    assert told(retried(books)) == ("pass", "worker", text)


def test_an_image_whose_task_was_answered_without_another_try_was_given_up(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 2.5)
    download(main, 6, 2, 3.0, good=False)
    main.post(4.0, 7, (1, 1), (2, 1), failed=(2,))
    finding = retried(books)
    text = "1 of 2 GETs that failed in passing were not tried again, as that of image 2 (http-503)"

    assert told(finding) == ("fail", "worker", text)
    assert (concerned(finding), finding.judged) == ([2], 2)
    assert lines(finding.evidence) == ["10:10"]


def test_an_image_whose_task_was_left_to_be_handed_out_again_was_not_given_up(books: Books, main: Process) -> None:
    download(main, 6, 2, 3.0, good=False)

    assert retried(books).status.value == "pass"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 429])
def test_what_does_not_pass_need_not_be_tried_again(books: Books, main: Process, status: int) -> None:
    download(main, 6, 2, 3.0, good=False, status=status)
    main.post(4.0, 7, (2, 1), failed=(2,))

    assert told(retried(books)) == ("vacuous", "worker", "no GET failed in passing")


def test_too_many_requests_are_to_be_tried_again_if_it_is_said_when(books: Books, main: Process) -> None:
    download(main, 6, 2, 3.0, good=False, status=429, wait=1.0)
    main.post(4.0, 7, (2, 1), failed=(2,))

    assert retried(books).status.value == "fail"


# --- backoff-grows


def test_pauses_that_grow_are_shown(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 2.0, 3.0, 5.0)
    text = "1 requests were sent three times or more, with pauses that grew: 0.0, 1.0, 2.0 s"

    assert told(judged(backoff_grows, books)) == ("pass", "worker", text)


def test_a_worker_that_repeats_at_once_does_not_slow_down(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 2.0, 2.0)
    download(main, 6, 2, 3.0, 3.5, 4.0)
    finding = judged(backoff_grows, books)
    text = "2 of 2 requests that were sent three times or more did not slow down: pauses of 0.0, 0.0 s"

    assert told(finding) == ("fail", "worker", text)
    assert lines(finding.evidence) == ["10:9", "10:15"]


def test_one_pause_in_ten_may_have_been_stretched_by_a_busy_machine(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 3.5, 5.0)
    for number in range(9):
        download(main, 6 + number, 2, 10.0, 10.0, 11.0)
    assert judged(backoff_grows, books).status.value == "pass"

    download(main, 20, 3, 2.0, 3.5, 5.0)
    assert judged(backoff_grows, books).status.value == "fail"


def test_two_attempts_show_nothing_of_growth(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 3.0)

    assert told(judged(backoff_grows, books)) == ("vacuous", "worker", "no request was sent three times")


# --- retry-after-honoured


def test_a_request_that_waited_as_asked_is_well(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 3.25, status=429, wait=1.0)
    text = "1 requests were repeated, none sooner than it was asked (1 s, after 1.2 s)"

    assert told(judged(retry_after_honoured, books)) == ("pass", "worker", text)


def test_a_request_that_came_too_soon_is_shown_with_how_soon(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 2.5, status=429, wait=2.0)
    download(main, 6, 2, 3.0, 5.0, status=429, wait=2.0)
    finding = judged(retry_after_honoured, books)

    assert told(finding) == (
        "fail", "worker", "1 of 2 requests were repeated too soon: after 0.5 s, where 2 s were asked for",
    )  # fmt: skip
    assert lines(finding.evidence) == ["10:7"]


def refused(main: Process, at: float) -> None:
    """Ask for tasks, and be asked to wait for 2 s."""
    number = main._call("tasks", at, 7)
    main.attempt(at, "tasks", number, status=429, kind="http-429", retry_after=2.0, job=7)
    main.book("leases", at, call=number, job=7, status=429, seconds=0.0, struck=True, stream="", leases=[])


@pytest.mark.parametrize(("again", "soon"), [(6.25, True), (7.5, False)])
def test_a_new_tasks_call_is_no_repetition_and_is_told_if_it_comes_too_soon(
    books: Books, main: Process, again: float, soon: bool
) -> None:
    refused(main, 5.5)
    books.process(11).start(again - 0.5, 10).ask(again, 7)
    more = "; 1 new tasks calls came before the wait of an earlier one was over" if soon else ""
    text = f"no request was repeated after an answer that asked to wait{more}"

    assert told(judged(retry_after_honoured, books)) == ("not-applicable", "worker", text)


def test_pauses_that_an_answer_asked_for_show_nothing_of_growth(books: Books, main: Process) -> None:
    download(main, 5, 1, 2.0, 4.0, 6.0, status=429, wait=2.0)
    text = "1 requests were sent three times or more, each told when by a Retry-After: no pause of its own"

    assert told(judged(backoff_grows, books)) == ("not-applicable", "worker", text)


def test_where_only_what_is_sent_once_is_struck_no_pause_is_expected(books: Books, main: Process) -> None:
    rules = parse_rules("tasks: 50%status(503)")
    settings: dict[str, Any] = {"network_layer": Layer.ATTEMPT, "rules": rules}
    text = "no network error was set for a GET"

    assert told(judged(backoff_grows, books, **settings)) == ("not-applicable", "worker", text)
