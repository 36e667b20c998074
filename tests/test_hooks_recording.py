"""The promises of hooks.recording: a real answer is kept as it came, and played again whole, by half or in pieces."""

from __future__ import annotations

import gzip
import http.client
from io import BytesIO

import pytest
from urllib3.exceptions import ReadTimeoutError
from urllib3.response import HTTPResponse

from ami_fault_site.hooks import recording
from ami_fault_site.hooks.recording import Answer, record
from ami_fault_site.hooks.wire import Pause, ScriptedSocket, Step

PLAIN = b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nX-A: 2\r\nKeep-Alive: 5\r\nContent-Length: 10\r\n\r\n0123456789"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"


def parsed(*script: Step) -> http.client.HTTPResponse:
    with ScriptedSocket(script) as wire:
        response = http.client.HTTPResponse(wire, method="GET")
    response.begin()
    return response


@pytest.mark.parametrize("sent", [PLAIN, CHUNKED])
def test_an_answer_is_kept_with_its_body_and_played_again_whole(sent: bytes) -> None:
    answer = record(parsed(sent))
    assert (answer.status_code, answer.raw, answer.content, answer.lost) == (200, b"0123456789", b"0123456789", None)
    again = record(parsed(*recording.whole(answer, None)))
    assert (again.raw, again.chunked, again.reason) == (answer.raw, answer.chunked, answer.reason)


def test_headers_come_again_in_order_but_those_between_two_hops() -> None:
    answer = record(parsed(PLAIN))
    assert answer.head == b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
    with parsed(*recording.whole(answer, None)) as response:
        assert response.will_close


def test_a_body_is_kept_as_it_was_sent_and_shown_as_the_caller_sees_it() -> None:
    body = gzip.compress(b"0123456789")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    response = parsed(head + body)
    answer = record(HTTPResponse(response, dict(response.headers), 200, 11, preload_content=False))
    assert (answer.raw, answer.content) == (body, b"0123456789")


def test_a_body_that_cannot_be_decoded_is_shown_as_it_was_sent() -> None:
    answer = Answer(200, "OK", 11, (("Content-Encoding", "gzip"),), b"not gzip", False)
    assert answer.content == b"not gzip"


@pytest.mark.parametrize("sent", [PLAIN, CHUNKED])
def test_half_an_answer_has_the_whole_head_and_ends_in_the_middle(sent: bytes) -> None:
    half = parsed(*recording.half(record(parsed(sent))))
    assert half.status == 200
    with half, pytest.raises(http.client.IncompleteRead):
        half.read()


@pytest.mark.parametrize("sent", [PLAIN, CHUNKED])
def test_an_answer_in_pieces_is_the_whole_answer_and_takes_its_time(sent: bytes) -> None:
    steps = recording.in_pieces(record(parsed(sent)), 30.0)
    pauses = [step.seconds for step in steps if isinstance(step, Pause)]
    assert pauses == [3.0] * 10  # a byte each
    assert record(parsed(*(step for step in steps if not isinstance(step, Pause)))).raw == b"0123456789"


def test_a_long_answer_in_pieces_never_falls_silent_for_more_than_a_second() -> None:
    steps = recording.in_pieces(Answer(200, "OK", 11, (), b"x" * 1000, False), 60.0)
    assert [step.seconds for step in steps if isinstance(step, Pause)] == [1.0] * 60


def test_what_really_went_wrong_on_the_way_is_kept_and_goes_wrong_again() -> None:
    reset = ConnectionResetError(104, "Connection reset by peer")
    answer = record(parsed(PLAIN[:-4], reset))
    assert answer.lost is reset
    assert repr(record(parsed(*recording.whole(answer, answer.failure_on_the_wire))).lost) == repr(reset)


def test_what_the_socket_met_stands_behind_what_urllib3_made_of_it_and_has_no_past() -> None:
    lost = ReadTimeoutError(None, "/", "Read timed out.")  # type: ignore[arg-type]
    lost.__context__ = TimeoutError("timed out")
    lost.__context__.__context__ = TypeError("urllib3 was busy with this")
    failure = Answer(200, "OK", 11, (), b"abc", False, lost).failure_on_the_wire
    assert (repr(failure), getattr(failure, "__context__", "")) == ("TimeoutError('timed out')", None)


def test_a_stream_that_ended_too_early_only_ends_again() -> None:
    answer = Answer(200, "OK", 11, (("Content-Length", "9"),), b"abc", False, http.client.IncompleteRead(b"abc", 6))
    assert (answer.failure_on_the_wire, recording.whole(answer, None)[1:]) == (None, [b"abc"])


def test_the_kept_answer_is_closed() -> None:
    response = HTTPResponse(BytesIO(b"body"), preload_content=False)
    record(response)
    assert response.closed
