"""The promise of the baseline: what fails without faults too is not blamed on them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ami_fault_site import runs
from tests.e2e.conftest import clean_environment

pytestmark = pytest.mark.untraced


def test_a_job_is_done_without_faults_first_and_what_fails_there_is_told_apart(
    wheel_python: Path, tmp_path: Path
) -> None:
    environ = clean_environment(AMI_TEST_NETWORK_ERROR_RATE="0.5", AMI_SAMPLE_IDLE_SLEEP="0.2")
    command = [
        str(wheel_python.with_name("ami-fault")), "run", "--sandbox", "--images", "30", "--seed", "2",
        "--sabotage", "success-as-failure", "--max-deliver", "8", "--ack-wait", "2", "--restart-delay", "0.2",
        "--timeout", "60", "--json", "--baseline", "--run-dir", "run",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=150)
    report = json.loads(done.stdout)

    assert done.returncode == 1, done.stderr
    failing = {one["check"]: one["in_baseline"] for one in report["findings"] if one["status"] == "fail"}
    assert failing == {"failure-counts-accurate": True}
    assert report["headline"].endswith("; fails without faults, too")
    assert "--baseline" in report["runs"][0]["again"]
    without, _ = runs.read([tmp_path / "run-baseline"])
    with_faults, _ = runs.read([tmp_path / "run"])
    assert (len(without.injections), len(without.tasks), len(with_faults.tasks)) == (0, 30, 30)
    assert len(with_faults.injections) > 0
    assert not {key for key in without.tasks if key in with_faults.tasks}
