"""The promises of hooks.breaking: each way in which a connection breaks, as urllib3 meets it."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from typing import Any

import pytest
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from ami_fault_site.faults import ANSWER_KINDS, CONNECT_KINDS, Effect, Harm, Phase
from ami_fault_site.hooks.breaking import (
    break_fresh,
    broken_socket,
    comes_instead,
    comes_upon,
    fail_to_connect,
    why_not,
)
from ami_fault_site.hooks.recording import Answer

IS_2 = hasattr(exceptions, "NameResolutionError")
ANSWER = Answer(200, "OK", 11, (("Content-Length", "10"),), b"0123456789", False)


def network(kind: str, phase: Phase = Phase.BEFORE, **more: Any) -> Harm:
    return Harm(Effect.NETWORK, kind, phase, **more)


def failure(kind: str, connection: HTTPConnection | None = None) -> Exception:
    with pytest.raises((exceptions.HTTPError, ssl.SSLError)) as caught:
        fail_to_connect(connection or HTTPConnection("h", 80, timeout=3), network(kind))
    return caught.value


def test_a_refused_connection_is_a_new_connection_error() -> None:
    error = failure("refused")
    assert type(error) is exceptions.NewConnectionError
    assert f"Failed to establish a new connection: [Errno {errno.ECONNREFUSED}] Connection refused" in str(error)
    assert isinstance(error.__context__, ConnectionRefusedError)


def test_an_unknown_name_carries_the_systems_own_error() -> None:
    error = failure("dns")
    assert type(error).__name__ == ("NameResolutionError" if IS_2 else "NewConnectionError")
    assert isinstance(error.__context__, socket.gaierror)
    assert error.__context__.errno == socket.EAI_NONAME


def test_a_connect_timeout_names_the_callers_own_timeout() -> None:
    error = failure("connect-timeout")
    assert type(error) is exceptions.ConnectTimeoutError
    assert "Connection to h timed out. (connect timeout=3)" in str(error)
    assert isinstance(error.__context__, TimeoutError)


@pytest.mark.parametrize("kind", ["refused", "dns", "connect-timeout"])
def test_urllib3_2_names_the_cause_of_its_errors_and_the_old_one_does_not(kind: str) -> None:
    error = failure(kind)
    assert error.__cause__ is (error.__context__ if IS_2 else None)
    assert error.__suppress_context__ is IS_2


def test_an_untrusted_certificate_is_the_error_of_the_handshake() -> None:
    error = failure("tls", HTTPSConnection("h", 443))
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert (error.errno, error.reason, error.verify_code) == (1, "CERTIFICATE_VERIFY_FAILED", 20)
    assert str(error).startswith(
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:"
    )


@pytest.mark.parametrize("kind", CONNECT_KINDS)
def test_no_connection_comes_about_in_the_ways_in_which_none_does(kind: str) -> None:
    connection = HTTPSConnection("h", 443)
    with pytest.raises((exceptions.HTTPError, ssl.SSLError)):
        break_fresh(connection, network(kind))
    assert connection.sock is None


@pytest.mark.parametrize("kind", [*ANSWER_KINDS, "http-503"])
def test_a_connection_comes_about_in_the_other_ways_and_no_certificate_is_warned_of(kind: str) -> None:
    connection = HTTPSConnection("h", 443)
    connection.cert_reqs = ssl.CERT_REQUIRED
    break_fresh(connection, network(kind))
    assert connection.sock is not None
    assert connection.is_verified
    connection.close()


def test_a_connection_that_would_not_be_verified_is_not_pretended_to_be() -> None:
    connection = HTTPSConnection("h", 443)
    connection.cert_reqs = "CERT_NONE"
    break_fresh(connection, network("reset"))
    assert not connection.is_verified
    connection.close()


def heard(harm: Harm, answer: Answer | None = None) -> http.client.HTTPResponse:
    with broken_socket(harm, answer) as wire:
        wire.settimeout(0.05)
        response = http.client.HTTPResponse(wire, method="GET")
    try:
        response.begin()
    except BaseException:
        response.close()  # as http.client's connection does
        raise
    return response


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", ConnectionResetError),
        ("closed", http.client.RemoteDisconnected),
        ("read-timeout", TimeoutError),
        ("stall", TimeoutError),
        ("garbage", http.client.BadStatusLine),
    ],
)
@pytest.mark.parametrize("phase", [Phase.BEFORE, Phase.AFTER])
def test_there_is_no_good_answer(kind: str, error: type[Exception], phase: Phase) -> None:
    with pytest.raises(error):
        heard(network(kind, phase), ANSWER if phase is Phase.AFTER else None)


def test_a_status_is_answered_in_place_of_the_real_answer() -> None:
    response = heard(network("http-503", Phase.AFTER, retry_after=2), ANSWER)
    assert (response.status, response.getheader("Retry-After")) == (503, "2")
    response.close()


def test_bad_json_is_a_good_answer_whose_json_is_cut() -> None:
    response = heard(network("bad-json"))
    assert (response.status, response.read()) == (200, b'{"count": 1, "results": [{"id": 1, "pip')


def test_a_truncated_answer_ends_in_the_middle_of_its_body() -> None:
    with pytest.raises(http.client.IncompleteRead, match="5 bytes read, 5 more expected"):
        heard(network("truncated", Phase.DURING), ANSWER).read()


@pytest.mark.parametrize(("kind", "error"), [("reset", ConnectionResetError), ("stall", TimeoutError)])
def test_a_connection_may_break_in_the_middle_of_the_body(kind: str, error: type[Exception]) -> None:
    response = heard(network(kind, Phase.DURING), ANSWER)
    assert response.status == 200
    with response, pytest.raises(error):
        response.read()


def test_a_trickle_is_the_whole_answer() -> None:
    assert heard(Harm(Effect.SLOW, "trickle", seconds=0.1), ANSWER).read() == b"0123456789"


def test_where_there_is_no_body_nothing_is_cut_and_nothing_trickles() -> None:
    empty = Answer(301, "Moved Permanently", 11, (), b"", False)
    harms = [network("truncated", Phase.DURING), network("reset", Phase.DURING), Harm(Effect.SLOW, "trickle")]
    assert [why_not(harm, empty) for harm in harms] == ["the answer has no body"] * 3
    assert [why_not(harm, ANSWER) for harm in harms] == [""] * 3
    assert why_not(network("reset", Phase.AFTER), empty) == ""


def test_an_answer_that_was_lost_for_real_is_not_broken_once_more() -> None:
    lost = Answer(200, "OK", 11, (), b"half", False, TimeoutError("timed out"))
    assert why_not(network("reset", Phase.AFTER), lost) == "the answer was cut short by itself"


def test_a_harm_comes_instead_of_the_call_or_upon_its_answer_and_a_delay_does_neither() -> None:
    before, after = network("reset"), network("reset", Phase.AFTER)
    slow = [Harm(Effect.SLOW, kind, phase) for kind in ("trickle", "delay") for phase in Phase]
    assert [comes_instead(harm) for harm in (before, after, *slow)] == [True] + [False] * 7
    assert [comes_upon(harm) for harm in (before, after, *slow)] == [False, True, True, True, True, False, False, False]
