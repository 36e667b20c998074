"""Judge a run of a million events, and print how long `ami-fault check` takes and how much memory. Run by hand."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.model.folders import BigRun, write_big
from tests.model.scenarios import PROFILES

_SAMPLE = 2000  # images of the run from which the number of events an image is taken
_ACK_WAIT, _MAX_DELIVER = 60.0, 25
_MOST_SECONDS, _MOST_MEGABYTES = 15.0, 300.0
_MEGABYTE = 1024 * 1024 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in


def main(argv: Sequence[str] | None = None) -> int:
    """Write the run, judge it, and return 1 if that took more than 15 s or 300 MB."""
    arguments = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="judge-a-million-") as scratch:
        folder = arguments.keep or Path(scratch) / "run"
        # In a process of its own: a child's peak is never told as less than its parent's was when it was started.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            run = pool.submit(_write, arguments, folder, Path(scratch)).result()
        files = sum(1 for _ in (run.path / "ledger").iterdir())
        megabytes = sum(path.stat().st_size for path in (run.path / "ledger").iterdir()) / 1e6
        print(f"{run.events} events of {run.images} tasks in {files} files, {megabytes:.0f} MB; job {run.status}")
        if not arguments.command:
            return 0
        return _judge([*shlex.split(arguments.command), str(run.path)])


def _write(arguments: argparse.Namespace, folder: Path, scratch: Path) -> BigRun:
    settings = replace(PROFILES[arguments.profile], ack_wait=_ACK_WAIT, max_deliver=_MAX_DELIVER)
    images = arguments.images
    if not images:
        sample = write_big(scratch / "sample", _SAMPLE, settings, batch=arguments.batch)
        images = round(arguments.events * sample.images / sample.events)
    began = time.monotonic()
    run = write_big(folder, images, settings, batch=arguments.batch)
    print(f"written in {time.monotonic() - began:.1f} s: {run.path}")
    return run


def _judge(command: Sequence[str]) -> int:
    """Run the command and print what it cost."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone
        seconds, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
        process.returncode = code
        said.seek(0)
        lines = said.read().splitlines()
    peak = usage.ru_maxrss / _MEGABYTE
    print("\n".join(lines[:3]))
    print(f"exit code {code}; {seconds:.1f} s, {usage.ru_utime:.1f} s of it computing; peak {peak:.0f} MB")
    if code not in (0, 1, 3, 4):
        print("\n".join(lines[-10:]))
        return 1
    return int(seconds > _MOST_SECONDS or peak > _MOST_MEGABYTES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="about so many events (default: a million)")
    parser.add_argument("--images", type=int, default=0, help="exactly so many tasks, whatever events they make")
    parser.add_argument("--batch", type=int, default=24, help="tasks in a batch (default: 24)")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="medium", help="the faults (default: medium)")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="write the run here and keep it")
    parser.add_argument(
        "--command",
        default=shlex.join([sys.executable, "-m", "ami_fault_site", "check"]),
        help="what judges, the run's path is added; '': only write (default: python -m ami_fault_site check)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
