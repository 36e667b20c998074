"""One request of a call: the call's own, or one that a redirect leads to."""

from __future__ import annotations

from typing import Any, Protocol

from requests.models import PreparedRequest, Response

from ami_fault_site.hooks.transport import Attempts, striking


class Travelling(Protocol):
    """The call that goes on its way hop by hop."""

    def sent(self, response: Response) -> None:
        """Take the answer of a hop."""


class Hop:
    """An adapter of requests that sends through another; its attempts are struck there, and nobody else's.

    What a session does besides (the hooks of its responses may make calls of their own) is outside of it.
    """

    def __init__(self, adapter: Any, call: Travelling, attempts: Attempts | None) -> None:
        self._adapter, self._call, self._attempts = adapter, call, attempts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send, and say how it was answered."""
        with striking(self._attempts):
            response: Response = self._adapter.send(request, *args, **kwargs)
        self._call.sent(response)
        return response
