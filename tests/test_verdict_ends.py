from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.ends import End, How
from ami_fault_site.verdict.terms import Whose
from tests.booked import ACK_WAIT, Books, Process, Supervisor, facts, task


class Stage:
    """One supervised life of a worker that was handed task 1 of job 7 at 2.0, delivery 1."""

    def __init__(self) -> None:
        self.books = Books()
        self.main = self.books.process(10).start(0.5)
        self.main.poll(1.0, 7)
        self.main.fetch(2.0, 7, (1, 1), seconds=0.5)
        self.supervisor: Supervisor = self.books.supervisor()

    def heard_of(self, at: float) -> None:
        """Let a process of the worker book something at this moment, its last sign of life."""
        self.books.process(11).start(at, 10)

    def case(self, ack_wait: float | None = ACK_WAIT) -> Case:
        return self.books.case(facts(ack_wait=ack_wait))

    def end(self, delivery: int = 1, ack_wait: float | None = ACK_WAIT) -> End:
        case = self.case(ack_wait)
        one = task(case.history, 7, 1)
        lease = one.lease(delivery)
        assert lease is not None
        return case.ends.of(one, lease)

    def line(self, process: Process, number: int) -> tuple[int, int]:
        return self.books.processes.index(process), number

    def another(self) -> Process:
        return self.books.process(20, 2)

    def expired_while_held(self, delivery: int = 1, ack_wait: float | None = ACK_WAIT) -> bool:
        case = self.case(ack_wait)
        one = task(case.history, 7, 1)
        lease = one.lease(delivery)
        assert lease is not None
        return case.ends.expired_while_held(one, lease)


ENDS_OF_LIVES = [
    ("injected", How.DROPPED, Whose.BUDGET, "an injected crash", 4.0),
    ("organic", How.DROPPED, Whose.WORKER, "an exit of its own", 3.5),
    ("operator", How.STOPPED, Whose.SETUP, "the operator's stop", 4.0),
    ("ended", How.HELD, Whose.WORKER, "the end of the run", 4.0),
]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_ways_in_which_a_lease_ends_have_names_that_reports_use() -> None:
    assert [how.value for how in How] == [
        "accepted", "refused", "indeterminate", "dropped", "expired", "abandoned", "unseen", "stopped", "held",
    ]  # fmt: skip


# --- answered


def test_a_lease_whose_answer_was_accepted_ended_well(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1))

    assert stage.end() == End(How.ACCEPTED, Whose.SERVICE, "its answer was accepted")


@pytest.mark.parametrize("order", [1, -1])
def test_one_accepted_answer_is_enough(stage: Stage, order: int) -> None:
    for outcome in ("refused", "accepted")[::order]:
        stage.main.post(3.0, 7, (1, 1), outcome=outcome)

    assert stage.end().how is How.ACCEPTED


@pytest.mark.parametrize(
    ("status", "whose"),
    [
        (200, Whose.SERVICE), (399, Whose.SERVICE), (400, Whose.WORKER), (401, Whose.SETUP), (402, Whose.WORKER),
        (403, Whose.SETUP), (413, Whose.WORKER), (499, Whose.WORKER), (500, Whose.SERVICE), (503, Whose.SERVICE),
    ],
)  # fmt: skip
def test_a_refused_answer_is_the_doing_of_whom_its_status_names(stage: Stage, status: int, whose: Whose) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="refused", status=status)
    refs = (stage.line(stage.main, 7), stage.line(stage.main, 8))

    assert stage.end() == End(How.REFUSED, whose, f"the service refused its answer (HTTP {status})", 3.1, refs)


def test_of_two_refused_answers_the_later_is_told(stage: Stage) -> None:
    stage.main.post(4.0, 7, (1, 1), outcome="refused", status=500)
    stage.main.post(3.0, 7, (1, 1), outcome="refused", status=400)

    assert stage.end().cause == "the service refused its answer (HTTP 500)"


def test_an_answer_whose_fate_is_open_is_told_rather_than_a_later_one_that_was_refused(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="unheard", error="ReadTimeout")
    stage.main.post(4.0, 7, (1, 1), outcome="refused", status=500)

    assert stage.end().how is How.INDETERMINATE


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({"outcome": "not-sent", "struck": True, "error": "ConnectTimeout", "status": 0}, "ConnectTimeout"),
        ({"outcome": "not-sent", "error": "ConnectTimeout", "status": 0}, "ConnectTimeout"),
        ({"outcome": "refused", "struck": True, "status": 503}, "HTTP 503"),
    ],
)
def test_a_post_that_we_made_fail_was_given_up_and_is_ours(stage: Stage, about: dict[str, object], what: str) -> None:
    stage.main.post(3.0, 7, (1, 1), **about)  # type: ignore[arg-type]
    refs = (stage.line(stage.main, 7), stage.line(stage.main, 8))

    assert stage.end() == End(How.ABANDONED, Whose.BUDGET, f"an injected failure of its post ({what})", 3.0, refs)
    assert stage.end().is_ours


def test_a_post_that_nobody_replied_to_may_have_arrived_and_that_is_the_services_doing(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="unheard", error="ReadTimeout")
    refs = (stage.line(stage.main, 7), stage.line(stage.main, 8))

    assert stage.end() == End(How.INDETERMINATE, Whose.SERVICE, "no reply to its answer (ReadTimeout)", 3.1, refs)
    assert not stage.end().is_ours


@pytest.mark.parametrize(
    ("kind", "whose", "cause"),
    [
        ("injected", Whose.BUDGET, "an injected crash while posting"),
        ("organic", Whose.WORKER, "an exit of its own while posting"),
        ("operator", Whose.SETUP, "the operator's stop while posting"),
        ("ended", Whose.SETUP, "the end of the run while posting"),
    ],
)
def test_a_post_that_its_worker_did_not_live_to_see_the_end_of_may_have_arrived(
    stage: Stage, kind: str, whose: Whose, cause: str
) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome=None)
    stage.supervisor.exit(4.0, 1, kind)

    refs = (stage.line(stage.main, 7), stage.line(stage.supervisor, 1))
    assert stage.end() == End(How.INDETERMINATE, whose, cause, 4.0, refs)


def test_a_post_of_a_worker_that_lives_may_be_under_way(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome=None)

    cause = "no end that is known while posting"
    assert stage.end() == End(How.INDETERMINATE, Whose.SETUP, cause, None, (stage.line(stage.main, 7),))


def test_an_answer_never_expires_once_it_was_posted(stage: Stage) -> None:
    stage.main.post(30.0, 7, (1, 1), outcome="refused", status=500)

    assert stage.end().how is How.REFUSED


# --- never received


def test_a_delivery_of_which_only_the_work_is_known_was_seen_by_nobody(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 2))

    assert stage.end(2) == End(How.UNSEEN, Whose.SERVICE, "no worker of ours has booked its receipt")


# --- taken along by its holder


@pytest.mark.parametrize(("kind", "how", "whose", "cause", "at"), ENDS_OF_LIVES)
def test_a_lease_that_nobody_answered_ends_with_its_holder_who_died_by_itself_after_its_last_sign_of_life(
    stage: Stage, kind: str, how: How, whose: Whose, cause: str, at: float
) -> None:
    stage.heard_of(3.5)
    stage.supervisor.exit(4.0, 1, kind)

    assert stage.end() == End(how, whose, cause, at, (stage.line(stage.supervisor, 1),))


def test_a_lease_is_held_as_long_as_its_holder_lives(stage: Stage) -> None:
    assert stage.end() == End(How.HELD, Whose.WORKER, "no end that is known")


# --- expired


@pytest.mark.parametrize(("at", "how"), [(10.0, How.DROPPED), (10.0625, How.EXPIRED)])
def test_a_lease_that_a_crashed_worker_held_for_longer_than_ack_wait_had_expired(
    stage: Stage, at: float, how: How
) -> None:
    stage.supervisor.exit(at, 1, "injected")

    assert stage.end().how is how


@pytest.mark.parametrize(("at", "how"), [(10.0, How.DROPPED), (10.0625, How.EXPIRED)])
def test_so_had_one_that_was_held_for_longer_than_ack_wait_by_a_worker_that_died_by_itself(
    stage: Stage, at: float, how: How
) -> None:
    stage.heard_of(at)
    stage.supervisor.exit(30.0, 1, "organic")

    assert stage.end().how is how


def test_that_it_expired_is_a_matter_of_the_setup_and_is_proved_by_the_line_of_its_end(stage: Stage) -> None:
    stage.supervisor.exit(10.5, 1, "injected")
    refs = (stage.line(stage.supervisor, 1),)

    assert stage.end() == End(How.EXPIRED, Whose.SETUP, "it expired while a live worker held it", 10.5, refs)


def test_without_a_known_ack_wait_a_lease_expired_only_if_its_task_came_back_before_its_end(stage: Stage) -> None:
    stage.supervisor.exit(90.0, 1, "injected")
    assert stage.end(ack_wait=None).how is How.DROPPED

    stage.another().fetch(80.0, 7, (1, 2))
    assert stage.end(ack_wait=None).how is How.EXPIRED


@pytest.mark.parametrize(("again", "how"), [(5.75, How.EXPIRED), (6.0, How.DROPPED), (6.5, How.DROPPED)])
def test_a_task_that_came_back_before_its_worker_died_had_expired_whatever_ack_wait_is_said_to_be(
    stage: Stage, again: float, how: How
) -> None:
    stage.supervisor.exit(6.0, 1, "injected")
    stage.another().fetch(again, 7, (1, 2))

    assert stage.end().how is how


def test_what_came_back_on_another_clock_proves_no_expiry(stage: Stage) -> None:
    stage.supervisor.exit(6.0, 1, "injected")
    stage.books.process(20, 2, host="other").fetch(5.0, 7, (1, 2))

    assert stage.end().how is How.DROPPED


def test_a_lease_that_a_live_worker_held_to_the_end_expired_only_if_its_task_came_back(stage: Stage) -> None:
    stage.supervisor.exit(30.0, 1, "ended")
    assert stage.end().how is How.HELD

    stage.another().fetch(12.0, 7, (1, 2))
    assert stage.end().how is How.EXPIRED


def test_a_lease_of_a_worker_that_lives_is_held_however_often_its_task_came_back(stage: Stage) -> None:
    stage.another().fetch(12.0, 7, (1, 2))

    assert stage.end().how is How.HELD


def test_a_lease_that_the_operators_stop_ended_does_not_count_as_expired(stage: Stage) -> None:
    stage.supervisor.exit(30.0, 1, "operator")
    stage.another().fetch(12.0, 7, (1, 2))

    assert stage.end().how is How.STOPPED


# --- given up by a live worker


def test_an_injected_passing_error_gives_up_what_its_worker_held_of_the_job(stage: Stage) -> None:
    stage.main.strike(4.0, Effect.TRANSIENT, 7)
    ref = stage.line(stage.main, 7)

    assert stage.end() == End(How.ABANDONED, Whose.BUDGET, "an injected transient error", 4.0, (ref,))


def test_what_a_loader_had_asked_for_before_an_abort_is_given_up_with_it_although_it_came_later(stage: Stage) -> None:
    stage.main.strike(1.75, Effect.TRANSIENT, 7)

    assert (stage.end().how, stage.end().at) == (How.ABANDONED, 1.75)


@pytest.mark.parametrize(("at", "how"), [(10.0, How.ABANDONED), (10.0625, How.EXPIRED)])
def test_a_lease_that_our_passing_error_gave_up_after_its_time_had_expired(stage: Stage, at: float, how: How) -> None:
    stage.main.strike(at, Effect.TRANSIENT, 7)

    assert stage.end().how is how


def test_an_exception_of_the_workers_own_gives_up_what_it_held_and_is_never_called_expired(stage: Stage) -> None:
    stage.main.batch(30.0, 7, (9, 1), ends=1.0, error="RuntimeError")
    cause = "RuntimeError left the worker's task loop"

    assert stage.end() == End(How.ABANDONED, Whose.WORKER, cause, 31.0, (stage.line(stage.main, 7),))


def test_an_abort_before_it_was_asked_for_or_of_another_job_or_of_another_life_gives_nothing_up(stage: Stage) -> None:
    stage.main.strike(0.75, Effect.TRANSIENT, 7)
    stage.main.strike(4.0, Effect.TRANSIENT, 8)
    stage.another().strike(4.0, Effect.TRANSIENT, 7)

    assert stage.end().how is How.HELD


def test_a_worker_that_goes_on_to_its_next_poll_has_given_up_what_it_did_not_answer(stage: Stage) -> None:
    stage.main.poll(6.0, 7)
    stage.main.strike(7.0, Effect.TRANSIENT, 7)
    cause = "the worker went on to its next poll without answering"

    assert stage.end() == End(How.ABANDONED, Whose.WORKER, cause)


def test_what_a_passage_is_told_by_is_when_the_task_was_asked_for(stage: Stage) -> None:
    stage.main.poll(1.625, 7)

    assert stage.end().how is How.ABANDONED


@pytest.mark.parametrize(("next_began", "how"), [(5.5, How.HELD), (5.625, How.ABANDONED)])
def test_a_batch_that_was_finished_and_not_posted_although_a_later_one_was_is_the_workers_neglect(
    stage: Stage, next_began: float, how: How
) -> None:
    stage.main.batch(3.0, 7, (1, 1), ends=1.5)
    stage.main.batch(next_began, 7, (2, 1), ends=0.25)
    stage.main.post(7.0, 7, (2, 1))

    assert stage.end().how is how


def test_a_neglected_batch_is_proved_by_its_line_and_never_called_expired(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 1), ends=20.0)
    stage.main.batch(30.0, 7, (2, 1))
    stage.main.post(31.0, 7, (2, 1))
    stage.supervisor.exit(32.0, 1, "injected")
    cause = "the worker finished its batch and never posted it"

    assert stage.end() == End(How.ABANDONED, Whose.WORKER, cause, 23.0, (stage.line(stage.main, 7),))


def test_what_counts_is_the_last_batch_that_was_posted_and_no_later_one(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 1), ends=2.0)
    stage.main.batch(20.0, 7, (2, 1))
    assert stage.end().how is How.HELD  # neither was posted

    stage.main.batch(2.5, 7, (3, 1), ends=0.25)
    stage.main.post(3.0, 7, (3, 1))
    assert stage.end().how is How.HELD  # an earlier one was

    stage.main.post(21.0, 7, (2, 1), outcome="refused", status=500)
    assert stage.end().how is How.ABANDONED


def test_the_posts_of_another_process_say_nothing_of_a_batch(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 1))
    other = stage.another()
    other.batch(20.0, 7, (2, 1))
    other.post(21.0, 7, (2, 1))

    assert stage.end().how is How.HELD


@pytest.mark.parametrize(("ends", "error"), [(None, ""), (0.5, "RuntimeError")])
def test_a_batch_that_did_not_end_or_that_an_exception_left_is_no_neglect_of_posting(
    stage: Stage, ends: float | None, error: str
) -> None:
    stage.main.thread = "loop"
    stage.main.batch(3.0, 7, (1, 1), ends=ends, error=error)
    stage.main.thread = "another"
    stage.main.batch(20.0, 7, (2, 1))
    stage.main.post(21.0, 7, (2, 1))

    assert stage.end().cause == ("RuntimeError left the worker's task loop" if error else "no end that is known")


# --- coming back


def test_a_lease_came_back_with_the_next_delivery_that_was_received(stage: Stage) -> None:
    other = stage.another()
    other.fetch(30.0, 7, (1, 4))
    other.fetch(20.0, 7, (1, 3))
    other.batch(11.0, 7, (1, 2))
    case = stage.case()
    one = task(case.history, 7, 1)

    def back(delivery: int) -> int | None:
        lease = one.lease(delivery)
        assert lease is not None
        after = case.ends.came_back(one, lease)
        return after.delivery if after is not None else None

    assert [back(delivery) for delivery in (1, 2, 3, 4)] == [3, 3, 4, None]


def test_times_of_a_lease_are_read_on_the_clock_of_the_process_that_received_it(stage: Stage) -> None:
    stage.books.process(30, 1, host="other").fetch(2.0, 7, (2, 1))
    case = stage.case()

    assert [case.ends.clock(task(case.history, 7, number).leases[0]) for number in (1, 2)] == [0, 1]


@pytest.mark.parametrize(("again", "held"), [(3.75, True), (4.0, False), (5.0, False)])
def test_a_lease_expired_while_held_if_its_task_was_handed_out_again_before_it_was_answered(
    stage: Stage, again: float, held: bool
) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="refused", status=500)
    stage.main.post(4.0, 7, (1, 1))
    stage.another().fetch(again, 7, (1, 2))

    assert stage.expired_while_held() is held


@pytest.mark.parametrize(("again", "held"), [(3.75, True), (4.0, False)])
def test_a_lease_that_was_not_answered_expired_while_held_if_its_task_came_back_before_its_end(
    stage: Stage, again: float, held: bool
) -> None:
    stage.supervisor.exit(4.0, 1, "injected")
    stage.another().fetch(again, 7, (1, 2))

    assert stage.expired_while_held() is held


@pytest.mark.parametrize(("heard_of", "held"), [(11.0, False), (11.0625, True)])
def test_a_lease_whose_end_is_not_known_expired_while_held_if_its_worker_was_heard_of_after_it_came_back(
    stage: Stage, heard_of: float, held: bool
) -> None:
    stage.another().fetch(11.0, 7, (1, 2))
    stage.heard_of(heard_of)

    assert stage.expired_while_held() is held


def test_a_lease_that_was_given_up_at_a_moment_that_is_not_known_did_not_expire_while_held(stage: Stage) -> None:
    stage.main.poll(6.0, 7)
    stage.another().fetch(11.0, 7, (1, 2))
    stage.heard_of(20.0)

    assert not stage.expired_while_held()


def test_a_lease_did_not_expire_while_held_if_it_never_came_back(stage: Stage) -> None:
    stage.main.post(30.0, 7, (1, 1))

    assert not stage.expired_while_held()


def test_nothing_is_said_of_leases_that_nobody_received_or_that_came_back_on_another_clock(stage: Stage) -> None:
    stage.main.post(30.0, 7, (1, 1))
    stage.books.process(20, 2, host="other").fetch(5.0, 7, (1, 3))
    stage.main.post(40.0, 7, (1, 2))
    stage.books.process(30, 3).fetch(20.0, 7, (2, 2))
    stage.main.post(30.0, 7, (2, 1))
    case = stage.case()

    for number in (1, 2):
        one = task(case.history, 7, number)
        assert not any(case.ends.expired_while_held(one, lease) for lease in one.leases)


# --- faults in depth


def loader(stage: Stage, at: float = 2.5) -> Process:
    """Return a loader of the same life, which is handed task 2 at this moment."""
    made = stage.books.process(12).start(at - 0.5, 10)
    made.fetch(at, 7, (2, 1))
    return made


def end_of(stage: Stage, sequence: int) -> End:
    case = stage.case()
    one = task(case.history, 7, sequence)
    return case.ends.of(one, one.leases[0])


def test_a_lease_that_was_lost_on_its_way_was_held_by_nobody_and_that_is_our_doing(stage: Stage) -> None:
    stage.main.lose_tasks(4.0, 7, (5, 1))
    refs = (stage.line(stage.main, 8),)

    assert end_of(stage, 5) == End(How.UNSEEN, Whose.BUDGET, "the answer that brought it was lost", 4.0, refs)


def test_a_lease_that_was_withheld_was_kept_from_the_worker_on_purpose(stage: Stage) -> None:
    stage.main.strike(4.0, Effect.WITHHOLD, 7, (5, 1), site="tasks", trigger="exhaust")
    stage.main.lose_tasks(4.0, 7, (5, 1), then=((6, 1),))

    assert end_of(stage, 5).cause == "it was kept from the worker on purpose"
    assert end_of(stage, 5).is_ours
    assert end_of(stage, 6).how is How.HELD


def test_an_answer_that_the_service_took_unheard_is_accepted(stage: Stage) -> None:
    stage.main.lose_answer(3.0, 7, (1, 1))
    stage.supervisor.exit(4.0, 1, "injected")

    assert stage.end() == End(How.ACCEPTED, Whose.SERVICE, "its answer was accepted")


def test_an_answer_that_the_service_refused_unheard_was_refused_by_it(stage: Stage) -> None:
    stage.main.lose_answer(3.0, 7, (1, 1), accepted=False)

    assert (stage.end().how, stage.end().whose) == (How.REFUSED, Whose.SERVICE)
    assert stage.end().cause == "the service refused its answer (HTTP 500)"


def test_an_answer_of_which_a_fault_keeps_us_from_knowing_whether_it_arrived_is_open_by_our_doing(
    stage: Stage,
) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="unheard", error="ConnectionError", struck=True)

    assert (stage.end().how, stage.end().whose) == (How.INDETERMINATE, Whose.BUDGET)


@pytest.mark.parametrize(
    ("mode", "how", "why"),
    [
        ("exit", How.DROPPED, "an injected crash before its answer was sent"),
        ("segv", How.DROPPED, "an injected crash before its answer was sent"),
        ("hang", How.DROPPED, "an injected hang before its answer was sent"),
        ("sysexit", How.DROPPED, "an injected SystemExit before its answer was sent"),
    ],
)
def test_an_answer_that_a_fault_kept_from_being_sent_is_ours(stage: Stage, mode: str, how: How, why: str) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome=None)
    stage.main.crash(3.0, mode, job=7, site="posting", point="posting-unsent", call=stage.main.calls)
    refs = (stage.line(stage.main, 7), stage.line(stage.main, 8))

    assert stage.end() == End(how, Whose.BUDGET, why, 3.0, refs)


def test_a_loader_that_dies_drops_what_it_has_received_and_its_worker_the_rest_of_the_job(stage: Stage) -> None:
    stage.supervisor.spawn(0.25, 1)
    dead = loader(stage)
    dead.crash(3.0, role="loader", job=7, site="downloading", point="downloading")
    stage.main.poll(6.0, 7)
    refs = (stage.line(dead, 5),)

    assert end_of(stage, 2) == End(How.DROPPED, Whose.BUDGET, "an injected death of its loader", 3.0, refs)
    assert end_of(stage, 1) == End(How.DROPPED, Whose.BUDGET, "an injected death of a loader", 3.0, refs)


def test_the_job_of_a_loader_that_dies_is_the_one_whose_tasks_it_asked_for(stage: Stage) -> None:
    loader(stage).crash(3.0, role="loader", site="downloading")
    stage.main.poll(6.0, 7)

    assert end_of(stage, 1).cause == "an injected death of a loader"


def test_a_loaders_death_excuses_nothing_that_was_handed_out_after_the_next_poll(stage: Stage) -> None:
    loader(stage).crash(3.0, role="loader", job=7)
    stage.main.poll(6.0, 7)
    stage.books.process(13).start(6.5, 10).fetch(7.0, 7, (3, 1))
    stage.main.poll(9.0, 7)

    assert end_of(stage, 3) == End(How.ABANDONED, Whose.WORKER, "the worker went on to its next poll without answering")


def test_a_batch_that_was_finished_and_kept_before_its_loader_died_was_neglected(stage: Stage) -> None:
    stage.main.batch(2.0, 7, (1, 1), ends=0.125)
    stage.main.batch(2.5, 7, (9, 1))
    stage.main.batch(4.5, 7, (9, 1))
    stage.main.post(5.0, 7, (9, 1))
    loader(stage).crash(6.0, role="loader", job=7)

    assert stage.end().cause == "the worker finished its batch and never posted it"


@pytest.mark.parametrize("role", ["main", "loader"])
def test_whatever_a_life_holds_when_it_is_made_to_hang_is_ours(stage: Stage, role: str) -> None:
    other = loader(stage)
    (other if role == "loader" else stage.main).crash(3.0, "hang", role=role, job=7)
    stage.supervisor.exit(90.0, 1, "ended")

    for sequence in (1, 2):
        assert (end_of(stage, sequence).how, end_of(stage, sequence).whose) == (How.DROPPED, Whose.BUDGET)
        assert (end_of(stage, sequence).cause, end_of(stage, sequence).at) == ("an injected hang", 3.0)


def test_a_finished_batch_whose_posting_thread_hangs_was_not_neglected(stage: Stage) -> None:
    stage.main.batch(2.0, 7, (1, 1), ends=0.125)
    stage.main.crash(2.5, "hang", job=7, site="posting", point="posting-unsent")
    stage.main.batch(4.5, 7, (9, 1))
    stage.main.post(5.0, 7, (9, 1))

    assert stage.end().cause == "an injected hang"


def test_a_system_exit_that_ended_the_life_is_a_crash(stage: Stage) -> None:
    stage.main.crash(3.0, "sysexit", job=7)
    stage.supervisor.exit(4.0, 1, "injected")

    assert (stage.end().how, stage.end().cause, stage.end().at) == (How.DROPPED, "an injected crash", 3.0)


def test_a_system_exit_that_was_swallowed_has_aborted_the_job(stage: Stage) -> None:
    stage.main.crash(3.0, "sysexit", job=7)
    stage.main.poll(4.0, 7)
    stage.supervisor.exit(9.0, 1, "ended")

    assert (stage.end().how, stage.end().cause) == (How.DROPPED, "an injected SystemExit")
    assert stage.end().is_ours


def test_a_system_exit_in_a_posting_thread_aborts_nothing(stage: Stage) -> None:
    stage.main.crash(3.0, "sysexit", job=7, site="posting", point="after-post")
    stage.main.poll(4.0, 7)
    stage.supervisor.exit(9.0, 1, "ended")

    assert stage.end().cause == "the worker went on to its next poll without answering"


@pytest.mark.parametrize(("seconds", "ours"), [(2.0, True), (1.0, False)])
def test_a_lease_that_expired_is_ours_if_it_would_not_have_without_our_delays(
    stage: Stage, seconds: float, ours: bool
) -> None:
    stage.main.strike(3.0, Effect.SLOW, 7, kind="delay", seconds=seconds)
    stage.supervisor.exit(12.0, 1, "injected")  # 10 s after its receipt; ack_wait is 8 s
    whose, why = (
        (Whose.BUDGET, "it expired while faults of ours slowed its worker")
        if ours
        else (Whose.SETUP, "it expired while a live worker held it")
    )

    assert (stage.end().how, stage.end().whose, stage.end().cause) == (How.EXPIRED, whose, why)


def test_delays_that_overlap_count_once_and_those_of_another_life_never(stage: Stage) -> None:
    for process in (stage.main, stage.main, loader(stage), stage.another()):
        process.strike(3.0, Effect.SLOW, 7, kind="delay", seconds=1.0)
    stage.another().strike(5.0, Effect.SLOW, 7, kind="delay", seconds=5.0)
    stage.supervisor.exit(12.0, 1, "injected")

    assert stage.end().whose is Whose.SETUP


def test_a_delay_before_its_receipt_has_kept_no_lease(stage: Stage) -> None:
    stage.main.strike(0.0, Effect.SLOW, 7, kind="delay", seconds=2.5)  # half a second of it afterwards
    stage.supervisor.exit(12.0, 1, "injected")

    assert stage.end().whose is Whose.SETUP


def test_an_answered_lease_that_came_back_is_slowed_up_to_its_answer(stage: Stage) -> None:
    stage.main.strike(3.0, Effect.SLOW, 7, kind="delay", seconds=6.0)
    stage.another().fetch(10.5, 7, (1, 2))
    stage.main.post(11.0, 7, (1, 1))
    case = stage.case()
    one = task(case.history, 7, 1)

    assert case.ends.expired_while_held(one, one.leases[0])
    assert case.ends.is_slowed(one, one.leases[0])
    assert not case.ends.is_slowed(one, one.leases[1])


def test_without_an_ack_wait_the_redelivery_tells_how_long_it_is_at_most(stage: Stage) -> None:
    stage.main.strike(3.0, Effect.SLOW, 7, kind="delay", seconds=1.0)
    stage.another().fetch(10.5, 7, (1, 2))
    stage.main.post(11.0, 7, (1, 1))  # 9 s after its receipt, 8 without the delay; it came back after 8.5 s
    case = stage.case(ack_wait=None)
    one = task(case.history, 7, 1)

    assert case.ends.is_slowed(one, one.leases[0])


def test_a_batch_that_an_injected_system_exit_broke_was_not_broken_by_the_worker(stage: Stage) -> None:
    stage.main.batch(2.5, 7, (1, 1), ends=0.5, error="SystemExit")
    stage.main.crash(3.0, "sysexit", job=7)
    stage.supervisor.exit(4.0, 1, "injected")

    assert (stage.end().how, stage.end().cause) == (How.DROPPED, "an injected crash")


def test_a_system_exit_of_the_workers_own_is_its_own(stage: Stage) -> None:
    stage.main.batch(2.5, 7, (1, 1), ends=0.5, error="SystemExit")

    assert (stage.end().whose, stage.end().cause) == (Whose.WORKER, "SystemExit left the worker's task loop")


def test_what_a_life_held_that_was_ended_for_its_hang_was_dropped_by_the_hang(stage: Stage) -> None:
    stage.main.crash(3.0, "hang", job=7)
    stage.supervisor.exit(20.0, 1, "injected", code=-9)

    assert (stage.end().how, stage.end().whose) == (How.DROPPED, Whose.BUDGET)
    assert (stage.end().cause, stage.end().at) == ("an injected hang", 3.0)


def test_what_was_lost_when_a_worker_did_not_get_over_its_loaders_death_is_ours(stage: Stage) -> None:
    loader(stage).crash(3.0, "sysexit", role="loader", job=8)
    stage.supervisor.exit(4.0, 1, "organic", code=1)
    why = "an exit of its own after an injected death of its loader"

    assert (stage.end().how, stage.end().whose, stage.end().cause) == (How.DROPPED, Whose.BUDGET, why)


def test_a_post_under_way_when_a_worker_did_not_get_over_its_loaders_death_is_ours(stage: Stage) -> None:
    stage.main.post(3.5, 7, (1, 1), outcome=None)
    loader(stage).crash(3.0, "sysexit", role="loader", job=7)
    stage.supervisor.exit(4.0, 1, "organic", code=1)

    assert (stage.end().how, stage.end().whose) == (How.INDETERMINATE, Whose.BUDGET)
