"""The promise about size: what is too much to be drawn is sampled, which the page says; and the benchmark runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import Opener
from tests.browser.test_timeline import MARKS

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent


def test_a_picture_of_too_much_is_sampled_and_says_so(tmp_path: Path, opened: Opener) -> None:
    options = ["--images", "1500", "--visits", "1", "--keep", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.open_a_report", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told, written, ready = done.stdout.splitlines()
    assert (done.returncode in (0, 1), done.stderr) == (
        True,
        "",
    )  # 1 where it took too long, on a machine with much to do
    sizes = re.fullmatch(r"1500 tasks, (\d+) deliveries, (\d+) faults: .*", told)
    assert sizes is not None
    assert re.fullmatch(r"written in [\d.]+ s, judged and all; \d+\.\d MB", written)
    assert re.fullmatch(r"ready in [\d.]+ s at least, [\d.]+ s in the middle, [\d.]+ s at most", ready)

    sheet = opened(tmp_path / "run" / "report.html")
    shown = sheet.locator("#timeline-shown")
    drawn, total, faults = (int(shown.get_attribute(f"data-{name}") or 0) for name in ("drawn", "total", "marks"))
    assert 1000 < drawn < total == int(sizes[1])
    assert (sheet.evaluate(MARKS, "leases"), sheet.evaluate(MARKS, "faults")) == (drawn, faults)
    assert faults == int(sizes[2])
    assert shown.inner_text() == (
        f"{drawn:,} of {total:,} deliveries and {faults} of {faults} faults are drawn: those that came back or went "
        "wrong first, of the others some at equal distances. The numbers on this page count all."
    )
    sheet.select_option("#filter-fault", index=1)
    assert int(shown.get_attribute("data-total") or 0) == int(shown.get_attribute("data-drawn") or 0) < drawn
