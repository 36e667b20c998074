"""The promises to everybody: no barrier that axe-core knows, all by keyboard, on paper, on a telephone, no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

from tests.browser.conftest import Opener
from tests.browser.room import NARROW, WIDE, Visit, visit, wait_until_ready
from tests.e2e.conftest import eventually
from tests.page_cases import Page, gallery
from tests.report_cases import LOST

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Sheet

pytestmark = pytest.mark.browser

FOLDED = "details:not([open])"
UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
# What can be reached by Tab: without what is hidden, in the order of the page.
REACHABLE = """[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter((one) => !one.disabled && one.checkVisibility() && !one.closest("dialog")).length"""
FOCUS = """(() => {
    const one = document.activeElement, style = getComputedStyle(one);
    const place = one === document.body ? -1 : [...document.querySelectorAll("*")].indexOf(one);
    return [place, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
})()"""
GROUNDS = """["body", "#timeline-plot .main-svg", "#recovery-plot .main-svg"]
    .map((one) => getComputedStyle(document.querySelector(one)).backgroundColor)"""
WHITE = ["rgb(255, 255, 255)"] * 3
WIDTHS = "[document.documentElement.scrollWidth, document.body.scrollWidth]"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page on which there is one of everything."""
    return gallery(tmp_path_factory.mktemp("gallery") / "page.html")


@pytest.fixture(scope="module")
def standing(browser: Browser, shown: Page) -> Iterator[Visit]:
    with visit(browser, shown.path) as made:
        wait_until_ready(made.page)
        yield made


@pytest.fixture
def sheet(standing: Visit) -> Iterator[Sheet]:
    """Hand out the page unfolded, on a wide screen by day, and see that it stays quiet."""
    page = standing.page
    page.set_viewport_size({"width": WIDE, "height": 900})
    page.emulate_media(media="screen", color_scheme="light")
    page.evaluate(UNFOLD)
    yield page
    assert standing.trouble == []


def barriers(sheet: Sheet, within: str) -> list[str]:
    """Return what axe-core finds to be serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    told = Axe().run(sheet, within, {"resultTypes": ["violations"]}).response["violations"]
    grave = [one for one in told if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:200]}" for one in grave for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_axe_finds_no_barrier_and_nothing_is_wider_than_the_screen(
    sheet: Sheet, width: int, scheme: Literal["light", "dark"]
) -> None:
    sheet.set_viewport_size({"width": width, "height": 900})
    sheet.emulate_media(color_scheme=scheme)
    eventually(lambda: (sheet.evaluate(GROUNDS) == WHITE) == (scheme == "light"), "charts in the scheme's colours")
    assert barriers(sheet, "html") == []
    assert sheet.evaluate(WIDTHS) == [width, width]
    sheet.click("#task-table tbody button")
    sheet.locator("#story[open]").wait_for()
    assert barriers(sheet, "#story") == []
    sheet.keyboard.press("Escape")


def test_axe_would_find_a_barrier(sheet: Sheet) -> None:
    sheet.evaluate("document.querySelector('h2').style.color = 'var(--raised)'")
    assert barriers(sheet, "#findings") == ['color-contrast: <h2 style="color: var(--raised);">Findings</h2>']
    sheet.evaluate("document.querySelector('h2').removeAttribute('style')")


def test_a_task_beside_a_finding_opens_its_story(sheet: Sheet) -> None:
    button = sheet.locator("article.finding[data-check='no-task-lost'] button[data-story]")
    button.click()
    sheet.locator("#story[open]").wait_for()
    assert sheet.locator("#story-title").inner_text() == "job 7 task 3 (3.jpg), image 3"
    sheet.keyboard.press("Escape")
    assert sheet.evaluate("document.activeElement.textContent") == button.inner_text() == "7/3 (3.jpg)"


def test_every_control_is_reached_by_tab_and_shows_that_it_is(shown: Page, opened: Opener) -> None:
    sheet = opened(shown.path)
    sheet.keyboard.press("Tab")
    sheet.keyboard.press("Enter")
    assert sheet.evaluate("document.activeElement.id") == "verdict"  # it is what one skips to
    sheet.evaluate(UNFOLD)
    sheet.focus(".skip")
    reached = [sheet.evaluate(FOCUS)]
    while True:
        sheet.keyboard.press("Tab")
        now = sheet.evaluate(FOCUS)
        if now[0] < 0 or now in reached:
            break
        reached.append(now)
    assert [place for place, is_marked in reached if not is_marked] == []
    assert reached == sorted(reached)
    assert len(reached) == sheet.evaluate(REACHABLE) > 40


def test_on_paper_it_is_light_and_unfolded_and_then_as_before(shown: Page, opened: Opener) -> None:
    sheet = opened(shown.path, dark=True)
    folded, dark = sheet.locator(FOLDED).count(), sheet.evaluate(GROUNDS)
    sheet.evaluate(f"""addEventListener("beforeprint", () => {{
        window.printed = [document.querySelectorAll("{FOLDED}").length, {GROUNDS}];
    }})""")
    assert sheet.pdf().startswith(b"%PDF-")
    assert sheet.evaluate("window.printed") == [0, WHITE]
    assert (sheet.locator(FOLDED).count(), sheet.evaluate(GROUNDS)) == (folded, dark)
    assert folded > 5
    assert WHITE[0] not in dark
    sheet.emulate_media(media="print")
    for one in ("nav", "form.filters", ".pages"):
        assert not sheet.locator(one).first.is_visible()
    for one in ("h1", "#timeline-plot", "#task-table"):
        assert sheet.locator(one).is_visible()


def test_without_scripts_the_verdict_the_findings_and_the_figures_can_be_read(shown: Page, opened: Opener) -> None:
    sheet = opened(shown.path, scripts=False)
    assert sheet.locator("h1").inner_text() == shown.report.headline
    assert sheet.locator("article.finding").count() == len(shown.report.findings)
    assert sheet.locator("article[data-check='no-task-lost'] p").first.inner_text() == LOST.text
    for name, number in (("handed_out", "4"), ("answered", "4"), ("incarnations", "3")):
        assert sheet.locator(f"""#verdict dd [data-figure='["{name}"]']""").inner_text() == number
    assert sheet.locator("noscript p").is_visible()
    for one in (".plot", "form.filters", "#task-table", ".pages"):
        assert not sheet.locator(one).first.is_visible()
    faults = sheet.locator("#timeline details.table", has_text="Faults: 2")
    faults.locator("summary").click()
    assert faults.locator("tbody tr").all_inner_texts() == [
        "1.1 s\timage-404: http-404\timage, before\tworker\t7/2",
        "1.8 s\tcrash: exit\tbatch, before\tworker\t7/3, 7/4",
    ]
