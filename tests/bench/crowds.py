"""Whether several workers in one run folder lose events, decide twice, or strike more often than they may."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ami_fault_site.ledger import Event, Reader
from ami_fault_site.runfolder import RunFolder
from tests.bench.environments import Environments
from tests.bench.pairs import Contender, ContenderError
from tests.bench.rows import Goal, Row, spread

CROWD = "scale: workers in one run folder"
_NONE = Goal("none", "median", most=0.0)
_FAULTS = {
    "AMI_TEST_WORKER_CRASH_RATE": "0.1", "AMI_TEST_NETWORK_ERROR_RATE": "0.2", "AMI_TEST_CORRUPT_IMAGE_RATE": "0.2",
    "AMI_SAMPLE_IDLE_SLEEP": "0.2", "AMI_NUM_WORKERS": "1", "AMI_ANTENNA_API_BATCH_SIZE": "4",
}  # fmt: skip
_ALIKE = ("site", "effect", "kind", "point", "stream", "subject", "attempt", "try")


def rows(environments: Environments, scratch: Path, crowds: tuple[int, ...], images: int) -> Iterator[Row]:
    """Let so many workers at a time do a job of `images` images each, under faults with a cap."""
    for workers in crowds:
        cap = 5 * workers
        events, damage = _run(environments, scratch / "crowds" / str(workers), workers, images * workers, cap)
        struck = [event for event in events if event.kind == "fault" and event.data.get("counted")]
        same = Counter(tuple(event.text(key) for key in _ALIKE) for event in struck if event.text("subject"))
        name = f"{workers} worker{'s' if workers > 1 else ''}"
        about = f"{name}, {len(events):,} events, {len(struck)} faults of at most {cap}"
        yield _row(f"{about}: events lost", damage)
        yield _row(f"{name}: decisions taken twice", sum(times - 1 for times in same.values()))
        yield _row(f"{name}: faults beyond the cap", max(0, len(struck) - cap))


def _row(subject: str, found: int) -> Row:
    return Row(CROWD, subject, "", spread([float(found)]), goal=_NONE)


def _run(environments: Environments, folder: Path, workers: int, images: int, cap: int) -> tuple[list[Event], int]:
    """Return what was booked, and how many lines of it are damaged or missing."""
    folder.mkdir(parents=True)
    python = environments.python("whole", f"{environments.wheel}[report,sandbox]")
    command: list[str | Path] = [
        python.with_name("ami-fault"), "run", "--sandbox", "--images", str(images), "--workers", str(workers),
        "--ack-wait", "5", "--max-deliver", "20", "--seed", "1", "--restart-delay", "0.2", "--timeout", "300",
        "--run-dir", folder / "run",
    ]  # fmt: skip
    one = Contender("run", command, {**_FAULTS, "AMI_TEST_MAX_FAULTS": str(cap)})
    done = subprocess.run(
        [os.fspath(part) for part in one.command], env=one.environment(), cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if "PASS" not in done.stdout:
        raise ContenderError(f"a run of {workers} workers ended with {done.returncode}: {done.stdout[:300]}")
    reader = Reader(RunFolder(folder / "run").ledger)
    return list(reader.new()), len(reader.damage)
