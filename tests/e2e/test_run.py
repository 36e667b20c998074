"""The main promise: an unmodified worker suffers its faults, is restarted, and finishes the job."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ami_fault_site.ledger import Event, Reader
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxInfo, SandboxOptions
from tests.e2e.conftest import clean_environment
from tests.thorough import IS_THOROUGH, times

pytestmark = pytest.mark.untraced

IMAGES = times(150, 400)
# Of this seed five tasks kill their worker at their first delivery, far apart: no batch holds two of them.
HEAVY = ("--profile", "heavy", "--seed", "84", "--restart-delay", "0.2", "--timeout", "240", "--json")


@contextmanager
def sandbox(pictures: Path, ack_wait: float) -> Iterator[SandboxInfo]:
    images = len(list(pictures.iterdir()))
    with running(SandboxOptions(images=images, image_dir=str(pictures), ack_wait=ack_wait, max_deliver=10)) as info:
        yield info


def run(python: Path, info: SandboxInfo, folder: Path, **worker: str) -> dict[str, Any]:
    """Run the sample worker as a tester does, on the built wheel; return the report."""
    environ = clean_environment(
        AMI_ANTENNA_API_BASE_URL=info.base_url,
        AMI_ANTENNA_API_AUTH_TOKEN=info.token,
        AMI_ANTENNA_SERVICE_NAME="test",
        AMI_SAMPLE_IDLE_SLEEP="0.3",
        AMI_TEST_ACK_WAIT=str(info.ack_wait),
        **{"AMI_ANTENNA_API_BATCH_SIZE": "8", **worker},
    )
    folder.mkdir()
    command: list[str | Path] = [python.with_name("ami-fault"), "run", *HEAVY, "--run-dir", folder / "run", "--"]
    command += [python.with_name("ami-sample-worker"), "--pipeline", "moth_binary"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stderr").write_text(done.stderr)
    return dict(json.loads(done.stdout))


def ledger(folder: Path) -> list[Event]:
    reader = Reader(RunFolder(folder / "run").ledger)
    events = list(reader.new())
    assert reader.damage == []
    return events


def faults_of_tasks(folder: Path) -> Counter[tuple[str, ...]]:
    """Return the faults that concern a task or an image; polls carry no identity and depend on the clock."""
    told = ("effect", "kind", "phase", "site", "subject", "attempt")
    return Counter(
        tuple(event.text(key) for key in told)
        for event in ledger(folder)
        if event.kind == "fault" and event.text("subject")
    )


@pytest.mark.timeout(400)
def test_a_heavy_run_reaches_its_end_with_every_task_accounted_for(
    wheel_python: Path, pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    with sandbox(pictures(IMAGES), ack_wait=5.0) as info:
        folder = tmp_path / "heavy"
        told = run(wheel_python, info, folder, AMI_NUM_WORKERS="2", AMI_SAMPLE_PREFETCH="1")
        token = info.token
    events = ledger(folder)
    (job,) = told["jobs"]
    assert told["headline"].startswith("PASS nothing lost: "), told["headline"]
    assert (job["status"], job["processed"], job["remaining"]) == ("SUCCESS", IMAGES, 0)
    assert (told["outcome"], told["handed_out"], told["still_out"]) == ("drained", IMAGES, 0)
    assert told["answered"] + told["unheard"] == IMAGES
    assert told["injected_exits"] >= 3
    assert told["organic_exits"] == []
    assert [one for one in told["findings"] if one["status"] == "fail"] == []

    # Every crash was followed by a new incarnation, and is the last thing that its thread booked.
    crashes = [event for event in events if event.kind == "fault" and event.text("effect") == "crash"]
    assert [event.incarnation for event in crashes] == list(range(1, len(crashes) + 1))
    assert told["incarnations"] == len(crashes) + 1
    for crash in crashes:
        own = [event for event in events if (event.pid, event.thread) == (crash.pid, crash.thread)]
        assert max(own, key=lambda event: event.sequence) == crash

    # One banner for each incarnation that came as far as an API call.
    said = (folder / "stderr").read_text()
    assert all(said.count(f"incarnation {n} armed at ") == 1 for n in range(1, len(crashes) + 2))

    # Nothing written holds the token, nor a URL's query; the polls and the job's detail have one.
    written = [path for path in (folder / "run").rglob("*") if path.is_file()]
    assert len(written) > 20
    for path in written:
        content = path.read_bytes()
        assert token.encode() not in content, path
        assert b"pipeline__slug__in" not in content, path
        assert b"logs_limit" not in content, path

    assert not _alive(wheel_python), "processes are left behind"


@pytest.mark.skipif(not IS_THOROUGH, reason="takes long, and tests/e2e/test_same_seed.py asks for more")
def test_the_same_seed_and_a_serial_worker_give_the_same_faults_on_the_same_tasks(
    wheel_python: Path, pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    """In batches of one: a larger batch is struck by its smallest draw, and the clock has a say in who is in it."""

    def once(name: str) -> Counter[tuple[str, ...]]:
        serial = {"AMI_NUM_WORKERS": "0", "AMI_SAMPLE_THREADS": "1", "AMI_ANTENNA_API_BATCH_SIZE": "1"}
        with sandbox(pictures(times(30, 60)), ack_wait=3.0) as info:
            run(wheel_python, info, tmp_path / name, **serial)
        return faults_of_tasks(tmp_path / name)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(once, ("first", "second"))
    assert first == second
    assert sum(first.values()) >= 10


def _alive(python: Path) -> list[str]:
    """Return the command lines of the workers that are still there."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    own = str(python.with_name("ami-sample-worker"))
    return [line for line in listed.splitlines() if own in line and str(os.getpid()) not in line.split()[:1]]
