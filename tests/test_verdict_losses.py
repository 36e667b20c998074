from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.losses import no_task_lost
from ami_fault_site.verdict.terms import Finding
from tests.booked import ACK_WAIT, Books, Process, concerned, facts, lines, task, told, witness

DUE = ACK_WAIT + 2.0 + ACK_WAIT / 2  # seconds after its receipt until which a lease need not be back


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def main(books: Books) -> Process:
    return books.process(10).start(0.5)


def judged(books: Books, *witnesses: JobWitness, **about: object) -> Finding:
    return no_task_lost(books.case(facts(*witnesses, **about)))  # type: ignore[arg-type]


def service(job: int, status: str, processed: int, remaining: int, failed: int = 0, **about: object) -> JobWitness:
    """Return what the service says of a job. Its log is whole, and tells of no more deliveries than we know of."""
    return witness(job, status, processed, remaining, failed, **{"delivered": 0, **about})  # type: ignore[arg-type]


def crash(books: Books, at: float, incarnation: int = 1) -> None:
    books.supervisor().exit(at, incarnation, "injected")


# --- accounted for


def test_nothing_is_lost_if_every_task_is_answered_and_counted(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.fetch(2.0, 8, (1, 1))
    main.post(3.0, 7, (1, 1), (2, 1), failed=(2,))
    main.post(3.0, 8, (1, 1))
    finding = judged(books, service(7, "SUCCESS", 2, 0, 1), service(8, "SUCCESS", 1, 0))

    assert told(finding) == ("pass", "service", "3 of 3 tasks are accounted for")
    assert (finding.judged, finding.tasks, finding.evidence) == (3, (), ())


def test_where_no_task_was_ever_handed_out_there_is_nothing_to_judge(books: Books) -> None:
    assert told(judged(books)) == ("not-applicable", "service", "no task was ever handed out")


def test_what_another_worker_got_is_accounted_for_once_the_service_waits_for_nothing(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1))
    books.skip(7)
    main.fetch(2.5, 7, (2, 1))
    main.post(3.0, 7, (2, 1))
    crash(books, 3.5)
    books.process(20, 2).fetch(2.0 + DUE + 0.5, 7, seconds=0.5)

    assert judged(books, service(7, "SUCCESS", 2, 0)).status.value == "pass"
    text = "of 1 of 2 tasks it cannot be told: 1 deliveries of this job went to another worker"
    finding = judged(books, service(7, "STARTED", 1, 1))
    assert told(finding) == ("unknown", "service", text)
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([1], ["1:1", "10:4"], 2)


# --- it cannot be told


def test_of_pending_tasks_it_cannot_be_told_and_the_commonest_cause_is_given(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1), (3, 1))
    main.batch(3.0, 8, (1, 1), (2, 1), (3, 1))
    main.post(3.0, 7, (3, 1))
    finding = judged(books, service(7, "STARTED", 1, 2))

    text = "of 5 of 6 tasks it cannot be told: only an answer tells of it, and 1 other cause"
    assert told(finding) == ("unknown", "service", text)
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([1, 2, 1, 2, 3], ["10:4"], 6)


def test_of_equally_common_causes_the_first_by_its_letters_is_given(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    main.batch(3.0, 8, (1, 1))

    text = "of 2 of 2 tasks it cannot be told: a worker still held it, and 1 other cause"
    assert judged(books).text == text

    main.fetch(2.0, 9, (1, 1))
    main.post(3.0, 9, (1, 1), outcome=None)
    text = "of 3 of 3 tasks it cannot be told: a worker still held it, and 2 other causes"
    assert judged(books).text == text


def test_answers_that_were_not_in_the_counts_yet_leave_it_open(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.post(3.0, 7, (1, 1), (2, 1))
    finding = judged(books, service(7, "STARTED", 0, 2))

    text = "2 tasks, none seen lost, but 2 accepted answers were not in the counts yet"
    assert (told(finding), finding.judged) == (("unknown", "service", text), 2)


def test_a_ledger_that_is_not_complete_shows_no_loss_and_proves_none_either(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    main.post(3.0, 7, (1, 1))
    finding = judged(books, service(7, "SUCCESS", 1, 0), damage=("a.jsonl:3: not JSON", "b.jsonl:1: not JSON"))

    text = "1 tasks, none seen lost, but the ledger is not complete: a.jsonl:3: not JSON"
    assert (told(finding), finding.judged) == (("unknown", "service", text), 1)


# --- lost


def test_tasks_that_the_service_did_not_hand_out_again_are_lost_with_their_cause_and_their_lines(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    crash(books, 3.0)
    books.process(20, 2).fetch(2.0 + DUE + 0.5, 7, seconds=0.5)
    finding = judged(books, service(7, "STARTED", 0, 2))

    text = "2 lost (an injected crash; asked for again in vain after its ack_wait)"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([1, 2], ["1:1", "10:4"], 2)


def test_a_loss_is_a_loss_although_other_tasks_are_pending_or_the_ledger_is_not_complete(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.post(3.0, 7, (1, 1))
    main.post(3.0, 7, (1, 1), failed=(1,))
    finding = judged(books, damage=("a.jsonl:3",))

    assert told(finding) == ("fail", "worker", "1 conflict (a success and an error were both accepted)")
    assert concerned(finding) == [1]


def test_tasks_that_were_never_handed_out_are_the_services_loss(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    main.fetch(2.0, 8, (1, 1))
    main.post(3.0, 7, (1, 1))
    main.post(3.0, 8, (1, 1))
    finding = judged(books, service(7, "SUCCESS", 1, 2), service(8, "SUCCESS", 1, 1))

    text = "2 of job 7 never handed out; 1 of job 8 never handed out"
    assert told(finding) == ("fail", "service", text)
    assert (finding.tasks, finding.evidence, finding.judged) == ((), (), 2)


def test_accepted_answers_that_are_missing_from_the_counts_are_the_services_loss_with_names_or_without(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.fetch(2.0, 8, (1, 1), (2, 1))
    main.post(3.0, 7, (1, 1), (2, 1))
    main.post(3.0, 8, (1, 1), (2, 1))
    nameless = judged(books, service(7, "SUCCESS", 1, 0, queued=2), service(8, "SUCCESS", 1, 0, queued=2))
    assert told(nameless) == ("fail", "service", "2 answers accepted and missing from the job's counts")

    recorded = frozenset({"$JS.ACK.job_7.job-7-consumer.1.2.1.1.0"})
    named = judged(books, service(7, "SUCCESS", 1, 0, recorded=recorded), service(8, "SUCCESS", 1, 0))
    text = (
        "1 unrecorded (its answer was accepted and is not in the counts); "
        "1 answers accepted and missing from the job's counts"
    )
    assert told(named) == ("fail", "service", text)
    assert concerned(named) == [1]

    also = frozenset({"$JS.ACK.job_8.job-8-consumer.1.1.1.1.0"})
    seven = service(7, "SUCCESS", 1, 0, recorded=recorded)
    both = judged(books, seven, service(8, "SUCCESS", 1, 0, recorded=also, queued=2))
    assert both.text == "2 unrecorded (its answer was accepted and is not in the counts)"
    assert both.tasks == tuple(task(books.history(), job, number).key for job, number in ((7, 1), (8, 2)))


def test_a_loss_belongs_to_the_first_of_service_worker_budget_and_setup_that_had_a_part_in_it(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1))
    crash(books, 3.0)
    assert judged(books, service(7, "STARTED", 0, 1), max_deliver=1).whose.value == "budget"

    stuck = books.process(20, 2)
    stuck.fetch(4.0, 7, (2, 2))
    books.supervisor().exit(40.0, 2, "ended")
    finding = judged(books, service(7, "STARTED", 0, 2), max_deliver=3)
    assert (finding.status.value, finding.whose.value) == ("fail", "worker")

    finding = judged(books, service(7, "STARTED", 0, 2), max_deliver=1)
    assert finding.whose.value == "worker"
    assert finding.text.index("1 stuck") < finding.text.index("1 exhausted (delivery 1: an injected crash)")

    finding = judged(books, service(7, "SUCCESS", 0, 3), max_deliver=1)
    assert finding.whose.value == "service"


def test_what_is_lost_is_told_by_owner_and_fate_and_proved_by_ten_tasks_the_services_first(
    books: Books, main: Process
) -> None:
    for number in range(1, 13):
        main.fetch(2.0, 7, (number, 1))
    main.strike(3.0, Effect.CRASH, 7)
    other = books.process(20, 2)
    other.fetch(13.0, 8, (1, 1))
    other.post(14.0, 8, (1, 1), outcome="refused", status=503)
    finding = judged(books, service(7, "STARTED", 0, 12), service(8, "STARTED", 0, 1), max_deliver=1)

    text = (
        "1 exhausted (delivery 1: the service refused its answer (HTTP 503)); "
        "12 exhausted (delivery 1: an injected crash)"
    )
    assert told(finding) == ("fail", "service", text)
    assert (len(finding.tasks), finding.judged) == (13, 13)
    receipts = [f"10:{line}" for line in range(4, 22, 2)]
    assert lines(finding.evidence) == [*receipts, "10:27", "20:2", "20:3", "20:4"]


def test_the_services_lines_are_never_cut_off_by_those_of_others(books: Books, main: Process) -> None:
    holders = [main, books.process(20, 2), books.process(30, 3)]
    for delivery, holder in enumerate(holders, 1):
        for number in range(1, 13):
            holder.fetch(10.0 * delivery, 7, (number, delivery))
        holder.strike(10.0 * delivery + 1.0, Effect.CRASH, 7)
    last = books.process(40, 4)
    last.fetch(40.0, 8, (1, 1))
    last.strike(41.0, Effect.CRASH, 8)
    books.process(50, 5).fetch(40.0 + DUE + 0.5, 8, seconds=0.5)
    finding = judged(books, service(7, "STARTED", 0, 12), service(8, "STARTED", 0, 1), max_deliver=3)

    assert finding.whose.value == "service"
    assert "40:2" in lines(finding.evidence)


def test_more_tasks_that_did_not_come_back_than_deliveries_that_went_elsewhere_are_the_services_loss(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1), (3, 1))
    crash(books, 3.0)
    books.skip(7)
    other = books.process(20, 2)
    other.fetch(5.0, 7, (4, 1))
    other.post(6.0, 7, (4, 1))
    other.fetch(2.0 + DUE + 0.5, 7, seconds=0.5)
    finding = judged(books, service(7, "STARTED", 1, 3))

    assert told(finding) == ("fail", "service", "at least 2 more of job 7 lost than deliveries went elsewhere")
    assert (finding.tasks, finding.evidence, finding.judged) == ((), (), 4)


def test_a_task_that_was_exhausted_on_purpose_is_accounted_for(books: Books, main: Process) -> None:
    main.fetch(1.0, 7, (1, 1))
    for delivery, at in ((1, 2.0), (2, 12.0)):
        main.strike(at, Effect.WITHHOLD, 7, (2, delivery), site="tasks", trigger="exhaust")
        main.lose_tasks(at, 7, (2, delivery), then=((3, 1),) if delivery == 1 else ())
    main.post(13.0, 7, (1, 1), (3, 1))
    finding = judged(books, service(7, "SUCCESS", 3, 0, 1, given_up=1))

    assert told(finding) == ("pass", "service", "3 of 3 tasks are accounted for, 1 of them exhausted on purpose")


def test_a_task_that_got_lost_on_its_way_and_never_came_back_is_lost(books: Books, main: Process) -> None:
    main.lose_tasks(2.0, 7, (1, 1))
    main.fetch(2.0 + DUE + 0.5, 7)
    finding = judged(books, service(7, "STARTED", 0, 1))

    cause = "the answer that brought it was lost; asked for again in vain after its ack_wait"
    assert told(finding) == ("fail", "service", f"1 lost ({cause})")
