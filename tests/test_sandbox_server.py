"""However a sandbox ends, its NATS server and its temporary folder end with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ami_fault_site.sandbox.nats_server import running_server
from ami_fault_site.sandbox.options import SABOTAGE_MEANINGS

COMMAND = [sys.executable, "-m", "ami_fault_site.sandbox", "--images=3", "--ack-wait=1"]
PARENT = """
import signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
signal.pause()
"""


def until(check: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Started:
    """A sandbox that was started, and where its NATS server lives."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.info: dict[str, Any] = json.loads(process.stdout.readline())
        (self.folder,) = folder.iterdir()
        self.nats_pid = int(next(self.folder.glob("*.ports")).stem.rpartition("_")[2])

    def leaves_nothing(self) -> bool:
        return not self.folder.exists() and not is_alive(self.nats_pid)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    processes: list[subprocess.Popen[bytes]] = []

    def starter(*command: str) -> Started:
        folder = tmp_path / "temporary"
        folder.mkdir()
        environment = {**os.environ, "TMPDIR": str(folder)}
        processes.append(
            subprocess.Popen([*command] or COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        )
        return Started(processes[-1], folder)

    yield starter
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(start: Callable[..., Started], number: signal.Signals) -> None:
    started = start()
    started.process.send_signal(number)
    assert started.process.wait(10) == 0
    assert started.leaves_nothing()


def test_a_kill_of_the_sandbox_takes_the_nats_server_and_the_folder_along(start: Callable[..., Started]) -> None:
    started = start()
    started.process.kill()
    started.process.wait()
    until(started.leaves_nothing)
    assert started.leaves_nothing()


def test_a_kill_of_its_parent_ends_it_too(start: Callable[..., Started]) -> None:
    started = start(sys.executable, "-c", PARENT, *COMMAND, "--watch-stdin")
    sandbox = int(started.info["pid"])
    assert is_alive(sandbox)
    started.process.kill()
    started.process.wait()
    until(lambda: not is_alive(sandbox))
    until(started.leaves_nothing)


def test_it_ends_in_order_while_a_client_waits_for_tasks(start: Callable[..., Started]) -> None:
    started = start()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Token {started.info['token']}"
        url = f"{started.info['base_url']}/jobs/1/tasks/"
        assert len(session.post(url, json={"batch_size": 9}).json()["tasks"]) == 3
        started.process.terminate()
        assert started.process.wait(10) == 0
    assert started.leaves_nothing()


def test_a_queue_that_is_down_makes_tasks_hang_and_then_503(start: Callable[..., Started]) -> None:
    started = start()
    os.kill(started.nats_pid, signal.SIGKILL)
    token = {"Authorization": f"Token {started.info['token']}"}
    answer = requests.post(f"{started.info['base_url']}/jobs/1/tasks/", json={"batch_size": 1}, headers=token)
    assert (answer.status_code, answer.json()) == (503, {"error": "Task queue temporarily unavailable"})
    assert "Retry-After" not in answer.headers
    assert answer.elapsed.total_seconds() > 1
    started.process.terminate()
    assert started.process.wait(10) == 0
    assert not started.folder.exists()


def test_a_port_in_use_is_an_error_of_usage(start: Callable[..., Started]) -> None:
    port = start().info["base_url"].split(":")[2].split("/")[0]
    second = subprocess.run([*COMMAND, f"--port={port}"], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stderr.startswith(f"port {port} cannot be used: ")
    assert second.stderr.endswith("; --port 0 takes any free one\n")


def test_wrong_options_are_an_error_of_usage_and_told_at_once() -> None:
    run = subprocess.run([*COMMAND, "--images=0", "--port=-1"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "images=0: is a whole number, 1 or more",
        "port=-1: is a whole number, 0 or more",
    ]


def test_more_than_one_sabotage_is_an_error_of_usage() -> None:
    two = ["--sabotage=never-ends", "--sabotage=records-half"]
    run = subprocess.run([*COMMAND, *two], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr == "--sabotage: one at a time, not never-ends and records-half\n"


def test_the_help_says_what_each_sabotage_does() -> None:
    run = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for name, meaning in SABOTAGE_MEANINGS.items():
        assert re.search(rf"^  {name} +{re.escape(meaning)}$", run.stdout, re.MULTILINE)


def test_a_nats_server_that_runs_already_is_used_and_left_running() -> None:
    with running_server() as server, contextlib.ExitStack() as stack:
        command = [*COMMAND, f"--nats-url={server.url}"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["nats_url"] == server.url
        process.terminate()
        assert process.wait(10) == 0
        assert is_alive(server.pid)


def test_no_nats_server_at_the_address_is_told() -> None:
    run = subprocess.run([*COMMAND, "--nats-url=nats://127.0.0.1:1"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("no NATS server answers at nats://127.0.0.1:1")
