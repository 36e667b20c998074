"""The judge on trial: every sabotage and misbehaviour on a real sandbox, and several workers beside each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxInfo, SandboxOptions
from ami_fault_site.trials import TRIALS
from tests.e2e.conftest import clean_environment, eventually
from tests.thorough import IS_THOROUGH, times

pytestmark = pytest.mark.untraced

IMAGES = times(80, 160)


@pytest.fixture
def environ() -> dict[str, str]:
    return clean_environment()


@pytest.mark.timeout(400)
def test_every_way_to_misbehave_is_caught_by_the_check_that_should_and_healthy_runs_are_clean(
    wheel_python: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    """One trial for each check and whose fault it is; all of them with THOROUGH=1."""
    tried = [one.name for one in TRIALS if not one.strikes]  # those of the scenarios take as long again: by hand
    if not IS_THOROUGH:
        tried = list({(one.check, one.whose): one.name for one in TRIALS if one.name in tried}.values())
        assert len({one.check for one in TRIALS if one.name in tried}) == len({one.check for one in TRIALS})
    only = [word for name in tried for word in ("--only", name)]
    command = [str(wheel_python.with_name("ami-fault")), "selftest", "--json", "--at-once", "6", *only]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=380)
    results = json.loads(done.stdout)
    assert [(one["trial"], one["problem"], one["told"]) for one in results if not one["right"]] == []
    assert (done.returncode, len(results)) == (0, len(tried))


@contextmanager
def a_worker_of_somebody_else(python: Path, environ: dict[str, str], folder: Path) -> Iterator[None]:
    """Start a worker without the hook, whose deliveries are in no ledger of ours."""
    command = [str(python.with_name("ami-sample-worker")), "--pipeline", "moth_binary"]
    process = subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def worker_environ(environ: dict[str, str], info: SandboxInfo, **more: str) -> dict[str, str]:
    return {
        **environ,
        "AMI_ANTENNA_API_BASE_URL": info.base_url,
        "AMI_ANTENNA_API_AUTH_TOKEN": info.token,
        "AMI_ANTENNA_SERVICE_NAME": "test",
        "AMI_ANTENNA_API_BATCH_SIZE": "4",
        "AMI_NUM_WORKERS": "1",
        "AMI_SAMPLE_PREFETCH": "1",
        "AMI_SAMPLE_IDLE_SLEEP": "0.3",
        "AMI_SAMPLE_MODEL_DELAY": "0.1",
        **more,
    }


def handed_out(ledger: Path) -> bool:
    """Whether tasks were handed out to a run."""
    return any(b'"leases":[[' in path.read_bytes() for path in ledger.glob("*.jsonl"))


@pytest.mark.timeout(200)
def test_several_workers_of_ours_and_one_of_somebody_elses_are_judged_together_and_nobody_is_accused(
    wheel_python: Path, environ: dict[str, str], pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    options = SandboxOptions(images=IMAGES, image_dir=str(pictures(12)), ack_wait=4.0, max_deliver=12)
    with running(options) as info, ExitStack() as stack:
        # A high rate and a low cap: whatever the other worker leaves to them, one of ours is struck.
        faults = {"AMI_TEST_WORKER_CRASH_RATE": "0.5", "AMI_TEST_MAX_FAULTS": "2"}
        ours = worker_environ(environ, info, **faults, AMI_TEST_ACK_WAIT="4")
        runs: list[subprocess.Popen[str]] = []
        for name in ("one", "two"):
            command = [
                str(wheel_python.with_name("ami-fault")), "run", "--seed", str(len(runs)), "--restart-delay", "0.2",
                "--timeout", "120", "--json", "--run-dir", name,
                "--", str(wheel_python.with_name("ami-sample-worker")), "--pipeline", "moth_binary",
            ]  # fmt: skip
            quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
            runs.append(subprocess.Popen(command, cwd=tmp_path, env=ours, text=True, stdout=pipe, stderr=quiet))
        # It starts sooner than ours do, and would have done everything by then.
        eventually(
            lambda: all(handed_out(tmp_path / name / "ledger") for name in ("one", "two")), "tasks for both of ours"
        )
        stack.enter_context(a_worker_of_somebody_else(wheel_python, worker_environ(environ, info), tmp_path))
        reports = [json.loads(run.communicate(timeout=150)[0]) for run in runs]
    command = [str(wheel_python.with_name("ami-fault")), "check", "one", "two", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    together = json.loads(done.stdout)

    for report in (*reports, together):
        assert _failed(report) == [], report["headline"]
    assert together["jobs"][0]["elsewhere"] > 0, "the other worker got nothing: this shows nothing"
    assert together["jobs"][0]["answered"] < IMAGES
    assert together["jobs"][0]["status"] == "SUCCESS"
    assert sum(report["injected_exits"] for report in reports) > 0
    assert done.returncode == 0, together["headline"]


def _failed(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["check"], one["text"]) for one in report["findings"] if one["status"] == "fail"]


@pytest.mark.timeout(100)
def test_a_run_that_the_operator_stops_accuses_nobody_and_is_130(
    wheel_python: Path, environ: dict[str, str], pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    with running(SandboxOptions(images=400, image_dir=str(pictures(12)), ack_wait=5.0, max_deliver=12)) as info:
        ours = worker_environ(environ, info, AMI_TEST_PROFILE="medium", AMI_TEST_ACK_WAIT="5")
        command = [
            str(wheel_python.with_name("ami-fault")), "run", "--seed", "4", "--json", "--run-dir", "run", "--",
            str(wheel_python.with_name("ami-sample-worker")), "--pipeline", "moth_binary",
        ]  # fmt: skip
        run = subprocess.Popen(
            command, cwd=tmp_path, env=ours, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        ledger = tmp_path / "run" / "ledger"
        eventually(
            lambda: any(b'"outcome":"accepted"' in path.read_bytes() for path in ledger.glob("*.jsonl")), "an answer"
        )
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=60)
    report = json.loads(out)

    assert (run.returncode, report["outcome"]) == (130, "interrupted")
    assert _failed(report) == []
    check = [str(wheel_python.with_name("ami-fault")), "check", "run", "--json"]
    again = subprocess.run(check, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert again.returncode == 3  # what was held when it was stopped may yet come back
    assert _failed(json.loads(again.stdout)) == []
