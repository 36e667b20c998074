"""The promise of the budget on a real JetStream: no task exhausted by our faults, no crash withheld for nothing."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ami_fault_site.ledger import Event, Reader
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import clean_environment
from tests.thorough import times

pytestmark = pytest.mark.untraced

RUNS, AT_ONCE, IMAGES = times(2, 10), 2, 60
LATE = 0.5  # seconds by which an answer may be booked before what was withheld because it had not been heard
WHERE: tuple[dict[str, str], ...] = (
    {},  # around and in batches, as it is unless one says otherwise
    {"AMI_TEST_CRASH_POINTS": "after-fetch,downloading", "AMI_TEST_CRASH_PROCESS": "loader"},
    {"AMI_TEST_CRASH_POINTS": "before-batch,posting-unsent,posting-unheard,after-post", "AMI_TEST_CRASH_MODE": "kill"},
    {"AMI_TEST_TRANSIENT_ERROR_RATE": "0.2", "AMI_TEST_RULES": "tasks: 10%reset@after; result: 20%status(503)"},
)


def run(python: Path, pictures: Path, folder: Path, seed: int) -> tuple[dict[str, Any], list[Event]]:
    """Run the sample worker in a sandbox, crashing often; return the report and what was booked."""
    folder.mkdir()
    environ = clean_environment(
        AMI_ANTENNA_API_BATCH_SIZE="4",
        AMI_NUM_WORKERS="2",
        AMI_SAMPLE_PREFETCH="4",
        AMI_SAMPLE_IDLE_SLEEP="0.2",
        AMI_TEST_WORKER_CRASH_RATE="0.3",
        MAX_RESTARTS="200",
        **WHERE[seed % len(WHERE)],
    )
    command = [
        str(python.with_name("ami-fault")), "run", "--sandbox", "--images", str(pictures), "--max-deliver", "2",
        "--ack-wait", "2", "--seed", str(seed), "--restart-delay", "0.1", "--timeout", "90", "--json",
        "--run-dir", str(folder / "run"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=120)
    reader = Reader(RunFolder(folder / "run").ledger)
    events = list(reader.new())
    assert reader.damage == []
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout)), events


def why(event: Event) -> int | None:
    """Return the task that a crash, or another fault, was withheld for; None if for something else."""
    named = re.match(r"budget: job_\d+ task (\d+) is out on its last delivery of 2", event.text("why"))
    return int(named[1]) if named else None


def holds(events: list[Event], task: int, at: Event) -> bool:
    """Whether this task was out on its second delivery in that incarnation, at that time."""
    own = [event for event in events if event.incarnation == at.incarnation and event.mono <= at.mono]
    handed = any(row[:2] == [task, 2] for e in own if e.kind == "leases" for row in e.rows("leases"))
    heard = any(
        row[0] == task
        for e in own
        if e.kind == "answer" and e.text("outcome") == "accepted" and e.mono < at.mono - LATE
        for row in e.rows("tasks")
    )
    in_hand = at.text("site") == "tasks"  # the answer that would have been lost has just come
    return (handed or in_hand) and not heard


@pytest.mark.timeout(300)
def test_on_a_real_queue_no_task_is_exhausted_by_our_faults_and_none_withheld_for_nothing(
    wheel_python: Path, pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = pictures(IMAGES)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda seed: run(wheel_python, folder, tmp_path / str(seed), seed), range(RUNS)))
    crashes = withheld = 0
    for seed, (report, events) in enumerate(done):
        (job,) = report["jobs"]
        # A batch that is under way when a loader dies is answered with errors, which is the worker's own doing.
        failed = [one for one in report["findings"] if one["status"] == "fail" and one["whose"] != "worker"]
        assert failed == [], (seed, report["headline"])
        assert (job["remaining"], report["outcome"]) == (0, "drained"), seed
        assert {e.number("max_deliver") for e in events if e.kind == "budget"} == {2}
        refused = [event for event in events if event.kind == "withheld"]
        assert [e.text("why") for e in refused if why(e) is None] == [], seed
        assert [(e.text("why"), e.line) for e in refused if not holds(events, why(e) or 0, e)] == [], seed
        crashes += sum(e.kind == "fault" and e.text("effect") == "crash" for e in events)
        withheld += len(refused)
    print(f"{RUNS} runs: {crashes} crashes, {withheld} faults withheld")
    assert crashes >= RUNS
    assert withheld >= RUNS
