"""How a connection breaks: the error in which urllib3 cannot connect, or what its parser finds on the wire."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
from typing import Any, NoReturn

from urllib3 import exceptions

from ami_fault_site.faults import CONNECT_KINDS, Effect, Harm, Phase
from ami_fault_site.hooks import recording
from ami_fault_site.hooks.recording import Answer
from ami_fault_site.hooks.wire import Pause, ScriptedSocket, Step, cut_json_answer, error_answer

# urllib3 2 tells this apart, and chains its errors to their causes; 1.26 does neither.
_NameResolutionError = getattr(exceptions, "NameResolutionError", None)


def comes_instead(harm: Harm) -> bool:
    """Whether the real call is not made."""
    return harm.effect is not Effect.SLOW and harm.phase is Phase.BEFORE


def comes_upon(harm: Harm) -> bool:
    """Whether it takes the place of the real answer; a delay does neither."""
    return harm.kind == "trickle" or (harm.effect is not Effect.SLOW and harm.phase is not Phase.BEFORE)


def why_not(harm: Harm, answer: Answer) -> str:
    """Say why this harm cannot take the place of that answer, "" if it can."""
    if answer.lost is not None:
        return "the answer was cut short by itself"
    needs_a_body = harm.phase is Phase.DURING or harm.kind == "trickle"
    return "the answer has no body" if needs_a_body and not answer.raw else ""


def break_fresh(connection: Any, harm: Harm) -> None:
    """Do what connect does where the real call is not made: raise, or give it a socket on which no answer comes."""
    if harm.kind in CONNECT_KINDS:
        fail_to_connect(connection, harm)
    connection.sock = broken_socket(harm)
    pretend_verified(connection)


def pretend_verified(connection: Any) -> None:
    """Look as after a handshake, or urllib3 warns of a certificate that was never asked for."""
    connection.is_verified = getattr(connection, "cert_reqs", None) not in (None, "CERT_NONE", ssl.CERT_NONE)


def fail_to_connect(connection: Any, harm: Harm) -> NoReturn:
    """Raise what urllib3's connect raises; TLS fails on HTTPS only, and that is for the caller to see to."""
    try:
        raise _cause(harm.kind)
    except ssl.SSLError:
        raise
    except OSError as error:
        failure = _failure(connection, error)
        if _NameResolutionError is None:
            raise failure  # noqa: B904  as urllib3 1.26 does
        raise failure from error


def _cause(kind: str) -> OSError:
    if kind == "refused":
        return ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    if kind == "connect-timeout":
        return TimeoutError("timed out")
    return _untrusted() if kind == "tls" else _unknown_name()


def _failure(connection: Any, error: OSError) -> Exception:
    if isinstance(error, TimeoutError):
        message = f"Connection to {connection.host} timed out. (connect timeout={connection.timeout})"
        return exceptions.ConnectTimeoutError(connection, message)
    if isinstance(error, socket.gaierror) and _NameResolutionError is not None:
        unresolved: Exception = _NameResolutionError(connection.host, connection, error)
        return unresolved
    return exceptions.NewConnectionError(connection, f"Failed to establish a new connection: {error}")


def _unknown_name() -> socket.gaierror:
    """Return this system's own error for a name that nobody knows, without asking anybody."""
    try:
        socket.getaddrinfo("name", None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror as error:
        return error.with_traceback(None)
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _untrusted() -> ssl.SSLError:
    why = "unable to get local issuer certificate"
    code = "CERTIFICATE_VERIFY_FAILED"
    error = ssl.SSLCertVerificationError(1, f"[SSL: {code}] certificate verify failed: {why} ({_place()})")
    error.library, error.reason = "SSL", code
    error.verify_code, error.verify_message = 20, why
    return error


def _place() -> str:
    """Return where this Python reports a failed handshake from, such as "_ssl.c:1006"."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(b"not a handshake")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="name").do_handshake()
    except ssl.SSLError as error:
        return str(error).rpartition("(")[2].rstrip(")")
    return "_ssl.c"


def broken_socket(harm: Harm, answer: Answer | None = None) -> ScriptedSocket:
    """Return a socket on which the answer to a request fails to come; `answer` is the real one where there was one."""
    return ScriptedSocket(_script(harm, answer))


def whole_socket(answer: Answer) -> ScriptedSocket:
    """Return a socket on which the real answer comes once more, untouched."""
    return ScriptedSocket(recording.whole(answer, answer.failure_on_the_wire))


def _script(harm: Harm, answer: Answer | None) -> list[Step]:
    if answer is not None and harm.effect is Effect.SLOW:
        return recording.in_pieces(answer, harm.seconds)
    begun = recording.half(answer) if answer is not None and harm.phase is Phase.DURING else []
    return begun + _end(harm)


def _end(harm: Harm) -> list[Step]:
    if harm.status:
        return [error_answer(harm.status, harm.retry_after)]
    ends: dict[str, list[Step]] = {
        "reset": [ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))],
        "read-timeout": [TimeoutError("timed out")],
        "stall": [Pause(math.inf)],
        "garbage": [b"SSH-2.0-OpenSSH_9.6\r\n"],
        "bad-json": [cut_json_answer()],
    }
    return ends.get(harm.kind, [])  # "closed", "truncated"
