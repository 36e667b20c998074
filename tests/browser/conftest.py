"""One browser for all the tests of this room, and a visit that must stay quiet to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.browser.room import WIDE, NoBrowserError, launched, visit, wait_until_ready

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Opener(Protocol):
    """Opens a page that is to stay quiet."""

    def __call__(self, path: Path, *, width: int = WIDE, dark: bool = False, scripts: bool = True) -> Page: ...


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

        def open_page(path: Path, *, width: int = WIDE, dark: bool = False, scripts: bool = True) -> Page:
            made = stack.enter_context(visit(browser, path, width=width, dark=dark, scripts=scripts))
            visits.append(made)
            if scripts:
                wait_until_ready(made.page)
            return made.page

        yield open_page
        assert [one for made in visits for one in made.trouble] == []
