from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ami_fault_site.connections import endpoints, talks_to

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="connections of others can be seen on Linux only")

CONNECT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
sys.stdin.read()
"""
GRANDCHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[3], *sys.argv[1:3]])
child.wait()
"""
IDLE = "import sys; print('idle', flush=True); sys.stdin.read()"


@contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> Iterator[int]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"there is no {host} here")
        server.listen()
        yield server.getsockname()[1]


@contextmanager
def group(*arguments: str) -> Iterator[int]:
    """Start a process in a group of its own, wait for its first line and return the group."""
    with subprocess.Popen(
        [sys.executable, "-c", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
        process.stdin.close()
        process.wait(10)


def test_a_process_with_a_connection_to_the_service_is_found() -> None:
    with listening() as port, group(CONNECT, "127.0.0.1", str(port)) as number:
        assert talks_to(number, endpoints("127.0.0.1", port))


def test_a_connection_is_found_by_the_name_of_the_host_as_well() -> None:
    with listening() as port, group(CONNECT, "127.0.0.1", str(port)) as number:
        assert talks_to(number, endpoints("localhost", port))


def test_a_connection_of_a_process_further_down_in_the_group_is_found() -> None:
    with listening() as port, group(GRANDCHILD, "127.0.0.1", str(port), CONNECT) as number:
        assert talks_to(number, endpoints("127.0.0.1", port))


def test_a_connection_over_ipv6_is_found() -> None:
    with listening(socket.AF_INET6, "::1") as port, group(CONNECT, "::1", str(port)) as number:
        assert talks_to(number, endpoints("::1", port))


def test_a_connection_over_an_ipv6_socket_to_an_ipv4_address_is_found() -> None:
    script = CONNECT.replace("socket.create_connection(", "socket.socket(socket.AF_INET6); connection.connect(")
    with listening() as port, listening(socket.AF_INET6, "::1"), group(script, "::ffff:127.0.0.1", str(port)) as number:
        assert talks_to(number, endpoints("127.0.0.1", port))


def test_a_connection_of_another_group_is_not() -> None:
    with listening() as port, group(CONNECT, "127.0.0.1", str(port)) as talking, group(IDLE) as silent:
        assert talks_to(talking, endpoints("127.0.0.1", port))
        assert not talks_to(silent, endpoints("127.0.0.1", port))
        assert not talks_to(os.getpgrp(), endpoints("127.0.0.1", port))


def test_a_connection_to_another_port_is_not() -> None:
    with listening() as port, listening() as other, group(CONNECT, "127.0.0.1", str(port)) as number:
        assert not talks_to(number, endpoints("127.0.0.1", other))


def test_a_connection_to_another_host_is_not() -> None:
    with listening() as port, group(CONNECT, "127.0.0.1", str(port)) as number:
        assert not talks_to(number, endpoints("127.0.0.2", port))


def test_listening_is_no_connection() -> None:
    with listening() as port:
        assert not talks_to(os.getpgrp(), endpoints("127.0.0.1", port))


def test_a_group_that_is_gone_talks_to_nobody() -> None:
    with listening() as port:
        with group(CONNECT, "127.0.0.1", str(port)) as number:
            pass
        assert not talks_to(number, endpoints("127.0.0.1", port))


def test_a_host_that_cannot_be_found_is_talked_to_by_nobody() -> None:
    assert not talks_to(os.getpgrp(), endpoints("no-such-host.invalid", 80))
