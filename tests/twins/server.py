"""A real server that misbehaves on real sockets, in one way for all its connections. It knows nothing of the faults."""

from __future__ import annotations

import io
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import trustme
from PIL import Image

PAUSE = 0.05
"""Seconds for which a slow server is silent."""

STATUSES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    410: "Gone",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""What the error answers of the server are, and how each calls itself."""

_JOBS = {"count": 1, "results": [{"id": 7, "pipeline_slug": "moths"}]}
_TASKS = {"tasks": [{"image_id": "1", "image_url": "http://127.0.0.1/1.jpg", "reply_subject": "subject"}]}
_RESULT = {"status": "accepted", "job_id": 7, "results_queued": 1}

Misbehave = Callable[[socket.socket, bytes], None]
"""Takes a connection whose request has been read, and the body of a good answer."""


@dataclass
class Server:
    """Where it is, and which requests it has read."""

    url: str
    asked: list[str] = field(default_factory=list)


def good_body(path: str) -> bytes:
    """Return what a good server answers for a path."""
    if path.endswith(".jpg"):
        stream = io.BytesIO()
        Image.linear_gradient("L").convert("RGB").save(stream, "JPEG")
        return stream.getvalue()
    by_end = {"/tasks/": _TASKS, "/result/": _RESULT}
    return json.dumps(next((body for end, body in by_end.items() if path.endswith(end)), _JOBS)).encode()


def _head(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    text = "\r\n".join([f"HTTP/1.1 {status}", "Server: twin", f"Content-Length: {len(body)}", *lines, "\r\n"])
    return text.encode()


def _good(connection: socket.socket, body: bytes) -> None:
    connection.sendall(_head(body) + body)


def _reset(connection: socket.socket, _body: bytes = b"") -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _close(connection: socket.socket, _body: bytes) -> None:
    connection.close()


def _stay_silent(connection: socket.socket, _body: bytes = b"") -> None:
    with suppress(OSError):
        connection.recv(1)  # until the caller has enough


def _talk_ssh(connection: socket.socket, _body: bytes) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    connection.close()


def _cut_json(connection: socket.socket, _body: bytes) -> None:
    body = b'{"count": 1, "results": [{"id": 1, "pip'
    connection.sendall(_head(body, "200 OK", "Content-Type: application/json") + body)


def _half(connection: socket.socket, body: bytes) -> None:
    connection.sendall(_head(body) + body[: len(body) // 2])


def _half_then(end: Misbehave) -> Misbehave:
    def misbehave(connection: socket.socket, body: bytes) -> None:
        _half(connection, body)
        end(connection, body)

    return misbehave


def _answer(status: int, *lines: str) -> Misbehave:
    def misbehave(connection: socket.socket, _body: bytes) -> None:
        body = b"<html>something in between is in trouble</html>"
        connection.sendall(_head(body, f"{status} {STATUSES[status]}", "Connection: close", *lines) + body)
        connection.close()

    return misbehave


def _be_late(connection: socket.socket, body: bytes) -> None:
    threading.Event().wait(PAUSE)
    _good(connection, body)


def _trickle(connection: socket.socket, body: bytes) -> None:
    connection.sendall(_head(body))
    for start in range(0, len(body), len(body) // 3):
        threading.Event().wait(PAUSE / 3)
        connection.sendall(body[start : start + len(body) // 3])


_MISBEHAVIOURS: dict[str, Misbehave] = {
    "good": _good,
    "resets": _reset,
    "closes": _close,
    "never answers": _stay_silent,
    "is no web server": _talk_ssh,
    "cuts its JSON": _cut_json,
    "closes in the middle": _half_then(_close),
    "resets in the middle": _half_then(_reset),
    "falls silent in the middle": _half_then(_stay_silent),
    "is late": _be_late,
    "trickles": _trickle,
    **{f"answers {status}": _answer(status) for status in STATUSES},
    **{f"answers {status}, come back now": _answer(status, "Retry-After: 0") for status in (413, 429, 503)},
    **{f"answers {status}, come back in 2": _answer(status, "Retry-After: 2") for status in (429, 503)},
}


def _read_request(connection: socket.socket) -> tuple[str, bytes] | None:
    """Return the first line and the body of a request; None when the caller has gone."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    lengths = [int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:")]
    while len(body) < sum(lengths):
        body += connection.recv(65536)
    return lines[0], body


class _Listener:
    """Serves each connection in a thread of its own, until it is stopped."""

    def __init__(self, misbehave: Misbehave, context: ssl.SSLContext | None = None) -> None:
        self._misbehave, self._context = misbehave, context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.asked: list[str] = []
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        served = connection
        with suppress(OSError):
            if self._context is not None:
                served = self._context.wrap_socket(connection, server_side=True)
            while request := _read_request(served):
                path = request[0].split(" ")[1].partition("?")[0]
                self.asked.append(request[0])
                self._misbehave(served, good_body(path))
        served.close()
        connection.close()

    def stop(self) -> None:
        """Hang up on everybody, and wait until all threads have ended."""
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def _serving(misbehave: Misbehave) -> Iterator[Server]:
    listener = _Listener(misbehave)
    try:
        yield Server(f"http://127.0.0.1:{listener.port}", listener.asked)
    finally:
        listener.stop()


@contextmanager
def _untrusted() -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    listener = _Listener(_good, context)
    try:
        yield Server(f"https://127.0.0.1:{listener.port}", listener.asked)
    finally:
        listener.stop()


@contextmanager
def _refusing() -> Iterator[Server]:
    with socket.socket() as bound:  # it has a port, and does not listen
        bound.bind(("127.0.0.1", 0))
        yield Server(f"http://127.0.0.1:{bound.getsockname()[1]}")


class CannotMisbehaveError(Exception):
    """This machine does not let a server misbehave so; the message says what it does instead."""


@contextmanager
def _unknown() -> Iterator[Server]:
    found: list[BaseException] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo("nonexistent.invalid", 80)
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(2)
    if not found or cast("OSError", found[0]).errno != socket.EAI_NONAME:
        raise CannotMisbehaveError(f"the resolver does not say that a name is unknown: {found or 'it is silent'}")
    yield Server("http://nonexistent.invalid:80")


@contextmanager
def _full() -> Iterator[Server]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            _assert_full(address)
            yield Server(f"http://127.0.0.1:{address[1]}")
        finally:
            for one in waiting:
                one.close()


def _assert_full(address: tuple[str, int]) -> None:
    try:
        socket.create_connection(address, 0.1).close()
    except TimeoutError:
        return
    except OSError as error:
        raise CannotMisbehaveError(f"a full backlog is not silent: {error}") from error
    raise CannotMisbehaveError("a backlog of none is never full")


_STARTS = {
    "refuses": _refusing,
    "has a name that nobody knows": _unknown,
    "is trusted by nobody": _untrusted,
    "never accepts": _full,
}
NAMES = frozenset({*_STARTS, *_MISBEHAVIOURS})
"""The ways in which a server behaves."""


@contextmanager
def behaving(name: str) -> Iterator[Server]:
    """Run the server that behaves so; raises CannotMisbehaveError where it cannot."""
    with _STARTS[name]() if name in _STARTS else _serving(_MISBEHAVIOURS[name]) as server:
        yield server
