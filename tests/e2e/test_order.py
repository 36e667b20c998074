"""The promise of the doors: register, order a job, run it under faults, judge it once it has ended."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxOptions
from tests.e2e.conftest import clean_environment

pytestmark = pytest.mark.untraced


def test_a_pipeline_is_registered_a_job_ordered_run_and_judged_by_four_commands(
    wheel_python: Path, tmp_path: Path
) -> None:
    with running(SandboxOptions(jobs=0, images=40, ack_wait=3.0, max_deliver=5)) as info:
        environ = clean_environment(
            AMI_ANTENNA_API_BASE_URL=info.base_url, AMI_ANTENNA_API_AUTH_TOKEN=info.token,
            AMI_ANTENNA_SERVICE_NAME="test", AMI_ANTENNA_API_BATCH_SIZE="4", AMI_NUM_WORKERS="1",
            AMI_SAMPLE_IDLE_SLEEP="0.2", AMI_TEST_ACK_WAIT="3", AMI_TEST_MAX_DELIVER="5",
        )  # fmt: skip

        def call(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
            command = [str(wheel_python.with_name(program)), *arguments]
            return subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=100
            )

        registered = call("ami-sample-worker", "register", "--project", "1", "--pipeline", "panama_moths_2024")
        assert registered.returncode == 0, registered.stderr
        ordered = call(
            "ami-fault", "job", "start", "--project", "1", "--collection", "1", "--pipeline", "panama_moths_2024",
            "--images", "24",
        )  # fmt: skip
        assert (ordered.returncode, ordered.stdout) == (0, "1\n"), ordered.stderr
        worker = str(wheel_python.with_name("ami-sample-worker"))
        run = call(
            "ami-fault", "run", "--job", ordered.stdout.strip(), "--at", "in-batch", "--seed", "1", "--json",
            "--restart-delay", "0.2", "--timeout", "60", "--", worker, "--pipeline", "panama_moths_2024",
        )  # fmt: skip
        judged = call("ami-fault", "check", "--wait", "30s", "--json")
    report = json.loads(run.stdout)
    assert (run.returncode, report["answered"], report["injected_exits"]) == (0, 24, 1), report["headline"]
    assert (report["jobs"][0]["job"], report["jobs"][0]["status"]) == (1, "SUCCESS")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["headline"] == report["headline"]
