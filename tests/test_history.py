from __future__ import annotations

import random
from pathlib import Path

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import KEPT_REFS, History, Life, Tally
from ami_fault_site.ledger import Event, Ledger, Reader
from tests.booked import PUBLISHED, WALL, Books, task


def event(kind: str, /, *, inc: int = 1, mono: float = 1.0, **data: object) -> Event:
    return Event(kind, 100.0 + mono, mono, "h", 5, "MainThread", inc, 1, data)


def folded(*events: Event) -> History:
    history = History()
    history.add(events)
    return history


def one_task() -> tuple[Books, History]:
    books = Books()
    books.process(10).fetch(1.0, 7, (3, 1))
    return books, books.history()


def test_an_empty_ledger_is_an_empty_history() -> None:
    assert folded() == History()
    assert (History().out, History().unheard, History().unended_fetches) == ([], [], [])


def test_a_task_that_was_handed_out_and_not_answered_is_out() -> None:
    _, history = one_task()
    (out,) = history.out

    assert (out.key, out.job, out.image_id, out.image) == (("job_7", 3, PUBLISHED + 3), 7, "3", "3.jpg")
    assert (out.handed_out, out.is_answered, out.is_unheard, out.has_error) == (1, False, False, False)


def test_a_lease_tells_when_it_was_asked_for_and_when_it_was_there_and_where_that_is_written() -> None:
    _, history = one_task()
    (lease,) = task(history, 7, 3).leases

    assert (lease.delivery, lease.consumer_sequence, lease.process) == (1, 1, 0)
    assert (lease.sent, lease.received) == (0.95, 1.0)
    assert str(history.place(lease.ref)) == "h-0001-10-1.jsonl:2"


def test_a_task_whose_answer_was_accepted_is_not_out() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (3, 1), (4, 1))
    main.post(2.0, 7, (3, 1))
    history = books.history()

    assert [one.key[1] for one in history.out] == [4]
    assert task(history, 7, 3).is_answered


@pytest.mark.parametrize(("outcome", "status"), [("refused", 500), ("not-sent", 0)])
def test_an_answer_that_was_refused_or_never_sent_leaves_its_tasks_out(outcome: str, status: int) -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (3, 1))
    main.post(2.0, 7, (3, 1), outcome=outcome, status=status, struck=True)
    history = books.history()

    assert [one.key[1] for one in history.out] == [3]
    assert history.unheard == []


@pytest.mark.parametrize("outcome", [None, "unheard"])
def test_an_answer_of_whose_fate_nothing_is_known_leaves_its_tasks_unheard_and_not_out(outcome: str | None) -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (3, 1))
    main.post(2.0, 7, (3, 1), outcome=outcome, error="ReadTimeout")
    history = books.history()

    assert history.out == []
    assert [one.key[1] for one in history.unheard] == [3]


def test_an_answer_that_was_accepted_in_the_end_is_no_longer_unheard() -> None:
    books = Books()
    main = books.process(10)
    for delivery, outcome in ((1, None), (2, "accepted")):
        main.fetch(delivery, 7, (3, delivery))
        main.post(delivery + 0.5, 7, (3, delivery), outcome=outcome)
    history = books.history()

    assert (history.out, history.unheard) == ([], [])
    assert [lease.delivery for lease, _ in task(history, 7, 3).accepted()] == [2]


def test_an_answer_whose_sending_was_not_booked_is_an_answer_all_the_same() -> None:
    books = Books()
    main = books.process(10)
    main.post(2.0, 7, (3, 1), failed=(3,))
    answer = main.events[-1]
    (lost,) = folded(answer).tasks.values()

    assert (lost.job, lost.handed_out, lost.is_answered, lost.has_error) == (7, 0, True, True)


def test_an_accepted_error_is_an_answer_with_an_error() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (3, 1), (4, 1))
    main.post(2.0, 7, (3, 1), (4, 1), failed=(4,))
    history = books.history()

    assert history.out == []
    assert [one.has_error for one in history.tasks.values()] == [False, True]


def test_an_error_that_was_refused_is_not_an_answer_with_an_error() -> None:
    books = Books()
    books.process(10).post(2.0, 7, (3, 1), failed=(3,), outcome="refused", status=503)

    assert [one.has_error for one in books.history().tasks.values()] == [False]


def test_an_unfinished_post_tells_which_of_its_answers_were_errors() -> None:
    books = Books()
    books.process(10).post(2.0, 7, (3, 1), (4, 1), failed=(4,), outcome=None)
    (post,) = task(books.history(), 7, 4).leases[0].posts

    assert (post.is_open, list(post.errors)) == (True, [4])


def test_an_answer_about_another_image_is_remembered_by_the_image_that_it_names() -> None:
    for order in (1, -1):
        books = Books()
        main, loader = books.process(10), books.process(11)
        loader.fetch(1.0, 7, (3, 1), (4, 1))
        main.post(2.0, 7, (3, 1), (4, 1), images={3: "4"})
        history = folded(*(e for process in [main, loader][::order] for e in process.events))

        assert [task(history, 7, n).leases[0].named for n in (3, 4)] == ["4", ""]


def test_a_task_that_came_back_is_one_task_with_two_leases() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (3, 1))
    main.fetch(9.0, 7, (3, 2))
    (one,) = books.history().tasks.values()

    assert [(lease.delivery, lease.consumer_sequence) for lease in one.leases] == [(1, 1), (2, 2)]


def test_the_very_same_delivery_received_twice_is_one_lease_with_a_copy_whichever_file_is_read_first() -> None:
    books = Books()
    first, second = books.process(10), books.process(11)
    first.fetch(1.0, 7, (3, 1))
    second.fetch(1.5, 7, (3, 1))

    for processes in ((first, second), (second, first)):
        history = folded(*(e for process in processes for e in process.events))
        (lease,) = task(history, 7, 3).leases
        assert (lease.received, len(lease.copies)) == (1.0, 1)
        assert str(history.place(lease.copies[0])) == "h-0001-11-1.jsonl:2"


def test_of_two_who_received_the_same_delivery_the_earlier_counts_even_if_somebody_set_the_wall_clock_back() -> None:
    books = Books()
    first, second = books.process(10), books.process(11, base=-3600.0)
    first.start(0.5, boot="3b0b")
    second.start(0.6, boot="3b0b")
    first.fetch(1.0, 7, (3, 1))
    second.fetch(1.5, 7, (3, 1))

    for processes in ((first, second), (second, first)):
        (lease,) = task(folded(*(e for process in processes for e in process.events)), 7, 3).leases
        assert (lease.received, len(lease.copies)) == (1.0, 1)


def test_a_retried_job_whose_sequences_begin_anew_is_not_mistaken_for_the_first() -> None:
    books, _ = one_task()
    again = event("leases", job=7, stream="job_7", leases=[[3, 1, 3, PUBLISHED + 999, 0, "3", "3.jpg"]])
    history = folded(*books.events(), again)

    assert len(history.out) == 2


def test_the_same_sequence_of_another_job_is_another_task() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (3, 1))
    main.fetch(1.0, 8, (3, 1))
    main.post(2.0, 7, (3, 1))
    history = books.history()

    assert [one.job for one in history.out] == [8]
    assert history.jobs == {7, 8}


def test_an_image_without_a_file_name_is_known_by_its_id() -> None:
    (one,) = folded(event("leases", job=7, stream="job_7", leases=[[1, 1, 1, 5, 0, "17", ""]])).out

    assert one.image == "17"


def test_an_empty_tasks_response_is_no_traffic_and_no_job_and_is_remembered_once_a_second() -> None:
    books = Books()
    main = books.process(10)
    for at in (9.6, 9.7, 11.0):
        main.fetch(at, 7, seconds=0.5)
    history = books.history()

    assert (history.jobs, history.asked_jobs, history.last_traffic) == (set(), {7}, 0.0)
    assert history.job_records[7].empty == {0: {9: (9.2, 9.7), 10: (10.5, 11.0)}}


def test_a_tasks_call_that_nobody_booked_the_end_of_may_have_reserved_tasks() -> None:
    books = Books()
    main = books.process(10)
    main.fetch(1.0, 7, (1, 1))
    main._call("tasks", 2.0, 7)
    history = books.history()

    assert [(job, process, at) for job, process, at, _ in history.unended_fetches] == [(7, 0, 2.0)]


def test_the_last_traffic_is_the_last_lease_or_accepted_answer() -> None:
    books, history = one_task()
    assert history.last_traffic == 1.0
    books.processes[0].post(2.0, 7, (3, 1), outcome="refused", status=500)
    assert books.history().last_traffic == 1.0
    books.processes[0].post(3.0, 7, (3, 1))
    assert books.history().last_traffic == 3.1


def test_observed_rates_are_injections_by_rate_over_eligible_calls() -> None:
    calls = [event("call", site="result", call=n, eligible=["network-error"]) for n in range(8)]
    batches = [event("batch", eligible=["crash", "transient-error"]) for _ in range(4)]
    books = Books()
    main = books.process(10)
    main.strike(1.0, Effect.NETWORK, kind="http-500")
    main.strike(1.0, Effect.NETWORK, kind="http-500")
    main.strike(1.0, Effect.CRASH, kind="exit")
    main.strike(1.0, Effect.IMAGE_404, kind="http-404", counted=False)
    history = folded(*calls, *batches, event("call", site="jobs", call=9, eligible=[]), *main.events)

    assert history.observed_rate(Effect.NETWORK) == 0.25
    assert history.observed_rate(Effect.CRASH) == 0.25
    assert history.observed_rate(Effect.TRANSIENT) == 0.0
    assert history.observed_rate(Effect.IMAGE_404) is None
    assert history.kinds == {"network-error: http-500": 2, "crash: exit": 1, "image-404: http-404": 1}


def test_a_permanent_fault_is_injected_and_does_not_count_for_the_rate() -> None:
    books = Books()
    main = books.process(10)
    main.strike(1.0, Effect.IMAGE_404, counted=False)
    main.strike(1.0, Effect.IMAGE_404)
    history = folded(*(event("image", eligible=["image-404"], status=200) for _ in range(10)), *main.events)

    assert history.injected == {"image-404": 2}
    assert history.observed_rate(Effect.IMAGE_404) == 0.1


def test_a_fault_of_a_later_version_is_counted_and_judged_by_nobody() -> None:
    history = folded(event("fault", effect="flood", kind="wet", tasks=[]))

    assert (history.injected, history.injections) == ({"flood": 1}, [])


def test_a_withheld_fault_is_counted_by_its_reason_and_not_as_injected() -> None:
    history = folded(event("withheld", effect="crash", why="the stop file is there"))

    assert (history.withheld, history.injected, history.lives) == ({"the stop file is there": 1}, {}, {})


def test_a_life_is_known_by_its_arming_its_crash_and_its_exit() -> None:
    books = Books()
    supervisor = books.supervisor()
    supervisor.spawn(1.0, 1)
    worker = books.process(10, 1).start(2.0)
    worker.strike(3.0, Effect.CRASH, 7)
    supervisor.exit(4.0, 1, "injected")
    books.process(20, 2).start(5.0)
    supervisor.book("exit", 6.0, incarnation=2, code=-9, kind="organic", last_words=["Killed", "."])
    books.process(30, 3).start(7.0)
    first, second, third = (books.history().life(number) for number in (1, 2, 3))

    assert (first.armed, first.crashed, first.code, first.kind) == (True, True, 86, "injected")
    assert (first.began, first.ended, first.clock) == (1.0, 4.0, 0)
    assert (second.crashed, second.code, second.last_words) == (False, -9, ["Killed", "."])
    assert third == Life(3, armed=True)


def test_what_the_service_said_of_a_job_is_kept_with_its_time() -> None:
    books = Books()
    books.supervisor().seen(5.0, 7, "STARTED", 3, 21, 1)
    (seen,) = books.history().job_records[7].seen

    assert (seen.status, seen.processed, seen.remaining, seen.failed) == ("STARTED", 3, 21, 1)
    assert (seen.asked, seen.heard) == (4.98, 5.0)


def test_how_a_run_was_begun_and_how_it_ended_is_known_by_its_name() -> None:
    history = folded(event("began", invocation="ami-fault run"), event("outcome", outcome="drained"),
                     event("unwitnessed", job=7, why="no token"))  # fmt: skip

    assert (history.invocations, history.outcomes) == ({"": "ami-fault run"}, {"": "drained"})
    assert history.unwitnessed == {7: "no token"}


def test_failures_that_we_did_not_inject_are_counted_by_site_and_kind() -> None:
    books = Books()
    main = books.process(10)
    main.fail(1.0, "tasks", 7, struck=False, status=503)
    main.fail(2.0, "tasks", 7, struck=True, status=503)
    main.fail(3.0, "jobs", None, struck=False, error="ConnectionError")
    main.fail(4.0, "tasks", 7, struck=True, error="ReadTimeout")
    main.fail(5.0, "tasks", 7, struck=False, error="ReadTimeout")
    main.post(6.0, 7, (1, 1), outcome="refused", status=500)
    main.post(7.0, 7, (1, 1), outcome="unheard", error="ReadTimeout")
    history = books.history()

    assert {key: one.tally.count for key, one in history.troubles.items()} == {
        ("tasks", "http-503"): 1, ("jobs", "ConnectionError"): 1, ("tasks", "ReadTimeout"): 1,
        ("result", "http-500"): 1, ("result", "ReadTimeout"): 1,
    }  # fmt: skip
    assert history.job_records[7].struck_fetches[0].count == 2
    assert history.job_records[7].lost_fetches.count == 1


def test_the_last_tasks_call_that_was_struck_is_known_on_each_clock_whichever_file_is_read_first() -> None:
    books = Books()
    first, second, far = books.process(10), books.process(11), books.process(12, host="far", base=300.0)
    for process, began in ((first, 9.95), (second, 4.95), (first, 7.95), (far, 1.95)):
        process.fail(began, "tasks", 7, struck=True, error="ConnectTimeout")
    first.fail(20.0, "tasks", 7, struck=False, error="ConnectTimeout")

    for processes in ((first, second, far), (far, second, first)):
        history = folded(*(e for process in processes for e in process.events))
        struck = history.job_records[7].last_struck.values()
        assert sorted((at, str(history.place(ref))) for at, ref in struck) == [
            (2.0, "far-0001-12-1.jsonl:2"),
            (10.0, "h-0001-10-1.jsonl:2"),
        ]


def test_an_image_that_failed_by_itself_is_known_and_one_that_we_struck_is_not() -> None:
    books = Books()
    loader = books.process(11)
    loader.image(1.0, 7, 1, status=404)
    loader.image(1.0, 7, 2, status=404, struck=True)
    loader.image(1.0, 7, 3)
    loader.open(1.5, 3, error="UnidentifiedImageError")
    loader.open(1.5, 4, error="UnidentifiedImageError", struck=True)
    history = books.history()

    assert (sorted(history.failed_images), history.downloads) == (["1", "3"], 3)


def test_a_batch_is_tied_to_its_leases_and_one_that_an_exception_left_is_remembered() -> None:
    books = Books()
    main = books.process(10)
    main.batch(1.0, 7, (1, 1), (2, 1))
    main.batch(2.0, 7, (3, 1), error="RuntimeError")
    history = books.history()
    batch = task(history, 7, 2).leases[0].batch

    assert batch is not None
    assert (batch.began, batch.ended, batch.error) == (1.0, 1.5, "")
    assert [(job, one.error) for job, one in history.broken_batches] == [(7, "RuntimeError")]


def test_a_file_with_fewer_lines_than_the_supervisor_counted_was_cut_short() -> None:
    books = Books()
    main = books.process(10).start(1.0)
    main.fetch(2.0, 7, (1, 1))
    supervisor = books.supervisor()
    supervisor.book("sealed", 3.0, files=[[main.file, 4]])
    whole = books.history()
    main.events.pop()
    supervisor.book("sealed", 4.0, files=[["another.jsonl", 9]])
    cut = books.history()

    assert whole.shortened() == []
    assert [(place.file, place.line, lines) for place, lines in cut.shortened()] == [
        ("another.jsonl", 0, 9),
        (main.file, 3, 4),
    ]


def test_hosts_have_clocks_of_their_own_and_one_host_has_one() -> None:
    books = Books()
    books.process(10, host="a").start(1.0)
    books.process(11, host="a").start(2.0)
    books.process(10, host="b", base=300.0).start(1.0)
    books.process(12, host="a", base=60.0).start(1.0)  # it has been started anew
    history = books.history()

    assert [process.clock for process in history.processes] == [0, 0, 1, 2]
    assert history.files.wall_base(1) - history.files.wall_base(0) == pytest.approx(300.0)


def test_a_hosts_name_that_another_host_has_taken_over_is_told_apart_by_the_start_of_the_host() -> None:
    books = Books()
    books.process(1, host="worker-0", part=1).start(1.0, boot="3b0b")
    books.process(1, host="worker-0", part=2).start(2.0, boot="3b0b")  # the container has been started again
    books.process(1, host="worker-0", part=3, base=0.5).start(3.0, boot="77aa")  # on another host
    books.process(1, host="worker-0", part=4, base=0.5).start(4.0, boot="77aa")

    assert [process.clock for process in books.history().processes] == [0, 0, 1, 1]


def test_a_host_that_says_when_it_was_started_has_one_clock_however_often_somebody_sets_the_other() -> None:
    books = Books()
    for number, base in enumerate((0.0, 7200.0, -86_400.0)):
        books.process(10 + number, base=base).start(1.0 + number, boot="3b0b")

    assert [process.clock for process in books.history().processes] == [0, 0, 0]


def test_a_tally_keeps_its_count_and_its_earliest_lines() -> None:
    tally = Tally()
    for at in reversed(range(3 * KEPT_REFS)):
        tally.add(float(at), (0, at))

    assert (tally.count, tally.first, tally.last) == (3 * KEPT_REFS, 0.0, 3.0 * KEPT_REFS - 1)
    assert tally.refs == [(0, at) for at in range(KEPT_REFS)]


def test_a_protected_host_that_was_refused_is_remembered_from_a_real_ledger(tmp_path: Path) -> None:
    Ledger(tmp_path, 1).append("refused", target="antenna.insectai.org")

    assert folded(*Reader(tmp_path).new()).refused_host == "antenna.insectai.org"


def test_events_of_other_kinds_add_nothing_but_their_process() -> None:
    history = folded(event("target"), event("add"), event(""))

    assert (history.tasks, history.lives, history.injections, history.events) == ({}, {}, [], 3)


def test_the_order_of_the_files_makes_no_difference() -> None:
    books = Books()
    main, loader, later = books.process(10).start(0.5), books.process(11).start(0.6, 10), books.process(20, 2).start(9)
    loader.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    main.batch(1.5, 7, (1, 1), (2, 1))
    main.post(2.0, 7, (1, 1), failed=(1,))
    main.strike(3.0, Effect.CRASH, 7, (2, 1))
    later.fetch(9.5, 7, (2, 2), (3, 2))
    later.post(10.0, 7, (2, 2), (3, 2), outcome="refused", status=500)

    def told(history: History) -> object:
        tasks = {
            key: [
                (one.delivery, one.received, one.batch is not None, [post.outcome for post in one.posts])
                for one in sorted(found.leases, key=lambda one: one.delivery)
            ]
            for key, found in history.tasks.items()
        }
        return tasks, history.injected, history.jobs, history.last_traffic, history.lives, history.unended_fetches

    expected = told(books.history())
    for seed in range(20):
        files = random.Random(seed).sample(books.processes, len(books.processes))
        assert told(folded(*(e for process in files for e in process.events))) == expected


def test_events_may_come_a_few_at_a_time() -> None:
    books, whole = one_task()
    books.processes[0].post(2.0, 7, (3, 1))
    whole = books.history()
    slowly = History()
    for one in books.events():
        slowly.add([one])

    assert slowly == whole


def test_a_note_stands_where_and_when_the_operator_did_what_it_says() -> None:
    books = Books()
    books.process(10).start(1.0)
    books.process(90, 0).book("note", 70.0, text="killed celeryworker", ago=20.0)
    history = books.history()

    (note,) = history.notes
    assert (note.text, note.wall, note.at, note.clock, note.run) == ("killed celeryworker", WALL + 50.0, 50.0, 0, "")
    assert str(history.place(note.ref)) == "h-0000-90-1.jsonl:1"


def test_when_a_line_was_written_is_known_to_the_second() -> None:
    books = Books()
    main = books.process(10)
    for at in (1.0, 1.4, 2.2, 2.9, 9.0, 9.0):
        main.book("batch-end", at, job=7)
    (process,) = books.history().processes

    assert [process.moment(line) for line in range(1, 7)] == [1.0, 1.0, 2.2, 2.2, 9.0, 9.0]
