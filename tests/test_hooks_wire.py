"""The promises of hooks.wire: a socket plays its script and is a real socket in all else."""

from __future__ import annotations

import http.client
import math
import signal
import socket
import threading
import time
from types import FrameType

import pytest

from ami_fault_site.hooks.wire import Pause, ScriptedSocket, Step, cut_json_answer, error_answer


def read_all(*script: Step, timeout: float | None = None) -> bytes:
    with ScriptedSocket(script) as wire, wire.makefile("rb") as stream:
        wire.settimeout(timeout)
        return bytes(stream.read())


def test_bytes_come_in_order_and_then_the_stream_ends() -> None:
    assert read_all(b"one ", b"", b"two") == b"one two"
    assert read_all() == b""


def test_bytes_larger_than_the_reader_asks_for_come_in_parts() -> None:
    buffer = bytearray(4)
    with ScriptedSocket([b"abcdef"]) as wire:
        assert [(wire.recv_into(buffer), bytes(buffer)) for _ in range(3)] == [(4, b"abcd"), (2, b"efcd"), (0, b"efcd")]
        assert ScriptedSocket.recv_into(wire, buffer, 2) == 0


def test_a_failure_is_met_after_what_came_before_it_and_stays() -> None:
    with ScriptedSocket([b"head\r\n", ConnectionResetError(104, "reset")]) as wire, wire.makefile("rb") as stream:
        assert stream.readline() == b"head\r\n"
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="reset"):
                stream.readline()


def test_what_is_written_is_not_heard_and_does_not_fail() -> None:
    with ScriptedSocket([b"answer"]) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wire.shutdown(socket.SHUT_RDWR)
        with wire.makefile("rb") as stream:
            assert stream.read() == b"answer"


def test_a_silence_longer_than_the_readers_timeout_is_a_timeout() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        read_all(b"a", Pause(math.inf), b"b", timeout=0.05)
    assert time.monotonic() - began >= 0.05


def test_a_silence_shorter_than_the_readers_timeout_only_takes_its_time() -> None:
    began = time.monotonic()
    assert read_all(b"a", Pause(0.05), b"b", timeout=5) == b"ab"
    assert time.monotonic() - began >= 0.05


def test_a_reader_without_a_timeout_waits_for_ever_and_can_be_interrupted() -> None:
    class InterruptedByTestError(Exception):
        pass

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise InterruptedByTestError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert threading.current_thread() is threading.main_thread()
        with pytest.raises(InterruptedByTestError):
            read_all(Pause(math.inf))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parsed(answer: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    with ScriptedSocket([answer]) as wire:
        response = http.client.HTTPResponse(wire, method="GET")
    response.begin()
    return response, response.read()


def test_an_error_answer_is_a_proxys_and_closes_the_connection() -> None:
    response, body = parsed(error_answer(503))
    assert (response.status, response.reason, response.will_close) == (503, "Service Unavailable", True)
    assert (response.getheader("Content-Type"), response.getheader("Retry-After")) == ("text/html", None)
    assert body == (
        b"<html><head><title>503 Service Unavailable</title></head>"
        b"<body><h1>503 Service Unavailable</h1></body></html>\n"
    )


def test_an_error_answer_says_in_whole_seconds_when_to_come_again() -> None:
    assert parsed(error_answer(429, 1.2))[0].getheader("Retry-After") == "2"


def test_a_status_without_a_name_is_answered_too() -> None:
    assert parsed(error_answer(599))[0].reason == "Unknown"


def test_a_cut_json_answer_is_good_http() -> None:
    response, body = parsed(cut_json_answer())
    assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
    assert body == b'{"count": 1, "results": [{"id": 1, "pip'
