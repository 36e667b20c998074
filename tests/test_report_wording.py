from __future__ import annotations

from dataclasses import replace

from ami_fault_site.report import wording
from ami_fault_site.report.contents import JobRow, NamedTask, WorkerFigures
from ami_fault_site.verdict.terms import Status, Whose
from tests.report_cases import LOST, NOT_STARVED, OPEN, finding, report_of

ROW = JobRow(7, 1, True, 4, 4, 1, 0, 0, "SUCCESS", 4, 1, 0, 0, "", ())


def test_the_services_counts_are_told_or_why_there_are_none() -> None:
    assert wording.theirs(ROW) == "4 processed, 1 failed, 0 remaining, SUCCESS"
    assert wording.theirs(replace(ROW, processed=None)) == "? processed, 1 failed, 0 remaining, SUCCESS"
    assert wording.theirs(replace(ROW, given_up=3)) == (
        "4 processed, 1 failed, 0 remaining, 3 given up by the reaper, SUCCESS"
    )
    assert wording.theirs(replace(ROW, status="", missing="no token")) == "not asked: no token"
    assert wording.theirs(replace(ROW, is_last=False, status="")) == "filled anew since"


def test_our_counts_name_what_nobody_heard_of_and_what_others_got() -> None:
    assert wording.ours(ROW) == "4 answered, 1 with an error"
    assert wording.ours(replace(ROW, unheard=2, elsewhere=1)) == (
        "4 answered, 1 with an error, 2 unheard, 1 delivery to others"
    )
    assert wording.ours(replace(ROW, elsewhere=2)).endswith(", 2 deliveries to others")


def test_checks_are_counted_by_whose_they_are_and_those_without_a_judgement_apart() -> None:
    known = finding("no-cascade", Status.FAIL, known="being mended")
    budget = finding("redelivery-ends", Status.FAIL, whose=Whose.BUDGET)
    vacuous = finding("crashed-tasks-requeued", Status.VACUOUS)

    assert wording.scores(report_of(known, budget, vacuous, OPEN, NOT_STARVED)) == [
        ("service", {"pass": 1, "known": 1}),
        ("worker", {"pass": 1}),
        ("budget", {"fail": 1}),
        ("not judged", {"unknown": 1, "vacuous": 1, "not-applicable": 1}),
    ]


def test_the_gravest_comes_first_the_service_before_the_worker_and_what_was_lost_before_all() -> None:
    findings = [
        finding("a-vacuous", Status.VACUOUS),
        finding("a-worker", Status.FAIL, whose=Whose.WORKER, is_safety=True),
        finding("a-warning", warnings=("careful",)),
        finding("a-known", Status.FAIL, known="why"),
        finding("a-service", Status.FAIL),
        finding("a-safety", Status.FAIL, is_safety=True),
        finding("an-unknown", Status.UNKNOWN),
        LOST,
        NOT_STARVED,
    ]
    shown = [one.check for one in wording.worth_a_line(report_of(*findings))]

    assert shown == [
        "no-task-lost", "a-safety", "a-service", "a-worker", "a-known", "an-unknown", "a-vacuous", "a-warning",
    ]  # fmt: skip
    verbose = [one.check for one in wording.worth_a_line(report_of(*findings), verbose=True)]
    assert verbose == [*shown, "requeued-in-time", "held-tasks-are-answered"]


def test_the_first_tasks_are_named_and_the_rest_counted() -> None:
    tasks = [NamedTask(7, n, f"{n}.jpg" if n > 1 else "", str(n), 0) for n in (1, 2, 3)]

    assert wording.first_tasks(tasks, 2) == "7/1, 7/2 (2.jpg) and 1 more"
    assert wording.first_tasks(tasks, 3) == "7/1, 7/2 (2.jpg), 7/3 (3.jpg)"
    assert wording.first_tasks([], 3) == ""


def test_lives_that_nobody_supervised_are_told_as_such() -> None:
    def line(*figures: int) -> str:
        incarnations, crashes, alone, crashed = figures
        worker = WorkerFigures(incarnations, crashes, (), alone, crashed)
        return wording.worker_line(replace(report_of(), worker=worker))

    assert line(1, 1, 0, 0) == "1 incarnation: 1 injected crash, 0 exits of its own"
    assert line(0, 0, 2, 1) == "2 lives that nobody supervised: 1 injected crash"
    assert line(2, 0, 1, 0) == (
        "2 incarnations: 0 injected crashes, 0 exits of its own; 1 life that nobody supervised: 0 injected crashes"
    )


def test_a_run_is_told_with_its_seed_and_its_ending_as_far_as_they_are_known() -> None:
    (run,) = report_of().runs

    assert wording.run_line(run) == "/runs/20261123T083731Z-26, seed 26; drained: every job has ended"
    assert wording.run_line(replace(run, seed=0, outcome="")) == "/runs/20261123T083731Z-26, seed 0"
    assert wording.run_line(replace(run, seed=-1, outcome="of-a-later-version")) == "/runs/20261123T083731Z-26"


def test_what_nobody_heard_of_is_told_only_if_there_is_any() -> None:
    made = report_of()

    assert wording.unheard_line(made) == ""
    assert wording.unheard_line(replace(made, tasks=replace(made.tasks, unheard=2))) == (
        "2 more answered, but the reply was never heard: only the service knows"
    )


def test_crashes_that_ended_no_life_are_counted_with_the_others_and_told_apart() -> None:
    def line(incarnations: int, ended: int, alone: int, crashed: int, loaders: int, outlived: int) -> str:
        worker = WorkerFigures(incarnations, ended, (), alone, crashed, loaders, outlived)
        return wording.worker_line(replace(report_of(), worker=worker))

    assert line(2, 2, 0, 0, 1, 1) == (
        "2 incarnations: 4 injected crashes (2 ended a life, 1 in a loader, 1 that ended no life), 0 exits of its own"
    )
    assert line(1, 0, 0, 0, 1, 0) == "1 incarnation: 1 injected crash (1 in a loader), 0 exits of its own"
    assert line(0, 0, 1, 1, 1, 0) == "1 life that nobody supervised: 2 injected crashes (1 ended a life, 1 in a loader)"
