"""The promises of the check on counts."""

from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict.counts import failure_counts_accurate
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.terms import Finding, Group, Status, Whose
from tests.booked import Books, Process, concerned, facts, lines, told, witness


def answered(*tasks: int, failed: tuple[int, ...] = (), job: int = 7) -> tuple[Books, Process]:
    """Hand these tasks out at 1.0 s and answer all of them at 3.1 s, in line 6 of the one file."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, job, *((task, 1) for task in tasks))
    main.post(3.0, job, *((task, 1) for task in tasks), failed=failed)
    return books, main


def counted(books: Books, *witnesses: JobWitness, missing: str = "", damage: tuple[str, ...] = ()) -> Finding:
    return failure_counts_accurate(books.case(facts(*witnesses, missing=missing, damage=damage)))


def test_counts_are_the_services_and_whether_anything_was_lost_hangs_on_them() -> None:
    check = counted(Books()).check

    assert (check.slug, check.group, check.whose) == ("failure-counts-accurate", Group.STABILITY, Whose.SERVICE)
    assert check.is_safety


def test_where_nothing_was_handed_out_nothing_is_counted() -> None:
    finding = counted(Books(), witness(7, "SUCCESS", 4, 0))

    assert told(finding) == ("not-applicable", "service", "no job handed anything out")


@pytest.mark.parametrize(("missing", "why"), [("no token", "no token"), ("", "the service was not asked")])
def test_without_a_second_witness_counts_cannot_be_told_and_it_is_said_why(missing: str, why: str) -> None:
    books, _ = answered(1)

    text = f"second witness missing: {why}"
    assert told(counted(books, missing=missing)) == ("unknown", "service", text)


def test_a_job_of_which_the_service_said_nothing_or_gave_no_count_is_named() -> None:
    books, main = answered(1)
    main.fetch(4.0, 8, (1, 1))
    finding = counted(books, witness(9, "SUCCESS", 1, 0), witness(8, "STARTED", 0, 1, failed=None))

    nothing = "second witness missing for job 7: nothing was kept of what it said of job 7"
    text = f"{nothing}; second witness missing for job 8: it gave no counts"
    assert told(finding) == ("unknown", "service", text)
    assert finding.judged == 2


def test_why_the_service_could_not_be_asked_is_said_of_each_job_by_itself() -> None:
    books, main = answered(1)
    main.fetch(4.0, 8, (1, 1))
    books.supervisor().book("unwitnessed", 50.0, job=8, why="status 404")
    finding = counted(books, witness(9, "SUCCESS", 1, 0), missing="no token")

    text = "second witness missing for job 7: no token; second witness missing for job 8: status 404"
    assert told(finding) == ("unknown", "service", text)


def test_as_many_failed_as_were_answered_with_an_error_is_accurate() -> None:
    books, main = answered(1, 2, 3, 4, failed=(2, 3))
    main.fetch(5.0, 8, (1, 1))
    main.post(6.0, 8, (1, 1))
    finding = counted(books, witness(7, "SUCCESS", 4, 0, failed=2), witness(8, "SUCCESS", 1, 0))

    text = "job 7: 2 failed, 2 by our count; job 8: 0 failed, 0 by our count"
    assert told(finding) == ("pass", "service", text)
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (2, (), [])


def test_more_failed_than_there_can_be_is_a_success_counted_as_failed() -> None:
    books, _ = answered(1, 2, 3, failed=(2,))
    finding = counted(books, witness(7, "STARTED", 3, 0, failed=2, settled=False))

    text = "job 7 counts 2 failed, and at most 1 were answered so or given up"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), finding.judged, lines(finding.evidence)) == ([2], 1, ["10:6"])


def test_fewer_failed_than_errors_were_accepted_is_an_error_counted_as_a_success() -> None:
    books, _ = answered(1, 2, 3, failed=(2, 3))
    finding = counted(books, witness(7, "SUCCESS", 3, 0, failed=1))

    text = "job 7 counts 1 failed, and 2 errors were accepted"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), finding.judged, lines(finding.evidence)) == ([2, 3], 1, ["10:6"])


def test_every_problem_is_told_and_only_the_tasks_of_jobs_that_have_one() -> None:
    books, main = answered(1, 2, failed=(2,))
    main.fetch(5.0, 8, (1, 1))
    main.post(6.0, 8, (1, 1), failed=(1,))
    main.fetch(7.0, 9, (1, 1))
    main.post(8.0, 9, (1, 1), failed=(1,))
    finding = counted(
        books, witness(7, "SUCCESS", 2, 0), witness(8, "SUCCESS", 1, 0, failed=1), witness(9, "SUCCESS", 1, 0)
    )

    text = "job 7 counts 0 failed, and 1 errors were accepted; job 9 counts 0 failed, and 1 errors were accepted"
    assert told(finding) == ("fail", "service", text)
    assert [key[:2] for key in finding.tasks] == [("job_7", 2), ("job_9", 1)]
    assert (finding.judged, lines(finding.evidence)) == (3, ["10:6", "10:14"])


def test_a_problem_weighs_more_than_what_cannot_be_told_and_that_more_than_agreement() -> None:
    books, main = answered(1, failed=(1,))
    main.fetch(5.0, 8, (1, 1))
    main.fetch(6.0, 9, (1, 1))
    finding = counted(books, witness(7, "SUCCESS", 1, 0, failed=1), witness(8, "STARTED", 0, 1))
    assert told(finding) == (
        "unknown",
        "service",
        "second witness missing for job 9: nothing was kept of what it said of job 9",
    )

    finding = counted(books, witness(7, "SUCCESS", 1, 0), witness(8, "STARTED", 0, 1))
    assert (finding.status, finding.text) == (Status.FAIL, "job 7 counts 0 failed, and 1 errors were accepted")


@pytest.mark.parametrize(
    ("status", "settled", "empty", "found"),
    [
        ("SUCCESS", True, None, Status.FAIL),
        ("FAILURE", True, None, Status.FAIL),
        ("SUCCESS", False, None, Status.UNKNOWN),
        ("STARTED", True, None, Status.UNKNOWN),
        ("STARTED", True, 14.0, Status.UNKNOWN),
        ("STARTED", True, 16.0, Status.FAIL),  # what was not saved would have come back by now
        ("STARTED", False, 16.0, Status.UNKNOWN),
    ],
)
def test_too_few_failed_is_held_against_the_service_only_once_its_counts_have_come_to_rest(
    status: str, settled: bool, empty: float | None, found: Status
) -> None:
    books, main = answered(1, 2, failed=(1, 2))
    if empty is not None:
        main.fetch(empty, 7)
    finding = counted(books, witness(7, status, 2, 0, failed=1, settled=settled))

    assert finding.status is found
    if found is Status.UNKNOWN:
        assert finding.text == "job 7 was still at work: 1 failed of 2 errors accepted"


def test_an_error_is_counted_once_however_often_it_is_answered_and_not_if_it_was_refused() -> None:
    books, main = answered(1, 2, failed=(1,))
    main.post(4.0, 7, (1, 1), failed=(1,))
    main.post(5.0, 7, (2, 1), failed=(2,), outcome="refused", status=500)

    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=1)).text == "job 7: 1 failed, 1 by our count"
    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=2)).status is Status.FAIL


def test_an_error_beside_an_accepted_success_may_have_come_after_the_end_and_not_be_counted() -> None:
    books, main = answered(1, 2, failed=(2,))
    main.post(4.0, 7, (1, 1), failed=(1,))

    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=1)).text == "job 7: 1 failed, 1 to 2 by our count"
    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=2)).status is Status.PASS
    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=0)).status is Status.FAIL


@pytest.mark.parametrize("outcome", [None, "unheard"])
def test_an_answer_of_which_nobody_heard_may_have_been_counted_or_not(outcome: str | None) -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1), (2, 1))
    main.post(3.0, 7, (1, 1), failed=(1,))
    main.post(4.0, 7, (2, 1), failed=(2,), outcome=outcome)

    for failed, text in ((1, "job 7: 1 failed, 1 to 2 by our count"), (2, "job 7: 2 failed, 1 to 2 by our count")):
        assert counted(books, witness(7, "SUCCESS", 2, 0, failed=failed)).text == text
    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=3)).text == (
        "job 7 counts 3 failed, and at most 2 were answered so or given up"
    )


def test_images_that_the_reaper_gave_up_are_among_the_failed_and_may_be_ones_that_we_answered() -> None:
    books, _ = answered(1, 2, 3, failed=(3,))
    texts = [
        counted(books, witness(7, "SUCCESS", 3, 0, failed=failed, given_up=2, delivered=3)).text
        for failed in (0, 1, 3, 4)
    ]

    assert texts == [
        "job 7: 0 failed, 0 to 3 by our count",
        "job 7: 1 failed, 0 to 3 by our count",
        "job 7: 3 failed, 0 to 3 by our count",
        "job 7 counts 4 failed, and at most 3 were answered so or given up",
    ]


def test_without_a_whole_log_whatever_we_did_not_answer_may_have_failed_with_another_worker() -> None:
    books, main = answered(1, 2, failed=(2,))
    main.fetch(5.0, 7, (3, 1))
    main.post(6.0, 7, (3, 1), outcome=None)

    assert counted(books, witness(7, "SUCCESS", 5, 0, failed=4)).text == "job 7: 4 failed, 1 to 4 by our count"
    assert counted(books, witness(7, "SUCCESS", 5, 0, failed=5)).text == (
        "job 7 counts 5 failed, and at most 4 were answered so or given up"
    )


def test_with_a_whole_log_that_tells_of_no_other_delivery_nobody_else_can_have_failed_anything() -> None:
    books, _ = answered(1, 2, failed=(2,))

    assert counted(books, witness(7, "SUCCESS", 5, 0, failed=1, delivered=2)).text == "job 7: 1 failed, 1 by our count"
    assert counted(books, witness(7, "SUCCESS", 5, 0, failed=2, delivered=2)).text == (
        "job 7 counts 2 failed, and at most 1 were answered so or given up"
    )


def test_deliveries_made_elsewhere_widen_what_can_be_on_both_sides() -> None:
    books, _ = answered(1, 2, failed=(1, 2))
    texts = [counted(books, witness(7, "SUCCESS", 5, 0, failed=n, delivered=3)).text for n in (0, 1, 3, 4)]

    assert texts == [
        "job 7 counts 0 failed, and 1 errors were accepted",  # one of the two may have been answered elsewhere first
        "job 7: 1 failed, 1 to 3 by our count",
        "job 7: 3 failed, 1 to 3 by our count",
        "job 7 counts 4 failed, and at most 3 were answered so or given up",
    ]


def test_a_delivery_made_elsewhere_may_have_failed_a_task_that_we_answered_with_a_success() -> None:
    books, main = answered(1, 2)
    books.skip(7)
    main.fetch(5.0, 7, (3, 1))
    main.post(6.0, 7, (3, 1))

    assert counted(books, witness(7, "SUCCESS", 3, 0, failed=1)).text == "job 7: 1 failed, 0 to 1 by our count"
    assert counted(books, witness(7, "SUCCESS", 4, 0, failed=2)).text == "job 7: 2 failed, 0 to 2 by our count"
    assert counted(books, witness(7, "SUCCESS", 4, 0, failed=3)).status is Status.FAIL


def test_there_is_never_less_than_nothing_by_our_count() -> None:
    books, _ = answered(1, failed=(1,))

    text = counted(books, witness(7, "SUCCESS", 1, 0, failed=0, given_up=3)).text
    assert text == "job 7: 0 failed, 0 to 4 by our count"


def test_where_more_was_answered_than_the_job_has_nobody_else_is_subtracted() -> None:
    books, _ = answered(1, 2, 3, failed=(3,))

    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=1)).text == "job 7: 1 failed, 1 by our count"


def test_counts_that_add_up_to_less_than_before_have_lost_images() -> None:
    books, main = answered(1, failed=(1,))
    main.fetch(4.0, 7, (2, 1))
    main.strike(5.0, Effect.CRASH)
    later = books.process(11, incarnation=2)
    later.fetch(20.0, 7, (2, 2))
    later.strike(21.0, Effect.CRASH)
    books.process(12, incarnation=3).fetch(40.0, 7)
    books.supervisor().seen(10.0, 7, "STARTED", 1, 3)
    finding = counted(books, witness(7, "SUCCESS", 1, 2))

    text = "job 7 had 4 images and its counts now add up to 3"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), finding.judged) == ([2], 1)  # the one that nobody can answer any more


def test_counts_that_still_add_up_have_lost_none() -> None:
    books, _ = answered(1)
    books.supervisor().seen(10.0, 7, "STARTED", 1, 3)

    assert counted(books, witness(7, "SUCCESS", 4, 0)).status is Status.PASS


def test_counts_that_were_never_set_add_up_to_nothing_and_have_lost_none() -> None:
    books, _ = answered(1)
    books.supervisor().seen(10.0, 7, "STARTED", 1, 3)

    assert counted(books, witness(7, "SUCCESS", None, None)).status is Status.PASS


def test_answers_about_other_images_leave_nothing_to_compare() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), failed=(3,), images={1: "9", 2: "8"})

    text = "job 7: not compared, since 2 answers were about other images"
    assert told(counted(books, witness(7, "SUCCESS", 3, 0, failed=3))) == ("pass", "service", text)


@pytest.mark.parametrize(("status", "damage"), [("REVOKED", ()), ("SUCCESS", ("10:9: cannot be read",))])
def test_too_many_failed_is_no_problem_where_errors_may_have_been_answered_that_we_cannot_read(
    status: str, damage: tuple[str, ...]
) -> None:
    books, _ = answered(1, 2, failed=(2,))
    finding = counted(books, witness(7, status, 2, 0, failed=2), damage=damage)

    assert told(finding) == ("pass", "service", "job 7: 2 failed, 1 by our count")


def test_damage_excuses_nothing_where_too_few_are_counted() -> None:
    books, _ = answered(1, 2, failed=(1, 2))

    assert counted(books, witness(7, "SUCCESS", 2, 0, failed=1), damage=("x:1: y",)).status is Status.FAIL


def test_a_job_that_was_run_again_is_judged_by_its_last_run() -> None:
    books, main = answered(1, 2, failed=(1, 2))
    books.refill(7)
    main.fetch(50.0, 7, (1, 1))
    finding = counted(books, witness(7, "STARTED", 0, 1, failed=0, restarted=True))

    assert told(finding) == ("pass", "service", "job 7: 0 failed, 0 to 1 by our count")
    assert finding.judged == 1
