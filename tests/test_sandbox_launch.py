"""A sandbox started for a block of code is there inside it and gone after it."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from ami_fault_site.sandbox.launch import arguments, info_of, running
from ami_fault_site.sandbox.options import SandboxError, SandboxOptions

OPTIONS = SandboxOptions(images=2, jobs=3, pipelines=("a", "b"), ack_wait=1.0)


def port_of(base_url: str) -> int:
    return int(base_url.split(":")[2].split("/")[0])


def test_a_sandbox_is_there_inside_the_block_and_gone_after_it() -> None:
    with running(OPTIONS) as info:
        assert info_of(port_of(info.base_url)) == info
        assert (info.jobs, info.pipelines, info.ack_wait) == ((1, 2, 3), ("a", "b"), 1.0)
        listed = requests.get(f"{info.base_url}/jobs/?ids_only=1&limit=9").json()["results"]
        assert {one["id"]: one["pipeline_slug"] for one in listed} == {1: "a", 2: "b", 3: "a"}
    with pytest.raises(ProcessLookupError):
        os.kill(info.pid, 0)


def test_it_is_gone_too_when_the_block_fails() -> None:
    with pytest.raises(KeyError), running(OPTIONS) as info:
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(info.pid, 0)


def test_settings_of_a_fault_run_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMI_TEST_SEED", "1")
    monkeypatch.setenv("OTHER_SEED", "1")
    with running(OPTIONS) as info:
        environment = Path(f"/proc/{info.pid}/environ")
        if not environment.exists():
            pytest.skip("the environment of another process can be read on Linux only")
        names = {entry.partition(b"=")[0] for entry in environment.read_bytes().split(b"\0")}
    assert b"OTHER_SEED" in names
    assert b"AMI_TEST_SEED" not in names


def test_a_sandbox_that_does_not_start_leaves_its_last_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = rf"^the sandbox ended with status 2; its last words:\nport {port} cannot be used: "
        with pytest.raises(SandboxError, match=words), running(replace(OPTIONS, port=port)):
            pass


def test_a_port_where_no_sandbox_answers_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(SandboxError, match=f"^no sandbox answers at port {port} of this machine"):
        info_of(port)


def test_every_option_reaches_the_command_line() -> None:
    options = SandboxOptions(
        image_dir="/", nats_url="nats://a", port=7, token="t", pipelines=("a", "b"), sabotage="never-ends"
    )
    assert arguments(options) == [
        "--images=200",
        "--jobs=1",
        "--ack-wait=10.0",
        "--max-deliver=2",
        "--max-ack-pending=1000",
        "--reaper-interval=900.0",
        "--reaper-idle=600.0",
        "--fail-threshold=0.5",
        "--image-dir=/",
        "--nats-url=nats://a",
        "--port=7",
        "--token=t",
        "--sabotage=never-ends",
        "--pipeline=a",
        "--pipeline=b",
    ]


def test_an_option_that_is_not_set_is_not_written() -> None:
    flags = {argument.partition("=")[0] for argument in arguments(SandboxOptions())}
    assert flags & {"--image-dir", "--nats-url", "--sabotage"} == set()
