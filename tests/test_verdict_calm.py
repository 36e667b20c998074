"""The promises of the checks on calm."""

from __future__ import annotations

from collections import Counter

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import History
from ami_fault_site.verdict.calm import degrades_gracefully, median_seconds, no_cascade, usual_answer_time
from ami_fault_site.verdict.terms import Finding, Group, Status, Whose
from tests.booked import Books, Process, facts, lines, told


def worker() -> tuple[Books, Process]:
    books = Books()
    return books, books.process(10).start(0.0)


# --- no-cascade


def cascade(books: Books, *damage: str) -> Finding:
    return no_cascade(books.case(facts(damage=damage)))


def test_calm_is_the_services_and_makes_no_run_unknown() -> None:
    check = cascade(Books()).check
    assert (check.slug, check.group, check.whose) == ("no-cascade", Group.STABILITY, Whose.SERVICE)
    assert not check.is_safety

    check = degrades_gracefully(Books().case(facts())).check
    assert (check.slug, check.group, check.whose) == ("degrades-gracefully", Group.STABILITY, Whose.SERVICE)
    assert not check.is_safety


def test_a_run_in_which_only_our_own_faults_failed_has_no_cascade() -> None:
    books, main = worker()
    main.fetch(1.0, 7, (1, 1))
    main.post(2.0, 7, (1, 1), outcome="refused", status=503, struck=True)
    main.post(3.0, 7, (1, 1))
    main.fail(4.0, "tasks", 7, struck=True, error="ConnectTimeout")
    main.fail(5.0, "jobs", None, struck=True, status=500)
    finding = cascade(books)

    assert told(finding) == ("pass", "service", "no call failed that we did not touch")
    assert (finding.judged, finding.warnings, lines(finding.evidence)) == (
        2,
        (),
        [],
    )  # the fetch and the accepted answer


@pytest.mark.parametrize(
    ("site", "status", "error", "what"),
    [
        ("tasks", 500, "", "tasks http-500"),
        ("jobs", 503, "", "jobs http-503"),
        ("tasks", 0, "ReadTimeout", "tasks ReadTimeout"),
        ("jobs", 0, "ConnectionError", "jobs ConnectionError"),
    ],
)
def test_a_call_that_fails_by_itself_is_a_cascade(site: str, status: int, error: str, what: str) -> None:
    books, main = worker()
    main.fail(1.0, site, 7, struck=False, status=status, error=error)
    finding = cascade(books)

    text = f"calls failed that we did not touch: {what} x1"
    assert told(finding) == ("fail", "service", text)
    assert lines(finding.evidence) == ["10:4"]


def test_an_answer_that_the_service_cannot_take_is_a_cascade() -> None:
    books, main = worker()
    main.fetch(1.0, 7, (1, 1))
    main.post(2.0, 7, (1, 1), outcome="refused", status=502)
    main.post(3.0, 7, (1, 1), outcome="unheard", status=0, error="ReadTimeout")

    assert cascade(books).text == "calls failed that we did not touch: result ReadTimeout x1, result http-502 x1"
    assert lines(cascade(books).evidence) == ["10:6", "10:8"]


def test_the_commonest_failure_is_told_first() -> None:
    books, main = worker()
    main.fail(1.0, "tasks", 7, struck=False, status=500)
    main.fail(2.0, "jobs", None, struck=False, status=503)
    main.fail(3.0, "tasks", 7, struck=False, status=503)
    main.fail(4.0, "tasks", 7, struck=False, status=503)
    main.fail(5.0, "jobs", None, struck=False, status=500)

    assert cascade(books).text == (
        "calls failed that we did not touch: tasks http-503 x2, jobs http-500 x1, jobs http-503 x1, tasks http-500 x1"
    )


@pytest.mark.parametrize("status", [400, 404, 413, 429])
def test_a_request_that_the_service_does_not_want_is_a_warning(status: int) -> None:
    books, main = worker()
    main.fetch(1.0, 7, (1, 1))
    main.post(2.0, 7, (1, 1), outcome="refused", status=status)
    main.fail(3.0, "tasks", 7, struck=False, status=status)
    main.fail(4.0, "tasks", 7, struck=False, status=status)
    finding = cascade(books)

    assert told(finding) == ("pass", "service", "no call failed that we did not touch")
    assert finding.warnings == (
        f"2 tasks calls were answered http-{status}",
        f"1 result calls were answered http-{status}",
    )
    assert finding.judged == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_is_the_setups_failure(status: int) -> None:
    books, main = worker()
    main.fail(1.0, "tasks", 7, struck=False, status=status)
    main.fail(2.0, "tasks", 7, struck=False, status=status)
    main.fail(3.0, "jobs", None, struck=False, status=403)
    main.fail(4.0, "tasks", 9, struck=False, status=404)
    finding = cascade(books)

    text = f"the service refuses the worker's token: tasks http-{status} x2"
    assert told(finding) == ("fail", "setup", text)
    assert finding.check.slug == "no-cascade"
    assert finding.warnings == ("1 tasks calls were answered http-404",)
    assert lines(finding.evidence) == ["10:4", "10:6"]


def test_failures_of_the_services_own_weigh_more_than_a_refused_token() -> None:
    books, main = worker()
    main.fail(1.0, "jobs", None, struck=False, status=401)
    main.fail(2.0, "tasks", 7, struck=False, status=500)
    main.fail(3.0, "tasks", 7, struck=False, status=404)
    finding = cascade(books)

    assert told(finding) == (
        "fail",
        "service",
        "calls failed that we did not touch: tasks http-500 x1",
    )
    assert finding.warnings == ("1 tasks calls were answered http-404",)


def hanging(last: float, site: str = "tasks") -> Books:
    """Ask at 10.0 s, in line 3, and get no answer; the process books something else last of all."""
    books, main = worker()
    main.fail(10.0, site, 7, struck=False, error="x")
    del main.events[-1]
    main.book("note", last)
    return books


@pytest.mark.parametrize(("last", "status"), [(130.0, Status.PASS), (130.5, Status.FAIL)])
def test_a_tasks_call_without_an_answer_in_two_minutes_of_life_hangs(last: float, status: Status) -> None:
    finding = cascade(hanging(last))

    assert finding.status is status
    if status is Status.FAIL:
        assert told(finding)[1:] == ("service", "calls failed that we did not touch: 1 calls were never answered")
        assert lines(finding.evidence) == ["10:3"]


def test_hangs_are_told_after_failures_and_both_are_shown() -> None:
    books = hanging(200.0)
    books.process(11).fail(1.0, "tasks", 7, struck=False, status=500)
    finding = cascade(books)

    assert finding.text == "calls failed that we did not touch: tasks http-500 x1, 1 calls were never answered"
    assert lines(finding.evidence) == ["10:3", "11:2"]


def test_a_process_that_died_while_it_asked_was_not_left_hanging() -> None:
    books = hanging(10.5)
    books.process(11).book("note", 500.0)

    assert cascade(books).status is Status.PASS


def test_where_lines_are_lost_no_call_is_said_to_hang_and_what_failed_failed_all_the_same() -> None:
    books = hanging(200.0)
    damaged = "h-0001-10-1.jsonl:4: events 4 to 4 are missing"
    assert told(cascade(books, damaged)) == ("pass", "service", "no call failed that we did not touch")

    books.process(11).fail(1.0, "tasks", 7, struck=False, status=500)
    finding = cascade(books, damaged)
    assert told(finding) == ("fail", "service", "calls failed that we did not touch: tasks http-500 x1")
    assert lines(finding.evidence) == ["11:2"]


# --- degrades-gracefully: stretches of 5 s; the first fault strikes at 10.0 s


def answers(count: int, at: float, seconds: float, main: Process) -> None:
    """Hand out one task in each of so many calls, each answered after so many seconds."""
    for number in range(count):
        main.fetch(at + number / 1000, 7, (len(main.events) + 1, 1), seconds=seconds)


def paced(
    calm: int = 20,
    calm_seconds: float = 0.05,
    struck: int = 20,
    struck_seconds: float = 0.05,
    *,
    fault: float | None = 10.0,
    calm_at: float = 9.0,
    struck_at: float = 20.0,
) -> Books:
    books, main = worker()
    answers(calm, calm_at, calm_seconds, main)
    if fault is not None:
        main.strike(fault, Effect.NETWORK, 7)
    answers(struck, struck_at, struck_seconds, main)
    return books


def graceful(books: Books, baseline: float | None = None) -> Finding:
    return degrades_gracefully(books.case(facts(baseline=baseline)))


NOTHING_TO_COMPARE = "there is no stretch without faults to compare with: --baseline RUN names a run without"


def test_where_no_fault_struck_nothing_could_degrade() -> None:
    finding = graceful(paced(fault=None))

    assert told(finding) == ("not-applicable", "service", "no fault struck")


def test_answers_that_come_as_fast_under_faults_as_without_are_graceful() -> None:
    finding = graceful(paced())

    text = "half of the calls were answered within 0.064 s under faults, and within 0.064 s without"
    assert told(finding) == ("pass", "service", text)
    assert finding.judged == 20


def test_answers_that_come_far_slower_under_faults_are_not_graceful() -> None:
    finding = graceful(paced(struck=25, struck_seconds=0.6))

    text = "half of the calls were answered within 1.024 s under faults, and within 0.064 s without"
    assert told(finding) == ("fail", "service", text)
    assert finding.judged == 25


@pytest.mark.parametrize(
    ("calm_seconds", "struck_seconds", "status"),
    [
        (0.150, 0.600, Status.PASS),  # 0.256 and 1.024: four times
        (0.100, 0.600, Status.FAIL),  # 0.128 and 1.024: eight times
        (0.0005, 0.300, Status.FAIL),  # 0.001 and 0.512: more than half a second
        (0.010, 0.300, Status.PASS),  # 0.016 and 0.512: less than half a second
    ],
)
def test_slower_means_more_than_four_times_and_more_than_half_a_second(
    calm_seconds: float, struck_seconds: float, status: Status
) -> None:
    assert graceful(paced(calm_seconds=calm_seconds, struck_seconds=struck_seconds)).status is status


@pytest.mark.parametrize(
    ("baseline", "struck_seconds", "status"),
    [
        (0.256, 0.600, Status.PASS),
        (0.2559, 0.600, Status.FAIL),
        (0.012, 0.300, Status.PASS),
        (0.0119, 0.300, Status.FAIL),
    ],
)
def test_a_baseline_is_compared_instead_of_the_calm_stretch_on_both_sides_of_the_limits(
    baseline: float, struck_seconds: float, status: Status
) -> None:
    for calm in (0, 20):
        assert graceful(paced(calm, 0.6, struck_seconds=struck_seconds), baseline).status is status


@pytest.mark.parametrize(("calm", "struck", "compared"), [(20, 20, True), (19, 20, False), (20, 19, False)])
def test_a_comparison_takes_20_calls_on_either_side(calm: int, struck: int, compared: bool) -> None:
    finding = graceful(paced(calm, struck=struck))

    assert finding.status is (Status.PASS if compared else Status.NOT_APPLICABLE)
    if not compared:
        assert told(finding) == ("not-applicable", "service", NOTHING_TO_COMPARE)


def test_with_a_baseline_too_few_calls_under_faults_are_not_compared() -> None:
    assert graceful(paced(0, struck=19), 0.05).text == NOTHING_TO_COMPARE
    assert graceful(paced(0, struck=20), 0.05).status is Status.PASS


@pytest.mark.parametrize(("fault", "status"), [(10.0, Status.PASS), (9.999, Status.NOT_APPLICABLE)])
def test_only_a_stretch_that_was_over_before_the_first_fault_is_calm(fault: float, status: Status) -> None:
    assert graceful(paced(fault=fault)).status is status


def test_the_first_fault_ends_the_calm_and_not_a_later_one() -> None:
    assert graceful(paced(fault=15.0)).status is Status.PASS
    books = paced(fault=6.0)
    books.processes[0].strike(15.0, Effect.NETWORK, 7)
    assert graceful(books).status is Status.NOT_APPLICABLE

    books = paced(fault=15.0)
    books.processes[0].strike(6.0, Effect.CORRUPT, 7)
    assert graceful(books).status is Status.NOT_APPLICABLE


def test_a_host_that_no_fault_struck_is_calm_to_its_end_and_another_hosts_clock_is_not_compared() -> None:
    books, main = worker()
    main.strike(10.0, Effect.NETWORK, 7)
    answers(20, 20.0, 0.6, main)
    answers(20, 500.0, 0.05, books.process(11, host="other", base=1000.0))

    text = "half of the calls were answered within 1.024 s under faults, and within 0.064 s without"
    assert told(graceful(books)) == ("fail", "service", text)


def test_calm_and_struck_stretches_are_each_put_together() -> None:
    books, main = worker()
    for at in (1.0, 6.0):
        answers(10, at, 0.05, main)
    main.strike(10.0, Effect.NETWORK, 7)
    for at in (20.0, 30.0):
        answers(15, at, 0.05, main)
    finding = graceful(books)

    assert (finding.status, finding.judged) == (Status.PASS, 30)


# --- how long an answer usually takes


def test_the_usual_answer_time_of_a_run_is_the_median_over_all_its_stretches() -> None:
    books, main = worker()
    answers(2, 1.0, 0.6, main)
    answers(3, 20.0, 0.05, main)

    assert usual_answer_time(books.history()) == 0.064
    answers(2, 40.0, 0.6, main)
    assert usual_answer_time(books.history()) == 1.024


def test_a_run_without_answers_has_no_usual_answer_time() -> None:
    assert usual_answer_time(History()) is None


@pytest.mark.parametrize(
    ("buckets", "seconds"),
    [
        ({}, None),
        ({0: 1}, 0.001),
        ({3: 1}, 0.008),
        ({3: 1, 5: 1}, 0.008),  # half of the calls were that fast
        ({3: 1, 5: 2}, 0.032),
        ({7: 1, 3: 1, 5: 1}, 0.032),
        ({10: 3, 0: 2}, 1.024),
    ],
)
def test_the_median_is_the_upper_bound_of_the_power_of_two_that_half_of_the_calls_reach(
    buckets: dict[int, int], seconds: float | None
) -> None:
    assert median_seconds(Counter(buckets)) == seconds


def test_a_call_in_a_process_that_we_made_hang_is_not_the_services() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.ask(1.0, 7)
    main.crash(1.5, "hang", job=7)
    main.book("image", 500.0, status=200, error="", struck=False)

    assert no_cascade(books.case(facts())).status is Status.PASS
