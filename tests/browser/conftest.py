"""One browser for all the tests of this room, and visits that must stay quiet to their end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.browser.room import WIDE, NoBrowserError, Visit, launched, visit, wait_until_ready
from tests.page_cases import RUNS, Page, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Sheet


class Opener(Protocol):
    """Opens a page that is to stay quiet."""

    def __call__(self, path: Path, *, width: int = WIDE, dark: bool = False, scripts: bool = True) -> Sheet: ...


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            started = stack.enter_context(launched())
        except NoBrowserError as why:
            pytest.skip(str(why))
        yield started


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Open pages, and see at the end of the test that none said a word in the console or asked for anything."""
    with ExitStack() as stack:
        visits = []

        def open_page(path: Path, *, width: int = WIDE, dark: bool = False, scripts: bool = True) -> Sheet:
            made = stack.enter_context(visit(browser, path, width=width, dark=dark, scripts=scripts))
            visits.append(made)
            if scripts:
                wait_until_ready(made.page)
            return made.page

        yield open_page
        assert [one for made in visits for one in made.trouble] == []


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of one busy run."""
    folder = tmp_path_factory.mktemp("busy")
    return page_of(RUNS["busy"](folder), folder / "page.html")


@pytest.fixture(scope="session")
def standing(browser: Browser, busy: Page) -> Iterator[Visit]:
    """Open the busy run's page once: to open a page costs more than anything that one does on it."""
    with visit(browser, busy.path) as made:
        wait_until_ready(made.page)
        yield made


@pytest.fixture
def sheet(standing: Visit) -> Iterator[Sheet]:
    """Hand out the busy run's page as it was when it was opened, and see that it stays quiet."""
    yield standing.page
    assert standing.trouble == []
    if standing.page.locator("#story[open]").count():
        standing.page.click("#story-close")
    standing.page.fill("#task-search", "")
    standing.page.click("#filter-clear")
