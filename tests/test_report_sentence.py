from __future__ import annotations

from dataclasses import replace

import pytest

from ami_fault_site.endings import Outcome
from ami_fault_site.faults import Effect
from ami_fault_site.report.sentence import counted
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.facts import Parameters
from ami_fault_site.verdict.terms import Finding, Gate, Status, Whose
from tests.booked import Books, witness
from tests.report_cases import (
    ENDED,
    LOST,
    NOT_STARVED,
    OPEN,
    dry_case,
    facts,
    finding,
    report_of,
    short_case,
    short_run,
    verdict_of,
)

NUMBERS = "4 of 4 answered, 1 crash and 1 other fault, 2 came back, slowest 8.3 s (ack_wait 8 s)"


def failing(slug: str, whose: Whose = Whose.SERVICE, is_safety: bool = False, known: str = "") -> Finding:
    return finding(slug, Status.FAIL, f"{slug} happened", whose, is_safety=is_safety, known=known)


def test_a_pass_says_what_was_answered_what_struck_and_how_slowly_tasks_came_back() -> None:
    assert report_of().headline == f"PASS nothing lost: {NUMBERS}"


def test_crashes_alone_and_other_faults_alone_are_simply_counted() -> None:
    def sentence(missing: Effect) -> str:
        return report_of(case=short_run().without(missing).books.case(facts(ENDED))).headline

    assert ", 1 crash, 2 came back, " in sentence(Effect.IMAGE_404)
    assert ", 1 fault, 2 came back, " in sentence(Effect.CRASH)


def test_an_ack_wait_that_is_not_known_is_said_to_be_unknown() -> None:
    case = short_case(replace(facts(ENDED), parameters=Parameters()))

    assert report_of(case=case).headline.endswith("slowest 8.3 s (ack_wait unknown)")


def test_what_others_took_and_what_nobody_heard_of_is_not_passed_over() -> None:
    books = Books()
    worker = books.process(11).start(0.5)
    worker.fetch(1.0, 7, (1, 1), (2, 1), (3, 1), (4, 1))
    worker.post(2.0, 7, (1, 1))
    worker.post(3.0, 7, (2, 1), outcome="unheard", error="ReadTimeout")
    case = books.case(facts(witness(7, "SUCCESS", 4, 0), settings=Settings()))

    # The service counts four: the third and the fourth must have gone to another worker.
    assert report_of(case=case).headline == (
        "PASS nothing lost: 1 of 4 answered, 1 more unheard, 2 taken by others, no fault was set"
    )


def test_a_failure_names_whose_it_is_and_begins_with_what_was_lost() -> None:
    made = report_of(failing("no-cascade"), failing("crashed-tasks-requeued", is_safety=True), LOST)

    assert made.headline == (
        "FAIL service: no-task-lost: 2 lost (why); also fails: no-cascade (service), crashed-tasks-requeued (service)"
    )


def test_of_many_failures_three_more_are_named_and_the_rest_counted() -> None:
    made = report_of(LOST, *(failing(f"check-{n}", Whose.WORKER) for n in range(5)))

    assert made.headline == (
        "FAIL service: no-task-lost: 2 lost (why); "
        "also fails: check-0 (worker), check-1 (worker), check-2 (worker) and 2 more"
    )
    made = report_of(LOST, *(failing(f"check-{n}", Whose.WORKER) for n in range(3)))
    assert made.headline.endswith("also fails: check-0 (worker), check-1 (worker), check-2 (worker)")


@pytest.mark.parametrize(
    ("first", "second"),
    [(Whose.SERVICE, Whose.WORKER), (Whose.WORKER, Whose.BUDGET), (Whose.BUDGET, Whose.SETUP)],
)
def test_the_service_comes_before_the_worker_and_both_before_the_budget_and_the_setup(
    first: Whose, second: Whose
) -> None:
    assert report_of(failing("b", second), failing("a", first)).headline == (
        f"FAIL {first.value}: a: a happened; also fails: b ({second.value})"
    )


def test_what_our_own_faults_used_up_is_said_to_be_our_own_doing() -> None:
    books = Books()
    supervisor = books.supervisor()
    for delivery, at in ((1, 1.0), (2, 10.0)):
        worker = books.process(10 + delivery, incarnation=delivery).start(at)
        worker.fetch(at, 7, (1, delivery), (2, delivery))
        worker.strike(at + 1, Effect.CRASH, 7, (1, delivery), (2, delivery), kind="exit")
        supervisor.exit(at + 2, delivery, "injected")
    case = books.case(facts(witness(7, "STARTED", 0, 2)))
    used_up = finding("no-task-lost", Status.FAIL, "2 exhausted (crashes)", Whose.BUDGET, is_safety=True)

    assert report_of(used_up, case=case).headline == (
        "FAIL budget: our own faults used up every delivery of 2 of 2 tasks (max_deliver 2): no-task-lost"
    )


def test_an_unknown_begins_with_what_may_be_lost_and_names_only_what_is_a_matter_of_safety() -> None:
    ends = finding("job-reaches-its-end", Status.UNKNOWN, "not at its end", is_safety=True)
    other = finding("failed-fetch-resumed", Status.UNKNOWN, "the run ended before")

    assert report_of(ends, other, OPEN).headline == (
        "UNKNOWN no-task-lost: of 2 of 4 tasks it cannot be told; unknown too: job-reaches-its-end (service)"
    )


def test_a_run_whose_time_was_up_says_so_first() -> None:
    assert report_of(outcome=Outcome.TIMEOUT).headline == f"UNKNOWN the time was up: {NUMBERS}"
    assert report_of(OPEN, outcome=Outcome.TIMEOUT).headline == (
        "UNKNOWN the time was up: no-task-lost: of 2 of 4 tasks it cannot be told"
    )
    assert report_of(LOST, outcome=Outcome.TIMEOUT).headline == "FAIL service: no-task-lost: 2 lost (why)"


@pytest.mark.parametrize(
    ("outcome", "why", "code"),
    [
        (Outcome.INTERRUPTED, "stopped by the operator", " (exit code 130)"),
        (Outcome.NOT_ARMED, "the worker ran without the hook: no fault could strike", " (exit code 78)"),
        (Outcome.SETTINGS, "the worker refused its settings", " (exit code 78)"),
        (Outcome.RESTARTS_EXHAUSTED, "the worker ended more often than it may be restarted", " (exit code 6)"),
        (Outcome.SERVICE_GONE, "the sandbox has ended", ""),
    ],
)
def test_a_run_that_was_cut_short_says_by_what_and_its_exit_code_where_that_is_no_verdicts(
    outcome: Outcome, why: str, code: str
) -> None:
    assert report_of(outcome=outcome).headline == f"UNKNOWN {why}: {NUMBERS}{code}"
    assert report_of(OPEN, outcome=outcome).headline == f"UNKNOWN {why}: {NUMBERS}{code}"
    assert report_of(case=Books().case(facts()), outcome=outcome).headline == f"UNKNOWN {why}{code}"


def test_a_failure_that_was_found_before_the_operators_stop_is_still_a_failure() -> None:
    assert report_of(LOST, outcome=Outcome.INTERRUPTED).headline == (
        "FAIL service: no-task-lost: 2 lost (why) (stopped by the operator, exit code 130)"
    )


def test_what_failed_once_the_sandbox_had_gone_is_named_and_is_no_failure() -> None:
    assert report_of(failing("no-cascade"), outcome=Outcome.SERVICE_GONE).headline == (
        f"UNKNOWN the sandbox has ended: {NUMBERS}; fails all the same: no-cascade (service)"
    )


def test_a_run_in_which_nothing_struck_or_nothing_was_handed_out_shows_nothing() -> None:
    assert report_of(nothing_fired=True).headline == "VACUOUS no fault ever struck: this run shows nothing"
    assert report_of(nothing_fired=True, case=Books().case(facts())).headline == (
        "VACUOUS no task was handed out: this run shows nothing"
    )


def test_a_strict_run_names_what_could_not_be_judged() -> None:
    open_ones = [finding(f"check-{n}", Status.VACUOUS) for n in range(5)]

    assert report_of(NOT_STARVED, *open_ones, strict=True).headline == (
        f"VACUOUS not judged here: check-0, check-1, check-2 and 2 more (--strict); nothing lost: {NUMBERS}"
    )
    assert report_of(*open_ones[:3], strict=True).headline == (
        f"VACUOUS not judged here: check-0, check-1, check-2 (--strict); nothing lost: {NUMBERS}"
    )


def test_a_pass_names_the_failures_that_were_known_and_those_beyond_the_gate() -> None:
    known, beyond = failing("no-cascade", known="being mended"), failing("held-tasks-are-answered", Whose.WORKER)

    assert report_of(known, beyond, gate=Gate.SERVICE).headline == (
        f"PASS nothing lost: {NUMBERS}; known to fail: no-cascade (service); "
        "beyond --gate service: held-tasks-are-answered (worker)"
    )


def test_nothing_is_called_not_lost_where_the_loss_was_known_or_beyond_the_gate() -> None:
    known = finding("no-task-lost", Status.FAIL, "2 lost", is_safety=True, known="being mended")

    assert report_of(known).headline.startswith("PASS nothing that counts here failed: 4 of 4 answered")
    assert report_of(LOST, gate=Gate.WORKER).headline.startswith("PASS nothing that counts here failed: ")


def test_an_exit_code_that_was_given_takes_the_place_of_our_own() -> None:
    made = report_of(code=5)

    assert (made.code, made.headline) == (5, f"UNKNOWN {NUMBERS} (exit code 5)")
    assert report_of(code=1).headline == f"FAIL {NUMBERS}"


def test_one_is_one_and_the_rest_are_many() -> None:
    assert [counted(n, "crash", "crashes") for n in (0, 1, 2)] == ["0 crashes", "1 crash", "2 crashes"]
    assert counted(2, "task") == "2 tasks"


def test_a_dry_run_shows_nothing_and_says_so() -> None:
    assert report_of(nothing_fired=True, case=dry_case()).headline == (
        "VACUOUS a dry run: 3 faults would have struck, and nothing was touched: this run shows nothing"
    )


# --- what fails without faults, too


def test_what_fails_without_faults_too_says_so_and_comes_after_what_does_not() -> None:
    old, new = failing("no-task-lost", is_safety=True), failing("no-cascade")
    report = report_of(old, new, baseline=verdict_of(old, finding("no-cascade")))

    assert report.code == 1
    assert report.headline == ("FAIL service: no-cascade: no-cascade happened; also fails: no-task-lost (service)")
    told = report.finding("no-task-lost")
    assert told is not None
    assert told.in_baseline
    assert told.text == "no-task-lost happened; fails without faults, too"
    assert [one.check for one in report.findings if one.in_baseline] == ["no-task-lost"]


def test_what_fails_without_faults_only_is_not_told_of_this_run() -> None:
    report = report_of(finding("no-cascade"), baseline=verdict_of(failing("no-cascade")))

    assert [one.check for one in report.findings if one.in_baseline] == []
