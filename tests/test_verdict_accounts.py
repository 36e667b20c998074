from __future__ import annotations

import dataclasses

import pytest

from ami_fault_site.verdict.accounts import Account, account, unrecorded_by_name
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.streams import Stream
from tests.booked import Books, facts, task, witness


def counted(books: Books) -> Account:
    return account(books.case(facts()).streams.all[0])


def held(
    told: JobWitness | None, accepted: int = 0, successes: int = 0, errors: int = 0, misnamed: int = 0, gap: int = 0
) -> Account:
    """Set our counts beside what the service told of the job."""
    stream = Stream(7, [], True, elsewhere=gap, witness=told, largest_size=told.size if told is not None else None)
    return Account(stream, 10, accepted, 0, 0, successes, errors, misnamed)


# --- our counts


def test_what_was_handed_out_and_not_answered_is_counted_as_a_task_and_as_nothing_else() -> None:
    books = Books()
    books.process(10).fetch(1.0, 7, (1, 1), (2, 1))
    made = counted(books)

    assert (made.tasks, made.accepted, made.failed, made.contested, made.open, made.misnamed) == (2, 0, 0, 0, 0, 0)


def test_accepted_answers_are_counted_by_task_and_errors_among_them_as_failed() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (1, 1), (2, 1), (3, 1), (4, 1))
    main.post(2.0, 7, (1, 1), (2, 1), (3, 1), failed=(2, 3))
    main.post(3.0, 7, (1, 1))
    main.post(3.0, 7, (4, 1), outcome="refused", status=500, failed=(4,))
    made = counted(books)

    assert (made.accepted, made.failed, made.contested, made.open) == (3, 2, 0, 0)


def test_a_task_with_a_success_and_an_error_is_contested_among_the_failed() -> None:
    books = Books()
    main = books.process(10)
    for failed in ((1,), ()):
        main.post(2.0, 7, (1, 1), (2, 1), (3, 1), failed=(*failed, 3))
    made = counted(books)

    assert (made.accepted, made.failed, made.contested) == (3, 2, 1)


def test_a_task_that_has_only_answers_of_which_nobody_heard_is_open_as_success_or_as_error() -> None:
    books = Books()
    main = books.process(10)
    main.post(2.0, 7, (1, 1), (2, 1), (3, 1), failed=(3,), outcome=None)
    main.post(2.0, 7, (4, 1), failed=(4,), outcome="refused", status=500)
    main.post(3.0, 7, (4, 1), outcome="unheard", error="ReadTimeout")
    made = counted(books)

    assert (made.open_successes, made.open_errors, made.open) == (3, 1, 4)
    assert (made.accepted, made.failed) == (0, 0)


def test_a_task_with_an_accepted_answer_is_not_open_whatever_else_was_sent() -> None:
    books = Books()
    main = books.process(10)
    main.post(2.0, 7, (1, 1), outcome=None, failed=(1,))
    main.post(3.0, 7, (1, 1))
    made = counted(books)

    assert (made.accepted, made.failed, made.open) == (1, 0, 0)


def test_accepted_answers_about_another_image_are_counted_as_misnamed() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    main.post(2.0, 7, (1, 1), (2, 1), images={1: "2", 2: "1"})
    main.post(2.0, 7, (3, 1), images={3: "1"}, outcome="refused", status=500)

    assert counted(books).misnamed == 2


# --- the service's counts


def test_the_service_has_processed_what_it_says_without_what_its_reaper_gave_up() -> None:
    assert held(None).processed == 0
    assert held(witness(7, "STARTED", None, None)).processed == 0
    assert held(witness(7, "STARTED", 9, 1)).processed == 9
    assert held(witness(7, "STARTED", 9, 1, given_up=4)).processed == 5
    assert held(witness(7, "STARTED", 2, 1, given_up=4)).processed == 0


def test_counts_can_be_compared_once_the_services_have_come_to_rest() -> None:
    settled = held(witness(7, "STARTED", 9, 1))

    assert settled.can_compare
    assert not held(None).can_compare
    assert not held(witness(7, "STARTED", 9, 1, settled=False)).can_compare
    assert not held(witness(7, "STARTED", None, 1)).can_compare
    assert not dataclasses.replace(
        settled, stream=Stream(7, [], False, witness=witness(7, "STARTED", 9, 1))
    ).can_compare


# --- what is missing from them


def test_accepted_answers_that_are_missing_from_the_counts_of_an_ended_job_are_unrecorded() -> None:
    ended = witness(7, "SUCCESS", 9, 1)

    assert [held(ended, accepted=n).unrecorded(False) for n in (8, 9, 10, 12)] == [0, 0, 1, 3]
    assert held(witness(7, "SUCCESS", 9, 1, given_up=2), accepted=9).unrecorded(False) == 2


def test_they_are_unrecorded_in_a_running_job_only_once_what_was_not_saved_would_have_come_back() -> None:
    running = held(witness(7, "STARTED", 9, 1), accepted=11)

    assert (running.unrecorded(True), running.in_doubt(True)) == (2, 0)
    assert (running.unrecorded(False), running.in_doubt(False)) == (0, 2)


def test_nothing_is_called_unrecorded_that_cannot_be_compared() -> None:
    unsettled = held(witness(7, "SUCCESS", 9, 1, settled=False), accepted=11)
    misnamed = held(witness(7, "SUCCESS", 9, 1), accepted=11, misnamed=1)

    assert (unsettled.unrecorded(True), unsettled.in_doubt(True)) == (0, 2)
    assert (misnamed.unrecorded(True), misnamed.in_doubt(True)) == (0, 0)


def test_nothing_of_a_job_that_somebody_revoked_is_called_unrecorded() -> None:
    revoked = held(witness(7, "REVOKED", 9, 1), accepted=10)

    assert (revoked.unrecorded(False), revoked.unrecorded(True), revoked.in_doubt(False)) == (0, 0, 0)


def test_nothing_is_in_doubt_where_the_counts_are_as_ours_or_higher_or_not_known() -> None:
    ended = witness(7, "STARTED", 9, 1)
    earlier = dataclasses.replace(held(ended, accepted=11), stream=Stream(7, [], False, witness=ended))

    assert [held(ended, accepted=n).in_doubt(False) for n in (8, 9, 10)] == [0, 0, 1]
    assert held(None, accepted=3).in_doubt(False) == 0
    assert held(witness(7, "STARTED", None, 1), accepted=3).in_doubt(False) == 0
    assert earlier.in_doubt(False) == 0


# --- answers of which nobody heard


@pytest.mark.parametrize(("processed", "arrived"), [(4, False), (5, False), (6, None), (7, None), (8, True), (9, True)])
def test_answers_of_which_nobody_heard_arrived_if_the_counts_hold_them_all_and_did_not_if_they_hold_none(
    processed: int, arrived: bool | None
) -> None:
    told = witness(7, "STARTED", processed, 1)

    assert held(told, accepted=5, successes=2, errors=1).arrived() is arrived


def test_what_the_reaper_gave_up_is_no_sign_that_they_arrived() -> None:
    assert held(witness(7, "STARTED", 8, 1, given_up=3), accepted=5, successes=3).arrived() is False


def test_where_there_are_none_they_all_arrived() -> None:
    assert held(None).arrived() is True


def test_it_cannot_be_told_without_a_service_at_rest_or_with_other_workers_or_misnamed_answers() -> None:
    told = witness(7, "STARTED", 5, 1)

    assert held(told, accepted=5, successes=1).arrived() is False
    assert held(None, accepted=5, successes=1).arrived() is None
    assert held(witness(7, "STARTED", 5, 1, settled=False), accepted=5, successes=1).arrived() is None
    assert held(told, accepted=5, successes=1, gap=1).arrived() is None
    assert held(told, accepted=3, successes=1, gap=1).arrived() is None
    assert held(told, accepted=5, successes=1, misnamed=1).arrived() is None


def test_with_other_workers_they_all_arrived_or_were_answered_by_them_if_the_ended_job_is_counted_whole() -> None:
    def arrived(status: str, processed: int, remaining: int, given_up: int = 0) -> bool | None:
        told = witness(7, status, processed, remaining, given_up=given_up)
        return held(told, accepted=5, successes=1, gap=1).arrived()

    assert arrived("SUCCESS", 9, 0) is True
    assert arrived("SUCCESS", 9, 1) is None
    assert arrived("STARTED", 9, 0) is None
    assert arrived("SUCCESS", 10, -1, given_up=1) is None
    unsized = held(witness(7, "SUCCESS", 9, None), accepted=5, successes=1, gap=1)
    assert unsized.arrived() is None


# --- by name


def test_the_tasks_whose_accepted_answers_the_log_does_not_name_are_unrecorded() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (1, 1), (2, 1), (3, 1), (4, 1))
    main.post(2.0, 7, (1, 1), (2, 1), (3, 1))
    main.post(12.0, 7, (1, 2))
    stream = books.case(facts()).streams.all[0]
    names = [
        "$JS.ACK.job_7.job-7-consumer.2.1.5.1795438299585001401.0",
        "$JS.ACK.job_7.job-7-consumer.2.2.6.1795438299585001402.0",
        "$JS.ACK.job_7.job-7-consumer.x.3.7.1795438299585001403.0",
        "a log line that names nothing",
    ]
    missing = {task(books.history(), 7, number).key for number in (2, 3)}

    assert unrecorded_by_name(stream, names) == missing
    assert unrecorded_by_name(stream, [*names, "$JS.ACK.job_7.job-7-consumer.1.3.7.0.0"]) == missing - {
        task(books.history(), 7, 3).key
    }
