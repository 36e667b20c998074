"""The promises of the room: whatever a page says or asks for is noticed, and a browser that is not there is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.room import NoBrowserError, chromium, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

QUIET = """<!doctype html><title>page</title>
<script>console.log('a word')</script>
<img src='data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==' alt=''>
<script>fetch(URL.createObjectURL(new Blob(['a'])))</script>
"""
LOUD = """<!doctype html><title>page</title>
<script>console.error('an error')</script>
<script>console.warn('a warning')</script>
<script>throw new Error('thrown')</script>
<script>alert('here')</script>
<img src='http://127.0.0.1:9/a.png' alt=''>
<script src='beside.js'></script>
<script>new WebSocket('ws://127.0.0.1:9/')</script>
"""


def noticed(browser: Browser, folder: Path, text: str) -> list[str]:
    path = folder / "page.html"
    path.write_text(text)
    (folder / "beside.js").write_text("document.title = 'changed'")
    with visit(browser, path) as made:
        made.page.wait_for_timeout(100)
        assert made.page.title() == "page"
        return sorted(one for one in made.trouble if "net::ERR" not in one)  # what became of a refused request


def test_a_page_that_keeps_to_itself_is_quiet(browser: Browser, tmp_path: Path) -> None:
    assert noticed(browser, tmp_path, QUIET) == []


def test_whatever_a_page_says_and_asks_for_is_noticed(browser: Browser, tmp_path: Path) -> None:
    assert noticed(browser, tmp_path, LOUD) == [
        "a warning",
        "an error",
        f"asked for file://{tmp_path}/beside.js",
        "asked for http://127.0.0.1:9/a.png",
        "asked for ws://127.0.0.1:9/",
        "dialog: here",
        "thrown",
    ]


def test_a_browser_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    with pytest.raises(NoBrowserError) as refused:
        chromium()
    assert str(refused.value) == (
        "CHROMIUM='/no/such/browser' is no program; on Debian: apt install chromium, or name one: "
        "CHROMIUM=/path/to/chromium"
    )
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBrowserError, match=r"^no chromium, chromium-browser, google-chrome on the PATH; "):
        chromium()
