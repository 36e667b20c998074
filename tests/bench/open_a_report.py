"""Write the report of 20,000 tasks and 1,000 faults, and print its size and how long a browser takes. Run by hand."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ami_fault_site import runs
from tests.browser.room import NoBrowserError, launched, visit, wait_until_ready
from tests.model.folders import write_big
from tests.model.scenarios import PROFILES

_FAULTS = PROFILES["medium"]._replace(corrupt_image_rate=0.009, image_404_rate=0.009, ack_wait=60.0, max_deliver=25)
"""About one fault for twenty tasks, of all kinds."""

_PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
"""When the page is on the screen, in milliseconds since the beginning of the navigation."""

_MOST_SECONDS, _MOST_MEGABYTES = 3.0, 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """Write the run and its report, open it, and return 1 if that took more than 3 s or the file has more than 15 MB.

    The seconds are those from the beginning of the navigation to the moment at which all charts are painted.
    """
    arguments = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="open-a-report-") as scratch:
        folder = arguments.keep or Path(scratch) / "run"
        path = write_big(folder, arguments.images, _FAULTS).path
        history, _ = runs.read([path])
        deliveries = sum(len(task.leases) for task in history.tasks.values())
        print(f"{len(history.tasks)} tasks, {deliveries} deliveries, {len(history.injections)} faults: {path}")
        page = path / "report.html"
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "ami_fault_site", "report", path, "--html", page],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        megabytes = page.stat().st_size / 1e6
        print(f"written in {time.monotonic() - began:.1f} s, judged and all; {megabytes:.1f} MB")
        try:
            seconds = sorted(_open(page, arguments.visits))
        except NoBrowserError as why:
            print(f"not opened: {why}")
            return 2
    print(f"ready in {seconds[0]:.2f} s at least, {median(seconds):.2f} s in the middle, {seconds[-1]:.2f} s at most")
    return int(median(seconds) > _MOST_SECONDS or megabytes > _MOST_MEGABYTES)


def _open(page: Path, visits: int) -> list[float]:
    """Open a page so many times, each time as if for the first, and return the seconds until it was ready."""
    seconds = []
    with launched() as browser:
        for _ in range(visits):
            with visit(browser, page) as made:
                wait_until_ready(made.page)
                seconds.append(made.page.evaluate(_PAINTED) / 1000)
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="so many tasks (default: 20000)")
    parser.add_argument("--visits", type=int, default=7, help="open it so many times (default: 7)")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="write the run here and keep it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
