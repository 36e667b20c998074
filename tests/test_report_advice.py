from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ami_fault_site.endings import Outcome
from ami_fault_site.faults import Effect
from ami_fault_site.history import Place
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.facts import Parameters
from ami_fault_site.verdict.terms import Finding, Status, Whose
from tests.booked import Books, witness
from tests.report_cases import (
    ENDED,
    INVOCATION,
    LOST,
    NOT_STARVED,
    OPEN,
    RUN,
    dry_case,
    facts,
    finding,
    report_of,
    short_case,
    short_run,
)

OPEN_END = finding("job-reaches-its-end", Status.UNKNOWN, "job 7 is STARTED", is_safety=True)


def test_after_a_failure_one_looks_at_the_story_of_a_task() -> None:
    assert report_of(LOST).next == (f"ami-fault explain {RUN} 7/3",)


def test_of_the_tasks_concerned_one_is_shown_that_is_the_doing_of_whoever_is_blamed() -> None:
    books = Books()
    supervisor = books.supervisor()
    for incarnation, at, rows in ((1, 1.0, [(1, 1)]), (2, 10.0, [(1, 2), (2, 1)])):
        worker = books.process(10 + incarnation, incarnation).start(at)
        worker.fetch(at, 7, *rows)
        worker.strike(at + 1, Effect.CRASH, 7, *rows, kind="exit")
        supervisor.exit(at + 2, incarnation, "injected")
    books.process(13, 3).start(30.0).fetch(40.0, 7)
    case = books.case(facts(witness(7, "STARTED", 0, 2, delivered=3)))
    lost = finding("no-task-lost", Status.FAIL, "1 exhausted, 1 lost", tasks=(1, 2), is_safety=True)

    # The first is exhausted by our own faults, the second has a delivery left and did not come back.
    assert report_of(lost, case=case).next == (f"ami-fault explain {RUN} 7/2",)
    assert [str(task) for task in report_of(lost, case=case).findings[-1].tasks] == ["7/2 (2.jpg)", "7/1 (1.jpg)"]


def test_the_run_is_named_as_one_would_type_it_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "ami-fault-runs"
    for name in ("one", "two"):
        (home / name).mkdir(parents=True)
    (home / "latest").symlink_to("two")

    def lines(folder: Path) -> tuple[str, ...]:
        return report_of(LOST, runs=[folder]).next

    assert lines(home / "latest") == ("ami-fault explain latest 7/3",)
    assert lines(home / "two") == ("ami-fault explain latest 7/3",)
    assert lines(home / "one") == ("ami-fault explain one 7/3",)
    assert lines(tmp_path / "else where") == ("ami-fault explain 'else where' 7/3",)


def test_where_no_task_is_concerned_one_looks_at_the_line_that_proves_it() -> None:
    cascade = finding("no-cascade", Status.FAIL, "3 calls failed", lines=(8, 9))
    nothing = finding("no-starvation", Status.FAIL, "job 8 gave nothing")

    assert report_of(cascade).next == (f"look at {RUN}/ledger/h-0001-11-1.jsonl:8",)
    assert report_of(nothing).next == (f"look at what the service said of its jobs, in {RUN}/jobs",)


def test_with_several_runs_one_looks_into_the_one_that_proves_it() -> None:
    settings = (Settings(), Settings())
    case = short_case(replace(facts(ENDED), settings=settings))
    runs = (RUN / "a", RUN / "b")

    def lines(one: Finding) -> tuple[str, ...]:
        return report_of(replace(one, evidence=(Place("b", "h-0001-11-1.jsonl", 4),)), case=case, runs=runs).next

    assert lines(LOST) == (f"ami-fault explain {RUN}/b 7/3",)
    assert lines(finding("no-cascade", Status.FAIL)) == (f"look at {RUN}/b/ledger/h-0001-11-1.jsonl:4",)


def test_where_several_have_failed_there_is_a_line_for_each() -> None:
    worker = finding("held-tasks-are-answered", Status.FAIL, whose=Whose.WORKER, tasks=(4,))
    outlive = finding("leases-outlive-their-work", Status.FAIL, whose=Whose.SETUP, tasks=(1,))

    assert report_of(outlive, worker, LOST).next == (
        f"ami-fault explain {RUN} 7/3",
        f"ami-fault explain {RUN} 7/4",
        "raise ack_wait of the service, now 8 s, or let the worker hold less: smaller batches, less prefetch",
    )


def test_where_our_own_faults_used_up_deliveries_there_should_be_more_or_fewer_of_them() -> None:
    used_up = finding("no-task-lost", Status.FAIL, "2 exhausted", Whose.BUDGET, tasks=(1,), is_safety=True)
    unknown = short_case(replace(facts(ENDED), parameters=Parameters()))

    assert report_of(used_up).next == (
        "raise max_deliver of the service, now 2, or lower the crash rate (0.05); "
        "`ami-fault plan` tells what to expect",
    )
    assert report_of(used_up, case=unknown).next == (
        "raise max_deliver of the service, or lower the crash rate (0.05); `ami-fault plan` tells what to expect",
    )


def test_what_is_wrong_with_the_setup_has_its_own_cure_or_a_story() -> None:
    token = finding("no-cascade", Status.FAIL, "http-401", Whose.SETUP, lines=(3,))
    lost = replace(LOST, whose=Whose.SETUP)
    cure = "give the worker a token that may take tasks and answer them (AMI_ANTENNA_API_AUTH_TOKEN)"

    assert report_of(token).next == (cure,)
    assert report_of(token, lost).next == (cure,)
    assert report_of(lost).next == (f"ami-fault explain {RUN} 7/3",)


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome.INTERRUPTED, f"let it run to its end: {INVOCATION}"),
        (Outcome.SERVICE_GONE, f"see above why the sandbox has ended, and run it again: {INVOCATION}"),
        (
            Outcome.RESTARTS_EXHAUSTED,
            f"see in {RUN}/output why the worker ends, or let it start more often (--max-restarts)",
        ),
        (
            Outcome.SETTINGS,
            f"mend the settings that the worker refused: its output in {RUN}/output says which, "
            "and `ami-fault doctor` shows them all",
        ),
        (Outcome.TIMEOUT, f"ami-fault check {RUN} --wait 30m"),
    ],
)
def test_a_run_that_was_cut_short_is_mended_first(outcome: Outcome, line: str) -> None:
    assert report_of(outcome=outcome).next == (line,)


def test_what_was_out_when_the_time_was_up_needs_a_worker_and_not_patience() -> None:
    books = short_run().books
    books.processes[2].fetch(10.0, 7, (5, 1))
    out = books.case(facts(ENDED))

    assert report_of(case=out, outcome=Outcome.TIMEOUT).next == (f"give it more time (--timeout): {INVOCATION}",)
    assert report_of(OPEN_END, case=out, outcome=None).next == (f"ami-fault check {RUN} --wait 30m",)


def test_a_failure_is_worth_more_than_the_stop_that_came_after_it() -> None:
    assert report_of(LOST, outcome=Outcome.INTERRUPTED).next == (f"ami-fault explain {RUN} 7/3",)


def test_a_job_that_is_not_at_its_end_is_worth_waiting_for() -> None:
    assert report_of(OPEN_END).next == (f"ami-fault check {RUN} --wait 30m",)
    assert report_of(OPEN_END, runs=(RUN / "a", RUN / "b")).next == (f"ami-fault check {RUN}/a {RUN}/b --wait 30m",)


def test_a_service_that_could_not_be_asked_needs_a_token() -> None:
    case = short_case(replace(facts(), witness_missing="no token"))

    assert report_of(OPEN_END, case=case).next == (
        f"let the service be asked: ami-fault check {RUN} --wait 30m, with its token in AMI_ANTENNA_API_AUTH_TOKEN",
    )


def test_a_parameter_that_was_missing_is_asked_for() -> None:
    unknown = replace(OPEN, text="max_deliver is not known: it may have been its last delivery")
    case = short_case(replace(facts(ENDED), parameters=Parameters(8.0)))

    assert report_of(unknown, case=case).next == (f"say how the service is set: ami-fault check {RUN} --max-deliver N",)
    # Where nothing is missing, somebody has said it since, and there is a story to look at.
    assert report_of(unknown).next == (f"ami-fault explain {RUN} 7/4",)


def test_a_ledger_that_is_not_complete_will_never_be() -> None:
    case = short_case(facts(ENDED, damage=("h.jsonl:3: cannot be read",)))

    assert report_of(OPEN, case=case).next == (
        f"the ledger is not complete, and will not be: run it again: {INVOCATION}",
    )


def test_where_nothing_was_handed_out_one_looks_at_what_the_worker_said() -> None:
    line = f"see in {RUN}/output whether the worker asks for tasks, and whether a started job has any"
    empty = Books().case(facts())

    assert report_of(nothing_fired=True, case=empty).next == (line,)
    assert report_of(replace(OPEN, tasks=()), case=empty).next == (line,)


def test_any_other_unknown_has_a_story() -> None:
    assert report_of(OPEN).next == (f"ami-fault explain {RUN} 7/4",)


def test_where_nothing_struck_there_should_be_more_to_strike() -> None:
    assert report_of(nothing_fired=True).next == (
        "raise the rates, or take more images; `ami-fault plan` tells the chance that nothing strikes",
    )
    open_ones = [finding(f"check-{n}", Status.VACUOUS) for n in range(4)]
    assert report_of(*open_ones, strict=True).next == (
        "raise the rates or take more images, to judge check-0, check-1, check-2 and others; "
        "without --strict this run passes",
    )
    assert report_of(NOT_STARVED, *open_ones[:3], strict=True).next == (
        "raise the rates or take more images, to judge check-0, check-1, check-2; without --strict this run passes",
    )


def test_after_a_pass_there_is_always_a_harder_one() -> None:
    def lines(settings: Settings, *findings: Finding) -> tuple[str, ...]:
        return report_of(*findings, case=short_case(facts(ENDED, settings=settings))).next

    assert lines(Settings(seed=3, profile="medium")) == (
        "another seed (--seed 4), or a heavier profile (--profile heavy)",
    )
    assert lines(Settings(seed=3, profile="heavy")) == ("another seed (--seed 4)",)
    assert lines(Settings(seed=0)) == ("another seed (--seed 1), or a heavier profile (--profile heavy)",)
    assert lines(Settings()) == ("another seed, or a heavier profile (--profile heavy)",)
    open_ones = [finding(f"check-{n}", Status.VACUOUS) for n in range(4)]
    for some, named in (
        (open_ones[:3], "check-0, check-1, check-2"),
        (open_ones, "check-0, check-1, check-2 and others"),
    ):
        assert lines(Settings(seed=3), *some) == (f"higher rates or more images, to judge {named} too",)


def test_of_several_runs_the_first_is_the_one_to_repeat() -> None:
    case = short_case(replace(facts(ENDED), settings=(Settings(seed=3, profile="heavy"), Settings(seed=9))))

    assert report_of(case=case, runs=(RUN / "a", RUN / "b")).next == ("another seed (--seed 4)",)


def test_as_long_as_the_service_was_asked_of_one_job_a_token_is_not_what_is_missing() -> None:
    books = short_run().books
    books.processes[2].fetch(10.0, 8, (1, 1))

    assert report_of(OPEN_END, case=books.case(facts(ENDED))).next == (f"ami-fault check {RUN} --wait 30m",)


def test_after_a_dry_run_it_is_time_for_the_real_one() -> None:
    assert report_of(nothing_fired=True, case=dry_case()).next == ("the same for real: without AMI_TEST_DRY_RUN",)


@pytest.mark.parametrize(
    ("jobs", "named"), [((1,), "job 1 was"), ((2, 1), "jobs 1, 2 were"), ((1, 2, 3, 4), "jobs 1, 2, 3 and others were")]
)
def test_where_the_settings_kept_every_job_from_the_worker_they_are_to_name_another(
    jobs: tuple[int, ...], named: str
) -> None:
    books = Books()
    worker = books.process(11)
    worker.poll(1.0)
    worker.hide(1.0, *jobs)
    line = f"{named} listed and kept from the worker by AMI_TEST_JOBS: name there what it is to work on"

    assert report_of(case=books.case(facts()), nothing_fired=True).next == (line,)
