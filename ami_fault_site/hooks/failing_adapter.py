"""Make the real library fail for real: an adapter whose connections do not get through, for one call.

The adapter, its pools, connections and retries are requests' and urllib3's own; only `connect`, `send` and the socket
of its connections are replaced, on the instances. Whatever such a failure becomes on its way up, through the session's
own Retry included, is what a real one becomes. The pauses between retries are left out.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.retry import Retry


def failing(adapter: object, kind: str) -> HTTPAdapter:
    """Return an adapter that fails in one of NETWORK_KINDS or as http-404, and retries as `adapter` does."""
    retries = getattr(adapter, "max_retries", None)
    if not isinstance(retries, Retry):
        retries = Retry(0, read=False)
    return _FailingAdapter(kind, retries.new(backoff_factor=0))


class _FailingAdapter(HTTPAdapter):
    def __init__(self, kind: str, retries: Retry) -> None:
        self._kind = kind
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool manager as ever, with pools whose connections fail."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": lambda *a, **k: _prepare(HTTPConnectionPool(*a, **k), self._kind),
            "https": lambda *a, **k: _prepare(HTTPSConnectionPool(*a, **k), self._kind),
        }

    def proxy_manager_for(self, *_args: Any, **_kwargs: Any) -> Any:
        """A proxy is as unreachable as everything else."""
        return self.poolmanager


def _prepare(pool: HTTPConnectionPool, kind: str) -> HTTPConnectionPool:
    make: Callable[..., Any] = pool.ConnectionCls

    def connection(*args: Any, **kwargs: Any) -> Any:
        return _break(make(*args, **kwargs), kind)

    pool.ConnectionCls = connection  # type: ignore[assignment]
    return pool


def _break(connection: HTTPConnection, kind: str) -> HTTPConnection:
    """Let a real connection object meet its failure in the method in which a real one meets it."""

    def connect() -> None:
        if kind == "refused":
            _refuse(connection)
        if kind == "connect-timeout":
            _time_out(connection)
        connection.sock = _Socket(kind)
        connection.is_verified = True  # or HTTPS warns about a certificate that was never asked for

    def send(_data: object) -> None:
        if connection.sock is None:
            connect()

    connection.connect = connect  # type: ignore[method-assign]
    connection.send = send  # type: ignore[method-assign, assignment]
    return connection


def _refuse(connection: HTTPConnection) -> None:
    try:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except OSError as error:
        raise NewConnectionError(connection, f"Failed to establish a new connection: {error}") from error


def _time_out(connection: HTTPConnection) -> None:
    try:
        raise TimeoutError("timed out")
    except TimeoutError as error:
        message = f"Connection to {connection.host} timed out. (connect timeout={connection.timeout})"
        raise ConnectTimeoutError(connection, message) from error


class _Socket:
    """The socket of a connection to a server that answers with an error, or not at all."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def makefile(self, *_args: object, **_kwargs: object) -> io.BufferedIOBase:
        """Return what the server sends."""
        if self._kind == "read-timeout":
            return io.BufferedReader(_Silence())
        return io.BytesIO(answer(int(self._kind.rpartition("-")[2])))

    def settimeout(self, _seconds: float | None) -> None:
        """A server that does not exist has no time of its own."""

    def sendall(self, _data: object) -> None:
        """Whatever is sent is not heard."""

    def close(self) -> None:
        """Nothing is held open."""


class _Silence(io.RawIOBase):
    """A stream whose other end says nothing until the caller's timeout is over."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: object) -> int:
        raise TimeoutError("timed out")


def answer(status: int) -> bytes:
    """Return the bytes of an HTTP error answer as a web server or proxy in front of a service sends it."""
    phrase = HTTPStatus(status).phrase
    body = f"<html><head><title>{status} {phrase}</title></head><body><h1>{status} {phrase}</h1></body></html>\n"
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"{head}\r\n\r\n{body}".encode()
