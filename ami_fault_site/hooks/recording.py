"""A service's real answer, read to its end and kept as it came, so that it can be played again, whole or broken."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from io import BytesIO
from itertools import pairwise
from math import ceil
from typing import Any

from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from ami_fault_site.hooks.wire import Pause, Step

_PIECE = 65536  # bytes
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")


class Answer:
    """What a service answered: `raw` is its body as sent, though not in chunks; `lost` is why no more of it came."""

    def __init__(
        self,
        status_code: int,
        reason: str,
        version: int,
        headers: tuple[tuple[str, str], ...],
        raw: bytes,
        chunked: bool,
        lost: Exception | None = None,
    ) -> None:
        self.status_code, self.reason, self.version, self.headers = status_code, reason, version, headers
        self.raw, self.chunked, self.lost = raw, chunked, lost

    @cached_property
    def content(self) -> bytes:
        """The body as the caller would see it; as it was sent if it cannot be decoded."""
        try:
            body = HTTPResponse(BytesIO(self.raw), dict(self.headers), status=self.status_code, preload_content=True)
            return bytes(body.data)
        except HTTPError:
            return self.raw

    @property
    def failure_on_the_wire(self) -> Exception | None:
        """What the socket met when the answer was lost, None if that was only the end of the stream."""
        if self.lost is None:
            return None
        # What urllib3 makes of a failure has the socket's own behind it.
        causes = (self.lost, self.lost.__cause__, self.lost.__context__)
        # A copy has no context: this one may have been raised while urllib3 was busy with something else.
        return next((copy(cause) for cause in causes if isinstance(cause, OSError)), None)

    @property
    def head(self) -> bytes:
        """The head as bytes. It says that the connection will be closed, as whoever stands in between may say."""
        status = f"HTTP/{self.version // 10}.{self.version % 10} {self.status_code} {self.reason}"
        kept = [f"{name}: {value}" for name, value in self.headers if name.lower() not in _HOP_BY_HOP]
        framed = ["Transfer-Encoding: chunked"] if self.chunked else []
        return "\r\n".join([status, *kept, *framed, "Connection: close", "\r\n"]).encode("latin-1")


def record(response: Any) -> Answer:
    """Read an answer of urllib3 or http.client to its end and close it; never raises for what happens meanwhile."""
    raw, lost = _drain(_reader(response))
    version, status = response.version or 11, response.status
    headers = tuple(response.headers.items())
    chunked = any(name.lower() == "transfer-encoding" and "chunked" in value.lower() for name, value in headers)
    response.close()
    return Answer(status, response.reason or "", version, headers, raw, chunked, lost)


def _reader(response: Any) -> Callable[[], bytes]:
    if isinstance(response, HTTPResponse):
        return lambda: response.read(_PIECE, decode_content=False)
    return lambda: bytes(response.read(_PIECE))


def _drain(read: Callable[[], bytes]) -> tuple[bytes, Exception | None]:
    pieces: list[bytes] = []
    try:
        while piece := read():
            pieces.append(piece)
    except Exception as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def whole(answer: Answer, failure: Exception | None) -> list[Step]:
    """Return the answer as it came; `failure` is what it came to, if it was lost."""
    end = [] if failure is None else [failure]
    return [answer.head, _framed(answer, answer.raw, ends=answer.lost is None), *end]


def half(answer: Answer) -> list[Step]:
    """Return the answer's head and half of its body, a byte at most too little."""
    size = len(answer.raw)
    begun = f"{size:x}\r\n".encode() if answer.chunked else b""
    return [answer.head, begun + answer.raw[: size // 2]]


def in_pieces(answer: Answer, seconds: float) -> list[Step]:
    """Return the whole answer, its body in pieces that take so long together: ten, or one each second."""
    count = max(1, min(len(answer.raw), max(10, ceil(seconds))))
    bounds = [len(answer.raw) * number // count for number in range(count + 1)]
    steps: list[Step] = [answer.head]
    for start, end in pairwise(bounds):
        steps += [Pause(seconds / count), _framed(answer, answer.raw[start:end], ends=end == bounds[-1])]
    return steps


def _framed(answer: Answer, body: bytes, ends: bool) -> bytes:
    if not answer.chunked:
        return body
    return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if ends else b"")
