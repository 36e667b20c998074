"""The promises of the timeline: a mark for every event, filters that count as Python does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ami_fault_site.history import Lease, Task
from ami_fault_site.verdict import Case
from tests.browser.conftest import Opener
from tests.page_cases import RUNS, Page, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Page as Sheet

pytestmark = pytest.mark.browser

# What a trace draws: segments of a line that is broken by nulls, bars, or points.
MARKS = """(meta) => document.getElementById("timeline-plot").data
    .filter((trace) => trace.meta === meta)
    .map((trace) => [...trace.x].filter((x, n) => trace.mode && trace.mode.includes("lines") ? x === null : x !== null))
    .reduce((sum, drawn) => sum + drawn.length, 0)"""
# What is really there of a trace to be seen.
POINTS = """(meta) => document.getElementById("timeline-plot")._fullData
    .filter((trace) => trace.meta === meta)
    .map((trace) => trace.type === "bar" ? ".barlayer .point" : `.trace${trace.uid} .points > *`)
    .reduce((sum, chosen) => sum + document.querySelectorAll(`#timeline-plot ${chosen}`).length, 0)"""


def shown(sheet: Sheet) -> tuple[int, int]:
    """Return how many deliveries and faults the page says to be wanted, all of which are drawn."""
    told = sheet.locator("#timeline-shown")
    drawn, deliveries, marks, faults = (
        int(told.get_attribute(f"data-{name}") or -1) for name in ("drawn", "total", "marks", "marks-total")
    )
    assert (drawn, marks) == (deliveries, faults)
    assert (sheet.evaluate(MARKS, "leases"), sheet.evaluate(MARKS, "faults")) == (drawn, marks)
    return deliveries, faults


def deliveries(case: Case, is_meant: Callable[[Task, Lease], bool] = lambda task, lease: True) -> int:
    """Count the deliveries whose receipt is booked."""
    return sum(lease.is_known and is_meant(task, lease) for task in case.tasks() for lease in task.leases)


def truth(case: Case) -> dict[str, int]:
    """Count what the timeline is to have a mark of."""
    known = [sum(lease.is_known for lease in task.leases) for task in case.tasks()]
    return {
        "incarnations": sum(life.number > 0 for life in case.history.lives.values()),
        "leases": sum(known),
        "redeliveries": sum(number - 1 for number in known if number),
        "faults": len(case.history.injections),
    }


def test_every_event_of_the_history_has_its_mark(busy: Page, sheet: Sheet) -> None:
    meant = truth(busy.case)
    assert min(meant.values()) > 2
    assert {name: sheet.evaluate(MARKS, name) for name in meant} == meant
    assert {name: sheet.evaluate(POINTS, name) for name in ("incarnations", "faults")} == {
        "incarnations": meant["incarnations"],
        "faults": meant["faults"],
    }
    told = sheet.locator("#timeline-shown").inner_text()
    assert told == f"All {meant['leases']} deliveries and {meant['faults']} faults are drawn."


def test_the_filter_by_fault_counts_what_the_report_counts(busy: Page, sheet: Sheet) -> None:
    kinds = {}
    for kind in sheet.locator("#filter-fault option").all_inner_texts()[1:]:
        sheet.select_option("#filter-fault", kind)
        kinds[kind] = shown(sheet)[1]
    assert kinds == busy.report.kinds


def test_the_filters_by_job_and_task_count_the_deliveries_of_these(busy: Page, sheet: Sheet) -> None:
    case = busy.case
    for job in (1, 2):
        sheet.select_option("#filter-job", str(job))
        assert shown(sheet)[0] == deliveries(case, lambda task, _, job=job: task.job == job)  # type: ignore[misc]
    most = max((task for task in case.tasks() if task.job == 2), key=lambda task: len(task.leases))
    for words in (f"2/{most.key[1]}", most.image):
        sheet.fill("#filter-task", words)
        assert shown(sheet)[0] == len(most.leases) > 1
    assert sheet.locator("#timeline-shown").inner_text().startswith(f"{len(most.leases)} deliveries and ")
    sheet.select_option("#filter-job", "1")
    assert shown(sheet)[0] == deliveries(case, lambda task, _: task.job == 1 and task.image == most.image)
    sheet.click("#filter-clear")
    assert shown(sheet) == (deliveries(case), len(case.history.injections))
    assert [sheet.input_value(f"#filter-{name}") for name in ("job", "task", "worker", "fault")] == [""] * 4


def test_the_keyboard_alone_filters_and_clears(busy: Page, sheet: Sheet) -> None:
    sheet.focus("#filter-job")
    sheet.keyboard.press("ArrowDown")
    assert 0 < shown(sheet)[0] < deliveries(busy.case)
    sheet.focus("#filter-clear")
    sheet.keyboard.press("Enter")
    assert shown(sheet)[0] == deliveries(busy.case)


def test_workers_of_several_runs_have_lanes_of_their_own(tmp_path: Path, opened: Opener) -> None:
    page = page_of(RUNS["several"](tmp_path), tmp_path / "page.html")
    case, sheet = page.case, opened(page.path)
    meant = truth(case)
    assert {name: sheet.evaluate(MARKS, name) for name in meant} == meant
    runs = Counter[str]()
    for name in sheet.locator("#filter-worker option").all_inner_texts()[1:]:
        sheet.select_option("#filter-worker", name)
        runs[name.rpartition(" of ")[2]] += shown(sheet)[0]
    known = [lease for task in case.tasks() for lease in task.leases if lease.is_known]
    assert runs == Counter(case.history.processes[lease.process].run for lease in known)
    assert len(runs) == 3
