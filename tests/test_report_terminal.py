from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ami_fault_site import report
from ami_fault_site.endings import Outcome
from ami_fault_site.faults import Effect
from ami_fault_site.report import NOT_ARMED_CURE
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.facts import Facts, Parameters
from ami_fault_site.verdict.terms import Status, Whose
from tests.booked import Books
from tests.report_cases import (
    ENDED,
    NOT_STARVED,
    RUN,
    dry_case,
    facts,
    finding,
    report_of,
    short_case,
    short_run,
    shown,
)

LONG = "Traceback " + "x" * 150
REST = """\

worker      2 incarnations: 1 injected crash, 0 exits of its own
faults                  set  observed  injected  of
            crash      0.05     1.000         1   1
            image-404  0.02         -         1   0
tasks       4 handed out, 4 answered (1 of them with an error), 2 came back, 0 still out
            1 done, 2 recovered, 1 failed-expected
            2 redeliveries: half within 8.3 s, the slowest after 8.3 s, from receipt to receipt
job 7       ours 4 answered, 1 with an error; service 4 processed, 1 failed, 0 remaining, SUCCESS
queue       ack_wait 8 s (AMI_TEST_ACK_WAIT), max_deliver 2 (the log of job 7)

run         /runs/20261123T083731Z-26, seed 26; drained: every job has ended
again       ami-fault run --sandbox --profile medium --seed 26 --images 4
"""
NUMBERS = "4 of 4 answered, 1 crash and 1 other fault, 2 came back, slowest 8.3 s (ack_wait 8 s)"
NO_COUSINS = finding("no-cousins", Status.NOT_APPLICABLE, "there were not two jobs to serve")
LOST = finding(
    "no-task-lost",
    Status.FAIL,
    "2 lost (an injected crash; asked for again in vain)",
    tasks=(1, 2, 3, 4),
    lines=(3, 5, 8, 9),
    is_safety=True,
)


def test_a_run_that_passes_reads_so() -> None:
    assert shown(report_of(NOT_STARVED, NO_COUSINS)) == (
        f"PASS nothing lost: {NUMBERS}\n"
        "\n"
        "service      2 passed\n"
        "worker       1 passed\n"
        "not judged   2 not applicable\n"
        "\n"
        "n/a      there were not two jobs to serve: no-starvation, no-cousins\n"
        + REST
        + "next: another seed (--seed 27), or a heavier profile (--profile heavy)\n"
    )


def test_a_run_that_fails_names_who_and_what_and_which_tasks_and_where_it_is_written() -> None:
    requeued = finding("crashed-tasks-requeued", Status.FAIL, "2 of 2 tasks never came back", is_safety=True)
    vacuous = finding("picked-up-by-another", Status.VACUOUS, "no task came back", whose=Whose.WORKER)
    text = shown(report_of(requeued, vacuous, LOST))

    assert text == (
        "FAIL service: no-task-lost: 2 lost (an injected crash; asked for again in vain); "
        "also fails: crashed-tasks-requeued (service)\n"
        "\n"
        "service      1 passed,  2 failed\n"
        "worker       1 passed\n"
        "not judged   1 vacuous\n"
        "\n"
        "FAIL     service  no-task-lost: 2 lost (an injected crash; asked for again in vain)\n"
        "                  7/1 (1.jpg), 7/2 (2.jpg), 7/3 (3.jpg) and 1 more\n"
        "                  ledger/h-0001-11-1.jsonl:3\n"
        "                  ledger/h-0001-11-1.jsonl:5\n"
        "                  ledger/h-0001-11-1.jsonl:8\n"
        "FAIL     service  crashed-tasks-requeued: 2 of 2 tasks never came back\n"
        "vacuous  worker   picked-up-by-another: no task came back\n"
        + REST
        + "next: ami-fault explain /runs/20261123T083731Z-26 7/1\n"
    )


def test_warnings_of_what_passed_known_failures_and_the_unknown_have_lines_of_their_own() -> None:
    warned = finding("leases-outlive-their-work", whose=Whose.SETUP, warnings=("ack_wait is short",), tasks=(1,))
    known = finding("no-cascade", Status.FAIL, "3 calls failed", lines=(4,), known="being mended")
    unknown = finding("job-reaches-its-end", Status.UNKNOWN, "job 7 is STARTED", is_safety=True)
    lines = shown(report_of(warned, known, unknown)).splitlines()

    assert lines[:11] == [
        "UNKNOWN job-reaches-its-end: job 7 is STARTED; known to fail: no-cascade (service)",
        "",
        "service      2 passed,  1 known to fail",
        "worker       1 passed",
        "setup        1 passed",
        "not judged   1 unknown",
        "",
        "known    service  no-cascade: 3 calls failed (expected: being mended)",
        "                  ledger/h-0001-11-1.jsonl:4",
        "unknown  service  job-reaches-its-end: job 7 is STARTED",
        "warning  setup    leases-outlive-their-work: ack_wait is short",
    ]


def test_what_has_passed_is_listed_only_when_asked_for() -> None:
    assert "requeued-in-time" not in shown(report_of())
    assert shown(report_of(), verbose=True).splitlines()[5:8] == [
        "pass     service  no-task-lost: 4 of 4 tasks are accounted for",
        "pass     service  requeued-in-time: 2 redeliveries, the slowest after 8.3 s",
        "pass     worker   held-tasks-are-answered: 6 leases",
    ]


def test_exits_of_the_workers_own_are_told_with_its_last_words_and_withheld_faults_with_the_reason() -> None:
    run = short_run()
    words = ["out of [memory]", LONG, "Killed"]
    run.supervisor.book("exit", 13.0, incarnation=3, code=-9, kind="organic", last_words=words)
    run.second.book("withheld", 9.8, effect="crash", why="the stop file is there")
    lines = shown(report_of(case=run.books.case(facts(ENDED)))).splitlines()

    start = lines.index("worker      3 incarnations: 1 injected crash, 1 exit of its own")
    assert lines[start + 1 : start + 5] == [
        "            incarnation 3: killed by SIGKILL; its last words:",
        "            | out of [memory]",
        f"            | {LONG}",
        "            | Killed",
    ]
    assert lines[start + 8] == "            1 withheld: the stop file is there"


def test_no_line_is_broken_where_the_output_is_no_terminal() -> None:
    # 80 columns is what a console assumes of a file or a pipe; whoever greps there wants whole lines.
    made = report_of(LOST, NOT_STARVED)

    assert shown(made, width=80) == shown(made, width=400)


def test_the_verdict_is_coloured_where_there_are_colours_and_nowhere_else() -> None:
    assert shown(report_of(), colours=True).startswith("\x1b[1;32mPASS\x1b[0m\x1b[1m nothing lost: ")
    assert shown(report_of(LOST), colours=True).startswith("\x1b[1;31mFAIL\x1b[0m")
    assert shown(report_of(nothing_fired=True), colours=True).startswith("\x1b[1;33mVACUOUS\x1b[0m")
    assert "\x1b" not in shown(report_of(LOST))


def test_what_looks_like_markup_or_moves_the_cursor_is_shown_as_text() -> None:
    odd = finding("no-cascade", Status.FAIL, "[red]because[/red]\x1b[2J\n[link]", warnings=("[/]",))
    known = facts(replace(ENDED, detail=ENDED.detail._replace(status="[bold]ODD")), damage=("[a].jsonl:1: [/]",))
    text = shown(report_of(odd, case=short_case(known)))

    assert "FAIL     service  no-cascade: [red]because[/red] [2J [link]\n" in text
    assert "warning  service  no-cascade: [/]\n" in text
    assert ", 0 remaining, [bold]ODD\n" in text
    assert "ledger      [a].jsonl:1: [/]\n" in text


def test_of_many_problems_of_the_ledger_the_first_ten_are_shown_and_the_rest_counted() -> None:
    problems = tuple(f"a.jsonl:{line}: cannot be read" for line in range(1, 13))
    lines = shown(report_of(case=short_case(facts(ENDED, damage=problems)))).splitlines()

    start = lines.index("ledger      a.jsonl:1: cannot be read")
    assert [line.strip() for line in lines[start + 1 : start + 10]] == [f"ledger      {one}" for one in problems[1:10]]
    assert lines[start + 10] == "            and 2 more problems"


def test_a_run_in_which_nothing_was_set_and_nothing_happened_is_told_without_fuss() -> None:
    empty = Books().case(Facts((Settings(),), Parameters()))

    assert shown(report_of(case=empty)) == (
        "PASS nothing lost: 0 of 0 answered, no fault was set\n"
        "\n"
        "service      2 passed\n"
        "worker       1 passed\n"
        "\n"
        "worker      0 incarnations: 0 injected crashes, 0 exits of its own\n"
        "faults      none were set\n"
        "tasks       0 handed out, 0 answered (0 of them with an error), 0 came back, 0 still out\n"
        "queue       ack_wait unknown, max_deliver unknown\n"
        "\n"
        "run         /runs/20261123T083731Z-26\n"
        "again       ami-fault run\n"
        "next: the same with faults: --profile medium\n"
    )


def test_several_runs_are_each_told_with_the_line_that_repeats_them() -> None:
    settings = (Settings(seed=1, profile="light"), Settings(seed=2, profile="heavy"))
    case = short_case(replace(facts(ENDED), settings=settings))
    lines = shown(report_of(case=case, runs=(RUN / "a", RUN / "b"))).splitlines()

    assert lines[-5:-1] == [
        f"run         {RUN}/a, seed 1",
        "again       ami-fault run --profile light --seed 1",
        f"run         {RUN}/b, seed 2",
        "again       ami-fault run --profile heavy --seed 2",
    ]


def test_only_a_run_without_the_hook_is_told_the_cure() -> None:
    for outcome in Outcome:
        assert (f"next: {NOT_ARMED_CURE}\n" in shown(report_of(outcome=outcome))) is (outcome is Outcome.NOT_ARMED)


class Gone(io.StringIO):
    """A pipe whose reader has gone: only writing nothing still works."""

    def write(self, text: str) -> int:
        if text:
            raise BrokenPipeError(32, "Broken pipe")
        return 0


def test_a_reader_that_has_gone_is_an_error_of_writing_and_no_end_of_the_process() -> None:
    with pytest.raises(BrokenPipeError):
        report.to_terminal(report_of(), Console(file=Gone()))


def test_what_faults_in_depth_did_is_told_in_a_line_each() -> None:
    run = short_run()
    run.second.crash(9.75, "kill", role="loader", job=7, site="downloading", point="downloading")
    run.second.attempt(9.75, "image", 90, status=503, kind="http-503", job=7, sequence=1)
    run.second.attempt(9.8, "image", 90, job=7, sequence=1)
    run.second.image(9.8, 7, 1, call=90)
    run.second.lose_answer(9.9, 7, (1, 1))
    run.second.lose_tasks(10.5, 7, (5, 1))
    lines = shown(report_of(case=run.books.case(facts(ENDED)))).splitlines()

    assert "            deaths: 1 kill at downloading in a loader" in lines
    told = "image: 1 of 2 attempts struck (0.500), 0 of 1 call failed for it (0.000), 1 absorbed by a retry"
    assert f"            {told}" in lines
    assert "            1 delivery lost on the way to the worker" in lines


def test_a_fault_that_only_a_rule_set_has_no_rate() -> None:
    run = short_run()
    run.second.strike(9.5, Effect.TRANSIENT, 7, (3, 2), counted=False)
    (line,) = [one for one in shown(report_of(case=run.books.case(facts(ENDED)))).splitlines() if "transient-e" in one]

    assert line.split() == ["transient-error", "-", "-", "1", "0"]


def test_a_dry_run_says_what_would_have_struck() -> None:
    line = "            a dry run: would have struck 2 crash, 1 image-404; nothing was touched"

    assert line in shown(report_of(case=dry_case(), nothing_fired=True)).splitlines()
    assert "a dry run" not in shown(report_of())


@pytest.mark.parametrize(("times", "told"), [(1, "1 fetch was refused"), (2, "2 fetches were refused")])
def test_what_was_refused_to_guard_the_budget_is_told_by_itself_and_among_no_faults(times: int, told: str) -> None:
    run = short_run()
    for number in range(times):
        run.second.refuse_fetch(9.8 + number, 7)
    lines = shown(report_of(case=run.books.case(facts(ENDED)))).splitlines()

    assert f"            {told} to keep what was given up from being lost" in lines
    assert not any("network-error" in line for line in lines)
    assert "1 crash and 1 other fault" in lines[0]
