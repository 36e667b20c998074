"""The promise of several workers: when one dies, another picks up what it held."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ami_fault_site import runs
from tests.e2e.conftest import clean_environment

pytestmark = pytest.mark.untraced


def test_what_a_dead_worker_held_is_picked_up_by_another_and_all_is_one_verdict(
    wheel_python: Path, tmp_path: Path
) -> None:
    """The dead one stays away for longer than ack_wait: only another can have answered what it held."""
    environ = clean_environment(
        AMI_ANTENNA_API_BATCH_SIZE="4", AMI_NUM_WORKERS="1", AMI_SAMPLE_PREFETCH="1", AMI_SAMPLE_IDLE_SLEEP="0.2",
        AMI_SAMPLE_MODEL_DELAY="0.05",
    )  # fmt: skip
    command = [
        str(wheel_python.with_name("ami-fault")), "run", "--sandbox", "--images", "40", "--ack-wait", "3",
        "--workers", "2", "--at", "in-batch", "--restart-delay", "60", "--max-deliver", "5", "--seed", "1",
        "--timeout", "60", "--json", "--run-dir", "run",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=120)
    report = json.loads(done.stdout)

    assert (done.returncode, report["answered"], report["injected_exits"]) == (0, 40, 1), report["headline"]
    assert "--workers 2" in report["runs"][0]["again"]
    history, _ = runs.read([tmp_path / "run"])
    (crash,) = history.injections
    dead = history.life(history.processes[crash.process].incarnation)
    held = [history.tasks[key] for key, _ in crash.tasks]
    takers = {history.life(history.processes[task.leases[-1].process].incarnation).worker for task in held}
    assert held
    assert takers == {1, 2} - {dead.worker}
    said = [line for line in done.stderr.splitlines() if "armed at" in line]
    assert sorted(line[:3] for line in said) == ["1| ", "2| "]
