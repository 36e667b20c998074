from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.fates import Fate, Fated, Mark
from ami_fault_site.verdict.terms import Whose
from tests.booked import ACK_WAIT, PUBLISHED, Books, Process, Supervisor, facts, lines, task, witness

DUE = ACK_WAIT + 2.0 + ACK_WAIT / 2  # seconds after its receipt until which a lease need not be back
RECEIVED = 2.0
ASKED = RECEIVED + DUE  # the first moment at which asking in vain shows that a task did not come back
NO_SERVICE = "second witness missing: no token"


def service(status: str, processed: int | None, remaining: int | None, **about: object) -> JobWitness:
    """Return what the service says of job 7. Its log is whole, and tells of no more deliveries than we know of."""
    return witness(7, status, processed, remaining, **{"delivered": 0, **about})  # type: ignore[arg-type]


class Stage:
    """One supervised life of a worker that was handed task 1 of job 7, whose service waits for 3 of 5 images."""

    def __init__(self, *rows: tuple[int, int]) -> None:
        self.books = Books()
        self.main = self.books.process(10).start(0.5)
        self.main.poll(1.0, 7)
        self.main.fetch(RECEIVED, 7, *(rows or ((1, 1),)), seconds=0.5)
        self.supervisor: Supervisor = self.books.supervisor()
        self.witness: JobWitness | None = service("STARTED", 2, 3)

    def case(self, **about: object) -> Case:
        known = {"ack_wait": ACK_WAIT, "max_deliver": 2, "missing": "no token", **about}
        return self.books.case(facts(*([self.witness] if self.witness else []), **known))  # type: ignore[arg-type]

    def fated(self, sequence: int = 1, /, **about: object) -> Fated:
        case = self.case(**about)
        return case.fates.of(task(case.history, 7, sequence))

    def told(self, sequence: int = 1, **about: object) -> tuple[Fate, Whose, str]:
        fated = self.fated(sequence, **about)
        return fated.fate, fated.whose, fated.cause

    def marks(self, **about: object) -> set[Mark]:
        return set(self.fated(**about).marks)

    def lines(self, sequence: int = 1, **about: object) -> list[str]:
        case = self.case(**about)
        return lines(case.places(case.fates.of(task(case.history, 7, sequence)).refs))

    def crash(self, at: float = 3.0, incarnation: int = 1) -> None:
        self.supervisor.exit(at, incarnation, "injected")

    def next_life(self) -> Process:
        return self.books.process(20, 2).start(4.0)

    def ask_in_vain(self, at: float, by: Process | None = None) -> None:
        """Let tasks be asked for at this moment, and none come."""
        (by or self.books.process(30, 3)).fetch(at + 0.5, 7, seconds=0.5)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_fates_and_marks_have_names_that_reports_use() -> None:
    assert [fate.value for fate in Fate] == [
        "done", "recovered", "failed-expected", "failed-transient", "failed-organic", "conflict", "exhausted",
        "exhausted-on-purpose", "taken-elsewhere", "lost", "stuck", "unrecorded", "never-delivered", "unexpected",
        "pending",
    ]  # fmt: skip
    assert [mark.value for mark in Mark] == ["duplicated", "delivered-early", "expired-while-held"]


# --- done, recovered


def test_a_task_whose_first_delivery_was_answered_is_done(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1))

    assert stage.fated() == Fated(Fate.DONE)


def test_a_task_that_was_answered_only_after_it_had_come_back_has_recovered(stage: Stage) -> None:
    stage.crash()
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2))

    assert stage.fated() == Fated(Fate.RECOVERED)


def test_a_task_of_which_only_a_later_delivery_is_known_has_recovered_too() -> None:
    for delivery in (2, 3):
        stage = Stage((1, delivery))
        stage.main.post(3.0, 7, (1, delivery))

        assert stage.fated(max_deliver=3) == Fated(Fate.RECOVERED)


def test_a_task_whose_first_delivery_was_answered_late_is_done_all_the_same(stage: Stage) -> None:
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2))
    stage.main.post(13.0, 7, (1, 1))

    assert stage.fated().fate is Fate.DONE


# --- failed


@pytest.mark.parametrize("effect", [Effect.IMAGE_404, Effect.CORRUPT])
def test_an_error_about_an_image_that_we_made_bad_is_expected(stage: Stage, effect: Effect) -> None:
    stage.main.strike(2.5, effect, 7, image="1")
    stage.main.post(3.0, 7, (1, 1), failed=(1,))

    assert stage.fated() == Fated(Fate.FAILED_EXPECTED)


def test_an_image_without_an_id_is_known_to_be_bad_by_its_name(stage: Stage) -> None:
    told = {"site": "open", "kind": "", "phase": "before", "job": 7, "tasks": []}
    stage.main.book("fault", 2.5, effect="corrupt-image", image="", subject="1", **told)
    stage.main.post(3.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_EXPECTED


def test_an_image_that_we_struck_more_than_once_is_remembered_with_each_injection(stage: Stage) -> None:
    for effect in (Effect.IMAGE_404, Effect.CORRUPT, Effect.CRASH):
        stage.main.strike(2.5, effect, 7, image="1")

    assert [one.effect for _, _, one in stage.case().fates.spoilt.leases] == [Effect.IMAGE_404, Effect.CORRUPT]


@pytest.mark.parametrize("effect", [Effect.NETWORK, Effect.CRASH])
def test_an_error_that_no_fault_of_ours_explains_is_the_workers_own(stage: Stage, effect: Effect) -> None:
    stage.main.strike(2.5, effect, 7, (1, 1), image="1")
    stage.main.strike(2.5, Effect.IMAGE_404, 7, image="2")
    stage.main.post(3.0, 7, (1, 1), failed=(1,))

    assert stage.told() == (Fate.FAILED_ORGANIC, Whose.WORKER, "an error that we did not inject")
    assert stage.lines() == ["10:6"]


def test_an_error_after_our_passing_one_is_the_workers_for_taking_it_as_final(stage: Stage) -> None:
    stage.main.strike(2.5, Effect.TRANSIENT, 7, (1, 1))
    stage.main.post(3.0, 7, (1, 1), failed=(1,))

    assert stage.told() == (Fate.FAILED_TRANSIENT, Whose.WORKER, "a passing error was answered as a final one")
    assert stage.lines() == ["10:6"]


def test_a_passing_error_explains_no_error_of_another_delivery_or_task(stage: Stage) -> None:
    stage.main.strike(2.5, Effect.TRANSIENT, 7, (1, 1), (2, 2))
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_ORGANIC


def test_an_image_that_we_made_bad_explains_an_error_before_a_passing_one_does(stage: Stage) -> None:
    stage.main.strike(2.5, Effect.TRANSIENT, 7, (1, 1))
    stage.main.strike(2.5, Effect.CORRUPT, 7, image="1")
    stage.main.post(3.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_EXPECTED


# --- conflict


def test_a_success_and_an_error_that_were_both_accepted_are_a_conflict_of_the_workers(stage: Stage) -> None:
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2), failed=(1,))
    stage.main.post(13.0, 7, (1, 1))

    assert stage.told() == (Fate.CONFLICT, Whose.WORKER, "a success and an error were both accepted")
    assert stage.lines() == ["10:6", "20:4"]


def test_a_conflict_is_the_services_if_it_handed_the_task_to_two_at_once(stage: Stage) -> None:
    other = stage.next_life()
    other.fetch(5.0, 7, (1, 2))
    other.post(6.0, 7, (1, 2), failed=(1,))
    stage.main.post(7.0, 7, (1, 1))

    assert stage.told()[:2] == (Fate.CONFLICT, Whose.SERVICE)


# --- unexpected


def test_a_task_beyond_those_that_the_job_has_was_invented_whether_it_was_answered_or_not() -> None:
    for post in (lambda main: None, lambda main: main.post(3.0, 7, (6, 1)), lambda main: main.post(
        3.0, 7, (6, 1), outcome=None
    )):  # fmt: skip
        stage = Stage((5, 1), (6, 1))
        post(stage.main)

        assert stage.told(6) == (Fate.UNEXPECTED, Whose.SERVICE, "the job has 5 tasks")
        assert stage.lines(6) == ["10:6"]
        assert stage.fated(5).fate is Fate.PENDING


def test_the_last_task_of_a_job_was_not_invented() -> None:
    stage = Stage((5, 1))
    stage.main.post(3.0, 7, (5, 1))

    assert stage.fated(5).fate is Fate.DONE


def test_where_the_size_of_a_job_is_not_known_no_task_was_invented() -> None:
    stage = Stage((6, 1), (7, 1))
    stage.main.post(3.0, 7, (7, 1))
    stage.witness = None

    assert (stage.fated(6).fate, stage.fated(7).fate) == (Fate.PENDING, Fate.DONE)


# --- unrecorded


def reply(sequence: int, delivery: int) -> str:
    return f"$JS.ACK.job_7.job-7-consumer.{delivery}.{sequence}.1.{PUBLISHED + sequence}.0"


def test_an_accepted_answer_that_the_log_does_not_name_is_unrecorded_if_the_counts_lack_one() -> None:
    stage = Stage((1, 1), (2, 1))
    stage.main.post(3.0, 7, (1, 1), (2, 1))
    stage.witness = service("SUCCESS", 1, 1, recorded=frozenset({reply(2, 1)}))

    cause = "its answer was accepted and is not in the counts"
    assert stage.told() == (Fate.UNRECORDED, Whose.SERVICE, cause)
    assert stage.lines() == ["10:6"]
    assert stage.fated(2) == Fated(Fate.DONE)
    case = stage.case()
    assert case.fates.unrecorded == {id(case.streams.all[0]): 1}


def test_an_answer_whose_saving_failed_is_not_recorded_although_the_log_names_it() -> None:
    stage = Stage((1, 1), (2, 1))
    stage.main.post(3.0, 7, (1, 1), (2, 1))
    both = frozenset({reply(1, 1), reply(2, 1)})
    stage.witness = service("SUCCESS", 1, 1, recorded=both, unsaved=frozenset({reply(1, 1)}))

    assert [stage.fated(number).fate for number in (1, 2)] == [Fate.UNRECORDED, Fate.DONE]


def test_an_answer_that_was_never_saved_for_want_of_an_algorithm_is_the_setups_doing() -> None:
    stage = Stage((1, 1), (2, 1))
    stage.main.post(3.0, 7, (1, 1), (2, 1))
    stage.witness = service("STARTED", 2, 0, undeclared={reply(1, 1): "my_detector"})

    why = "not saved: its pipeline declares no algorithm my_detector; register the worker's"
    assert stage.told() == (Fate.UNRECORDED, Whose.SETUP, why)
    assert stage.fated(2) == Fated(Fate.DONE)


def test_an_answer_that_was_saved_the_second_time_is_saved() -> None:
    stage = Stage((1, 1))
    stage.main.post(3.0, 7, (1, 1))
    stage.main.fetch(12.0, 7, (1, 2))
    stage.main.post(13.0, 7, (1, 2))
    stage.witness = service("SUCCESS", 1, 0, undeclared={reply(1, 1): "my_detector"})

    assert stage.fated().fate is Fate.DONE


def test_without_names_or_with_counts_that_lack_nothing_no_task_is_called_unrecorded() -> None:
    for told in (service("SUCCESS", 1, 1), service("SUCCESS", 2, 0, recorded=frozenset({reply(2, 1)}))):
        stage = Stage((1, 1), (2, 1))
        stage.main.post(3.0, 7, (1, 1), (2, 1))
        stage.witness = told

        assert stage.fated().fate is Fate.DONE


def test_in_a_running_job_it_is_unrecorded_once_it_would_have_come_back() -> None:
    for asked, fate in ((ASKED, Fate.UNRECORDED), (ASKED - 0.5, Fate.DONE)):
        stage = Stage((1, 1), (2, 1))
        stage.main.post(3.0, 7, (1, 1), (2, 1))
        stage.witness = service("STARTED", 1, 4, recorded=frozenset({reply(2, 1)}))
        stage.ask_in_vain(asked)

        assert stage.fated().fate is fate
        case = stage.case()
        assert case.fates.drained(case.streams.all[0]) is (fate is Fate.UNRECORDED)


# --- nobody heard


def test_an_answer_of_which_nobody_heard_is_pending_if_the_counts_do_not_tell(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome=None)
    stage.witness = None

    assert stage.told() == (Fate.PENDING, Whose.SERVICE, "nobody heard whether its answer arrived")
    assert stage.lines() == ["10:6"]


def test_an_answer_of_which_nobody_heard_counts_as_one_if_the_counts_say_that_it_arrived(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome=None)

    assert stage.fated() == Fated(Fate.DONE)


def test_a_later_delivery_whose_answer_arrived_unheard_has_recovered(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="refused", status=500)
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2), outcome=None)

    assert stage.fated() == Fated(Fate.RECOVERED)


@pytest.mark.parametrize(("struck", "fate"), [("1", Fate.FAILED_EXPECTED), ("2", Fate.FAILED_ORGANIC)])
def test_an_error_that_arrived_unheard_is_an_error(stage: Stage, struck: str, fate: Fate) -> None:
    stage.main.strike(2.5, Effect.CORRUPT, 7, image=struck)
    stage.main.post(3.0, 7, (1, 1), outcome=None, failed=(1,))

    assert stage.fated().fate is fate


def test_an_error_and_a_success_of_which_nobody_heard_are_taken_for_a_success(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="unheard", error="ReadTimeout", failed=(1,))
    stage.main.post(4.0, 7, (1, 1), outcome=None)

    assert stage.fated() == Fated(Fate.DONE)


def test_an_answer_of_which_nobody_heard_and_that_did_not_arrive_is_none(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome=None)
    stage.crash(3.5)
    stage.witness = service("STARTED", 0, 5)
    stage.ask_in_vain(ASKED)

    cause = "an injected crash while posting; asked for again in vain after its ack_wait"
    assert stage.told() == (Fate.LOST, Whose.SERVICE, cause)


# --- pending


def test_a_task_of_which_nobody_received_a_delivery_is_pending(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (2, 1))

    assert stage.told(2) == (Fate.PENDING, Whose.SERVICE, "only an answer tells of it")


def test_a_task_of_a_job_that_was_revoked_is_pending_whatever_became_of_it(stage: Stage) -> None:
    stage.witness = service("REVOKED", 2, 3)
    stage.crash()
    stage.ask_in_vain(ASKED)

    assert stage.told(max_deliver=1) == (Fate.PENDING, Whose.SERVICE, "the job was revoked")
    assert stage.lines(max_deliver=1) == ["1:1", "10:6"]


def test_a_task_that_a_worker_still_held_is_pending(stage: Stage) -> None:
    assert stage.told() == (Fate.PENDING, Whose.SERVICE, "a worker still held it")


def test_a_task_that_nobody_asked_for_again_is_pending(stage: Stage) -> None:
    stage.crash()
    stage.ask_in_vain(ASKED - 0.0625)

    cause = "an injected crash; nobody asked again after its ack_wait"
    assert stage.told() == (Fate.PENDING, Whose.SERVICE, cause)
    assert stage.lines() == ["1:1", "10:6"]


@pytest.mark.parametrize("asked", [3.0, ASKED])
def test_a_task_whose_worker_the_operator_stopped_is_pending(stage: Stage, asked: float) -> None:
    stage.supervisor.exit(3.0, 1, "operator")
    stage.ask_in_vain(asked)

    assert stage.told(max_deliver=3) == (
        Fate.PENDING, Whose.SERVICE, "the operator stopped the worker that held it"
    )  # fmt: skip
    assert stage.lines(max_deliver=3) == ["1:1", "10:6"]


def test_a_task_that_did_not_come_back_is_pending_as_long_as_the_service_was_not_asked(stage: Stage) -> None:
    stage.witness = None
    stage.crash()
    stage.ask_in_vain(ASKED)

    assert stage.told() == (Fate.PENDING, Whose.SERVICE, "second witness missing: no token")
    assert stage.lines() == ["1:1", "10:6"]


def test_a_task_that_did_not_come_back_is_pending_if_it_may_have_been_its_last_delivery(stage: Stage) -> None:
    stage.crash()
    stage.ask_in_vain(ASKED)

    cause = "max_deliver is not known: it may have been its last delivery"
    assert stage.told(max_deliver=None) == (Fate.PENDING, Whose.SERVICE, cause)
    assert stage.lines(max_deliver=None) == ["1:1", "10:6"]


@pytest.mark.parametrize("max_deliver", [1, 2])
def test_a_ledger_that_is_not_complete_proves_no_task_lost_or_exhausted(stage: Stage, max_deliver: int) -> None:
    stage.crash()
    stage.ask_in_vain(ASKED)

    expected = (Fate.PENDING, Whose.SERVICE, "the ledger is not complete")
    assert stage.told(damage=("a.jsonl:3",), max_deliver=max_deliver) == expected
    assert stage.lines(damage=("a.jsonl:3",), max_deliver=max_deliver) == ["1:1", "10:6"]


# --- lost


def test_a_task_that_was_asked_for_in_vain_when_it_was_due_is_lost(stage: Stage) -> None:
    stage.crash()
    stage.ask_in_vain(ASKED)

    cause = "an injected crash; asked for again in vain after its ack_wait"
    assert stage.told() == (Fate.LOST, Whose.SERVICE, cause)
    assert stage.lines() == ["1:1", "10:6"]


def test_without_a_known_ack_wait_it_is_lost_only_after_the_longest_that_is_in_use(stage: Stage) -> None:
    stage.crash()
    for after, fate in ((301.9375, Fate.PENDING), (302.0, Fate.LOST)):
        stage.ask_in_vain(RECEIVED + after)
        assert stage.told(ack_wait=None)[0] is fate


def test_a_task_is_lost_if_its_last_delivery_is_although_earlier_ones_came_back(stage: Stage) -> None:
    stage.crash()
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.crash(12.0, 2)
    stage.ask_in_vain(11.0 + DUE)

    assert stage.fated(max_deliver=3).fate is Fate.LOST
    assert stage.fated(max_deliver=2).fate is Fate.EXHAUSTED


def test_a_task_that_was_out_when_its_job_ended_is_lost_if_the_counts_still_wait_for_it(stage: Stage) -> None:
    stage.crash()
    stage.witness = service("FAILURE", 2, 3)

    assert stage.told() == (Fate.LOST, Whose.SERVICE, "the job became FAILURE while it was out")
    assert stage.lines() == ["1:1", "10:6"]


def test_a_task_that_a_worker_held_when_its_job_ended_is_lost_likewise(stage: Stage) -> None:
    stage.witness = service("SUCCESS", 2, 3)

    assert stage.told() == (Fate.LOST, Whose.SERVICE, "the job became SUCCESS while it was out")


def test_a_task_that_the_reaper_gave_up_was_not_lost_by_the_end_of_its_job(stage: Stage) -> None:
    stage.crash()
    stage.witness = service("FAILURE", 2, 3, given_up=1)

    assert stage.fated().fate is Fate.PENDING


def test_what_was_asked_for_in_vain_after_the_end_of_the_job_shows_nothing(stage: Stage) -> None:
    stage.crash()
    stage.ask_in_vain(ASKED)
    stage.witness = service("FAILURE", 2, 3, given_up=1)
    assert stage.told()[:2] == (Fate.PENDING, Whose.SERVICE)

    stage.supervisor.seen(ASKED + 1.0, 7, "STARTED", 2, 3)
    assert stage.fated().fate is Fate.LOST


def test_what_an_unknown_max_deliver_leaves_open_the_end_of_a_job_decides(stage: Stage) -> None:
    stage.crash()
    stage.witness = service("FAILURE", 2, 3)

    assert stage.told(max_deliver=None)[0] is Fate.LOST


# --- taken elsewhere


def test_a_task_that_the_service_counts_at_its_jobs_end_was_answered_by_another_worker(stage: Stage) -> None:
    stage.crash()
    stage.witness = service("SUCCESS", 5, 0)
    stage.ask_in_vain(ASKED)

    cause = "the service counts it as processed: another worker must have got it"
    assert stage.told() == (Fate.TAKEN_ELSEWHERE, Whose.SERVICE, cause)
    assert stage.lines() == ["1:1", "10:6"]


def test_a_task_that_did_not_come_back_may_be_with_whoever_got_the_deliveries_that_we_did_not_see(
    stage: Stage,
) -> None:
    stage.crash()
    stage.ask_in_vain(ASKED)
    stage.books.skip(7, 2)
    stage.next_life().fetch(9.0, 7, (2, 1))

    cause = "2 deliveries of this job went to another worker"
    assert stage.told() == (Fate.TAKEN_ELSEWHERE, Whose.SERVICE, cause)
    assert stage.lines() == ["1:1", "10:6"]


def test_a_task_with_more_deliveries_left_than_went_elsewhere_is_lost_if_it_was_due_after_all_of_them(
    stage: Stage,
) -> None:
    stage.crash()
    stage.books.skip(7, 2)
    stage.next_life().fetch(9.0, 7, (2, 1))
    stage.ask_in_vain(RECEIVED + 3 * DUE)

    assert stage.fated(max_deliver=4).fate is Fate.LOST
    assert stage.fated(max_deliver=3).fate is Fate.TAKEN_ELSEWHERE
    assert stage.fated(max_deliver=None).fate is Fate.TAKEN_ELSEWHERE


def test_it_is_not_lost_before_it_was_due_after_all_of_them(stage: Stage) -> None:
    stage.crash()
    stage.books.skip(7, 2)
    stage.next_life().fetch(9.0, 7, (2, 1))
    stage.ask_in_vain(RECEIVED + 3 * DUE - 0.0625)

    assert stage.fated(max_deliver=4).fate is Fate.TAKEN_ELSEWHERE


def test_a_task_of_a_job_whose_log_is_not_whole_may_be_with_another_worker_though_there_is_no_gap(
    stage: Stage,
) -> None:
    stage.witness = service("STARTED", 2, 3, delivered=None)
    stage.crash()
    stage.ask_in_vain(ASKED)

    cause = "the job's log does not reach back to its start, so another worker may have had it"
    assert stage.told() == (Fate.TAKEN_ELSEWHERE, Whose.SERVICE, cause)


def test_a_last_delivery_before_which_others_are_missing_may_be_answered_by_whoever_had_them(stage: Stage) -> None:
    stage.books.skip(7)
    stage.main.fetch(2.5, 7, (2, 2))
    stage.crash()

    cause = "1 deliveries of this job went to another worker"
    assert stage.told(2) == (Fate.TAKEN_ELSEWHERE, Whose.SERVICE, cause)
    assert stage.lines(2) == ["1:1", "10:8"]
    assert stage.fated(2, max_deliver=3).fate is Fate.PENDING


def test_a_task_may_be_with_a_delivery_that_got_lost_on_its_way(stage: Stage) -> None:
    stage.books.skip(7)
    other = stage.next_life()
    other.fetch(9.0, 7, (2, 1))
    other.fail(10.0, "tasks", 7, struck=False, error="ReadTimeout")
    stage.crash()
    stage.ask_in_vain(ASKED)

    cause = "a delivery of it may have got lost on its way"
    assert stage.told() == (Fate.TAKEN_ELSEWHERE, Whose.SERVICE, cause)


# --- exhausted


def test_a_task_whose_last_delivery_ended_unanswered_is_exhausted_and_each_delivery_is_told(stage: Stage) -> None:
    stage.crash()
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.supervisor.exit(12.0, 2, "organic")

    cause = "delivery 1: an injected crash; delivery 2: an exit of its own"
    assert stage.told() == (Fate.EXHAUSTED, Whose.BUDGET, cause)
    assert stage.lines() == ["1:2", "10:6", "20:4"]


def test_its_deliveries_are_told_in_their_order_whichever_was_read_first() -> None:
    books = Books()
    late, early = books.process(20, 2).start(4.0), books.process(10).start(0.5)
    supervisor = books.supervisor()
    late.fetch(11.0, 7, (1, 2))
    early.fetch(2.0, 7, (1, 1))
    supervisor.exit(3.0, 1, "organic")
    supervisor.exit(12.0, 2, "injected")
    case = books.case(facts())
    fated = case.fates.of(task(case.history, 7, 1))

    assert fated.cause == "delivery 1: an exit of its own; delivery 2: an injected crash"


@pytest.mark.parametrize(
    ("first", "second", "whose"),
    [
        ("injected", "organic", Whose.BUDGET),
        ("organic", "injected", Whose.BUDGET),
        ("organic", "organic", Whose.WORKER),
    ],
)
def test_it_is_ours_as_soon_as_a_fault_of_ours_cost_one_of_its_deliveries(
    stage: Stage, first: str, second: str, whose: Whose
) -> None:
    stage.supervisor.exit(3.0, 1, first)
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.supervisor.exit(12.0, 2, second)

    assert stage.told()[:2] == (Fate.EXHAUSTED, whose)


@pytest.mark.parametrize(
    ("status", "exit_at", "whose"),
    [(503, 3.0, Whose.WORKER), (503, 10.5, Whose.SETUP), (None, 10.5, Whose.SETUP)],
)
def test_else_it_is_the_setups_then_the_workers_and_only_then_the_services(
    stage: Stage, status: int | None, exit_at: float, whose: Whose
) -> None:
    stage.books.process(11).start(exit_at, 10)
    stage.supervisor.exit(exit_at, 1, "organic")
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    if status is None:
        stage.supervisor.exit(12.0, 2, "organic")
    else:
        other.post(12.0, 7, (1, 2), outcome="refused", status=status)

    assert stage.told()[:2] == (Fate.EXHAUSTED, whose)


def test_a_task_whose_answers_the_service_refused_until_none_was_left_is_exhausted_by_it(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1), outcome="refused", status=503)

    cause = "delivery 1: the service refused its answer (HTTP 503)"
    assert stage.told(max_deliver=1) == (Fate.EXHAUSTED, Whose.SERVICE, cause)


def test_a_delivery_beyond_the_last_counts_as_the_last(stage: Stage) -> None:
    stage.crash()
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.crash(12.0, 2)

    assert stage.fated(max_deliver=1).fate is Fate.EXHAUSTED
    assert stage.fated(max_deliver=3).fate is Fate.PENDING


def test_a_last_delivery_whose_worker_the_operator_stopped_is_exhausted_once_it_was_asked_for_in_vain(
    stage: Stage,
) -> None:
    stage.supervisor.exit(3.0, 1, "operator")
    assert stage.fated(max_deliver=1).fate is Fate.PENDING

    stage.ask_in_vain(ASKED)
    assert stage.told(max_deliver=1) == (Fate.EXHAUSTED, Whose.SETUP, "delivery 1: the operator's stop")


def test_a_task_whose_last_delivery_a_call_reserved_that_our_crash_cut_off_is_exhausted_by_us(stage: Stage) -> None:
    other = stage.next_life()
    other.ask(11.0, 7)
    other.strike(11.5, Effect.CRASH, 7)
    stage.crash()
    stage.books.skip(7)
    stage.books.process(30, 3).fetch(12.0, 7, (2, 1))
    stage.ask_in_vain(ASKED)

    cause = "its last delivery was reserved by a tasks call that an injected crash cut off"
    assert stage.told() == (Fate.EXHAUSTED, Whose.BUDGET, cause)
    assert stage.lines() == ["1:1", "10:6", "20:3"]
    assert stage.fated(damage=("a.jsonl:3",)).fate is Fate.TAKEN_ELSEWHERE
    assert stage.fated(max_deliver=3).fate is Fate.TAKEN_ELSEWHERE
    assert stage.fated(max_deliver=None).fate is Fate.TAKEN_ELSEWHERE

    stage.witness = service("STARTED", 2, 3, delivered=None)
    assert stage.fated().fate is Fate.TAKEN_ELSEWHERE


def test_no_more_than_three_of_the_calls_that_were_cut_off_are_named(stage: Stage) -> None:
    other = stage.next_life()
    for at in (11.0, 11.25, 11.5, 11.75):
        other.ask(at, 7)
    other.strike(12.0, Effect.CRASH, 7)
    stage.crash()
    stage.books.skip(7)
    stage.books.process(30, 3).fetch(12.0, 7, (2, 1))
    stage.ask_in_vain(ASKED)

    assert stage.lines() == ["1:1", "10:6", "20:3", "20:4", "20:5"]


def test_it_is_not_ours_if_the_call_was_cut_off_otherwise_or_cannot_explain_every_gap(stage: Stage) -> None:
    other = stage.next_life()
    other.ask(11.0, 7)
    stage.crash()
    stage.books.skip(7)
    last = stage.books.process(30, 3)
    last.fetch(12.0, 7, (2, 1))
    stage.ask_in_vain(ASKED)
    assert stage.fated().fate is Fate.TAKEN_ELSEWHERE

    other.strike(11.5, Effect.CRASH, 7)
    assert stage.fated().fate is Fate.EXHAUSTED

    stage.books.skip(7)
    last.fetch(13.0, 7, (3, 1))
    assert stage.fated().fate is Fate.TAKEN_ELSEWHERE


# --- stuck


@pytest.mark.parametrize(("end", "fate"), [(RECEIVED + 8.0, Fate.PENDING), (RECEIVED + 8.0625, Fate.STUCK)])
def test_a_task_that_a_silent_worker_held_to_the_end_of_the_run_for_longer_than_ack_wait_is_stuck(
    stage: Stage, end: float, fate: Fate
) -> None:
    stage.supervisor.exit(end, 1, "ended")

    assert stage.fated().fate is fate


def test_a_stuck_task_is_the_workers_and_is_proved_by_the_receipt_and_the_end(stage: Stage) -> None:
    stage.supervisor.exit(40.0, 1, "ended")

    assert stage.told() == (Fate.STUCK, Whose.WORKER, "a live worker held it to the end and never answered")
    assert stage.lines() == ["1:1", "10:6"]


@pytest.mark.parametrize(("end", "fate"), [(RECEIVED + 5.0, Fate.PENDING), (RECEIVED + 5.0625, Fate.STUCK)])
def test_a_worker_may_be_silent_for_five_seconds_however_short_ack_wait_is(
    stage: Stage, end: float, fate: Fate
) -> None:
    stage.supervisor.exit(end, 1, "ended")

    assert stage.fated(ack_wait=1.0).fate is fate


@pytest.mark.parametrize(("end", "fate"), [(RECEIVED + 300.0, Fate.PENDING), (RECEIVED + 300.0625, Fate.STUCK)])
def test_and_for_the_longest_that_is_in_use_where_ack_wait_is_not_known(stage: Stage, end: float, fate: Fate) -> None:
    stage.supervisor.exit(end, 1, "ended")

    assert stage.fated(ack_wait=None).fate is fate


def test_a_worker_that_books_something_is_at_work(stage: Stage) -> None:
    stage.books.process(11).start(35.0, 10)
    stage.supervisor.exit(40.0, 1, "ended")

    assert stage.told() == (Fate.PENDING, Whose.SERVICE, "a worker still held it")


def test_a_worker_that_is_long_done_with_a_batch_is_not_at_work_on_it(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 1), ends=1.0)
    stage.main.fetch(39.0, 7, (2, 1))
    stage.supervisor.exit(40.0, 1, "ended")

    assert stage.fated().fate is Fate.STUCK


def test_a_batch_that_did_not_end_may_be_at_work_on(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 1), ends=None)
    stage.main.fetch(39.0, 7, (2, 1))
    stage.supervisor.exit(40.0, 1, "ended")

    assert stage.fated().fate is Fate.PENDING


def test_silence_before_a_task_was_received_counts_for_nothing(stage: Stage) -> None:
    stage.main.batch(1.5, 7, (2, 1), (1, 1), ends=0.25)
    stage.supervisor.exit(RECEIVED + 8.0, 1, "ended")

    assert stage.fated().fate is Fate.PENDING


def test_a_worker_that_lives_and_is_long_done_with_a_batch_holds_its_tasks_stuck(stage: Stage) -> None:
    stage.main.batch(3.0, 7, (1, 1), ends=1.0)
    stage.main.fetch(12.0, 7, (2, 1))
    assert stage.fated().fate is Fate.PENDING

    stage.main.fetch(12.0625, 7, (3, 1))
    assert stage.told() == (Fate.STUCK, Whose.WORKER, "a live worker held it to the end and never answered")


@pytest.mark.parametrize("max_deliver", [1, 2])
def test_a_ledger_that_is_not_complete_proves_no_task_stuck(stage: Stage, max_deliver: int) -> None:
    stage.supervisor.exit(40.0, 1, "ended")
    if max_deliver == 1:
        stage.ask_in_vain(ASKED)

    assert stage.fated(max_deliver=max_deliver).fate is Fate.STUCK
    assert stage.fated(max_deliver=max_deliver, damage=("a.jsonl:3",)).fate is Fate.PENDING


def test_a_last_delivery_that_a_live_worker_held_to_the_end_is_stuck_once_it_was_due(stage: Stage) -> None:
    stage.supervisor.exit(40.0, 1, "ended")
    stage.ask_in_vain(ASKED)

    cause = "a live worker held its last delivery and never answered"
    assert stage.told(max_deliver=1) == (Fate.STUCK, Whose.WORKER, cause)
    assert stage.lines(max_deliver=1) == ["1:1", "10:6"]


def test_of_several_deliveries_it_is_the_last_that_is_stuck_or_not(stage: Stage) -> None:
    stage.crash()
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.supervisor.exit(18.0, 2, "ended")
    stage.witness = service("FAILURE", 2, 3)
    assert stage.told()[:2] == (Fate.EXHAUSTED, Whose.BUDGET)

    stage.supervisor.exit(19.0625, 2, "ended")
    assert stage.told()[:2] == (Fate.STUCK, Whose.WORKER)


def test_a_last_delivery_that_a_worker_was_still_at_work_on_when_it_was_long_due_is_exhausted_by_the_setup(
    stage: Stage,
) -> None:
    stage.books.process(11).start(35.0, 10)
    stage.supervisor.exit(40.0, 1, "ended")
    stage.ask_in_vain(ASKED)

    assert stage.told(max_deliver=1) == (Fate.EXHAUSTED, Whose.SETUP, "delivery 1: the end of the run")


@pytest.mark.parametrize(("kind", "cause"), [("ended", "the end of the run"), ("operator", "the operator's stop")])
def test_a_last_delivery_that_a_worker_had_when_its_job_ended_is_exhausted_by_the_setup(
    stage: Stage, kind: str, cause: str
) -> None:
    stage.supervisor.exit(3.0, 1, kind)
    stage.witness = service("FAILURE", 2, 3)

    assert stage.told(max_deliver=1) == (Fate.EXHAUSTED, Whose.SETUP, f"delivery 1: {cause}")


def test_a_last_delivery_that_a_worker_was_still_at_work_on_before_it_was_due_is_pending(stage: Stage) -> None:
    stage.books.process(11).start(35.0, 10)
    stage.supervisor.exit(40.0, 1, "ended")
    stage.ask_in_vain(ASKED - 0.0625)

    assert stage.told(max_deliver=1) == (Fate.PENDING, Whose.SERVICE, "a worker still held it")


# --- never delivered


def never_delivered(stage: Stage, **about: object) -> int:
    case = stage.case(**about)
    return case.fates.never_delivered(case.streams.all[0])


def test_tasks_that_the_counts_wait_for_and_nobody_was_handed_were_never_delivered(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1))
    stage.witness = service("STARTED", 1, 4)
    assert never_delivered(stage) == 0  # nobody has asked

    stage.ask_in_vain(ASKED)
    assert never_delivered(stage) == 4


def test_in_a_job_that_has_ended_by_itself_nobody_need_have_asked(stage: Stage) -> None:
    stage.witness = service("SUCCESS", 1, 4)
    assert never_delivered(stage) == 4

    stage.witness = service("SUCCESS", 1, 4, given_up=1)
    assert never_delivered(stage) == 0  # the reaper ended it: somebody must have asked while it went on

    stage.ask_in_vain(ASKED)
    stage.supervisor.seen(40.0, 7, "STARTED", 1, 4)
    assert never_delivered(stage) == 4


def test_they_are_no_more_than_the_counts_wait_for_and_than_nobody_was_handed() -> None:
    stage = Stage((1, 1), (2, 1))
    stage.ask_in_vain(ASKED)
    stage.supervisor.seen(40.0, 7, "STARTED", 0, 5)
    for told, expected in (
        (service("SUCCESS", 4, 1), 1),
        (service("SUCCESS", 0, 5), 3),
        (service("SUCCESS", 5, 0), 0),
        (service("SUCCESS", 5, 0, given_up=2), 2),
        (service("SUCCESS", 4, 1, given_up=1), 2),
        (service("SUCCESS", 1, 0), 0),
        (service("SUCCESS", 5, None, queued=5, given_up=1), 1),
    ):
        stage.witness = told
        assert never_delivered(stage) == expected


def test_where_others_may_have_had_them_or_the_ledger_is_not_complete_none_is_said_to_be(stage: Stage) -> None:
    stage.witness = service("SUCCESS", 1, 4)
    assert never_delivered(stage, damage=("a.jsonl:3",)) == 0

    stage.witness = service("SUCCESS", 1, 4, delivered=2)
    assert never_delivered(stage) == 0

    stage.witness = service("SUCCESS", 1, 4, delivered=None)
    assert never_delivered(stage) == 0

    stage.witness = service("SUCCESS", None, None)
    assert never_delivered(stage) == 0

    stage.witness = None
    stage.supervisor.seen(3.0, 7, "SUCCESS", 1, 4)
    assert never_delivered(stage) == 0


def test_nothing_of_a_job_that_somebody_revoked_is_said_to_be(stage: Stage) -> None:
    stage.witness = service("REVOKED", 1, 4)

    assert never_delivered(stage) == 0


# --- surely lost


def surely_lost(stage: Stage, **about: object) -> int:
    case = stage.case(**about)
    return case.fates.surely_lost(case.streams.all[0])


@pytest.fixture
def gone() -> Stage:
    """Let tasks 1 to 5 not come back, and one delivery have gone to another worker."""
    stage = Stage((1, 1), (2, 1), (3, 1), (4, 1), (5, 1))
    stage.crash()
    stage.books.skip(7)
    other = stage.next_life()
    other.fetch(5.0, 7, (6, 1), (7, 1))
    other.post(6.0, 7, (6, 1))
    other.post(6.0, 7, (7, 1), outcome=None)
    stage.ask_in_vain(ASKED)
    stage.witness = service("STARTED", 1, 8, queued=9)
    return stage


def test_of_tasks_that_did_not_come_back_more_than_went_elsewhere_are_surely_lost(gone: Stage) -> None:
    assert gone.fated().fate is Fate.TAKEN_ELSEWHERE
    assert surely_lost(gone) == 4

    gone.witness = service("STARTED", 1, 8, delivered=11)
    assert surely_lost(gone) == 1

    gone.witness = service("STARTED", 1, 8, delivered=12)
    assert surely_lost(gone) == 0

    gone.witness = service("STARTED", 1, 8, delivered=13)
    assert surely_lost(gone) == 0


def test_no_more_are_than_the_service_waits_for(gone: Stage) -> None:
    for remaining, expected in ((8, 4), (5, 4), (4, 3), (1, 0), (0, 0), (None, 0)):
        gone.witness = service("STARTED", 1, remaining, queued=9)
        assert surely_lost(gone) == expected


def test_none_is_said_to_be_without_a_whole_log_or_a_whole_ledger(gone: Stage) -> None:
    assert surely_lost(gone, damage=("a.jsonl:3",)) == 0

    gone.witness = service("STARTED", 1, 8, delivered=None)
    assert surely_lost(gone) == 0

    gone.witness = None
    assert surely_lost(gone) == 0


def test_what_a_call_that_our_crash_cut_off_may_have_reserved_is_counted_likewise(gone: Stage) -> None:
    last = gone.books.process(40, 4)
    last.ask(12.0, 7)
    last.strike(12.5, Effect.CRASH, 7)

    assert gone.told()[:2] == (Fate.EXHAUSTED, Whose.BUDGET)
    assert surely_lost(gone) == 4


def test_what_the_service_counts_as_processed_by_somebody_is_not(stage: Stage) -> None:
    stage.crash()
    stage.witness = service("SUCCESS", 5, 0)

    assert stage.fated().fate is Fate.TAKEN_ELSEWHERE
    assert surely_lost(stage) == 0


def test_tasks_that_are_exhausted_otherwise_are_not(stage: Stage) -> None:
    stage.crash()

    assert stage.fated(max_deliver=1).fate is Fate.EXHAUSTED
    assert surely_lost(stage, max_deliver=1) == 0


# --- marks


def test_a_task_that_was_handed_out_once_has_no_marks(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1))

    assert stage.marks() == set()


def test_two_successes_are_marked_as_duplicated_and_leave_the_fate_as_it_is(stage: Stage) -> None:
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    stage.main.post(10.0, 7, (1, 1))
    other.post(12.0, 7, (1, 2))

    assert stage.fated() == Fated(Fate.DONE, marks=frozenset({Mark.DUPLICATED}))


def test_two_successes_for_one_delivery_are_duplicated_too(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1))
    stage.main.post(4.0, 7, (1, 1))

    assert stage.marks() == {Mark.DUPLICATED}


def test_a_success_beside_an_error_is_no_duplicate_and_nor_are_two_errors(stage: Stage) -> None:
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    stage.main.post(10.0, 7, (1, 1), failed=(1,))
    other.post(12.0, 7, (1, 2))
    assert stage.marks() == set()

    stage = Stage()
    stage.main.fetch(11.0, 7, (1, 2))
    for delivery in (1, 2):
        stage.main.post(10.0, 7, (1, delivery), failed=(1,))
    assert stage.marks() == set()


def test_marks_keep_what_else_is_said_of_a_task(stage: Stage) -> None:
    stage.crash(11.5)
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.crash(12.0, 2)

    cause = "delivery 1: it expired while a live worker held it; delivery 2: an injected crash"
    assert stage.told() == (Fate.EXHAUSTED, Whose.BUDGET, cause)
    assert stage.lines() == ["1:2", "10:6", "20:4"]
    assert stage.marks() == {Mark.EXPIRED_WHILE_HELD}


@pytest.mark.parametrize(("again", "is_early"), [(1.5 + 7.625, False), (1.5 + 7.5, True)])
def test_a_task_that_came_back_sooner_than_ack_wait_after_it_was_asked_for_came_early(
    stage: Stage, again: float, is_early: bool
) -> None:
    stage.crash()
    stage.next_life().fetch(again, 7, (1, 2))
    case = stage.case()
    one = task(case.history, 7, 1)

    assert stage.marks() == ({Mark.DELIVERED_EARLY} if is_early else set())
    assert case.fates.early(one) == ((one.leases[0], one.leases[1], again - 1.5) if is_early else None)


def test_exactly_a_twentieth_before_its_time_is_not_early(stage: Stage) -> None:
    stage.crash(2.25)
    stage.next_life().fetch(1.5 + 4.75, 7, (1, 2))

    assert stage.marks(ack_wait=5.0) == set()


@pytest.mark.parametrize(("seconds", "is_early"), [(0.90625, False), (0.875, True)])
def test_however_short_ack_wait_is_a_tenth_of_a_second_is_not_early(
    stage: Stage, seconds: float, is_early: bool
) -> None:
    stage.crash(2.25)
    stage.next_life().fetch(1.5 + seconds, 7, (1, 2))

    assert stage.marks(ack_wait=1.0) == ({Mark.DELIVERED_EARLY} if is_early else set())


def test_every_pair_of_deliveries_is_looked_at(stage: Stage) -> None:
    stage.main.fetch(10.0, 7, (1, 2))
    stage.main.fetch(11.0, 7, (1, 3))
    assert Mark.DELIVERED_EARLY in stage.marks()

    stage = Stage()
    stage.main.fetch(20.0, 7, (1, 3))
    stage.main.fetch(21.0, 7, (1, 4))
    assert Mark.DELIVERED_EARLY in stage.marks()


def test_deliveries_between_which_one_is_missing_or_on_different_clocks_prove_nothing_early(stage: Stage) -> None:
    stage.crash()
    stage.next_life().fetch(3.0, 7, (1, 3))
    assert stage.marks() == set()

    stage.next_life().batch(3.0, 7, (1, 2))
    assert stage.marks() == set()

    stage = Stage()
    stage.books.process(20, 2, host="other").fetch(3.0, 7, (1, 2))
    assert stage.marks() == set()


def test_where_ack_wait_is_not_known_nothing_is_early_but_the_very_same_delivery_twice(stage: Stage) -> None:
    stage.crash()
    stage.next_life().fetch(3.0, 7, (1, 2))
    assert stage.marks(ack_wait=None) == set()

    stage = Stage()
    stage.next_life().fetch(60.0, 7, (1, 1))
    case = stage.case(ack_wait=None)
    one = task(case.history, 7, 1)
    assert stage.marks(ack_wait=None) == {Mark.DELIVERED_EARLY}
    assert case.fates.early(one) == (one.leases[0], one.leases[0], 0.0)

    stage.main.post(3.0, 7, (1, 1))
    assert stage.fated() == Fated(Fate.DONE, marks=frozenset({Mark.DELIVERED_EARLY}))


def test_a_task_that_came_back_in_due_time_while_it_was_held_is_marked_so(stage: Stage) -> None:
    stage.next_life().fetch(11.0, 7, (1, 2))
    stage.main.post(12.0, 7, (1, 1))

    assert stage.marks() == {Mark.EXPIRED_WHILE_HELD}


def test_a_task_that_came_early_did_not_expire(stage: Stage) -> None:
    stage.next_life().fetch(5.0, 7, (1, 2))
    stage.main.post(12.0, 7, (1, 1))

    assert stage.marks() == {Mark.DELIVERED_EARLY}


# --- accounts


def test_each_stream_has_its_account(stage: Stage) -> None:
    stage.main.post(3.0, 7, (1, 1))
    case = stage.case()
    (stream,) = case.streams.all

    assert case.fates.account(stream) is case.fates.accounts[0]
    assert (case.fates.account(stream).stream, case.fates.account(stream).accepted) == (stream, 1)


# --- faults in depth


def test_an_answer_that_the_service_took_unheard_makes_its_task_done(stage: Stage) -> None:
    stage.main.lose_answer(3.0, 7, (1, 1), closes=False)
    stage.main.crash(3.1, site="posting", point="posting-unheard")
    stage.crash(3.2)

    assert stage.fated() == Fated(Fate.DONE)


def test_an_error_that_the_service_took_unheard_is_an_error(stage: Stage) -> None:
    stage.main.strike(2.5, Effect.CORRUPT, 7, image="1")
    stage.main.lose_answer(3.0, 7, (1, 1), closes=False, failed=(1,))

    assert stage.fated() == Fated(Fate.FAILED_EXPECTED)


def test_a_delivery_that_was_lost_on_its_way_is_to_come_back(stage: Stage) -> None:
    stage.main.lose_tasks(RECEIVED, 7, (2, 1))
    assert stage.told(2) == (
        Fate.PENDING, Whose.SERVICE, "the answer that brought it was lost; nobody asked again after its ack_wait",
    )  # fmt: skip

    stage.ask_in_vain(ASKED)
    cause = "the answer that brought it was lost; asked for again in vain after its ack_wait"
    assert stage.told(2) == (Fate.LOST, Whose.SERVICE, cause)
    assert stage.lines(2) == ["10:8"]


def test_a_task_that_came_back_after_its_answer_was_lost_has_recovered(stage: Stage) -> None:
    stage.main.lose_tasks(RECEIVED, 7, (2, 1))
    stage.main.fetch(12.0, 7, (2, 2))
    stage.main.post(13.0, 7, (2, 2))

    assert stage.fated(2) == Fated(Fate.RECOVERED)


def test_a_task_all_of_whose_deliveries_got_lost_is_exhausted_by_us(stage: Stage) -> None:
    stage.main.lose_tasks(RECEIVED, 7, (2, 1))
    stage.main.lose_tasks(12.0, 7, (2, 2))
    causes = "delivery 1: the answer that brought it was lost; delivery 2: the answer that brought it was lost"

    assert stage.told(2) == (Fate.EXHAUSTED, Whose.BUDGET, causes)


def test_a_task_that_comes_back_too_soon_after_it_was_lost_comes_early_all_the_same(stage: Stage) -> None:
    stage.main.lose_tasks(RECEIVED, 7, (1, 2))
    stage.main.fetch(5.0, 7, (1, 3))

    assert Mark.DELIVERED_EARLY in stage.marks(max_deliver=5)


def test_a_task_that_was_kept_from_the_worker_to_the_last_is_exhausted_on_purpose(stage: Stage) -> None:
    for delivery, at in ((1, RECEIVED), (2, 12.0)):
        stage.main.strike(at, Effect.WITHHOLD, 7, (2, delivery), site="tasks", trigger="exhaust")
        stage.main.lose_tasks(at, 7, (2, delivery), then=((3, 1),))

    why = "it was kept from the worker on purpose"
    assert stage.told(2) == (Fate.EXHAUSTED_ON_PURPOSE, Whose.BUDGET, why)


def test_a_task_of_which_a_worker_spoilt_one_delivery_was_not_exhausted_on_purpose(stage: Stage) -> None:
    stage.main.fetch(RECEIVED, 7, (2, 1))
    stage.main.poll(5.0, 7)
    stage.main.strike(12.0, Effect.WITHHOLD, 7, (2, 2), site="tasks", trigger="exhaust")
    stage.main.lose_tasks(12.0, 7, (2, 2), then=((3, 1),))

    assert stage.fated(2).fate is Fate.EXHAUSTED


def test_a_withheld_task_with_deliveries_left_is_still_to_come_back(stage: Stage) -> None:
    stage.main.strike(RECEIVED, Effect.WITHHOLD, 7, (2, 1), site="tasks", trigger="exhaust")
    stage.main.lose_tasks(RECEIVED, 7, (2, 1), then=((3, 1),))
    stage.ask_in_vain(ASKED)

    assert stage.fated(2).fate is Fate.LOST


DIED = 3.0


@pytest.mark.parametrize(
    ("began", "ends", "fate"),
    [
        (2.5, 1.0, Fate.FAILED_TRANSIENT),
        (3.5, 1.0, Fate.FAILED_TRANSIENT),  # a worker takes a moment to notice
        (2.25, 0.5, Fate.FAILED_ORGANIC),
        (4.25, 1.0, Fate.FAILED_ORGANIC),
    ],
)
def test_a_batch_that_is_failed_because_a_loader_died_by_our_doing_is_a_passing_error_taken_for_final(
    stage: Stage, began: float, ends: float, fate: Fate
) -> None:
    stage.main.batch(began, 7, (1, 1), ends=ends)
    stage.books.process(12).start(2.0, 10).crash(DIED, role="loader", job=7, site="downloading")
    stage.main.post(6.0, 7, (1, 1), failed=(1,))

    assert (stage.fated().fate, stage.fated().whose) == (fate, Whose.WORKER)


def test_an_image_that_failed_by_itself_was_not_failed_by_a_loaders_death(stage: Stage) -> None:
    stage.main.batch(2.5, 7, (1, 1), ends=1.0)
    stage.main.image(2.25, 7, 1, status=404)
    stage.books.process(12).start(2.0, 10).crash(DIED, role="loader", job=7, site="downloading")
    stage.main.post(6.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_ORGANIC


def test_a_loader_that_died_by_itself_is_no_excuse_and_no_passing_error_of_ours(stage: Stage) -> None:
    stage.main.batch(2.5, 7, (1, 1), ends=1.0)
    stage.main.post(6.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_ORGANIC


def test_what_a_worker_holds_that_we_made_hang_is_not_stuck_by_it(stage: Stage) -> None:
    stage.main.crash(3.0, "hang", job=7)
    stage.supervisor.exit(90.0, 1, "ended")

    assert stage.fated().fate is Fate.PENDING
    assert stage.told(max_deliver=1) == (Fate.EXHAUSTED, Whose.BUDGET, "delivery 1: an injected hang")


def test_a_download_that_failed_by_our_doing_explains_the_error_for_that_delivery_only(stage: Stage) -> None:
    stage.main.strike(2.25, Effect.NETWORK, 7, image="1", kind="http-403", site="image", call=9, trigger="rule")
    stage.main.image(2.5, 7, 1, status=403, struck=True, call=9)
    stage.main.post(3.0, 7, (1, 1), failed=(1,))
    assert stage.fated().fate is Fate.FAILED_EXPECTED

    other = Stage()
    other.main.strike(2.25, Effect.NETWORK, 7, image="1", kind="http-403", site="image", call=9, trigger="rule")
    other.main.image(2.5, 7, 1, status=403, struck=True, call=9)
    later = other.next_life()
    later.fetch(12.0, 7, (1, 2))
    later.image(12.5, 7, 1, delivery=2)
    later.post(13.0, 7, (1, 2), failed=(1,))
    assert other.fated().fate is Fate.FAILED_ORGANIC


def test_a_struck_attempt_that_a_retry_made_good_explains_no_error(stage: Stage) -> None:
    stage.main.attempt(2.25, "image", 9, status=503, kind="http-503", job=7, sequence=1)
    stage.main.attempt(2.5, "image", 9, job=7, sequence=1)
    stage.main.image(2.5, 7, 1, call=9)
    stage.main.post(3.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_ORGANIC


def spoil(stage: Stage) -> None:
    """Let the download for delivery 1 fail by our doing, and that for delivery 2 not."""
    stage.main.strike(2.25, Effect.NETWORK, 7, image="1", kind="http-503", site="image", call=9, trigger="rule")
    stage.main.image(2.5, 7, 1, status=503, struck=True, call=9)


def test_an_error_that_we_caused_at_one_delivery_and_a_success_at_another_are_no_conflict_of_the_workers(
    stage: Stage,
) -> None:
    spoil(stage)
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2))
    stage.main.post(13.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.FAILED_EXPECTED


def test_an_error_at_a_delivery_whose_image_was_good_is_a_conflict_with_a_success(stage: Stage) -> None:
    spoil(stage)
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2), failed=(1,))
    stage.main.post(13.0, 7, (1, 1))

    assert stage.fated().fate is Fate.CONFLICT


def test_a_success_about_an_image_that_is_bad_for_the_whole_run_conflicts_with_an_error(stage: Stage) -> None:
    stage.main.strike(2.25, Effect.CORRUPT, 7, image="1", trigger="rate")
    other = stage.next_life()
    other.fetch(11.0, 7, (1, 2))
    other.post(12.0, 7, (1, 2))
    stage.main.post(13.0, 7, (1, 1), failed=(1,))

    assert stage.fated().fate is Fate.CONFLICT
