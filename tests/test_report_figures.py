from __future__ import annotations

from dataclasses import replace

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.report import figures
from ami_fault_site.report.contents import (
    AttemptRow,
    FaultRow,
    JobRow,
    OrganicExit,
    Recovery,
    TaskFigures,
    WorkerFigures,
)
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.facts import Parameters
from tests.booked import Books, witness
from tests.report_cases import ENDED, SETTINGS, facts, report_of, short_case, short_run, shown


def test_lives_are_counted_by_how_they_ended() -> None:
    run = short_run()
    run.supervisor.book("exit", 13.0, incarnation=3, code=-9, kind="organic", last_words=["Killed"])
    run.supervisor.book("exit", 14.0, incarnation=4, code=None, kind="organic", last_words=[])
    exits = (OrganicExit("", 3, "killed by SIGKILL", ("Killed",)), OrganicExit("", 4, "nobody knows how", ()))

    assert figures.worker_figures(run.books.case(facts())) == WorkerFigures(4, 1, exits, 0, 0)


def test_a_worker_that_nobody_supervised_has_lives_too_and_each_counts_once_with_its_loaders() -> None:
    books = Books()
    books.process(11, incarnation=0).start(1.0).fetch(2.0, 7, (1, 1))
    loader = books.process(12, incarnation=0).start(1.5, parent=11)
    loader.fetch(2.0, 7, (2, 1))
    books.processes[0].strike(3.0, Effect.CRASH, 7, (1, 1), kind="exit")
    books.process(31, incarnation=0).start(20.0).fetch(21.0, 7, (1, 2))
    books.process(41, incarnation=0).start(40.0).fetch(41.0, 7, (2, 2))

    assert figures.worker_figures(books.case(facts())) == WorkerFigures(0, 0, (), 3, 1)


def test_a_fault_is_told_that_was_set_in_any_run_or_struck_at_all() -> None:
    run = short_run()
    run.second.strike(9.5, Effect.TRANSIENT, 7, (3, 2), counted=False)
    known = replace(facts(ENDED), settings=(SETTINGS, Settings(worker_crash_rate=0.2)))

    assert figures.fault_rows(run.books.case(known)) == (
        FaultRow("crash", (0.05, 0.2), 1, 1, 1.0),
        FaultRow("transient-error", (0.0,), 0, 1, None),
        FaultRow("image-404", (0.0, 0.02), 0, 1, None),
    )


def test_tasks_are_counted_by_what_became_of_them() -> None:
    assert figures.task_figures(short_case()) == TaskFigures(
        total=4,
        handed_out=4,
        answered=4,
        answered_with_error=1,
        came_back=2,
        unheard=0,
        still_out=0,
        taken_by_others=0,
        fates={"done": 1, "recovered": 2, "failed-expected": 1},
        marks={},
        exhausted_by={},
    )


def test_unanswered_tasks_are_counted_by_why_and_those_that_were_never_handed_out_too() -> None:
    books = Books()
    supervisor = books.supervisor()
    for incarnation, at in ((1, 1.0), (2, 10.0)):
        worker = books.process(10 + incarnation, incarnation).start(at)
        worker.fetch(at, 7, (1, incarnation))
        worker.strike(at + 1, Effect.CRASH, 7, (1, incarnation), kind="exit")
        supervisor.exit(at + 2, incarnation, "injected")
    worker = books.process(13, 3).start(19.0)
    worker.fetch(20.0, 7, (2, 1))
    worker.post(21.0, 7, (2, 1), outcome="unheard", error="ReadTimeout")
    worker.fetch(50.0, 7)
    counted = figures.task_figures(books.case(facts(witness(7, "STARTED", 0, 5, delivered=3))))

    assert (counted.total, counted.unheard, counted.still_out) == (2, 1, 1)
    assert counted.fates == {"exhausted": 1, "lost": 1, "never-delivered": 3}
    assert counted.exhausted_by == {"budget": 1}


def test_marks_are_counted_besides() -> None:
    books = Books()
    worker = books.process(11).start(0.5)
    worker.fetch(1.0, 7, (1, 1))
    worker.fetch(2.0, 7, (1, 2))
    worker.post(3.0, 7, (1, 1))
    worker.post(4.0, 7, (1, 2))

    assert figures.task_figures(books.case(facts())).marks == {"delivered-early": 1, "duplicated": 1}


def test_recovery_is_measured_from_receipt_to_receipt_of_the_next_delivery() -> None:
    books = Books()
    worker = books.process(11).start(0.5)
    worker.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    worker.fetch(9.0, 7, (1, 2))
    worker.fetch(10.5, 7, (2, 2))
    worker.fetch(20.0, 7, (3, 2))

    assert figures.recovery(books.case(facts())) == Recovery(3, 9.5, 19.0)


def test_what_no_single_clock_saw_is_not_measured_nor_what_came_back_although_it_was_answered() -> None:
    books = Books()
    here, there = books.process(11).start(0.5), books.process(11, host="other", base=100.0).start(0.5)
    here.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    here.post(2.0, 7, (2, 1))
    there.fetch(3.0, 7, (1, 2))
    here.fetch(9.0, 7, (2, 2))
    books.skip(7)
    here.fetch(20.0, 7, (3, 3))
    here.post(21.0, 7, (4, 1), outcome="refused", status=500)
    here.fetch(22.0, 7, (4, 2))

    assert figures.recovery(books.case(facts())) == Recovery(0, None, None)


def test_ours_stand_beside_the_services_counts() -> None:
    assert figures.job_rows(short_case()) == (
        JobRow(7, 1, True, 4, 4, 1, 0, 0, "SUCCESS", 4, 1, 0, 0, "", ()),
    )  # fmt: skip


def test_what_others_got_what_nobody_heard_of_and_what_the_reaper_gave_up_is_told() -> None:
    books = Books()
    books.skip(7, 2)
    worker = books.process(11).start(0.5)
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    worker.post(2.0, 7, (1, 1), outcome="unheard", error="ReadTimeout")
    errors = ("jobs_health_check: marked 3 image(s) as failed",)
    ended = witness(7, "SUCCESS", 5, 0, 3, errors=errors, given_up=3)

    assert figures.job_rows(books.case(facts(ended))) == (
        JobRow(7, 1, True, 2, 0, 0, 1, 2, "SUCCESS", 5, 3, 0, 3, "", errors),
    )  # fmt: skip


def test_a_job_of_which_the_service_was_not_asked_says_why() -> None:
    books = Books()
    books.process(11).start(0.5).fetch(1.0, 7, (1, 1))
    supervisor = books.supervisor()

    def missing(why: str) -> str:
        return figures.job_rows(books.case(replace(facts(), witness_missing=why)))[0].missing

    assert missing("") == "the service was not asked"
    assert figures.job_rows(books.case(facts()))[0].given_up == 0
    assert missing("no token") == "no token"
    supervisor.book("unwitnessed", 5.0, job=7, why="status 500")
    assert missing("no token") == "status 500"


def test_a_job_that_was_filled_anew_has_a_row_for_each_filling_and_the_services_counts_in_the_last() -> None:
    books = Books()
    worker = books.process(11).start(0.5)
    worker.fetch(1.0, 7, (1, 1))
    books.refill(7)
    worker.fetch(9.0, 7, (1, 1))
    rows = figures.job_rows(books.case(facts(witness(7, "STARTED", 0, 1))))

    assert [(row.filling, row.is_last, row.status, row.missing) for row in rows] == [
        (1, False, "", ""),
        (2, True, "STARTED", ""),
    ]


def test_a_job_that_gave_nothing_is_told_if_the_service_was_asked_of_it() -> None:
    rows = figures.job_rows(short_case(facts(ENDED, witness(8, "STARTED", 0, 9))))

    assert rows[1:] == (JobRow(8, 1, True, 0, 0, 0, 0, 0, "STARTED", 0, 0, 9, 0, "", ()),)


def test_a_parameter_is_told_with_its_source_and_the_unknown_as_unknown() -> None:
    def told(parameters: Parameters) -> list[str]:
        return [str(row) for row in figures.parameter_rows(short_case(replace(facts(), parameters=parameters)))]

    assert told(Parameters(8.0, 2, {"ack_wait": "AMI_TEST_ACK_WAIT", "max_deliver": "the log of job 7"})) == [
        "ack_wait 8 s (AMI_TEST_ACK_WAIT)",
        "max_deliver 2 (the log of job 7)",
    ]
    assert told(Parameters()) == ["ack_wait unknown", "max_deliver unknown"]


def test_deaths_are_counted_by_how_and_where_as_far_as_that_is_booked() -> None:
    run = short_run()
    for _ in range(2):
        run.second.crash(9.5, "kill", role="loader", job=7, site="downloading", point="downloading")
    run.second.crash(9.6, "hang", job=7, point="in-batch")

    assert figures.deaths(run.books.case(facts(ENDED))) == {"hang at in-batch": 1, "kill at downloading in a loader": 2}


def test_attempts_are_counted_site_by_site_where_they_are_struck() -> None:
    run = short_run()
    assert figures.attempt_rows(run.books.case(facts(ENDED))) == ()
    run.second.attempt(9.4, "image", 9, status=503, kind="http-503", job=7, sequence=1)
    run.second.attempt(9.5, "image", 9, job=7, sequence=1)
    run.second.image(9.5, 7, 1, call=9)

    assert figures.attempt_rows(run.books.case(facts(ENDED))) == (
        AttemptRow("image", calls=1, absorbed=1, failed=0, tries=2, struck=1),
    )


def test_faults_that_the_budget_held_back_are_told_with_one_example() -> None:
    run = short_run()
    run.second.book("budget", 9.0, max_deliver=2, source="setting")
    for number in (4, 3):
        run.second.book("withheld", 9.5, effect="crash", why=f"budget: task {number} of job 7 has one delivery left")
    run.second.book("withheld", 9.5, effect="crash", why="window: 3 s into the run")

    assert figures.withheld(run.books.case(facts(ENDED))) == {
        "by the budget of 2 deliveries (setting), as task 3 of job 7 has one delivery left": 2,
        "window, as 3 s into the run": 1,
    }


def test_what_faults_kept_from_the_worker_is_counted() -> None:
    books = Books()
    main = books.process(11).start(0.5)
    main.fetch(1.0, 7, (1, 1))
    main.lose_answer(2.0, 7, (1, 1))
    main.lose_tasks(3.0, 7, (2, 1))
    main.strike(4.0, Effect.WITHHOLD, 7, (3, 1), site="tasks", trigger="exhaust")
    main.lose_tasks(4.0, 7, (3, 1), then=((4, 1),))
    counted = figures.task_figures(books.case(facts(witness(7, "STARTED", 1, 3))))

    assert (counted.lost_answers, counted.lost_leases, counted.kept_back) == (1, 1, 1)
    assert (counted.answered, counted.unheard, counted.handed_out) == (1, 0, 2)


@pytest.mark.parametrize(
    ("mode", "role", "exit_kind", "counts"),
    [
        ("exit", "main", "injected", (1, 0, 0)),
        ("hang", "main", "injected", (1, 0, 0)),
        ("hang", "main", "ended", (0, 0, 1)),
        ("sysexit", "main", "ended", (0, 0, 1)),
        ("kill", "loader", "ended", (0, 1, 0)),
    ],
)
def test_every_crash_is_counted_once_by_what_it_struck(
    mode: str, role: str, exit_kind: str, counts: tuple[int, int, int]
) -> None:
    books = Books()
    main = books.process(11).start(1.0)
    struck = main if role == "main" else books.process(12).start(1.5, 11)
    struck.crash(2.0, mode, role=role, job=7)
    if exit_kind == "ended":
        main.poll(3.0, 7)
    supervisor = books.supervisor()
    supervisor.spawn(0.5, 1)
    supervisor.exit(9.0, 1, exit_kind)
    made = figures.worker_figures(books.case(facts()))

    assert (made.injected_exits, made.loader_crashes, made.outlived_crashes) == counts


def test_an_exit_of_its_own_just_after_its_loaders_death_is_told_as_such() -> None:
    books = Books()
    books.process(11).start(1.0)
    books.process(12).start(1.5, 11).crash(2.0, "sysexit", role="loader", job=7)
    supervisor = books.supervisor()
    supervisor.spawn(0.5, 1)
    supervisor.exit(3.0, 1, "organic", code=1)
    lines = shown(report_of(case=books.case(facts()))).splitlines()

    after = "after an injected death of its loader"
    told = f"1 incarnation: 1 injected crash (1 in a loader), 1 exit of its own (1 {after})"
    assert f"worker      {told}" in lines
    assert f"            incarnation 1: exit code 1, {after}; its last words:" in lines


def test_what_got_lost_on_its_way_and_was_handed_out_again_came_back_too() -> None:
    books = Books()
    main = books.process(11).start(1.0)
    main.lose_tasks(2.0, 7, (1, 1), (2, 1))
    main.fetch(11.0, 7, (1, 2), (2, 2))
    made = figures.task_figures(books.case(facts()))

    assert (made.came_back, made.lost_leases, made.handed_out) == (2, 2, 2)
