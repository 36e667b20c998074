from __future__ import annotations

from typing import Any

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import History
from tests.booked import PUBLISHED, Books, task

DYING = ("exit", "kill", "segv", "abort", "sysexit")


def fetched(*rows: tuple[int, int]) -> Books:
    books = Books()
    books.process(10).fetch(1.0, 7, *(rows or ((1, 1),)))
    return books


def test_a_fault_tells_where_it_struck_whom_and_by_which_rule() -> None:
    books = fetched()
    more: dict[str, Any] = {"point": "after-fetch", "trigger": "rule", "rule": "crash: 1*exit", "call": 4}
    books.processes[0].crash(2.0, role="loader", job=7, site="fetched", seconds=1.5, **more)
    (one,) = books.history().injections

    assert (one.point, one.role, one.call, one.trigger, one.rule, one.seconds) == (
        "after-fetch", "loader", 4, "rule", "crash: 1*exit", 1.5,
    )  # fmt: skip
    assert one.is_of_loader


def test_a_fault_of_an_older_ledger_struck_the_main_process_by_its_rate() -> None:
    books = fetched()
    books.processes[0].strike(2.0, Effect.CRASH, 7, (1, 1))
    (one,) = books.history().injections

    assert (one.point, one.role, one.call, one.trigger, one.rule, one.seconds) == ("", "main", 0, "", "", 0.0)
    assert books.history().life(1).crashed


@pytest.mark.parametrize("mode", DYING)
def test_a_main_process_that_dies_ends_its_life(mode: str) -> None:
    books = fetched()
    books.processes[0].crash(2.0, mode)
    history = books.history()

    assert history.life(1).crashed
    assert history.processes[0].struck_dead is not None


@pytest.mark.parametrize("mode", DYING)
def test_a_loader_that_dies_ends_no_life(mode: str) -> None:
    books = fetched()
    books.processes[0].crash(2.0, mode, role="loader")
    history = books.history()

    assert not history.life(1).crashed
    assert (history.processes[0].struck_dead, history.processes[0].lost_loader) == (None, history.injections[0])


@pytest.mark.parametrize("role", ["main", "loader"])
def test_a_process_that_hangs_does_not_die(role: str) -> None:
    books = fetched()
    books.processes[0].crash(2.0, "hang", role=role)
    history = books.history()

    assert (history.life(1).crashed, history.life(1).hung) == (False, True)
    assert history.processes[0].hung == history.injections[0]


def test_a_system_exit_that_was_swallowed_has_ended_nothing() -> None:
    books = fetched()
    books.processes[0].crash(2.0, "sysexit")
    books.processes[0].poll(3.0)
    history = books.history()

    assert not history.life(1).crashed
    assert history.processes[0].struck_dead is None


def test_a_worker_that_works_on_after_any_other_death_is_not_believed() -> None:
    books = fetched()
    books.processes[0].crash(2.0, "kill")
    books.processes[0].poll(3.0)

    assert books.history().life(1).crashed


def test_a_delivery_that_was_lost_on_its_way_is_known_and_nobody_has_it() -> None:
    books = Books()
    books.process(10).lose_tasks(2.0, 7, (1, 1))
    history = books.history()
    one = task(history, 7, 1)
    (lease,) = one.leases

    assert (lease.is_known, lease.is_seen, lease.lost, lease.process, lease.received) == (True, False, True, 0, 2.0)
    assert (one.image_id, one.image, one.handed_out, one.is_answered) == ("1", "1.jpg", 0, False)
    assert (history.jobs, history.troubles) == (set(), {})
    assert history.job(7).struck_fetches[0].count == 1


def test_a_call_that_was_handed_only_what_was_kept_from_it_did_not_ask_in_vain() -> None:
    books = Books()
    main = books.process(10)
    main.lose_tasks(2.0, 7, (1, 1), then=((2, 1),))
    number = main._call("tasks", 3.0, 7)
    main.book("lost", 3.0, call=number, site="tasks", job=7, stream="job_7", status=200, leases=[])
    main.book("leases", 3.0, call=number, job=7, status=200, seconds=0.0, struck=False, stream="", leases=[])
    history = books.history()

    assert history.job(7).empty == {}
    assert [one.is_seen for sequence in (1, 2) for one in task(history, 7, sequence).leases] == [False, True]


def test_a_process_that_died_over_a_lost_answer_leaves_no_call_of_which_nothing_is_known() -> None:
    books = Books()
    main = books.process(10)
    number = main._call("tasks", 1.0, 7)
    row = [*books.row(7, 1, 1), 0, "1", "1.jpg"]
    main.book("lost", 2.0, call=number, site="tasks", job=7, stream="job_7", status=200, leases=[row])
    main.crash(2.0)

    assert books.history().unended_fetches == []


def test_an_answer_that_the_service_took_counts_although_nobody_heard_so() -> None:
    books = fetched()
    books.processes[0].lose_answer(2.0, 7, (1, 1))
    history = books.history()
    ((_, post),) = task(history, 7, 1).accepted()

    assert (post.lost, post.struck, post.heard, post.is_open) == (True, True, 2.1, False)
    assert (history.out, history.unheard, history.last_traffic, history.troubles) == ([], [], 2.1, {})


def test_an_answer_that_the_service_took_counts_although_the_worker_died_of_it() -> None:
    books = fetched((1, 1), (2, 1))
    books.processes[0].lose_answer(2.0, 7, (1, 1), (2, 1), closes=False, failed=(2,))
    books.processes[0].crash(2.1, point="posting-unheard", site="posting")
    history = books.history()

    assert task(history, 7, 1).is_answered
    assert not task(history, 7, 1).has_error
    assert task(history, 7, 2).has_error


def test_an_answer_that_the_service_refused_itself_is_none() -> None:
    books = fetched()
    books.processes[0].lose_answer(2.0, 7, (1, 1), accepted=False)
    (post,) = task(books.history(), 7, 1).leases[0].posts

    assert (post.outcome, post.status, post.lost) == ("refused", 500, True)


def test_an_answer_of_our_own_making_accepts_nothing() -> None:
    books = fetched()
    books.processes[0].post(2.0, 7, (1, 1), outcome="accepted", struck=True)  # a body that cannot be read, with 200

    assert [one.key[1] for one in books.history().out] == [1]


def test_an_answer_that_was_about_to_be_sent_when_its_process_died_was_not_sent() -> None:
    books = fetched()
    books.processes[0].post(2.0, 7, (1, 1), outcome=None)
    books.processes[0].crash(2.0, point="posting-unsent", site="posting", call=2)
    history = books.history()
    (post,) = task(history, 7, 1).leases[0].posts

    assert (post.outcome, post.cut) == ("not-sent", history.injections[0])
    assert (len(history.out), history.unheard) == (1, [])


def test_an_answer_of_which_only_the_fault_tells_was_not_sent_either() -> None:
    books = fetched()
    rows = [books.row(7, 1, 1)]
    books.processes[0].crash(2.0, job=7, point="posting-unsent", site="posting", tasks=rows, stream="job_7")
    history = books.history()

    assert [post.cut for post in task(history, 7, 1).leases[0].posts] == history.injections


def test_what_a_dry_run_would_have_struck_is_counted_and_strikes_nothing() -> None:
    books = fetched()
    books.processes[0].book("dry", 2.0, effect="crash", site="batch")
    books.processes[0].book("dry", 2.0, effect="crash", site="batch")
    history = books.history()

    assert (history.dry, history.injections, history.injected) == ({"crash": 2}, [], {})


def test_faults_that_were_held_back_are_counted_by_reason_with_one_example_of_those_that_name_a_task() -> None:
    books = fetched()
    for why in ("budget: task 9 has one delivery left", "budget: task 1 has one delivery left", "the stop file"):
        books.processes[0].book("withheld", 2.0, effect="crash", why=why)
    history = books.history()

    assert history.withheld == {"budget: ": 2, "the stop file": 1}
    assert history.withheld_as == {"budget: ": "budget: task 1 has one delivery left"}


def test_the_budget_is_told_once() -> None:
    books = fetched()
    assert books.history().budget is None
    books.processes[0].book("budget", 2.0, max_deliver=3, source="setting")

    assert books.history().budget == (3, "setting")


def download(books: Books, at: float, *, status: int = 200, struck: bool = False, delivery: int = 1) -> History:
    main = books.processes[0]
    if struck:
        main.strike(at, Effect.NETWORK, 7, image="1", kind="http-500", site="image", call=int(at))
    main.image(at, 7, 1, status=status, struck=struck, call=int(at), delivery=delivery)
    return books.history()


def test_a_download_that_failed_by_our_doing_is_kept_with_its_delivery_until_one_goes_well() -> None:
    books = fetched()
    history = download(books, 2.0, status=500, struck=True)
    assert history.lost_images == {(7, 1, PUBLISHED + 1, 1): history.injections[0]}
    assert download(books, 3.0, delivery=2).lost_images == history.lost_images

    assert download(books, 4.0).lost_images == {}


def test_a_struck_attempt_that_a_retry_made_good_leaves_the_image_as_it_was() -> None:
    books = fetched()
    main = books.processes[0]
    main.attempt(2.0, "image", 5, status=503, kind="http-503", job=7, sequence=1)
    main.attempt(2.5, "image", 5, job=7, sequence=1)
    main.image(2.5, 7, 1, call=5)
    history = books.history()

    assert (history.lost_images, history.failed_images) == ({}, {})
    assert history.attempts.sites["image"].absorbed == 1


def test_what_a_fault_delays_keeps_its_process_waiting() -> None:
    books = fetched()
    main = books.processes[0]
    main.strike(2.0, Effect.SLOW, 7, kind="delay", seconds=3.0)
    main.strike(6.0, Effect.NETWORK, 7, kind="read-timeout", site="tasks", call=2)
    number = main._call("tasks", 6.0, 7)
    main.book("no-answer", 8.0, call=number, job=7, status=0, seconds=2.0, struck=True, error="ReadTimeout")

    assert books.history().processes[0].slowed == [(2.0, 5.0), (6.0, 8.0)]


def test_the_time_that_a_struck_call_took_says_nothing_of_the_services_pace() -> None:
    books = fetched()
    before = sum(pace.calls for pace in books.history().paces.values())
    books.processes[0].strike(2.0, Effect.SLOW, 7, kind="delay", site="tasks", call=2, seconds=1.0)
    books.processes[0].fetch(3.0, 7, (2, 1), seconds=1.0)

    assert sum(pace.calls for pace in books.history().paces.values()) == before == 1


def test_an_attempt_is_tied_to_the_lease_that_its_image_was_loaded_for() -> None:
    books = fetched()
    main = books.processes[0]
    main.attempt(2.0, "image", 5, status=503, kind="http-503", job=7, sequence=1)
    main.image(2.0, 7, 1, call=5, status=503, struck=True, delivery=2)
    (one,) = books.history().attempts.unrepeated.values()

    assert one.lease == (1, PUBLISHED + 1, 2)


def test_what_was_withheld_keeps_nobody_waiting() -> None:
    books = fetched()
    main = books.processes[0]
    number = main.calls + 1
    main.strike(2.0, Effect.WITHHOLD, 7, (2, 1), site="tasks", call=number)
    main.book("leases", 3.0, call=number, job=7, status=200, seconds=1.0, struck=False, stream="", leases=[])

    assert books.history().processes[0].slowed == []


def test_a_refusal_that_guards_the_budget_is_no_fault_of_the_settings() -> None:
    books = fetched()
    books.processes[0].refuse_fetch(2.0, 7)
    history = books.history()

    assert (history.guarded, history.injected, history.kinds, history.injections) == (1, {}, {}, [])
    assert (history.job(7).struck_fetches, history.job(7).lost_fetches.count, history.troubles) == ({}, 0, {})


def test_an_answer_that_a_withheld_crash_left_to_the_worker_was_not_lost() -> None:
    books = fetched()
    main = books.processes[0]
    main.lose_answer(2.0, 7, (1, 1), closes=False)
    rows = [books.row(7, 1, 1)]
    said = {"outcome": "accepted", "stream": "job_7", "tasks": rows, "errors": [], "images": ["1"], "error": ""}
    main.book("answer", 2.2, call=main.calls, job=7, status=200, seconds=0.2, struck=False, **said)
    history = books.history()
    ((_, post),) = task(history, 7, 1).accepted()

    assert (post.lost, post.struck, post.heard, post.heard_ref) == (False, False, 2.2, (0, 5))


def test_jobs_that_were_kept_from_the_worker_are_known_by_number() -> None:
    books = Books()
    main = books.process(10)
    for at in (1.0, 2.0):
        main.poll(at)
        main.hide(at, 3, 1)

    assert books.history().hidden == {1, 3}


def test_a_passage_at_which_only_a_crash_could_strike_counts_as_eligible() -> None:
    books = fetched()
    books.processes[0].book("passage", 2.0, site="idle", job=None, draw=0.5, eligible=["crash"])
    history = books.history()

    assert history.eligible == {"crash": 1}
    assert history.observed_rate(Effect.CRASH) == 0.0
