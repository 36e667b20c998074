"""The promise about foreign text: whatever it holds, it is shown as text, runs nowhere, and breaks no page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.room import NARROW, Visit, visit, wait_until_ready
from tests.foreign import LONG, MARKUP, foreign_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Sheet

pytestmark = pytest.mark.browser

# Elements that came out of a text, and what Plotly makes of the few tags that it reads.
OUT_OF_TEXT = """document.querySelectorAll(
    "[data-foreign], plaintext, svg a, svg tspan[style*='bold'], svg [style*='italic']").length"""
READ = "document.body.innerText"
TURNING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(scope="module")
def standing(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    page = foreign_page(tmp_path_factory.mktemp("foreign"))
    with visit(browser, page.path, width=NARROW) as made:
        wait_until_ready(made.page)
        made.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        yield made


@pytest.fixture
def sheet(standing: Visit) -> Iterator[Sheet]:
    """Hand out the page, and see that no text of it has done anything."""
    yield standing.page
    assert standing.page.evaluate("typeof ran") == "undefined"
    assert standing.page.evaluate(OUT_OF_TEXT) == 0
    assert standing.page.evaluate("document.documentElement.scrollWidth") == NARROW
    assert standing.trouble == []


@pytest.mark.parametrize(
    "place",
    [
        "invocation", "version", "program", "image", "kind", "site", "no answer", "batch", "last words", "note",
        "status", "job error", "profile", "bad image",
    ],
)  # fmt: skip
def test_a_text_is_shown_as_it_is(sheet: Sheet, place: str) -> None:
    text = " ".join(sheet.evaluate(READ).split())
    assert " ".join(f"{place} {MARKUP}".split()) in text


def test_no_odd_character_is_on_the_page_and_what_stands_around_them_is(sheet: Sheet) -> None:
    text = sheet.evaluate(READ)
    assert TURNING.findall(text) == []
    assert re.search("odd\ufffd+\\[31m\ufffdgniht\ufffd+end", text.replace("\n", ""))
    assert LONG in text


def test_a_story_shows_what_is_told_in_it_as_it_is(sheet: Sheet) -> None:
    sheet.click("tr[data-task='7/1'] button")
    sheet.locator("#story[open]").wait_for()
    story = sheet.locator("#story").inner_text()
    for place in ("image", "image id", "kind"):
        assert f"{place} {MARKUP}" in story, place
    assert TURNING.findall(story) == []
    sheet.keyboard.press("Escape")


def test_what_hovering_tells_is_shown_as_it_is(sheet: Sheet) -> None:
    uid = sheet.evaluate("document.getElementById('timeline-plot')._fullData.find((one) => one.meta === 'faults').uid")
    mark = sheet.locator(f"#timeline-plot .trace{uid} .point")
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    label = sheet.locator("#timeline-plot .hoverlayer")
    label.locator("text").first.wait_for()
    assert "kind <b data-foreign>bold</b>" in str(label.text_content())


def test_what_is_chosen_from_and_searched_for_is_shown_as_it_is(sheet: Sheet) -> None:
    assert "kind <b data-foreign>bold</b>" in sheet.locator("#filter-fault option").last.inner_text()
    names = sheet.locator("#filter-worker option").all_inner_texts()
    assert any("host<b data-foreign>" in name for name in names)
    assert "host<b data-foreign>" in str(sheet.locator("#timeline-plot .yaxislayer-above").text_content())
    assert "compared<b data-foreign>bold</b>" in str(sheet.locator("#paces-plot").text_content())
    sheet.fill("#task-search", "<b data-foreign>bold</b>")
    assert sheet.locator("#task-count").inner_text() == "1 task of 4"
    sheet.fill("#task-search", "")
