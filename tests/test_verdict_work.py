"""The promises of the checks on how leases and work go together."""

from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict import Facts
from ami_fault_site.verdict.terms import Finding, Group, Status, Whose
from ami_fault_site.verdict.work import held_tasks_are_answered, leases_outlive_their_work
from tests.booked import Books, Process, concerned, facts, lines, told, witness


def fetched(*tasks: int) -> tuple[Books, Process]:
    """Hand these tasks out at 1.0 s, in line 4 of the one file."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, *((task, 1) for task in tasks))
    return books, main


def ended(books: Books, at: float, kind: str = "ended") -> None:
    """Let the supervisor end the worker."""
    supervisor = books.supervisor()
    supervisor.spawn(0.0, 1)
    supervisor.exit(at, 1, kind, -15)


# --- held-tasks-are-answered


def answered(books: Books, known: Facts | None = None) -> Finding:
    return held_tasks_are_answered(books.case(known or facts()))


def a_batch_that_was_never_posted(error: str = "") -> tuple[Books, Process]:
    """Work on task 1 from 2.0 to 2.5 s (line 5) and post nothing, but post the next batch."""
    books, main = fetched(1, 2)
    main.batch(2.0, 7, (1, 1), error=error)
    main.batch(4.0, 7, (2, 1))
    main.post(5.0, 7, (2, 1))
    return books, main


def test_it_is_the_workers_to_answer_what_it_holds() -> None:
    check = answered(Books()).check

    assert (check.slug, check.group, check.whose) == ("held-tasks-are-answered", Group.STABILITY, Whose.WORKER)
    assert not check.is_safety


def test_tasks_that_are_answered_are_not_neglected() -> None:
    books, main = fetched(1, 2)
    main.post(3.0, 7, (1, 1), (2, 1))
    main.fetch(20.0, 7, (1, 2))
    main.post(21.0, 7, (3, 1))  # of which nobody booked the receipt
    finding = answered(books)

    assert told(finding) == ("pass", "worker", "3 leases, none neglected by a live worker")
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (3, (), [])


def test_a_batch_that_is_finished_and_never_posted_is_neglected() -> None:
    books, _ = a_batch_that_was_never_posted()
    finding = answered(books)

    assert told(finding) == (
        "fail",
        "worker",
        "1 tasks were held by a live worker and not answered: the worker finished its batch and never posted it",
    )
    assert (concerned(finding), finding.judged) == ([1], 2)
    assert lines(finding.evidence) == ["10:4", "10:5"]  # handed out, and worked on


def test_a_finished_batch_that_a_worker_leaves_for_its_next_poll_is_neglected() -> None:
    books, main = fetched(1)
    main.batch(2.0, 7, (1, 1))
    main.poll(5.0, 7)

    assert told(answered(books)) == (
        "fail",
        "worker",
        "1 tasks were held by a live worker and not answered: the worker went on to its next poll without answering",
    )


def test_one_task_that_is_neglected_twice_is_one_task() -> None:
    books, main = fetched(1)
    main.batch(2.0, 7, (1, 1))
    main.poll(5.0, 7)
    main.fetch(10.0, 7, (1, 2))
    main.batch(11.0, 7, (1, 2))
    main.poll(15.0, 7)
    finding = answered(books)

    assert (finding.status, concerned(finding), finding.judged) == (Status.FAIL, [1], 2)
    assert finding.text.startswith("1 tasks were held")
    assert lines(finding.evidence) == ["10:4", "10:10"]


def test_of_several_tasks_that_were_neglected_the_reason_of_the_first_is_said() -> None:
    books, main = fetched(1, 2, 3)
    main.batch(2.0, 7, (1, 1))
    main.batch(4.0, 7, (2, 1))
    main.post(5.0, 7, (2, 1))
    main.batch(5.5, 7, (3, 1))
    main.poll(7.0, 7)
    finding = answered(books)

    assert (concerned(finding), finding.text) == (
        [1, 3],
        "2 tasks were held by a live worker and not answered: the worker finished its batch and never posted it",
    )


def test_of_several_tasks_that_are_held_to_the_end_the_reason_of_the_first_is_said() -> None:
    books, main = fetched(1)
    main.fetch(2.0, 8, (2, 1))
    main.fetch(11.0, 8, (2, 2))  # its last
    main.fetch(26.0, 8)
    ended(books, 100.0)
    finding = answered(books)

    assert concerned(finding) == [1, 2]
    assert finding.text.endswith("not answered: a live worker held it to the end and never answered")


def test_a_batch_that_an_exception_left_had_a_reason() -> None:
    books, _ = a_batch_that_was_never_posted(error="RuntimeError")

    assert answered(books).status is Status.PASS


def test_a_task_that_was_given_up_before_its_batch_began_or_ended_had_a_reason() -> None:
    books, main = fetched(1, 2)
    main.batch(2.0, 7, (2, 1), ends=None)
    main.poll(5.0, 7)

    assert told(answered(books)) == ("pass", "worker", "2 leases, none neglected by a live worker")


def test_an_answer_that_was_refused_is_no_neglect() -> None:
    books, main = fetched(1)
    main.batch(2.0, 7, (1, 1))
    main.post(3.0, 7, (1, 1), outcome="refused", status=413)
    main.poll(5.0, 7)

    assert answered(books).status is Status.PASS


def test_a_batch_that_a_passing_error_of_ours_struck_is_no_neglect() -> None:
    books, main = fetched(1)
    main.batch(2.0, 7, (1, 1), ends=0.1)
    main.strike(3.0, Effect.TRANSIENT, 7, (1, 1), kind="RuntimeError")
    main.poll(5.0, 7)

    assert answered(books).status is Status.PASS


def test_where_the_ledger_is_damaged_nobody_is_accused_of_not_posting() -> None:
    books, _ = a_batch_that_was_never_posted()

    assert answered(books, facts(damage=("10:9: cannot be read",))).status is Status.PASS


def test_a_task_that_a_silent_worker_holds_to_the_end_is_neglected() -> None:
    books, _ = fetched(1, 2)
    ended(books, 100.0)
    finding = answered(books)

    assert told(finding) == (
        "fail",
        "worker",
        "2 tasks were held by a live worker and not answered: a live worker held it to the end and never answered",
    )
    assert (concerned(finding), finding.judged) == ([1, 2], 2)
    assert lines(finding.evidence) == ["1:2", "10:4"]


@pytest.mark.parametrize(("at", "status"), [(9.0, Status.PASS), (9.1, Status.FAIL)])
def test_a_worker_may_be_silent_for_an_ack_wait_before_it_counts_as_stuck(at: float, status: Status) -> None:
    books, _ = fetched(1)
    ended(books, at)

    assert answered(books).status is status


def test_where_lines_are_lost_nobody_is_accused_of_holding_a_task_to_the_end() -> None:
    books, _ = fetched(1)
    ended(books, 100.0)
    known = facts(witness(7, "STARTED", 0, 1), damage=("h-0001-10-1.jsonl:5: events 5 to 6 are missing",))

    assert told(answered(books, known)) == ("pass", "worker", "1 leases, none neglected by a live worker")


def test_a_batch_that_was_not_posted_is_told_before_a_task_that_is_held_to_the_end() -> None:
    books, main = fetched(1, 2, 3)
    main.batch(2.0, 7, (1, 1))
    main.batch(4.0, 7, (2, 1))
    main.post(5.0, 7, (2, 1))
    ended(books, 100.0)
    finding = answered(books)

    assert told(finding) == (
        "fail",
        "worker",
        "2 tasks were held by a live worker and not answered: the worker finished its batch and never posted it",
    )
    assert concerned(finding) == [1, 3]
    assert lines(finding.evidence) == ["1:2", "10:4", "10:5"]


# --- leases-outlive-their-work: ack_wait is 8 s


def outlived(books: Books, known: Facts | None = None) -> Finding:
    return leases_outlive_their_work(books.case(known or facts(witness(7, "SUCCESS", 3, 0))))


def test_it_is_the_setups_that_ack_wait_is_long_enough() -> None:
    check = outlived(Books()).check

    assert (check.slug, check.group, check.whose) == ("leases-outlive-their-work", Group.STABILITY, Whose.SETUP)
    assert not check.is_safety


def test_leases_that_are_answered_in_time_outlive_their_work() -> None:
    books, main = fetched(1, 2)
    main.post(3.0, 7, (1, 1), (2, 1))
    finding = outlived(books)

    assert told(finding) == ("pass", "setup", "2 leases, none expired while it was held (ack_wait 8 s)")
    assert (finding.judged, finding.tasks, finding.warnings, lines(finding.evidence)) == (2, (), (), [])


def test_an_ack_wait_that_is_not_known_is_not_told() -> None:
    books, main = fetched(1)
    main.post(3.0, 7, (1, 1))

    assert outlived(books, facts(ack_wait=None)).text == "1 leases, none expired while it was held"


def test_a_task_that_comes_back_while_its_worker_still_has_it_costs_a_delivery_and_is_a_warning() -> None:
    books, main = fetched(1, 2)
    books.process(11).fetch(9.5, 7, (1, 2))
    main.post(12.0, 7, (1, 1), (2, 1))
    finding = outlived(books)

    assert told(finding) == (
        "pass",
        "setup",
        "leases of 1 tasks expired while they were held (ack_wait 8 s): each cost a delivery",
    )
    assert finding.warnings == ("ack_wait is short for batch and prefetch: 1 tasks came back while they were held",)
    assert (finding.tasks, finding.judged) == ((), 3)
    assert lines(finding.evidence) == ["10:4", "11:2"]


def test_a_task_that_comes_back_after_its_answer_did_not_expire_while_held() -> None:
    books, main = fetched(1)
    main.post(9.0, 7, (1, 1))
    books.process(11).fetch(9.5, 7, (1, 2))

    assert outlived(books).text == "2 leases, none expired while it was held (ack_wait 8 s)"


def crashed_holding(at: float) -> Books:
    books, main = fetched(1)
    main.strike(at, Effect.CRASH)
    return books


@pytest.mark.parametrize(("at", "expired"), [(9.0, False), (9.5, True)])
def test_a_lease_that_was_over_before_its_worker_crashed_expired_while_it_was_held(at: float, expired: bool) -> None:
    books = crashed_holding(at)
    books.process(11, incarnation=2).fetch(25.0, 7, (1, 2))
    books.processes[-1].post(26.0, 7, (1, 2))
    finding = outlived(books)

    assert finding.status is Status.PASS
    assert [text.rpartition(": ")[2] for text in finding.warnings] == [
        "1 tasks came back while they were held"
    ] * expired


def test_a_lease_that_expired_is_shown_by_the_deliveries_that_we_have_seen() -> None:
    books = crashed_holding(9.5)
    later = books.process(11, incarnation=2)
    later.fetch(25.0, 7, (2, 1))
    later.post(26.0, 7, (1, 2), (2, 1))  # a delivery whose receipt nobody booked

    assert lines(outlived(books).evidence) == ["10:4"]


def used_up(witnessed: str = "STARTED") -> Books:
    """Let both deliveries of task 1 expire while they are held, and task 2 expire once and be answered."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1), (2, 1))
    main.strike(9.5, Effect.CRASH)
    later = books.process(11, incarnation=2)
    later.fetch(20.0, 7, (1, 2), (2, 2))
    later.post(21.0, 7, (2, 2))
    later.strike(30.0, Effect.CRASH)
    books.process(12, incarnation=3).fetch(50.0, 7)
    return books


def test_expired_leases_that_used_up_a_tasks_last_delivery_fail() -> None:
    finding = outlived(used_up(), facts(witness(7, "STARTED", 1, 1)))

    assert told(finding) == (
        "fail",
        "setup",
        "leases of 2 tasks expired while they were held (ack_wait 8 s), and 1 had no more left",
    )
    assert (concerned(finding), finding.judged, finding.warnings) == ([1], 4, ())
    assert lines(finding.evidence) == ["10:4", "11:2"]


def test_a_task_that_expired_and_was_then_never_handed_out_again_had_no_more_left_either() -> None:
    finding = outlived(used_up(), facts(witness(7, "STARTED", 1, 1, delivered=4), max_deliver=3))

    assert (finding.status, concerned(finding)) == (Status.FAIL, [1])


def test_a_task_that_expired_and_may_come_back_fails_nothing() -> None:
    finding = outlived(used_up(), facts(witness(7, "STARTED", 1, 1), max_deliver=None))

    assert (finding.status, finding.judged) == (Status.PASS, 4)
    assert finding.warnings == ("ack_wait is short for batch and prefetch: 2 tasks came back while they were held",)


# --- faults that slow a worker


def slowed(*, by: float) -> Books:
    """Answer task 1 at 11 s, 10 s after its receipt, after it has come back; a fault had delayed its batch."""
    books, main = fetched(1)
    main.strike(2.0, Effect.SLOW, 7, kind="delay", seconds=by)
    other = books.process(11, incarnation=2)
    other.fetch(9.5, 7, (1, 2))
    main.post(11.0, 7, (1, 1))
    other.post(12.0, 7, (1, 2))
    return books


def test_a_lease_that_expired_because_we_slowed_its_worker_is_not_the_setups() -> None:
    text = "2 leases, none expired while it was held (ack_wait 8 s)"
    finding = outlived(slowed(by=3.0))

    assert finding.text == f"{text}, but for 1 tasks whose worker faults of ours had slowed"
    assert finding.warnings == ()


def test_a_lease_that_had_expired_without_our_delay_too_is_the_setups() -> None:
    assert outlived(slowed(by=1.0)).warnings != ()


def test_what_expired_by_our_delay_is_told_beside_what_expired_by_itself() -> None:
    books = slowed(by=3.0)
    other = books.process(12, incarnation=3)
    other.fetch(20.0, 7, (2, 1))
    books.process(13, incarnation=4).fetch(29.0, 7, (2, 2))
    other.post(30.0, 7, (2, 1))

    assert outlived(books).text == (
        "leases of 1 tasks expired while they were held (ack_wait 8 s): each cost a delivery; "
        "1 more did since faults of ours slowed their worker"
    )
