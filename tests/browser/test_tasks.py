"""The promises of the list of tasks: it finds what is looked for, and each row opens the story that `explain` tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ami_fault_site import report
from ami_fault_site.verdict.fates import Fate
from tests.page_cases import Page

if TYPE_CHECKING:
    from playwright.sync_api import Page as Sheet

pytestmark = pytest.mark.browser

FOCUSED = "document.activeElement.textContent"


def listed(sheet: Sheet) -> list[str]:
    return [str(row.get_attribute("data-task")) for row in sheet.locator("#task-table tbody tr[data-task]").all()]


def test_all_tasks_are_listed_page_by_page(busy: Page, sheet: Sheet) -> None:
    assert sheet.locator("#task-count").inner_text() == "80 tasks"
    first = listed(sheet)
    assert sheet.locator("#task-page-previous").is_disabled()
    sheet.click("#task-page-next")
    second = listed(sheet)
    assert sheet.locator("#task-page-next").is_disabled()
    assert (len(first), len(second)) == (50, 30)
    assert {*first, *second} == {f"{task.job}/{task.key[1]}" for task in busy.case.tasks()}
    sheet.click("#task-page-previous")
    assert listed(sheet) == first


def test_the_search_finds_what_python_finds(busy: Page, sheet: Sheet) -> None:
    case = busy.case
    recovered = {task for task in case.history.tasks if case.fates.of(case.history.tasks[task]).fate is Fate.RECOVERED}
    (one,) = (task for task in case.tasks() if task.job == 2 and task.key[1] == 17)
    named = {task.key for task in case.tasks() if one.image in task.image}
    for words, found in (
        ("recovered", recovered),
        (one.image.upper(), named),
        (f"recovered {one.image}", recovered & named),
        ("no such task", set()),
    ):
        sheet.fill("#task-search", words)
        total = "1 task" if len(found) == 1 else f"{len(found)} tasks"
        assert sheet.locator("#task-count").inner_text() == f"{total} of 80", words
        assert set(listed(sheet)) <= {f"{case.history.tasks[key].job}/{key[1]}" for key in found}
        assert len(listed(sheet)) == min(len(found), 50)
    sheet.fill("#task-search", "")
    assert sheet.locator("#task-count").inner_text() == "80 tasks"


def test_a_row_opens_the_story_that_explain_tells(busy: Page, sheet: Sheet) -> None:
    longest = max(busy.case.tasks(), key=lambda task: len(task.leases))
    name = f"{longest.job}/{longest.key[1]}"
    sheet.fill("#task-search", longest.image)
    sheet.focus(f"tr[data-task='{name}'] button")
    sheet.keyboard.press("Enter")
    title, *lines = report.tell(busy.case, longest)
    sheet.locator("#story[open]").wait_for()
    assert len(lines) > 10
    assert sheet.locator("#story-title").inner_text() == title
    assert sheet.locator("#story-text").text_content() == "\n".join(lines)
    sheet.keyboard.press("Escape")
    sheet.locator("#story").wait_for(state="hidden")
    assert sheet.evaluate(FOCUSED) == name


def test_a_story_is_closed_by_its_button_too_and_keeps_the_focus_while_it_is_open(busy: Page, sheet: Sheet) -> None:
    first = sheet.locator("#task-table tbody button").first
    first.click()
    sheet.locator("#story[open]").wait_for()
    for _ in range(5):
        sheet.keyboard.press("Tab")
        assert not sheet.evaluate("document.activeElement.matches('main *:not(#story, #story *)')")
    sheet.click("#story-close")
    assert sheet.evaluate(FOCUSED) == first.inner_text()
