"""Change what the worker reads of an answer: other people's jobs, and tasks that are kept from it, are taken out."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from requests.adapters import HTTPAdapter
from requests.models import PreparedRequest, Response
from urllib3.response import HTTPResponse

Revise = Callable[[Response], "bytes | None"]
"""Returns the body that an answer shall have, None if it stays as it is."""

_OF_THE_OLD_BODY = ("content-encoding", "content-length", "transfer-encoding")


class Revising:
    """An adapter of requests through which another passes on its answers."""

    def __init__(self, adapter: Any, revise: Revise) -> None:
        self._adapter = adapter
        self._revise = revise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send through the real adapter."""
        response: Response = self._adapter.send(request, *args, **kwargs)
        if response.status_code != 200:  # a redirect, which comes here again, or nothing that hands anything out
            return response
        _ = response.content  # what is cut short is the worker's trouble, here as where it would have read it
        body = self._revise(response)
        return response if body is None else _with_body(request, response, body)


def _with_body(request: PreparedRequest, response: Response, body: bytes) -> Response:
    kept = {name: value for name, value in response.headers.items() if name.lower() not in _OF_THE_OLD_BODY}
    raw = HTTPResponse(
        BytesIO(body),
        {**kept, "Content-Length": str(len(body))},
        response.status_code,
        reason=response.reason,
        preload_content=False,
        decode_content=False,
    )
    revised = HTTPAdapter().build_response(request, raw)
    revised.cookies, revised.connection = response.cookies, response.connection
    return revised
