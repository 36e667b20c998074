"""The operator's notes in a report: listed, and beside the findings and the tasks of that moment."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ami_fault_site import report
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.facts import Parameters
from ami_fault_site.verdict.terms import Status
from tests.booked import WALL
from tests.report_cases import ENDED, LOST, facts, finding, report_of, short_run, shown

# Line 5 of the first worker's file was written less than a second after 0.5 s of a host that began at 12:51:40 UTC.
PROVED = finding("no-task-lost", Status.FAIL, "2 lost (why)", tasks=(3,), lines=(5,), is_safety=True)


def noted(*notes: tuple[float, str], ack_wait: float | None = 8.0, base: float = 0.0, host: str = "h") -> Case:
    """Return the short run with what the operator noted at these seconds, perhaps on another host's clock."""
    books = short_run().books
    operator = books.process(90, 0, host=host, base=base)
    for at, text in notes:
        operator.book("note", at, text=text, ago=0.0)
    known = facts(ENDED)
    return books.case(replace(known, parameters=Parameters(ack_wait, 2)))


def beside(case: Case) -> list[str]:
    made = report_of(PROVED, case=case)
    (told,) = (one for one in made.findings if one.check == "no-task-lost")
    return [str(note) for note in told.notes]


def test_a_note_stands_beside_a_finding_whose_evidence_was_written_shortly_after_it() -> None:
    assert beside(noted((0.5, "killed celeryworker"))) == ["operator, 12:51:40 UTC: killed celeryworker"]


@pytest.mark.parametrize(
    ("at", "ack_wait", "is_told"),
    [
        (-7.4, 8.0, True),
        (-7.6, 8.0, False),
        (-59.4, None, True),
        (-59.6, None, False),
        (1.4, 8.0, True),
        (1.6, 8.0, False),
    ],
)
def test_shortly_is_ack_wait_and_60_seconds_where_that_is_not_known(
    at: float, ack_wait: float | None, is_told: bool
) -> None:
    assert bool(beside(noted((at, "killed celeryworker"), ack_wait=ack_wait))) is is_told


def test_another_hosts_note_is_placed_by_wall_clock() -> None:
    assert beside(noted((500.5, "killed it"), host="laptop", base=-500.0)) == ["operator, 12:51:40 UTC: killed it"]
    assert beside(noted((0.5, "killed it"), host="laptop", base=-500.0)) == []


def test_a_terminal_shows_all_notes_and_those_beside_a_finding() -> None:
    case = noted((9.0, "back again\x1b[2J"), (0.5, "killed celeryworker"))
    lines = [line.rstrip() for line in shown(report_of(PROVED, case=case)).splitlines()]

    at = lines.index("                  ledger/h-0001-11-1.jsonl:5")
    assert lines[at + 1] == "                  operator, 12:51:40 UTC: killed celeryworker"
    at = lines.index("notes       operator, 12:51:40 UTC: killed celeryworker")
    assert lines[at + 1] == "            operator, 12:51:49 UTC: back again [2J"


def test_every_rendering_tells_the_notes() -> None:
    made = report_of(PROVED, case=noted((0.5, "killed *celeryworker*")))

    told = json.loads(report.as_json(made))
    note = {"wall": WALL + 0.5, "text": "killed *celeryworker*", "run": "", "line": "ledger/h-0000-90-1.jsonl:1"}
    assert told["notes"] == [note]
    assert [one["notes"] for one in told["findings"] if one["check"] == "no-task-lost"] == [[note]]
    markdown = report.to_markdown(made)
    assert "2 lost (why)<br>operator, 12:51:40 UTC: killed \\*celeryworker\\* |" in markdown
    assert "\n- operator, 12:51:40 UTC: killed \\*celeryworker\\*\n" in markdown
    assert "\noperator, 12:51:40 UTC: killed *celeryworker*</failure>" in report.junit(made)


def test_without_notes_nothing_is_said_of_them() -> None:
    made = report_of(LOST)

    assert made.notes == ()
    assert "operator" not in shown(made) + report.to_markdown(made) + report.junit(made)


def test_a_tasks_story_tells_the_notes_of_its_time_and_shortly_before_and_after() -> None:
    case = noted((-7.5, "too early"), (1.75, "killed celeryworker"), (17.5, "started it"), (18.0, "too late"))
    told = report.tell(case, report.find(case, "3")[0])

    where = "[ledger/h-0000-90-1.jsonl"
    assert told[2:4] == [
        "     0.700 s  its batch began  [ledger/h-0001-11-1.jsonl:10]",
        f"     0.750 s  operator, 12:51:41 UTC: killed celeryworker  {where}:2]",
    ]
    assert f"    16.500 s  operator, 12:51:57 UTC: started it  {where}:3]" in told
    assert "too" not in "\n".join(told)


def test_in_a_story_on_several_clocks_the_notes_come_last_before_the_counts() -> None:
    run = short_run()
    run.second.host = "other"
    for number, event in enumerate(run.second.events):
        run.second.events[number] = event._replace(host="other", file=run.second.file)
    run.books.process(90, 0).book("note", 1.75, text="killed celeryworker", ago=0.0)
    case = run.books.case(facts(ENDED))
    told = report.tell(case, report.find(case, "3")[0])

    note = next(n for n, line in enumerate(told) if "killed celeryworker" in line)
    assert told[note].startswith("              operator, 12:51:41 UTC: killed celeryworker  [")
    assert told[note + 1].startswith("     service  ")


def test_a_note_without_a_time_that_any_calendar_knows_is_damage() -> None:
    books = short_run().books
    books.process(90, 0, base=1e20).book("note", 1.0, text="killed celeryworker", ago=0.0)
    history = books.history()

    assert history.notes == []
    assert [problem for _, problem in history.unreadable] == ["note: ValueError: it has no time"]
