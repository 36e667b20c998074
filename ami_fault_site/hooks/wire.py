"""What comes in over a wire whose other end is ours: a socket that plays a script, and answers as bytes."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from math import ceil
from typing import Any, NamedTuple


class Pause(NamedTuple):
    """Silence, in seconds; may be infinite."""

    seconds: float


Step = bytes | Exception | Pause
"""What happens next on the wire: bytes come in, reading fails, or nothing comes for a while. Then the stream ends."""


def wait(seconds: float) -> None:
    """Wait, for ever if it is infinite; a signal's handler runs meanwhile, and may raise."""
    threading.Event().wait(None if seconds > threading.TIMEOUT_MAX else seconds)


class ScriptedSocket(socket.socket):
    """A socket that is connected to nothing: what is written is not heard, what is read is in the script.

    All else is a real socket's: its timeout, its files, when it is closed.
    """

    def __init__(self, script: Iterable[Step]) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._script = deque(script)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # noqa: ARG002  a socket's signature
        """Play the script on; 0 once it is over."""
        view = memoryview(buffer)[: nbytes or None]
        while self._script:
            step = self._script[0]
            if isinstance(step, Exception):
                raise step  # and again, if it is read again
            if isinstance(step, Pause):
                self._be_silent(step.seconds)
                self._script.popleft()
            elif not step:
                self._script.popleft()
            else:
                size = min(len(view), len(step))
                view[:size] = step[:size]
                self._script[0] = step[size:]
                return size
        return 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Take it, and send nothing."""

    def shutdown(self, how: int) -> None:
        """There is nothing to be shut down."""

    def _be_silent(self, seconds: float) -> None:
        timeout = self.gettimeout()
        if timeout is not None and seconds > timeout:
            wait(timeout)
            raise TimeoutError("timed out")
        wait(seconds)


def error_answer(status: int, retry_after: float | None = None) -> bytes:
    """Return an HTTP error answer as a web server or proxy in front of a service sends it."""
    title = f"{status} {_phrase(status)}"
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    later = "" if retry_after is None else f"Retry-After: {ceil(retry_after)}\r\n"
    return _closing(f"{title}\r\nContent-Type: text/html\r\n{later}", body)


def _phrase(status: int) -> str:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "Request Entity Too Large"  # as proxies call it; Python does so up to 3.12
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def cut_json_answer() -> bytes:
    """Return a good answer whose JSON is not whole, though its length says that it is."""
    return _closing("200 OK\r\nContent-Type: application/json\r\n", '{"count": 1, "results": [{"id": 1, "pip')


def _closing(head: str, body: str) -> bytes:
    return f"HTTP/1.1 {head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
