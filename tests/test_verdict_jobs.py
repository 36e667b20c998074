"""The promises of the checks on jobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ami_fault_site.verdict import Case, Facts
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.jobs import (
    job_reaches_its_end,
    no_early_success,
    no_invented_tasks,
    no_starvation,
    nothing_served_after_the_end,
)
from ami_fault_site.verdict.terms import Finding, Group, Status, Whose
from tests.booked import Books, Process, Supervisor, concerned, facts, lines, told, witness


def fetched(*tasks: int) -> tuple[Books, Process, Supervisor]:
    """Hand these tasks of job 7 out at 1.0 s, in line 4 of the worker's file."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, *((task, 1) for task in tasks))
    return books, main, books.supervisor()


def retried(books: Books, at: float) -> None:
    """Let somebody run job 7 again, and hand out its first task."""
    books.refill(7)
    books.process(99).fetch(at, 7, (1, 1))


@pytest.mark.parametrize(
    ("judge", "slug", "is_safety"),
    [
        (job_reaches_its_end, "job-reaches-its-end", True),
        (no_early_success, "no-early-success", False),
        (nothing_served_after_the_end, "nothing-served-after-the-end", False),
        (no_starvation, "no-starvation", False),
        (no_invented_tasks, "no-invented-tasks", False),
    ],
)
def test_jobs_are_the_services_and_only_their_end_can_make_a_run_unknown(
    judge: Callable[[Case], Finding], slug: str, is_safety: bool
) -> None:
    check = judge(Books().case(facts())).check

    assert (check.slug, check.group, check.whose) == (slug, Group.STABILITY, Whose.SERVICE)
    assert check.is_safety is is_safety


# --- job-reaches-its-end: the service is asked last at 100.0 s


def reached(books: Books, *witnesses: JobWitness, missing: str = "") -> Finding:
    return job_reaches_its_end(books.case(facts(*witnesses, missing=missing)))


def test_where_nothing_was_handed_out_no_job_has_to_end() -> None:
    books = Books()
    books.process(10).fetch(1.0, 7)
    finding = reached(books, witness(7, "STARTED", 0, 4))

    assert told(finding) == ("not-applicable", "service", "no job handed anything out")


@pytest.mark.parametrize(
    ("missing", "why"), [("no token", "no token"), ("", "nothing was kept of what it said of job 7")]
)
def test_without_a_second_witness_the_end_cannot_be_told_and_it_is_said_why(missing: str, why: str) -> None:
    books, _, _ = fetched(1)
    finding = reached(books, witness(8, "SUCCESS", 1, 0), missing=missing)

    assert told(finding) == ("unknown", "service", f"job 7: second witness missing: {why}")
    assert finding.judged == 1


def test_why_the_service_could_not_be_asked_is_said_of_each_job_by_itself() -> None:
    books, main, supervisor = fetched(1)
    for job in (8, 9):
        main.fetch(2.0, job, (1, 1))
    supervisor.book("unwitnessed", 50.0, job=8, why="status 404")
    finding = reached(books, witness(7, "SUCCESS", 1, 0), missing="no token")

    text = "job 8: second witness missing: status 404; job 9: second witness missing: no token"
    assert told(finding) == ("unknown", "service", text)


def test_jobs_that_ended_are_named_with_their_ends() -> None:
    books, main, _ = fetched(1)
    main.fetch(2.0, 8, (1, 1))
    main.fetch(2.0, 9, (1, 1))
    ends = [witness(7, "SUCCESS", 1, 0), witness(8, "FAILURE", 1, 0), witness(9, "REVOKED", 0, 1)]
    finding = reached(books, *ends)

    text = "job 7 ended with SUCCESS; job 8 ended with FAILURE; job 9 ended with REVOKED"
    assert told(finding) == ("pass", "service", text)
    assert (finding.judged, lines(finding.evidence)) == (3, [])


@pytest.mark.parametrize(("since", "status"), [(90.0, Status.FAIL), (90.1, Status.UNKNOWN)])
def test_a_job_that_is_all_counted_has_10_s_to_end(since: float, status: Status) -> None:
    books, _, supervisor = fetched(1, 2)
    supervisor.seen(since - 5, 7, "STARTED", 1, 1)
    supervisor.seen(since, 7, "STARTED", 2, 0)
    supervisor.seen(95.0, 7, "STARTED", 2, 0, failed=1)
    finding = reached(books, witness(7, "STARTED", 2, 0))

    assert finding.status is status
    if status is Status.FAIL:
        assert finding.text == "job 7 is STARTED although all of it is counted (2 of 2 processed)"
        assert (finding.judged, lines(finding.evidence)) == (1, ["1:3"])  # when it was last asked
    else:
        assert finding.text == "job 7 is STARTED, not at its end (2 of 2 processed)"
        assert lines(finding.evidence) == []


def test_a_job_whose_counts_have_not_begun_or_wait_again_is_not_all_counted() -> None:
    books, _, supervisor = fetched(1, 2)
    supervisor.seen(10.0, 7, "STARTED", 0, 0)
    assert reached(books, witness(7, "STARTED", 2, 0)).status is Status.UNKNOWN

    supervisor.seen(20.0, 7, "STARTED", 2, 0)
    assert reached(books, witness(7, "STARTED", 2, 0)).status is Status.FAIL
    assert told(reached(books, witness(7, "STARTED", 1, 1))) == (
        "unknown",
        "service",
        "job 7 is STARTED, not at its end (1 of 2 processed)",
    )


def answered(empty: float | None) -> Books:
    """Answer both tasks of job 7, and ask for more at this time."""
    books, main, supervisor = fetched(1, 2)
    main.post(2.0, 7, (1, 1), (2, 1))
    supervisor.seen(50.0, 7, "STARTED", 1, 1)
    if empty is not None:
        main.fetch(empty, 7)
    return books


def test_a_job_that_was_all_answered_and_gives_no_more_when_that_is_due_should_have_ended() -> None:
    finding = reached(answered(16.0), witness(7, "STARTED", 1, 1))

    text = "job 7 is STARTED although all of it was answered (1 of 2 processed)"
    assert told(finding) == ("fail", "service", text)
    assert lines(finding.evidence) == ["1:1"]


def test_a_job_to_which_more_was_answered_than_it_has_should_have_ended_too() -> None:
    assert reached(answered(16.0), witness(7, "STARTED", 0, 1)).status is Status.FAIL


def test_a_job_of_which_not_all_was_answered_or_that_was_not_drained_may_still_end() -> None:
    text = "job 7 is STARTED, not at its end (1 of 3 processed)"
    assert told(reached(answered(16.0), witness(7, "STARTED", 1, 2))) == ("unknown", "service", text)
    for empty in (None, 14.0):
        assert reached(answered(empty), witness(7, "STARTED", 1, 1)).status is Status.UNKNOWN


@pytest.mark.parametrize(("at", "status"), [(1800.9, Status.UNKNOWN), (1801.0, Status.FAIL), (2161.0, Status.FAIL)])
def test_half_an_hour_after_its_last_task_the_reaper_must_have_come(at: float, status: Status) -> None:
    books, _, supervisor = fetched(1, 2)
    supervisor.seen(50.0, 7, "STARTED", 0, 2)
    finding = reached(books, witness(7, "STARTED", 0, 2, at=at))

    assert finding.status is status
    if status is Status.FAIL:
        minutes = {1801.0: 30, 2161.0: 36}[at]
        assert finding.text == (
            f"job 7 is STARTED {minutes} minutes after its last task (0 of 2 processed); "
            "no reaper has taken it: is there one in the service's stack (Celery beat)?"
        )
        assert lines(finding.evidence) == ["1:1"]


def test_the_half_hour_begins_with_the_last_lease_or_the_last_accepted_answer() -> None:
    books, main, _ = fetched(1, 2)
    main.post(99.9, 7, (1, 1))
    assert reached(books, witness(7, "STARTED", 1, 1, at=1899.0)).status is Status.UNKNOWN
    assert reached(books, witness(7, "STARTED", 1, 1, at=1900.5)).status is Status.FAIL

    main.fetch(200.0, 7, (2, 2))
    main.post(300.0, 7, (2, 2), outcome="refused", status=500)
    assert reached(books, witness(7, "STARTED", 1, 1, at=1999.0)).status is Status.UNKNOWN
    assert reached(books, witness(7, "STARTED", 1, 1, at=2000.5)).status is Status.FAIL


def test_an_answer_is_dated_by_its_own_hosts_clock() -> None:
    books, _, _ = fetched(1)
    books.process(11, host="other", base=500.0).post(0.0, 7, (1, 1))

    assert reached(books, witness(7, "STARTED", 0, 2, at=2300.0)).status is Status.UNKNOWN
    assert reached(books, witness(7, "STARTED", 0, 2, at=2300.5)).status is Status.FAIL


@pytest.mark.parametrize("outcome", [None, "unheard", "refused"])
def test_a_job_of_which_nothing_but_an_unaccepted_answer_is_known_has_not_been_idle(outcome: str | None) -> None:
    books = Books()
    books.process(10).start(0.0).post(2.0, 7, (1, 1), outcome=outcome)  # of which nobody booked the receipt
    finding = reached(books, witness(7, "STARTED", 0, 1))

    assert told(finding) == ("unknown", "service", "job 7 is STARTED, not at its end (0 of 1 processed)")


def test_a_job_whose_tasks_are_used_up_waits_for_the_reaper_and_so_may_the_operator() -> None:
    books, main, _ = fetched(1, 2)
    main.post(2.0, 7, (2, 1))
    main.post(2.5, 7, (1, 1), outcome="not-sent", status=0, struck=True)
    known = facts(witness(7, "STARTED", 1, 1), max_deliver=1)
    text = (
        "job 7 is STARTED, not at its end (1 of 2 processed); the reaper has not come yet: "
        "`ami-fault check --wait 30m` waits for it"
    )
    assert told(job_reaches_its_end(books.case(known))) == ("unknown", "service", text)

    main.fetch(30.0, 7)  # lost, not used up: it had a delivery left
    assert job_reaches_its_end(books.case(facts(witness(7, "STARTED", 1, 1, delivered=2)))).text == text


def test_a_job_that_ended_and_went_back_to_running_did_not_reach_its_end() -> None:
    books, _, supervisor = fetched(1)
    supervisor.seen(10.0, 7, "STARTED", 0, 1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    supervisor.seen(30.0, 7, "STARTED", 1, 0)
    supervisor.seen(40.0, 7, "SUCCESS", 1, 0)
    finding = reached(books, witness(7, "SUCCESS", 1, 0))

    assert told(finding) == ("fail", "service", "job 7 was SUCCESS and went back to STARTED")
    assert (finding.judged, lines(finding.evidence)) == (1, ["1:2", "1:3"])


def test_from_one_end_to_another_is_no_way_back() -> None:
    books, _, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    supervisor.seen(30.0, 7, "FAILURE", 1, 0, failed=1)

    assert reached(books, witness(7, "FAILURE", 1, 0)).status is Status.PASS


def test_a_job_that_somebody_ran_again_did_not_go_back_by_itself() -> None:
    books, _, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    supervisor.seen(30.0, 7, "STARTED", 0, 1)
    assert reached(books, witness(7, "SUCCESS", 1, 0, restarted=True)).status is Status.PASS

    assert reached(books, witness(7, "SUCCESS", 1, 0)).status is Status.FAIL
    retried(books, 35.0)
    finding = reached(books, witness(7, "SUCCESS", 1, 0))
    assert (finding.status, finding.judged) == (Status.PASS, 1)


def test_another_job_that_was_run_again_does_not_excuse_this_one() -> None:
    books, main, supervisor = fetched(1)
    main.fetch(2.0, 8, (1, 1))
    supervisor.seen(20.0, 8, "SUCCESS", 1, 0)
    supervisor.seen(30.0, 8, "STARTED", 1, 0)
    retried(books, 35.0)

    assert reached(books, witness(7, "SUCCESS", 1, 0), witness(8, "SUCCESS", 1, 0)).status is Status.FAIL


def test_going_back_is_seen_without_a_second_witness_too_and_told_of_every_job() -> None:
    books, main, supervisor = fetched(1)
    main.fetch(2.0, 8, (1, 1))
    for job in (7, 8):
        supervisor.seen(20.0 + job, job, "FAILURE", 1, 0)
        supervisor.seen(30.0 + job, job, "PENDING", 1, 0)
    finding = reached(books)

    text = "job 7 was FAILURE and went back to PENDING; job 8 was FAILURE and went back to PENDING"
    assert (finding.status, finding.text) == (Status.FAIL, text)
    assert len(lines(finding.evidence)) == 4


def test_what_two_hosts_saw_is_not_put_in_one_order() -> None:
    books, _, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    other = Supervisor(books, 1, 0, "other", "", 1000.0)
    books.processes.append(other)
    other.seen(50.0, 7, "STARTED", 0, 1)

    assert reached(books, witness(7, "SUCCESS", 1, 0)).status is Status.PASS


@pytest.mark.parametrize(("asked", "status"), [(20.0, Status.FAIL), (19.9, Status.PASS)])
def test_an_answer_that_was_asked_for_before_the_end_was_heard_shows_no_way_back(asked: float, status: Status) -> None:
    """Two supervisors asked at once, and the job ended in between."""
    books, _, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    later = {"job": 7, "status": "STARTED", "processed": 0, "remaining": 1, "failed": 0}
    supervisor.book("seen", 20.5, **later, asked=asked, heard=20.5)

    assert reached(books, witness(7, "SUCCESS", 1, 0)).status is status


def test_a_failure_weighs_more_than_what_cannot_be_told_and_that_more_than_an_end() -> None:
    books, main, supervisor = fetched(1)
    main.fetch(2.0, 8, (1, 1))
    main.fetch(2.0, 9, (1, 1))
    finding = reached(books, witness(7, "SUCCESS", 1, 0), witness(8, "STARTED", 0, 1), missing="no token")
    text = "job 8 is STARTED, not at its end (0 of 1 processed); job 9: second witness missing: no token"
    assert (finding.status, finding.text, finding.judged) == (Status.UNKNOWN, text, 3)

    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    supervisor.seen(30.0, 7, "STARTED", 1, 0)
    supervisor.seen(40.0, 8, "STARTED", 0, 1)
    finding = reached(books, witness(7, "SUCCESS", 1, 0), witness(8, "STARTED", 0, 1))
    assert (finding.status, finding.text) == (Status.FAIL, "job 7 was SUCCESS and went back to STARTED")
    assert (finding.judged, len(lines(finding.evidence))) == (3, 2)


# --- no-early-success: job 7 is seen to be a SUCCESS at 20.0 s, in the only line of the supervisor's file


def early(books: Books, *witnesses: JobWitness, max_deliver: int | None = 2) -> Finding:
    return no_early_success(books.case(facts(*witnesses, max_deliver=max_deliver)))


def succeeding(*tasks: int, remaining: int = 0) -> tuple[Books, Process, Supervisor]:
    books, main, supervisor = fetched(*tasks)
    supervisor.seen(20.0, 7, "SUCCESS", len(tasks), remaining)
    return books, main, supervisor


@pytest.mark.parametrize("status", ["STARTED", "FAILURE", "REVOKED"])
def test_where_no_job_became_a_success_none_did_so_early(status: str) -> None:
    books, _, supervisor = fetched(1)
    supervisor.seen(20.0, 7, status, 0, 1)

    text = "no job was seen to become a SUCCESS"
    assert told(early(books, witness(7, status, 0, 1))) == ("not-applicable", "service", text)


def test_a_success_after_every_answer_is_not_early() -> None:
    books, main, supervisor = succeeding(1, 2)
    main.post(3.0, 7, (1, 1), (2, 1))
    main.fetch(4.0, 8, (1, 1))
    main.post(5.0, 8, (1, 1))
    supervisor.seen(30.0, 8, "SUCCESS", 1, 0)
    finding = early(books, witness(7, "SUCCESS", 2, 0))

    assert told(finding) == ("pass", "service", "nothing was out when job 7, job 8 ended")
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (2, (), [])


def test_a_task_that_was_handed_out_before_and_answered_after_the_success_was_out() -> None:
    books, main, _ = succeeding(1, 2, 3)
    main.post(3.0, 7, (1, 1))
    main.post(25.0, 7, (2, 1), (3, 1))
    main.post(26.0, 7, (2, 1))
    finding = early(books, witness(7, "SUCCESS", 3, 0))

    assert told(finding) == ("fail", "service", "job 7 was a SUCCESS while 2 of its tasks were out")
    assert (concerned(finding), finding.judged) == ([2, 3], 1)
    assert lines(finding.evidence) == ["1:1", "10:7"]  # the SUCCESS, and the answer after it


@pytest.mark.parametrize(
    ("handed_out", "posted", "status"),
    [
        (19.9, 20.1, Status.FAIL),
        (20.0, 20.1, Status.PASS),  # handed out at the very moment, perhaps after
        (19.9, 20.0, Status.PASS),  # answered at the very moment, perhaps before
        (20.5, 21.0, Status.PASS),  # another check's concern
    ],
)
def test_a_task_was_out_if_the_success_was_heard_between_its_lease_and_its_answer(
    handed_out: float, posted: float, status: Status
) -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(handed_out, 7, (1, 1))
    main.post(posted, 7, (1, 1))
    books.supervisor().seen(20.0, 7, "SUCCESS", 1, 0)

    assert early(books, witness(7, "SUCCESS", 1, 0)).status is status


def test_a_task_that_was_answered_once_before_the_success_was_not_out() -> None:
    books, main, _ = succeeding(1)
    main.post(3.0, 7, (1, 1), outcome=None)
    main.fetch(12.0, 7, (1, 2))
    main.post(25.0, 7, (1, 2))

    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.PASS


def test_a_task_whose_first_lease_was_before_the_success_and_whose_only_answer_came_after_was_out() -> None:
    books, main, _ = succeeding(1)
    main.fetch(22.0, 7, (1, 2))
    main.post(25.0, 7, (1, 2))

    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.FAIL


@pytest.mark.parametrize(("outcome", "status"), [("refused", 503), ("not-sent", 0)])
def test_a_task_whose_only_post_before_the_success_was_refused_or_not_sent_was_out(outcome: str, status: int) -> None:
    books, main, _ = succeeding(1)
    main.post(2.0, 7, (1, 1), outcome=outcome, status=status, struck=True)
    main.fetch(22.0, 7, (1, 2))
    main.post(25.0, 7, (1, 2))
    finding = early(books, witness(7, "SUCCESS", 1, 0))

    assert told(finding) == ("fail", "service", "job 7 was a SUCCESS while 1 of its tasks were out")
    assert (concerned(finding), finding.judged) == ([1], 1)


@pytest.mark.parametrize("outcome", [None, "unheard"])
def test_a_task_whose_post_before_the_success_may_have_arrived_was_not_certainly_out(outcome: str | None) -> None:
    books, main, _ = succeeding(1)
    main.post(2.0, 7, (1, 1), outcome=outcome)
    main.fetch(22.0, 7, (1, 2))
    main.post(25.0, 7, (1, 2))

    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.PASS


def test_a_task_that_another_worker_may_have_answered_was_not_certainly_out() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 2))  # delivery 1 went elsewhere
    main.post(25.0, 7, (1, 2))
    books.supervisor().seen(20.0, 7, "SUCCESS", 1, 0)
    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.PASS

    books, main, _ = succeeding(1)
    main.post(25.0, 7, (1, 1), (2, 1))  # nobody booked the receipt of task 2
    assert concerned(early(books, witness(7, "SUCCESS", 2, 0))) == [1]


def test_a_task_on_another_hosts_clock_was_not_certainly_out() -> None:
    books, _, _ = succeeding(1)
    other = books.process(11, host="other", base=1000.0)
    other.fetch(1.0, 7, (2, 1))
    other.post(25.0, 7, (2, 1))

    assert early(books, witness(7, "SUCCESS", 2, 0)).status is Status.PASS


def test_a_task_that_was_never_answered_was_out_only_if_it_is_lost() -> None:
    books, _, _ = succeeding(1)
    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.PASS  # another worker must have got it

    finding = early(books, witness(7, "SUCCESS", 0, 1, delivered=1))
    assert told(finding) == ("fail", "service", "job 7 was a SUCCESS while 1 of its tasks were out")
    assert (concerned(finding), lines(finding.evidence)) == ([1], ["1:1"])


def test_a_success_with_images_remaining_is_early_by_the_services_own_word() -> None:
    books, main, _ = succeeding(1, remaining=3)
    main.post(3.0, 7, (1, 1))
    finding = early(books, witness(7, "SUCCESS", 1, 3))

    assert told(finding) == ("fail", "service", "job 7 was a SUCCESS with 3 images remaining")
    assert (finding.tasks, finding.judged, lines(finding.evidence)) == ((), 1, ["1:1"])


def test_every_job_that_was_early_is_told_once() -> None:
    books, main, supervisor = succeeding(1, remaining=1)
    main.fetch(4.0, 8, (1, 1))
    main.post(25.0, 7, (1, 1))
    main.post(5.0, 8, (1, 1))
    supervisor.seen(30.0, 8, "SUCCESS", 1, 2)

    main.fetch(6.0, 9, (1, 1))
    supervisor.seen(20.0, 9, "SUCCESS", 1, 0)
    main.post(35.0, 9, (1, 1))
    finding = early(books)

    text = (
        "job 7 was a SUCCESS while 1 of its tasks were out; job 8 was a SUCCESS with 2 images remaining; "
        "job 9 was a SUCCESS while 1 of its tasks were out"
    )
    assert told(finding) == ("fail", "service", text)
    assert [key[0] for key in finding.tasks] == ["job_7", "job_9"]
    assert lines(finding.evidence) == ["1:1", "1:2", "1:3", "10:7", "10:13"]


def test_the_end_is_when_the_service_first_said_so() -> None:
    books, _, supervisor = fetched(1)
    books.processes[0].post(25.0, 7, (1, 1))
    supervisor.seen(10.0, 7, "STARTED", 0, 1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    supervisor.seen(30.0, 7, "SUCCESS", 1, 0, failed=1)

    assert lines(early(books).evidence) == ["1:2", "10:5"]


def test_tasks_that_the_reaper_gave_up_or_of_a_job_that_was_run_again_were_not_out() -> None:
    books, main, _ = succeeding(1)
    main.post(25.0, 7, (1, 1))
    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.FAIL
    assert early(books, witness(7, "SUCCESS", 1, 0, given_up=1)).status is Status.PASS
    assert early(books, witness(7, "SUCCESS", 1, 0, restarted=True)).status is Status.NOT_APPLICABLE

    retried(books, 30.0)
    assert early(books, witness(7, "SUCCESS", 1, 0)).status is Status.NOT_APPLICABLE


# --- nothing-served-after-the-end


def served(books: Books, *witnesses: JobWitness) -> Finding:
    return nothing_served_after_the_end(books.case(facts(*witnesses)))


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_job_that_is_asked_after_its_end_and_gives_nothing_has_ended(status: str) -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, status, 1, 0)
    main.fetch(30.0, 7)
    finding = served(books)

    assert told(finding) == ("pass", "service", "asked after the end, and nothing was handed out")
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (1, (), [])


def test_a_job_that_nobody_asked_after_its_end_shows_nothing() -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    main.fetch(20.0, 7)
    main.fetch(30.0, 8, (1, 1))
    books.process(11, host="other", base=1000.0).fetch(30.0, 7)
    supervisor.seen(20.0, 9, "SUCCESS", 1, 0)

    text = "nobody asked for tasks of a job that had ended"
    assert told(served(books)) == ("not-applicable", "service", text)


def test_a_job_that_has_not_ended_may_serve() -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "STARTED", 1, 0)
    main.fetch(30.0, 7, (2, 1))

    assert served(books).status is Status.NOT_APPLICABLE


def test_tasks_that_are_handed_out_after_the_end_of_their_job_fail() -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    supervisor.seen(20.0, 8, "SUCCESS", 1, 0)
    main.fetch(10.0, 8, (1, 1))
    main.fetch(30.0, 8, (1, 2))
    main.fetch(31.0, 7, (1, 2), (2, 1))
    books.process(11, host="other", base=1000.0).fetch(30.0, 7, (3, 1))
    finding = served(books)

    assert told(finding) == ("fail", "service", "3 tasks were handed out after job 7, job 8 had ended")
    assert [key[:2] for key in finding.tasks] == [("job_7", 1), ("job_7", 2), ("job_8", 1)]
    assert finding.judged == 2
    assert lines(finding.evidence) == [
        *(f"1:{line}" for line in (1, 2)),
        *(f"10:{line}" for line in (8, 10)),
    ]


@pytest.mark.parametrize(("sent", "status"), [(20.0, Status.PASS), (20.5, Status.FAIL)])
def test_only_what_was_asked_for_after_the_end_counts(sent: float, status: Status) -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    main.fetch(sent + 0.5, 7, (2, 1), seconds=0.5)

    assert served(books).status is status


def test_a_delivery_of_which_only_the_answer_is_known_was_not_seen_after_the_end() -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    main.fetch(30.0, 7)
    main.post(31.0, 7, (2, 1))

    assert served(books).status is Status.PASS


def test_a_job_that_was_run_again_may_serve_after_its_end() -> None:
    books, main, supervisor = fetched(1)
    supervisor.seen(20.0, 7, "SUCCESS", 1, 0)
    main.fetch(31.0, 7, (2, 1))
    assert served(books, witness(7, "SUCCESS", 1, 0, restarted=True)).status is Status.NOT_APPLICABLE

    retried(books, 32.0)
    assert served(books).status is Status.NOT_APPLICABLE


# --- no-starvation: job 8 gives nothing while job 7 is served; ack_wait is 8 s


def starving(*vain: float, job: int = 8) -> tuple[Books, Process]:
    books, main, _ = fetched(1)
    for at in vain:
        main.fetch(at, job, seconds=0.25)
    return books, main


VAIN = (2.25, 6.25, 10.75)
WAITING = witness(8, "STARTED", 0, 4)


def fed(books: Books, *witnesses: JobWitness, known: Facts | None = None) -> Finding:
    return no_starvation(books.case(known or facts(*(witnesses or (WAITING,)))))


def test_a_job_that_waits_and_gives_nothing_for_longer_than_ack_wait_while_another_is_served_starves() -> None:
    books, _ = starving(*VAIN)
    finding = fed(books)

    assert told(finding) == (
        "fail",
        "service",
        "job 8 gave nothing in 3 calls or more although it waits for answers, while others were served",
    )
    assert (finding.judged, finding.tasks) == (2, ())
    assert lines(finding.evidence) == [f"10:{line}" for line in (6, 8, 10)]


def test_every_job_that_starves_is_named_and_the_calls_of_all_hosts_are_counted() -> None:
    books, main = starving(*VAIN)
    other = books.process(11, host="other", base=1000.0)
    for at in VAIN:
        main.fetch(at + 20, 9)
        other.fetch(at, 9)
    other.fetch(30.0, 8)
    finding = fed(books, WAITING, witness(9, "STARTED", 0, 4))

    assert (
        finding.text
        == "job 8, job 9 gave nothing in 10 calls or more although it waits for answers, while others were served"
    )
    assert finding.judged == 3


@pytest.mark.parametrize(
    ("vain", "status"),
    [
        ((2.25, 6.25, 10.25), Status.NOT_APPLICABLE),  # sent 8.0 s apart
        ((2.25, 6.25, 10.5), Status.FAIL),
        ((2.25, 4.25, 6.25, 10.5), Status.FAIL),
        ((2.25, 10.5), Status.NOT_APPLICABLE),  # two calls
        ((2.25, 2.5, 10.5), Status.NOT_APPLICABLE),  # two of them within one second
        ((10.5, 2.25, 6.25), Status.FAIL),
    ],
)
def test_starving_takes_three_vain_calls_more_than_ack_wait_apart(vain: tuple[float, ...], status: Status) -> None:
    books, _ = starving(*vain)

    assert fed(books).status is status


def test_where_ack_wait_is_not_known_starving_takes_longer_than_the_longest_in_use() -> None:
    for last, status in ((302.0, Status.NOT_APPLICABLE), (302.5, Status.FAIL)):
        books, _ = starving(2.25, 6.25, last)
        assert fed(books, known=facts(WAITING, ack_wait=None)).status is status


@pytest.mark.parametrize(
    "one",
    [
        witness(7, "STARTED", 0, 4),
        witness(8, "PENDING", 0, 4),
        witness(8, "SUCCESS", 0, 4),
        witness(8, "STARTED", 0, 0),
        witness(8, "STARTED", 0, 0, queued=4),
        witness(8, "STARTED", None, None, failed=None),  # it may still be collecting its images
        witness(8, "STARTED", None, None, failed=None, queued=0),
        witness(8, "STARTED", 1, 3),  # somebody answers it
        witness(8, "STARTED", 0, 4, delivered=2),  # somebody else holds its tasks
    ],
    ids=lambda one: f"{one.detail.job}-{one.detail.status}-{one.detail.processed}-{one.delivered}-{one.queued}",
)
def test_a_job_that_does_not_wait_or_is_with_somebody_else_does_not_starve(one: JobWitness) -> None:
    books, _ = starving(*VAIN)

    text = "there were not two jobs to serve"
    assert told(fed(books, one)) == ("not-applicable", "service", text)


def test_a_job_whose_counts_were_never_set_waits_if_its_log_says_that_images_were_queued() -> None:
    books, _ = starving(*VAIN)

    assert fed(books, witness(8, "STARTED", None, None, failed=None, queued=4)).status is Status.FAIL


def test_a_job_that_was_ever_seen_to_have_processed_something_does_not_starve() -> None:
    books, _ = starving(*VAIN)
    supervisor = books.supervisor()
    supervisor.seen(3.0, 8, "STARTED", 0, 4)
    assert fed(books).status is Status.FAIL

    supervisor.seen(4.0, 8, "STARTED", 2, 2)
    assert fed(books).status is Status.NOT_APPLICABLE


def test_where_nothing_is_served_at_all_no_job_is_passed_over_for_another() -> None:
    books = Books()
    main = books.process(10)
    for at in VAIN:
        main.fetch(at, 8)

    assert fed(books).status is Status.NOT_APPLICABLE


def test_a_job_that_was_served_once_does_not_starve_however_long_it_gives_nothing() -> None:
    books, main = starving(*VAIN)
    main.fetch(1.0, 8, (1, 1))

    assert told(fed(books)) == ("pass", "service", "2 jobs were served")
    assert fed(books).judged == 2


# --- no-invented-tasks


def invented(books: Books, *witnesses: JobWitness) -> Finding:
    return no_invented_tasks(books.case(facts(*witnesses)))


def test_where_the_size_of_no_job_is_known_nothing_is_known_to_be_invented() -> None:
    books, _, _ = fetched(1, 5)

    text = "the size of no job is known"
    assert told(invented(books, witness(8, "SUCCESS", 1, 0))) == ("not-applicable", "service", text)


def test_tasks_within_the_size_of_their_job_are_its_own() -> None:
    books, main, _ = fetched(1, 2)
    main.fetch(2.0, 8, (9, 1))  # of a job whose size is not known
    main.fetch(2.0, 9, (3, 1))
    finding = invented(books, witness(7, "STARTED", 1, 1), witness(9, "STARTED", 0, 3))

    assert told(finding) == ("pass", "service", "3 tasks, each one of its job's")
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (3, (), [])


def test_a_task_beyond_the_size_of_its_job_is_invented_answered_or_not() -> None:
    books, main, _ = fetched(1, 2, 3, 4)
    main.post(3.0, 7, (1, 1), (4, 1))
    main.fetch(10.0, 7, (3, 2))
    finding = invented(books, witness(7, "STARTED", 2, 0))

    assert told(finding) == ("fail", "service", "2 of 4 tasks are not the job's: the job has 2 tasks")
    assert (concerned(finding), finding.judged) == ([3, 4], 4)
    assert lines(finding.evidence) == ["10:4", "10:8"]


def test_invented_tasks_of_several_jobs_are_told_with_the_size_of_the_first() -> None:
    books, main, _ = fetched(1, 2)
    main.fetch(2.0, 6, (5, 1))
    finding = invented(books, witness(7, "STARTED", 1, 0), witness(6, "STARTED", 0, 4))

    assert told(finding) == ("fail", "service", "2 of 3 tasks are not the job's: the job has 4 tasks")
    assert [key[:2] for key in finding.tasks] == [("job_6", 5), ("job_7", 2)]


def test_the_largest_size_that_the_service_ever_gave_is_the_jobs() -> None:
    books, _, supervisor = fetched(1, 2, 3)
    supervisor.seen(5.0, 7, "STARTED", 0, 3)

    assert invented(books, witness(7, "STARTED", 1, 1)).status is Status.PASS
