"""Open a page from a file in a real browser, and keep what it says in the console and what it asks the network for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Playwright, Route

WIDE, NARROW = 1280, 390  # pixels: a desk, a telephone

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OURS = "CHROMIUM"
_WITHIN = ("data:", "blob:", "about:")  # what a page has in itself
_PATIENCE = 30_000  # milliseconds, for a machine with much else to do
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoBrowserError(Exception):
    """Why no page can be opened here."""


def chromium() -> str:
    """Return the browser that CHROMIUM names, or one on the PATH; raises NoBrowserError."""
    named = os.environ.get(_OURS, "")
    found = next(filter(None, map(shutil.which, [named] if named else _NAMES)), None)
    if found is None:
        where = f"{_OURS}={named!r} is no program" if named else f"no {', '.join(_NAMES)} on the PATH"
        raise NoBrowserError(f"{where}; on Debian: apt install chromium, or name one: {_OURS}=/path/to/chromium")
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser, and end it with the block; raises NoBrowserError."""
    program = chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowserError("no playwright: pip install 'ami-fault-site[dev]'") from error
    with sync_playwright() as playwright:
        browser = _launch(playwright, program)
        try:
            yield browser
        finally:
            browser.close()


def _launch(playwright: Playwright, program: str) -> Browser:
    return playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))


@dataclass
class Visit:
    """A page that is open. `trouble` is what it said in the console or asked the network for, as it came."""

    page: Page
    trouble: list[str] = field(default_factory=list)


@contextmanager
def visit(
    browser: Browser, path: Path, *, width: int = WIDE, height: int = 900, dark: bool = False, scripts: bool = True
) -> Iterator[Visit]:
    """Open a file, each time as if the browser had never been used, and let it ask for nothing else."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    context.set_default_timeout(_PATIENCE)
    made = Visit(context.new_page())
    address = path.resolve().as_uri()

    def guard(route: Route) -> None:
        if route.request.url.partition("#")[0] == address:
            route.continue_()
        else:
            route.abort()

    def asked(url: str) -> None:
        if url.partition("#")[0] != address and not url.startswith(_WITHIN):
            made.trouble.append(f"asked for {url}")

    def dismiss(dialog: Dialog) -> None:
        made.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.route("**/*", guard)
    page = made.page
    page.on("request", lambda request: asked(request.url))
    page.on("websocket", lambda socket: asked(socket.url))
    page.on("console", lambda told: made.trouble.append(told.text) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: made.trouble.append(str(error)))
    page.on("dialog", dismiss)
    try:
        page.goto(address)
        yield made
    finally:
        context.close()


def wait_until_ready(page: Page) -> None:
    """Wait until the page says that its charts stand."""
    page.wait_for_selector("html[data-ready=true]", state="attached")
