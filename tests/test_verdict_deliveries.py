from __future__ import annotations

import pytest

from ami_fault_site.verdict.deliveries import one_holder_at_a_time, redelivery_ends
from tests.booked import Books, Process, concerned, facts, lines, told


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def main(books: Books) -> Process:
    return books.process(10)


# --- one holder at a time


def test_nobody_was_handed_a_task_that_another_still_had_if_none_came_back_within_ack_wait(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.fetch(10.5, 7, (1, 2))
    finding = one_holder_at_a_time(books.case(facts()))

    assert told(finding) == ("pass", "service", "2 tasks, none handed out twice within ack_wait")
    assert (finding.judged, finding.tasks, finding.evidence) == (2, (), ())


def test_a_task_that_was_handed_out_again_within_ack_wait_had_two_holders_by_the_services_doing(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1), (3, 1), seconds=0.5)
    other = books.process(20, 2)
    other.fetch(5.0, 7, (1, 2))
    other.fetch(4.0, 7, (3, 2))
    finding = one_holder_at_a_time(books.case(facts()))

    text = "2 tasks were handed out again while they were held, the soonest after 2.5 s"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([1, 3], ["10:2", "20:2", "20:4"], 3)


def test_the_very_same_delivery_handed_out_twice_needs_no_ack_wait_to_be_seen(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    books.process(20, 2).fetch(40.0, 7, (2, 1))
    finding = one_holder_at_a_time(books.case(facts(ack_wait=None)))

    text = "1 tasks were handed out again while they were held, the soonest after 0.0 s"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), lines(finding.evidence)) == ([2], ["10:2", "20:2"])


def test_without_a_known_ack_wait_nothing_is_said_of_different_deliveries(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    main.fetch(3.0, 7, (1, 2))

    assert told(one_holder_at_a_time(books.case(facts(ack_wait=None)))) == (
        "not-applicable", "service", "ack_wait is not known"
    )  # fmt: skip


# --- an end to coming back


def ends(books: Books, **about: object) -> tuple[str, str, str]:
    return told(redelivery_ends(books.case(facts(**about))))  # type: ignore[arg-type]


def test_tasks_that_came_back_no_more_often_than_they_may_came_back_with_an_end(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.fetch(12.0, 7, (1, 2))
    finding = redelivery_ends(books.case(facts()))

    assert told(finding) == ("pass", "service", "2 tasks, none came back without end")
    assert (finding.judged, finding.tasks, finding.evidence) == (2, (), ())


def test_a_task_that_was_handed_out_more_often_than_max_deliver_comes_back_without_end(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1), (3, 1))
    main.fetch(12.0, 7, (1, 2), (2, 2))
    main.fetch(22.0, 7, (2, 3))
    finding = redelivery_ends(books.case(facts(max_deliver=2)))

    assert told(finding) == ("fail", "service", "1 tasks were handed out more than 2 times")
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([2], ["10:2", "10:4", "10:6"], 3)


def test_the_highest_delivery_counts_whoever_had_the_others(books: Books, main: Process) -> None:
    main.fetch(22.0, 7, (1, 3))

    assert ends(books, max_deliver=2)[2] == "1 tasks were handed out more than 2 times"
    assert ends(books, max_deliver=3)[0] == "pass"
    assert ends(books, max_deliver=None)[0] == "pass"


def answered_then(books: Books, main: Process, *asked: float, **about: object) -> None:
    """Let task 1 be answered at 3.0, heard at 3.125, and asked for again at these moments."""
    main.fetch(2.0, 7, (1, 1))
    main.post(3.025, 7, (1, 1), **about)  # type: ignore[arg-type]
    for delivery, at in enumerate(asked, 2):
        main.fetch(at + 0.5, 7, (1, delivery), seconds=0.5)


def test_a_task_that_comes_back_twice_after_its_answer_was_accepted_and_time_has_passed_does_so_without_end(
    books: Books, main: Process
) -> None:
    answered_then(books, main, 12.0, 24.0)
    finding = redelivery_ends(books.case(facts(max_deliver=9)))

    assert told(finding) == ("fail", "service", "1 tasks came back again and again after their answer was accepted")
    assert (concerned(finding), lines(finding.evidence)) == ([1], ["10:2", "10:6", "10:8"])


def test_once_is_what_a_background_worker_that_died_costs(books: Books, main: Process) -> None:
    answered_then(books, main, 12.0)

    assert ends(books, max_deliver=9)[0] == "pass"


@pytest.mark.parametrize(("first", "status"), [(11.125, "pass"), (11.1875, "fail")])
def test_only_deliveries_that_were_asked_for_after_ack_wait_count(
    books: Books, main: Process, first: float, status: str
) -> None:
    answered_then(books, main, first, 24.0)

    assert ends(books, max_deliver=9)[0] == status


@pytest.mark.parametrize(("first", "status"), [(303.125, "pass"), (303.1875, "fail")])
def test_or_after_the_longest_that_is_in_use_where_it_is_not_known(
    books: Books, main: Process, first: float, status: str
) -> None:
    answered_then(books, main, first, 624.0)

    assert ends(books, ack_wait=None, max_deliver=None)[0] == status


def test_a_refused_answer_or_one_about_another_image_is_no_reason_not_to_come_back(books: Books, main: Process) -> None:
    answered_then(books, main, 12.0, 24.0, outcome="refused", status=503)
    assert ends(books, max_deliver=9)[0] == "pass"

    books = Books()
    answered_then(books, books.process(10), 12.0, 24.0, images={1: "2"})
    assert ends(books, max_deliver=9)[0] == "pass"


def test_deliveries_on_another_clock_or_before_the_one_that_was_answered_do_not_count(
    books: Books, main: Process
) -> None:
    answered_then(books, main, 12.0)
    books.process(20, 2, host="other").fetch(24.0, 7, (1, 3))
    assert ends(books, max_deliver=9)[0] == "pass"

    books = Books()
    main = books.process(10)
    for delivery in (1, 2, 3):
        main.fetch(20.0 + delivery, 7, (1, delivery))
    main.post(3.0, 7, (1, 3))
    assert ends(books, max_deliver=9)[0] == "pass"


def test_a_delivery_after_two_accepted_answers_counts_once(books: Books, main: Process) -> None:
    answered_then(books, main)
    main.post(4.0, 7, (1, 1))
    main.fetch(20.0, 7, (1, 2))

    assert ends(books, max_deliver=9)[0] == "pass"


def test_an_answer_about_another_image_hides_no_other_answer(books: Books, main: Process) -> None:
    answered_then(books, main, 4.0, images={1: "2"})
    main.post(5.0, 7, (1, 2))
    for delivery, at in ((3, 20.0), (4, 30.0)):
        main.fetch(at, 7, (1, delivery))

    assert ends(books, max_deliver=9)[0] == "fail"


def test_deliveries_after_one_answer_count_although_another_answer_came_after_them(books: Books, main: Process) -> None:
    answered_then(books, main, 12.0, 24.0)
    main.post(30.0, 7, (1, 3))

    assert ends(books, max_deliver=9)[0] == "fail"


def test_a_delivery_that_nobody_received_does_not_count(books: Books, main: Process) -> None:
    answered_then(books, main, 12.0)
    main.batch(24.0, 7, (1, 3))

    assert ends(books, max_deliver=9)[0] == "pass"


def test_both_ways_of_coming_back_without_end_are_told_and_a_task_is_told_once(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (2, 1), (3, 1))
    answered_then(books, main, 12.0, 24.0)
    main.fetch(24.0, 7, (2, 4))
    main.post(3.0, 7, (3, 1))
    for delivery in (2, 3, 4):
        main.fetch(12.0 * delivery, 7, (3, delivery))
    finding = redelivery_ends(books.case(facts(max_deliver=3)))

    text = (
        "2 tasks were handed out more than 3 times; 1 tasks came back again and again after their answer was accepted"
    )
    assert told(finding) == ("fail", "service", text)
    assert concerned(finding) == [1, 2, 3]


def test_without_tasks_none_comes_back_without_end(books: Books, main: Process) -> None:
    assert ends(books) == ("pass", "service", "0 tasks, none came back without end")
