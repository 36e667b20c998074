"""The promises of scripts/examples: each is what its reader's tools take, and does on a small scale what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ami_fault_site.endings import Outcome

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "scripts" / "examples"
COMPOSE, WORKFLOW = EXAMPLES / "antenna-compose.yml", EXAMPLES / "github-workflow.yml"
SLURM, UNIT = EXAMPLES / "slurm.sh", EXAMPLES / "systemd.service"
# What the example leans on of Antenna's own file: the names of its services, and which networks they are in.
BASE = """
services:
  django: {image: a, env_file: [], networks: [default, antenna_network]}
  celeryworker: {image: a, scale: 1, networks: [default, antenna_network]}
  celerybeat: {image: a, networks: [default, antenna_network]}
networks:
  antenna_network: {name: antenna_network}
"""

AT_WORK = "import time\nprint('at work', flush=True)\nwhile True: time.sleep(0.05)"
TELLS_COMMAND = "#!/bin/sh\necho $1\n"
TELLS_GROUP = f"#!{sys.executable}\nimport os\nprint(os.getpgrp() == os.getppid())\nraise SystemExit(2)\n"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("AMI_", "SLURM_"))}


def tool(name: str) -> str:
    """Return where a tool is, beside this Python or on the PATH, or skip the test."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def call(*words: str, folder: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env={**CLEAN, **environ}, capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )


@pytest.fixture(scope="module")
def workflow() -> Any:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed")
    return yaml.YAML(typ="safe").load(WORKFLOW)


@pytest.mark.parametrize(("path", "schema"), [(COMPOSE, "compose-spec"), (WORKFLOW, "github-workflows")])
def test_a_yaml_file_is_of_its_schema(path: Path, schema: str) -> None:
    done = call(tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", str(path))
    assert done.returncode == 0, done.stdout


def test_compose_merges_the_override_into_antennas_services(tmp_path: Path) -> None:
    docker = tool("docker")
    if call(docker, "compose", "version").returncode:
        pytest.skip("docker has no compose here")
    (tmp_path / "base.yml").write_text(BASE)
    files = ("-f", "base.yml", "-f", str(COMPOSE))
    config = (docker, "compose", *files, "--profile", "faults", "config", "--format", "json")

    refused = call(*config, folder=tmp_path)
    services = json.loads(call(*config, folder=tmp_path, AMI_FAULT_SITE=str(ROOT)).stdout)["services"]

    assert "is the path of a checkout of ami-fault-site" in refused.stderr
    assert sorted(services) == ["celerybeat", "celeryworker", "django", "faults"]
    for name in ("django", "celeryworker"):
        assert services[name]["environment"] == {"NATS_TASK_TTR": "30", "CELERY_WORKER_CONCURRENCY": "1"}
    assert services["faults"]["environment"]["AMI_TEST_ACK_WAIT"] == "30"


def test_the_image_copies_what_the_package_is_built_from() -> None:
    copied = re.findall(r"^ +COPY (.+) \S+$", COMPOSE.read_text(), flags=re.MULTILINE)
    assert [name for line in copied for name in line.split() if not (ROOT / name).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "envs", "ami_fault_site"} == set(" ".join(copied).split())


def test_the_script_is_sound() -> None:
    done = call(tool("shellcheck"), str(SLURM))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_workflow_is_sound() -> None:
    done = call(tool("actionlint"), str(WORKFLOW))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_workflow_may_only_read_and_pins_its_actions(workflow: Any) -> None:
    steps = workflow["jobs"]["faults"]["steps"]
    used = [step["uses"] for step in steps if "uses" in step]

    assert workflow["permissions"] == {"contents": "read"}
    assert [action for action in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)] == []
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_workflow_keeps_the_run_folder_when_the_run_has_failed(workflow: Any) -> None:
    *_, run, upload = workflow["jobs"]["faults"]["steps"]

    assert upload["if"] == "${{ !cancelled() }}"
    folder, junit = upload["with"]["path"].split()
    assert folder == "ami-fault-runs/*-" + re.findall(r"--seed (\d+)", run["run"])[0]
    assert f"--junit {junit}" in run["run"]


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    verify = tool("systemd-analyze")
    unit = tmp_path / "ami-faults@.service"
    text = UNIT.read_text().replace("/opt/ami/bin/ami-fault", sys.executable)
    unit.write_text(text)
    done = call(verify, "verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a Slurm job on this machine."""
    command = tmp_path / "bin" / "ami-fault"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ami_fault_site "$@"\n')
    command.chmod(0o755)
    tool("timeout")
    (tmp_path / "submitted").mkdir()
    return {
        "PATH": os.pathsep.join([str(command.parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": "123",
        "SLURM_SUBMIT_DIR": str(tmp_path / "submitted"),
        "SCRATCH": str(tmp_path / "scratch"),
        "AMI_TEST_ACK_WAIT": "2",
        "TIME_LIMIT": "40s",
        "PATIENCE": "1s",
    }


def job(code: str) -> list[str]:
    return [str(SLURM), "--profile", "light", "--until", "exit", "--", sys.executable, "-c", f"import requests\n{code}"]


def stopped_at_work(words: list[str], environ: dict[str, str]) -> str:
    """Start a Slurm job, ask it to end once the worker works, and return what it has said after that."""
    started = subprocess.Popen(
        words, env={**CLEAN, **environ}, cwd=environ["SLURM_SUBMIT_DIR"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    while started.stdout.readline().strip() not in ("at work", ""):
        continue
    started.send_signal(signal.SIGTERM)
    return started.communicate(timeout=60)[0]


def outcomes(tmp_path: Path) -> dict[str, str]:
    kept = (tmp_path / "submitted" / "ami-fault-runs").iterdir()
    return {run.name: re.findall(r'"outcome":\s*"([a-z-]+)"', booked(run))[0] for run in kept}


def booked(run: Path) -> str:
    return "".join(path.read_text() for path in (run / "ledger").glob("*.jsonl"))


def test_a_slurm_job_that_is_stopped_ends_in_order_and_goes_on_in_a_second_attempt(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    submitted = tmp_path / "submitted"
    told = stopped_at_work(job(AT_WORK), slurm)
    assert "incarnation 1 ended: stopped by the operator, killed by SIGINT" in told
    assert outcomes(tmp_path) == {"slurm-123-0": Outcome.INTERRUPTED.value}

    second = call(*job(""), folder=submitted, **slurm, SLURM_RESTART_COUNT="1")

    assert outcomes(tmp_path) == {"slurm-123-0": Outcome.INTERRUPTED.value, "slurm-123-1": Outcome.EXITED.value}
    verdict = second.stdout.rpartition("VACUOUS ")[2]
    assert "run         ami-fault-runs/slurm-123-0, seed 123; interrupted" in verdict
    assert "run         ami-fault-runs/slurm-123-1, seed 123; exited" in verdict
    assert second.returncode == 4


def test_a_slurm_job_whose_verdict_was_given_before_it_was_requeued_only_gives_it_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "ami-fault").write_text(TELLS_COMMAND)
    assert call(str(SLURM), folder=tmp_path, **slurm).stdout == "run\ncheck\n"
    assert call(str(SLURM), folder=tmp_path, **slurm, SLURM_RESTART_COUNT="1").stdout == "check\n"


def test_timeout_has_no_group_of_its_own_to_which_it_would_pass_a_request_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "ami-fault").write_text(TELLS_GROUP)
    assert call(str(SLURM), folder=tmp_path, **slurm).stdout == "False\n"


def test_a_slurm_job_that_could_test_nothing_says_why(slurm: dict[str, str], tmp_path: Path) -> None:
    done = call(*job(""), folder=tmp_path / "submitted", **{**slurm, "AMI_TEST_ACK_WAIT": ""})
    assert done.returncode == 2
    assert done.stderr == (
        "ami-fault: --time-limit=40s needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds: "
        "faults end so long before the limit, that the last can heal\n"
    )
    assert done.stdout == ""
