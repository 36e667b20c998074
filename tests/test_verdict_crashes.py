from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict.crashes import crashed_tasks_requeued, picked_up_by_another, requeued_in_time
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.terms import Finding
from tests.booked import ACK_WAIT, Books, concerned, facts, lines, told, witness

DUE = ACK_WAIT + 2.0 + ACK_WAIT / 2  # seconds after its receipt until which a lease need not be back
LATE = 2.0 + DUE
STARTED = witness(7, "STARTED", 2, 3, delivered=0)
CHECKS = (crashed_tasks_requeued, requeued_in_time, picked_up_by_another)


class Stage:
    """A worker that was handed tasks 1 and 2 of job 7 at 2.0 and crashed at 3.0, and the one after it."""

    def __init__(self, kind: str = "injected") -> None:
        self.books = Books()
        self.main = self.books.process(10).start(0.5)
        self.main.fetch(2.0, 7, (1, 1), (2, 1))
        self.supervisor = self.books.supervisor()
        self.supervisor.exit(3.0, 1, kind)
        self.other = self.books.process(20, 2).start(4.0)

    def ask_in_vain(self, at: float) -> None:
        self.other.fetch(at + 0.5, 7, seconds=0.5)

    def judge(self, told: JobWitness | None = STARTED, **about: object) -> tuple[Finding, ...]:
        """Return the findings of the three checks."""
        case = self.books.case(facts(*([told] if told else []), **about))  # type: ignore[arg-type]
        return tuple(check(case) for check in CHECKS)


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- crashes that held nothing


def test_where_no_crash_was_set_and_no_worker_died_there_is_nothing_to_judge() -> None:
    books = Books()
    books.process(10).fetch(2.0, 7, (1, 1))
    case = books.case(facts(network_error_rate=0.5))

    for check in CHECKS:
        finding = check(case)
        assert finding.status.value == "not-applicable"
        assert finding.text == "no crash was set, and no worker died"


def test_where_crashes_were_set_and_none_struck_nothing_is_shown() -> None:
    books = Books()
    books.process(10).fetch(2.0, 7, (1, 1))
    case = books.case(facts(worker_crash_rate=0.5))

    for check in CHECKS:
        assert (check(case).status.value, check(case).text) == ("vacuous", "crashes were set and none struck")


def test_where_a_worker_crashed_that_held_nothing_nothing_is_shown() -> None:
    books = Books()
    main = books.process(10).start(0.5)
    main.strike(2.0, Effect.CRASH)
    case = books.case(facts())

    for check in CHECKS:
        assert (check(case).status.value, check(case).text) == ("vacuous", "no worker held a task when it crashed")


# --- crashed-tasks-requeued


def test_tasks_of_a_dead_worker_that_all_came_back_were_requeued(stage: Stage) -> None:
    stage.other.fetch(11.0, 7, (1, 2), (2, 2))
    stage.other.post(12.0, 7, (1, 2), (2, 2))
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED)))

    assert told(finding) == ("pass", "service", "2 tasks were held by workers that crashed, 2 of them came back")
    assert (finding.tasks, finding.evidence, finding.judged) == ((), (), 2)


@pytest.mark.parametrize("kind", ["injected", "organic"])
def test_a_task_of_a_dead_worker_that_never_came_back_was_not_requeued_by_the_service(kind: str) -> None:
    stage = Stage(kind)
    stage.other.fetch(11.0, 7, (1, 2))
    stage.other.post(12.0, 7, (1, 2))
    stage.ask_in_vain(LATE)
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED)))

    text = "1 of 2 tasks that a crashed worker held were never handed out again"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([2], ["1:1", "10:4"], 2)


def test_as_long_as_nobody_has_asked_again_it_cannot_be_told(stage: Stage) -> None:
    stage.other.fetch(11.0, 7, (1, 2))
    stage.other.post(12.0, 7, (1, 2))
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED)))

    cause = "an injected crash; nobody asked again after its ack_wait"
    text = f"of 1 of 2 tasks that a crashed worker held it cannot be told: {cause}"
    assert told(finding) == ("unknown", "service", text)
    assert (concerned(finding), finding.evidence, finding.judged) == ([2], (), 2)


def test_what_another_worker_may_have_got_cannot_be_told_either(stage: Stage) -> None:
    stage.books.skip(7, 2)
    stage.other.fetch(11.0, 7, (3, 1))
    stage.ask_in_vain(LATE)
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED)))

    cause = "2 deliveries of this job went to another worker"
    text = f"of 2 of 2 tasks that a crashed worker held it cannot be told: {cause}"
    assert told(finding) == ("unknown", "service", text)


def test_what_the_service_counts_as_processed_at_the_end_of_its_job_was_requeued_to_somebody(stage: Stage) -> None:
    stage.other.post(12.0, 8, (1, 1))

    def status(*witnesses: JobWitness) -> str:
        return crashed_tasks_requeued(stage.books.case(facts(*witnesses))).status.value

    assert status(witness(7, "SUCCESS", 5, 0)) == "pass"
    assert status(witness(7, "STARTED", 5, 0)) == "unknown"
    assert status(witness(7, "SUCCESS", 5, 0, given_up=1)) == "unknown"
    assert status() == "unknown"


def test_one_open_task_among_those_that_were_requeued_leaves_it_open(stage: Stage) -> None:
    stage.main.fetch(2.5, 8, (1, 1))
    case = stage.books.case(facts(witness(7, "SUCCESS", 5, 0), witness(8, "STARTED", 0, 5)))

    assert crashed_tasks_requeued(case).status.value == "unknown"


def test_tasks_none_of_which_came_back_for_want_of_a_delivery_are_told_so(stage: Stage) -> None:
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED, max_deliver=1)))

    text = "2 tasks were held by workers that crashed, 0 of them came back; 2 had no delivery left"
    assert told(finding) == ("pass", "service", text)


def test_a_task_that_had_no_delivery_left_could_not_be_requeued_and_is_told_so(stage: Stage) -> None:
    stage.other.fetch(11.0, 7, (1, 2))
    stage.supervisor.exit(12.0, 2, "injected")
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED, max_deliver=2)))
    assert finding.status.value == "unknown"  # task 2 has one left

    once = crashed_tasks_requeued(stage.books.case(facts(STARTED, max_deliver=1)))
    text = "2 tasks were held by workers that crashed, 1 of them came back; 1 had no delivery left"
    assert told(once) == ("pass", "service", text)


def test_a_task_that_crashes_took_more_than_once_is_one_task(stage: Stage) -> None:
    stage.other.fetch(11.0, 7, (1, 2), (2, 2))
    stage.supervisor.exit(12.0, 2, "injected")
    last = stage.books.process(30, 3)
    last.fetch(21.0, 7, (1, 3), (2, 3))
    last.post(22.0, 7, (1, 3), (2, 3))
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED, max_deliver=3)))

    assert told(finding) == ("pass", "service", "2 tasks were held by workers that crashed, 2 of them came back")


def test_a_lease_that_a_live_worker_gave_up_is_not_one_that_a_crash_ended() -> None:
    stage = Stage("operator")
    finding = crashed_tasks_requeued(stage.books.case(facts(STARTED)))

    assert finding.status.value == "not-applicable"


# --- requeued-in-time


def in_time(stage: Stage, **about: object) -> tuple[str, str, str]:
    return told(requeued_in_time(stage.books.case(facts(STARTED, **about))))  # type: ignore[arg-type]


def test_without_a_known_ack_wait_no_redelivery_is_late(stage: Stage) -> None:
    stage.other.fetch(110.0, 7, (1, 2))

    assert in_time(stage, ack_wait=None) == ("not-applicable", "service", "ack_wait is not known")


def test_tasks_came_back_in_time_if_nobody_had_asked_for_them_in_vain_when_they_were_due(stage: Stage) -> None:
    stage.other.fetch(10.5, 7, (1, 2))
    stage.other.fetch(60.0, 7, (2, 2))
    finding = requeued_in_time(stage.books.case(facts(STARTED)))

    assert told(finding) == ("pass", "service", "2 redeliveries, the slowest after 58.0 s (ack_wait 8 s)")
    assert (finding.judged, finding.tasks, finding.evidence) == (2, (), ())


@pytest.mark.parametrize(
    ("asked", "status"), [(LATE - 0.0625, "pass"), (LATE, "fail"), (29.5, "fail"), (29.5625, "pass"), (31.0, "pass")]
)
def test_a_task_came_late_if_it_was_asked_for_in_vain_when_it_was_due_and_before_it_came(
    stage: Stage, asked: float, status: str
) -> None:
    stage.other.fetch(30.5, 7, (1, 2), seconds=0.5)
    stage.ask_in_vain(asked)

    assert in_time(stage)[0] == status


def test_those_that_came_late_are_named_with_both_their_receipts_and_the_latest_is_told(stage: Stage) -> None:
    stage.ask_in_vain(20.0)
    stage.other.fetch(30.5, 7, (1, 2))
    stage.other.fetch(25.25, 7, (2, 2))
    stage.other.fetch(40.0, 7, (1, 3))
    finding = requeued_in_time(stage.books.case(facts(STARTED, max_deliver=3, ack_wait=8.5)))

    text = "2 of 3 redeliveries came late, the latest after 28.5 s (ack_wait 8.5 s)"
    assert told(finding) == ("fail", "service", text)
    assert (concerned(finding), lines(finding.evidence), finding.judged) == ([1, 2], ["10:4", "20:6", "20:8"], 3)


def test_the_latest_of_several_late_redeliveries_of_a_task_is_told(stage: Stage) -> None:
    stage.ask_in_vain(20.0)
    stage.other.fetch(42.0, 7, (1, 2))
    stage.ask_in_vain(60.0)
    stage.other.fetch(72.0, 7, (1, 3))

    text = "1 of 2 redeliveries came late, the latest after 40.0 s (ack_wait 8 s)"
    assert in_time(stage, max_deliver=3)[2] == text


def test_what_was_asked_for_in_vain_in_another_job_or_on_another_clock_makes_nothing_late(stage: Stage) -> None:
    stage.other.fetch(20.5, 8, seconds=0.5)
    stage.books.process(30, 1, host="other").fetch(20.5, 7, seconds=0.5)
    stage.other.fetch(30.5, 7, (1, 2))

    assert in_time(stage)[0] == "pass"


def test_redeliveries_to_another_clock_or_after_one_that_nobody_saw_are_not_judged(stage: Stage) -> None:
    stage.books.process(30, 1, host="other").fetch(30.5, 7, (1, 2))
    stage.other.fetch(30.5, 7, (2, 3))
    stage.other.batch(31.0, 7, (2, 2))
    stage.other.fetch(5.0, 7, (1, 4))
    stage.other.fetch(5.5, 7, (1, 5))

    assert in_time(stage)[2] == "1 redeliveries, the slowest after 0.5 s (ack_wait 8 s)"


def test_tasks_that_a_live_worker_gave_up_are_to_come_back_in_time_too() -> None:
    stage = Stage("operator")
    stage.other.fetch(12.0, 7, (1, 2))

    assert in_time(stage)[0] == "pass"


@pytest.mark.parametrize("is_struck", [False, True])
def test_where_no_task_of_a_dead_worker_came_back_that_is_said(stage: Stage, is_struck: bool) -> None:
    if is_struck:
        stage.main.strike(2.75, Effect.CRASH, 7)

    for finding in stage.judge()[1:]:
        assert told(finding)[::2] == ("not-applicable", "no task that a crashed worker held came back")


# --- picked-up-by-another


def test_a_task_that_came_back_after_a_crash_was_picked_up_by_another(stage: Stage) -> None:
    stage.other.fetch(11.0, 7, (1, 2), (2, 2))
    stage.other.post(12.0, 7, (1, 2))
    finding = picked_up_by_another(stage.books.case(facts(STARTED)))

    assert told(finding) == ("pass", "worker", "2 tasks of crashed workers were handed to others")
    assert (finding.tasks, finding.evidence, finding.judged) == ((), (), 2)


def test_a_task_that_came_back_and_with_which_the_next_worker_hung_was_not(stage: Stage) -> None:
    stage.other.fetch(11.0, 7, (1, 2), (2, 2))
    stage.other.post(12.0, 7, (1, 2))
    stage.supervisor.exit(40.0, 2, "ended")
    finding = picked_up_by_another(stage.books.case(facts(STARTED)))

    text = "1 of 2 tasks came back after a crash, and the next worker never answered them"
    assert told(finding) == ("fail", "worker", text)
    assert (concerned(finding), lines(finding.evidence)) == ([2], ["1:2", "10:4", "20:4"])


def test_tasks_that_did_not_come_back_or_whose_worker_did_not_die_were_picked_up_by_nobody() -> None:
    stage = Stage("operator")
    stage.other.fetch(11.0, 7, (1, 2))
    finding = picked_up_by_another(stage.books.case(facts(STARTED, worker_crash_rate=0.1)))

    assert told(finding) == ("vacuous", "worker", "crashes were set and none struck")


# --- crashes that are no deaths of a life


@pytest.mark.parametrize(("mode", "site"), [("hang", "batch"), ("sysexit", "batch"), ("hang", "posting")])
def test_what_came_back_after_a_hang_or_a_swallowed_exit_is_judged_too(mode: str, site: str) -> None:
    books = Books()
    main = books.process(10).start(0.5)
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.crash(3.0, mode, job=7, site=site)
    main.poll(4.0, 7)
    main.fetch(11.0, 7, (1, 2), (2, 2))
    main.post(12.0, 7, (1, 2), (2, 2))
    books.supervisor().exit(20.0, 1, "ended")
    case = books.case(facts(STARTED))

    text = "2 tasks were held by workers that crashed, 2 of them came back"
    assert told(crashed_tasks_requeued(case)) == ("pass", "service", text)
    text = "2 tasks came back after a crash, 2 of them to a worker that had survived it"
    assert told(picked_up_by_another(case)) == ("pass", "worker", text)


def test_what_a_hang_holds_to_the_end_cannot_be_told() -> None:
    books = Books()
    main = books.process(10).start(0.5)
    main.fetch(2.0, 7, (1, 1))
    main.crash(3.0, "hang", job=7)
    books.supervisor().exit(20.0, 1, "ended")

    cause = "an injected hang; nobody asked again after its ack_wait"
    text = f"of 1 of 1 tasks that a crashed worker held it cannot be told: {cause}"
    assert told(crashed_tasks_requeued(books.case(facts(STARTED)))) == ("unknown", "service", text)


def test_an_answer_that_a_swallowed_exit_kept_from_being_sent_is_judged_as_a_crash() -> None:
    books = Books()
    main = books.process(10).start(0.5)
    main.fetch(2.0, 7, (1, 1))
    main.post(3.0, 7, (1, 1), outcome=None)
    main.crash(3.0, "sysexit", job=7, site="posting", point="posting-unsent", call=main.calls)
    main.poll(4.0, 7)
    main.fetch(11.0, 7, (1, 2))
    main.post(12.0, 7, (1, 2))

    text = "1 tasks were held by workers that crashed, 1 of them came back"
    assert told(crashed_tasks_requeued(books.case(facts(STARTED)))) == ("pass", "service", text)
