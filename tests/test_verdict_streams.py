from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict.streams import Stream
from tests.booked import ACK_WAIT, PUBLISHED, Books, Process, facts, task, witness

DUE = ACK_WAIT + 2.0 + ACK_WAIT / 2  # seconds after its receipt until which a lease need not be back


def streams_of(books: Books, *witnesses: object, ack_wait: float | None = ACK_WAIT) -> list[Stream]:
    return books.case(facts(*witnesses, ack_wait=ack_wait)).streams.all  # type: ignore[arg-type]


def one_stream(books: Books, *witnesses: object) -> Stream:
    (stream,) = streams_of(books, *witnesses)
    return stream


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def main(books: Books) -> Process:
    return books.process(10).start(0.5)


# --- which streams there are


def test_each_job_has_a_stream_with_its_tasks_in_the_order_of_their_sequences(books: Books, main: Process) -> None:
    main.fetch(2.0, 8, (1, 1))
    main.fetch(3.0, 7, (3, 1), (1, 1), (2, 1))
    first, second = streams_of(books)

    assert (first.job, [one.key[1] for one in first.tasks], first.is_last) == (7, [1, 2, 3], True)
    assert (second.job, [one.key[1] for one in second.tasks], second.is_last) == (8, [1], True)


def test_a_job_that_was_run_again_has_a_stream_for_each_time(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    books.refill(7)
    main.fetch(3.0, 7, (2, 1))
    books.refill(7)
    main.fetch(4.0, 7, (2, 1), (3, 1))
    streams = streams_of(books)

    assert [[one.key[1] for one in stream.tasks] for stream in streams] == [[1, 2], [2], [2, 3]]
    assert [stream.is_last for stream in streams] == [False, False, True]


def test_tasks_that_were_published_at_the_same_moment_are_of_one_stream(books: Books, main: Process) -> None:
    rows = [[number, 1, number, PUBLISHED, 0, str(number), ""] for number in (2, 1, 3)]
    about = {"call": 1, "job": 7, "status": 200, "seconds": 0.05, "struck": False}
    main.book("leases", 2.0, **about, stream="job_7", leases=rows)
    stream = one_stream(books)

    assert [one.key[1] for one in stream.tasks] == [1, 2, 3]


def test_a_stream_is_found_by_its_task(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.fetch(2.0, 8, (1, 1))
    books.refill(7)
    main.fetch(3.0, 7, (1, 1), (2, 1))
    case = books.case(facts())

    for number in (1, 2):
        assert case.streams.of(task(case.history, 7, number)) is case.streams.all[0]
        assert case.streams.of(task(case.history, 7, number, filling=1)) is case.streams.all[1]
    assert case.streams.of(task(case.history, 8, 1)) is case.streams.all[2]


def test_without_tasks_there_is_no_stream(books: Books, main: Process) -> None:
    main.fetch(2.0, 7)

    assert streams_of(books, witness(7, "STARTED", 0, 5)) == []


# --- deliveries that nobody of ours booked


def test_deliveries_without_a_gap_were_all_ours(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))

    assert one_stream(books).elsewhere == 0


def test_a_gap_in_the_numbers_of_deliveries_counts_what_nobody_of_ours_booked(books: Books, main: Process) -> None:
    books.skip(7)
    main.fetch(2.0, 7, (1, 1))
    books.skip(7, 2)
    main.fetch(3.0, 7, (2, 1), (1, 2))

    assert one_stream(books).elsewhere == 3


def test_a_delivery_that_only_an_answer_tells_of_leaves_no_gap(books: Books, main: Process) -> None:
    main.post(1.0, 7, (1, 1))
    main.fetch(2.0, 7, (2, 1))

    assert one_stream(books).elsewhere == 0


@pytest.mark.parametrize(("delivered", "elsewhere"), [(None, 1), (3, 1), (2, 1), (4, 2), (9, 7)])
def test_a_whole_log_also_counts_the_deliveries_after_our_last(
    books: Books, main: Process, delivered: int | None, elsewhere: int
) -> None:
    books.skip(7)
    main.fetch(2.0, 7, (1, 1), (2, 1))

    assert one_stream(books, witness(7, "STARTED", 0, 5, delivered=delivered)).elsewhere == elsewhere


def test_the_log_of_a_job_that_was_run_again_says_nothing_of_one_stream(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    books.refill(7)
    main.fetch(3.0, 7, (1, 1))

    assert [one.elsewhere for one in streams_of(books, witness(7, "STARTED", 0, 5, delivered=9))] == [0, 0]


def test_tasks_calls_of_which_nobody_saw_the_end_are_counted_with_their_lines(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.fetch(2.5, 7, (3, 1))
    main.ask(3.0, 7)
    main.ask(3.0, 8)
    main.fail(4.0, "tasks", 7, struck=False, error="ReadTimeout")
    stream = one_stream(books)

    assert (stream.unseen, stream.largest_fetch) == (2, 2)
    assert stream.unseen_refs == [(0, 7), (0, 10)]


def test_a_job_whose_tasks_calls_all_ended_has_none_that_nobody_saw_the_end_of(books: Books, main: Process) -> None:
    main.post(2.0, 7, (1, 1))
    stream = one_stream(books)

    assert (stream.unseen, stream.largest_fetch, stream.unseen_ours, stream.unseen_refs) == (0, 0, False, [])


def test_what_was_cut_off_is_ours_if_injected_crashes_cut_all_of_it_off(books: Books, main: Process) -> None:
    other = books.process(20, 2)
    main.fetch(2.0, 7, (1, 1))
    main.ask(3.0, 7)
    main.strike(3.5, Effect.CRASH, 7)
    assert one_stream(books).unseen_ours

    other.ask(5.0, 7)
    assert not one_stream(books).unseen_ours

    other.strike(6.0, Effect.CRASH, 7)
    assert one_stream(books).unseen_ours

    main.fail(2.5, "tasks", 7, struck=False, error="ReadTimeout")
    assert not one_stream(books).unseen_ours


def test_what_an_answer_that_got_lost_reserved_is_not_ours(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    main.fail(2.5, "tasks", 7, struck=False, error="ReadTimeout")
    main.strike(3.5, Effect.CRASH, 7)

    assert (one_stream(books).unseen, one_stream(books).unseen_ours) == (1, False)


@pytest.mark.parametrize(("gap", "explained", "most_missed"), [(6, True, 2), (7, False, 7), (0, True, 2)])
def test_calls_that_were_cut_off_can_explain_a_gap_and_each_a_task_once(
    gap: int, explained: bool, most_missed: int
) -> None:
    stream = Stream(7, [], True, elsewhere=gap, unseen=2, largest_fetch=3)

    assert (stream.is_explained, stream.most_missed) == (explained, most_missed)


@pytest.mark.parametrize(("delivered", "is_counted"), [(None, False), (0, True), (5, True)])
def test_a_job_whose_log_tells_of_every_delivery_is_counted(
    books: Books, main: Process, delivered: int | None, is_counted: bool
) -> None:
    main.fetch(2.0, 7, (1, 1))

    assert one_stream(books, witness(7, "STARTED", 0, 5, delivered=delivered)).is_counted is is_counted
    assert not one_stream(books).is_counted


# --- what the service says of it


def test_a_job_that_the_service_was_not_asked_about_has_no_size_no_state_and_no_end(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (1, 1))
    stream = one_stream(books, witness(8, "SUCCESS", 1, 0))

    assert (stream.witness, stream.size, stream.status, stream.is_final) == (None, None, "", False)
    assert stream.missing == "nothing was kept of what it said of job 7"


def test_why_the_service_was_not_asked_about_a_job_is_known_for_the_job_or_for_all(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    (stream,) = books.case(facts(missing="no token")).streams.all
    assert stream.missing == "no token"

    books.supervisor().book("unwitnessed", 3.0, job=7, why="HTTP 404")
    books.supervisor().book("unwitnessed", 3.0, job=8, why="HTTP 500")
    (stream,) = books.case(facts(missing="no token")).streams.all
    assert stream.missing == "HTTP 404"

    (stream,) = books.case(facts(witness(7, "STARTED", 0, 1), missing="no token")).streams.all
    assert stream.missing == ""


@pytest.mark.parametrize("status", ["CREATED", "PENDING", "STARTED", "SUCCESS", "FAILURE", "REVOKED"])
def test_a_job_has_ended_if_the_service_takes_it_no_further(books: Books, main: Process, status: str) -> None:
    main.fetch(2.0, 7, (1, 1))
    stream = one_stream(books, witness(7, status, 1, 4))

    assert (stream.status, stream.is_final) == (status, status in ("SUCCESS", "FAILURE", "REVOKED"))


def test_what_the_service_says_of_a_job_is_about_its_last_stream_only(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    books.refill(7)
    main.fetch(3.0, 7, (1, 1))
    first, last = streams_of(books, witness(7, "SUCCESS", 1, 4))

    assert (first.size, first.status, first.is_final) == (None, "", False)
    assert (last.size, last.status, last.is_final) == (5, "SUCCESS", True)


def test_the_size_of_a_job_is_the_largest_that_the_service_ever_gave(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    supervisor = books.supervisor()
    supervisor.seen(1.0, 7, "STARTED", None, 9)
    supervisor.seen(1.0, 7, "STARTED", 9, None)
    assert one_stream(books).size is None

    supervisor.seen(1.0, 7, "STARTED", 1, 4)
    supervisor.seen(2.0, 7, "STARTED", 2, 2)
    assert one_stream(books).size == 5
    assert one_stream(books, witness(7, "STARTED", 2, 1)).size == 5
    assert one_stream(books, witness(7, "STARTED", 3, 3)).size == 6
    assert one_stream(books, witness(7, "STARTED", None, 9, queued=7)).size == 7
    assert one_stream(books, witness(7, "STARTED", 3, 3, queued=4)).size == 6


def test_what_the_service_said_of_a_job_comes_in_the_order_in_which_it_was_asked(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    for at, status in ((3.0, "SUCCESS"), (1.0, "PENDING"), (2.0, "STARTED")):
        books.supervisor().seen(at, 7, status, 0, 5)
    other = books.supervisor(host="other")
    other.seen(1.5, 7, "REVOKED", 0, 5)
    streams = books.case(facts()).streams

    slow = {"status": "FAILURE", "processed": 0, "remaining": 5, "failed": 0}
    books.supervisor().book("seen", 9.0, job=7, asked=0.5, heard=9.0, **slow)
    assert [one.status for one in streams.seen(7)] == ["PENDING", "STARTED", "SUCCESS", "REVOKED"]

    streams = books.case(facts()).streams
    assert [one.status for one in streams.seen(7)] == ["FAILURE", "PENDING", "STARTED", "SUCCESS", "REVOKED"]
    assert streams.seen(8) == []


# --- asking in vain


@pytest.mark.parametrize(
    ("since", "until", "at"),
    [
        (5.0, float("inf"), 5.0),
        (5.0625, float("inf"), 7.0),
        (1.0, float("inf"), 5.0),
        (7.0625, float("inf"), None),
        (5.0, 5.5, 5.0),
        (5.0, 5.4375, None),
    ],
)
def test_tasks_were_asked_for_in_vain_when_the_call_was_sent_and_only_if_it_had_been_answered_in_time(
    books: Books, main: Process, since: float, until: float, at: float | None
) -> None:
    main.fetch(7.5, 7, seconds=0.5)
    main.fetch(5.5, 7, seconds=0.5)
    main.fetch(9.5, 8, seconds=0.5)
    books.process(11, host="other").fetch(9.5, 7, seconds=0.5)

    assert books.case(facts()).streams.asked_in_vain(7, 0, since, until) == at


def test_a_job_that_nobody_asked_about_was_not_asked_for_tasks_in_vain(books: Books, main: Process) -> None:
    main.fetch(5.5, 7, seconds=0.5)
    streams = books.case(facts()).streams

    assert streams.asked_in_vain(8, 0, 0.0) is None
    assert streams.asked_in_vain(7, 1, 0.0) is None


# --- drained


def drained(books: Books, *witnesses: object, ack_wait: float | None = ACK_WAIT) -> bool:
    case = books.case(facts(*witnesses, ack_wait=ack_wait))  # type: ignore[arg-type]
    return case.streams.drained(case.streams.all[0])


@pytest.mark.parametrize(("sent", "expected"), [(3.0 + DUE, True), (3.0 + DUE - 0.0625, False)])
def test_a_stream_is_drained_once_tasks_were_asked_for_in_vain_after_its_last_lease_was_due_again(
    books: Books, main: Process, sent: float, expected: bool
) -> None:
    main.fetch(2.0, 7, (2, 1))
    main.fetch(3.0, 7, (1, 1))
    main.fetch(sent + 0.5, 7, seconds=0.5)

    assert drained(books) is expected


@pytest.mark.parametrize(("sent", "expected"), [(3.0 + 302.0, True), (3.0 + 301.9375, False)])
def test_where_ack_wait_is_not_known_a_lease_is_due_again_after_the_longest_that_is_in_use(
    books: Books, main: Process, sent: float, expected: bool
) -> None:
    main.fetch(3.0, 7, (1, 1))
    main.fetch(sent + 0.5, 7, seconds=0.5)

    assert drained(books, ack_wait=None) is expected


def test_on_one_clock_of_several_is_enough(books: Books, main: Process) -> None:
    other = books.process(11, host="other")
    main.fetch(3.0, 7, (1, 1))
    other.fetch(500.0, 7, (2, 1))
    main.fetch(30.0, 7)
    assert drained(books)


def test_what_one_clock_says_is_no_time_on_another(books: Books, main: Process) -> None:
    other = books.process(11, host="other")
    main.fetch(3.0, 7, (1, 1))
    other.fetch(500.0, 7)

    assert not drained(books)


def test_a_stream_of_which_nobody_received_anything_is_not_drained(books: Books, main: Process) -> None:
    main.post(3.0, 7, (1, 1))
    main.fetch(500.0, 7)

    assert not drained(books)


def test_what_was_asked_for_in_vain_counts_only_up_to_the_last_moment_at_which_the_job_was_known_to_go_on(
    books: Books, main: Process
) -> None:
    main.fetch(3.0, 7, (1, 1))
    main.fetch(30.5, 7, seconds=0.5)
    assert not drained(books, witness(7, "SUCCESS", 1, 0))  # nobody saw it go on

    supervisor = books.supervisor()
    supervisor.seen(30.25 + 0.02, 7, "STARTED", 0, 1)
    supervisor.seen(60.0, 7, "SUCCESS", 1, 0)
    books.supervisor(host="other").seen(90.0, 7, "STARTED", 0, 1)
    assert not drained(books, witness(7, "SUCCESS", 1, 0))
    assert drained(books, witness(7, "STARTED", 1, 0))

    supervisor.seen(31.0, 7, "STARTED", 0, 1)
    assert drained(books, witness(7, "SUCCESS", 1, 0))


def test_a_job_serves_tasks_for_ever_unless_it_has_ended(books: Books, main: Process) -> None:
    main.fetch(3.0, 7, (1, 1))
    supervisor = books.supervisor()
    for at, status in ((10.02, "STARTED"), (20.02, "PENDING"), (15.02, "STARTED")):
        supervisor.seen(at, 7, status, 0, 1)
    for at, status in ((30.0, "FAILURE"), (40.0, "SUCCESS"), (50.0, "REVOKED")):
        supervisor.seen(at, 7, status, 0, 1)

    def until(status: str, clock: int = 0) -> float:
        streams = books.case(facts(witness(7, status, 1, 0))).streams
        return streams.served_until(streams.all[0], clock)

    assert until("STARTED") == float("inf")
    assert until("SUCCESS") == 20.0
    assert until("SUCCESS", clock=1) == float("-inf")
