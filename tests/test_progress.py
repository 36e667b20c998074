from __future__ import annotations

from ami_fault_site.faults import Effect
from ami_fault_site.history import History
from ami_fault_site.progress import JobStanding, Standing, WorkerStanding, in_one_line, standing
from tests.booked import Books, Supervisor


def two_workers() -> tuple[Books, Supervisor]:
    """Book two workers side by side: the first crashes at 3 s and is to start again at 8 s, the second works on."""
    books = Books()
    supervisor = books.supervisor()
    supervisor.spawn(0.1, 1, worker=1)
    supervisor.spawn(0.1, 2, worker=2)
    first, second = books.process(11, incarnation=1).start(0.5), books.process(12, incarnation=2).start(0.5)
    first.book("armed", 0.6)
    second.book("armed", 0.6)
    first.fetch(1.0, 7, (1, 1), (2, 1))
    second.fetch(1.1, 7, (3, 1))
    second.post(1.5, 7, (3, 1), failed=(3,))
    first.strike(2.9, Effect.CRASH, 7, (1, 1), (2, 1), kind="kill")
    supervisor.exit(3.0, 1, "injected", code=-9)
    supervisor.wait(3.0, 5.0, worker=1)
    supervisor.seen(3.1, 7, "STARTED", 1, 2, 1)
    return books, supervisor


def now_of(books: Books, at: float) -> Standing:
    history: History = books.history()
    base = history.files.wall_base(history.processes[0].clock)
    return standing(history, base + at)


def test_a_run_stands_where_its_tasks_workers_and_jobs_stand() -> None:
    books, _ = two_workers()

    now = now_of(books, 4.0)

    assert (now.handed_out, now.out, now.answered, now.failed, now.came_back) == (3, 2, 1, 1, 0)
    assert now.faults == {"crash": 1}
    assert now.jobs == (JobStanding(7, 1, "STARTED", 1, 1, 2),)
    assert (now.workers[0].number, now.workers[0].incarnation, now.workers[0].state) == (1, 1, "crashed by a fault")
    assert now.workers[0].resumes_in is not None
    assert round(now.workers[0].resumes_in, 3) == 4.0
    assert now.workers[1] == WorkerStanding(2, 2, "at work")
    assert now.outcome == ""


def test_a_worker_that_was_started_again_no_longer_waits_and_its_tasks_came_back() -> None:
    books, supervisor = two_workers()
    supervisor.spawn(8.0, 3, worker=1)
    books.process(13, incarnation=3).start(8.5).fetch(11.5, 7, (1, 2), (2, 2))

    now = now_of(books, 12.0)

    assert now.workers[0] == WorkerStanding(1, 3, "at work")
    assert now.came_back == 2


def test_what_happened_last_comes_last_and_names_the_worker_where_there_are_several() -> None:
    books, _ = two_workers()

    told = [one.text for one in now_of(books, 4.0).last]

    assert told == [
        "worker 1, incarnation 1 started",
        "worker 2, incarnation 2 started",
        "crash: kill",
        "worker 1, incarnation 1 ended: an injected crash",
    ]


def test_what_happened_last_is_told_by_the_clock_and_not_by_which_file_was_read_last() -> None:
    books = Books()
    early, late = books.process(11, incarnation=1).start(0.5), books.process(12, incarnation=1).start(0.5)
    late.strike(90.0, Effect.NETWORK, 7, (1, 1), kind="refused")
    for number in range(40):
        early.strike(10.0 + number, Effect.NETWORK, 7, (1, 1), kind="reset")

    files = [early.events, late.events]
    for order in (files, files[::-1]):
        history = History()
        history.add([event for file in order for event in file])
        told = [one.text for one in standing(history, 1_000.0).last]
        assert told == [*["network-error: reset"] * 5, "network-error: refused"]


def test_the_outcome_is_told_once_the_run_has_ended_and_nobody_waits_for_a_start() -> None:
    books, supervisor = two_workers()
    supervisor.book("outcome", 4.0, outcome="timeout")

    now = now_of(books, 4.5)

    assert now.outcome == "timeout"
    assert now.workers[0].resumes_in is None


def test_one_line_says_how_far_a_run_is() -> None:
    books, _ = two_workers()

    assert in_one_line(now_of(books, 4.0)) == (
        "incarnation 2, next start in 4 s, 1 faults, 3 tasks handed out, 1 answered, 1 failed, 0 came back, 2 out"
    )
    assert in_one_line(standing(History(), 0.0)) == (
        "incarnation 0, 0 faults, 0 tasks handed out, 0 answered, 0 failed, 0 came back, 0 out"
    )
