"""Make one call fail for real: an adapter of requests whose connections break, at every attempt in the same way.

The adapter, its pools, connections and retries are requests' and urllib3's own; only `connect` of its connections is
replaced, on the instances. Whatever such a failure becomes on its way up, through the session's own Retry included, is
what a real one becomes. The pauses between retries are left out.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from functools import lru_cache
from http.client import HTTPResponse as ParsedResponse
from importlib.util import module_from_spec
from inspect import unwrap
from typing import Any, Protocol

from requests import adapters
from requests.adapters import HTTPAdapter
from requests.models import PreparedRequest, Response
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse
from urllib3.util.retry import Retry

from ami_fault_site.faults import Effect, Harm, Phase
from ami_fault_site.hooks.breaking import (
    break_fresh,
    broken_socket,
    comes_instead,
    pretend_verified,
    why_not,
)
from ami_fault_site.hooks.recording import Answer, record, whole
from ami_fault_site.hooks.transport import striking
from ami_fault_site.hooks.wire import ScriptedSocket, wait


def _own_send(send: Callable[..., Response]) -> Callable[..., Response]:
    """Return requests' own HTTPAdapter.send, also where somebody has put one there that makes up answers."""
    spec = adapters.__spec__
    if getattr(unwrap(send), "__globals__", None) is not vars(adapters) and spec and spec.loader:
        anew = module_from_spec(spec)
        spec.loader.exec_module(anew)
        send = anew.HTTPAdapter.send
    return send


# Kept from the start: what is struck must fail, whoever answers in the service's place.
_send = _own_send(HTTPAdapter.send)

Tell = Callable[[Answer, str], bool]
"""Takes what the service really answered, and why the harm cannot take its place, "" if it can.

False lets that answer through after all.
"""


class Adapter(Protocol):
    """What a session sends its requests through."""

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Send, with the caller's stream, timeout, verify, cert and proxies."""


def failing(adapter: Any, harm: Harm, tell: Tell) -> HTTPAdapter:
    """Return an adapter for one call that fails as `harm` (NETWORK or SLOW) says, and retries as `adapter` does.

    A harm of phase after or during lets `adapter` make the real call first. `tell` is not called if that fails: then
    the harm is not done. A harm of a connection that goes through a proxy comes out as that of a direct one.
    """
    if harm.kind == "delay":
        return _Delaying(adapter, harm)
    if comes_instead(harm):
        return _Failing(harm, _retries(adapter))
    return _FailingLate(adapter, harm, tell)


def _retries(adapter: Any) -> Retry:
    """Return the adapter's own retries, which do not pause."""
    retries = getattr(adapter, "max_retries", None)
    if not isinstance(retries, Retry):
        return Retry(0, read=False)
    quick = copy.copy(retries)
    quick.__class__ = _unpausing(type(retries))  # type: ignore[arg-type]  # a class can be hashed
    return quick


@lru_cache(maxsize=8)  # for each kind of Retry once, and not for each failure
def _unpausing(own: type[Retry]) -> type[Retry]:
    """Return a subclass, because each attempt makes a new Retry of the old one's class; the log shows its name."""
    return types.new_class(own.__name__, (own,), {}, lambda names: names.update(sleep=_no_pause))


def _no_pause(_retry: Retry, _response: object = None) -> None:
    """Take the place of the pause before the next attempt."""


class _Delaying(HTTPAdapter):
    """Waits before or after the real call."""

    def __init__(self, adapter: Any, harm: Harm) -> None:
        self._adapter, self._harm = adapter, harm
        super().__init__()

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send through the real adapter."""
        if self._harm.phase is Phase.BEFORE:
            wait(self._harm.seconds)
        response: Response = self._adapter.send(request, *args, **kwargs)
        if self._harm.phase is Phase.AFTER:
            wait(self._harm.seconds)
        return response


class _FailingLate(HTTPAdapter):
    """Makes the real call, keeps its answer, and fails in its place."""

    def __init__(self, adapter: Any, harm: Harm, tell: Tell) -> None:
        self._adapter, self._harm, self._tell = adapter, harm, tell
        super().__init__()

    def send(self, request: PreparedRequest, stream: bool = False, **kwargs: Any) -> Response:  # type: ignore[override]
        """Send through the real adapter first."""
        response: Response = self._adapter.send(request, stream=True, **kwargs)
        if not isinstance(response.raw, HTTPResponse):
            return response  # some adapter without a wire
        answer = record(response.raw)
        unable = why_not(self._harm, answer)
        if self._tell(answer, unable) and not unable:
            # Slow is not failed: the real adapter has made its retries.
            retries = Retry(0, read=False) if self._harm.effect is Effect.SLOW else _retries(self._adapter)
            return _Failing(self._harm, retries, answer).send(request, stream=stream, **kwargs)
        response.raw = _anew(answer, request.method or "")
        return response


def _anew(answer: Answer, method: str) -> HTTPResponse:
    """Return the answer as it was before it was read."""
    wire = ScriptedSocket(whole(answer, answer.lost))  # urllib3's own error, which names its pool
    parsed = ParsedResponse(wire, method=method)
    wire.close()  # its stream is held by what is parsed
    parsed.begin()
    return HTTPResponse(
        parsed,
        answer.headers,  # type: ignore[arg-type]
        answer.status_code,
        answer.version,
        reason=answer.reason,
        preload_content=False,
        decode_content=False,
        original_response=parsed,
        request_method=method,
    )


class _Failing(HTTPAdapter):
    """Its connections get through to nobody."""

    def __init__(self, harm: Harm, retries: Retry, answer: Answer | None = None) -> None:
        self._harm, self._answer = harm, answer
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=retries)  # one call makes one connection

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool manager as ever, with pools whose connections break."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": lambda *a, **k: self._breaking(HTTPConnectionPool(*a, **k)),
            "https": lambda *a, **k: self._breaking(HTTPSConnectionPool(*a, **k)),
        }

    def proxy_manager_for(self, *_args: Any, **_kwargs: Any) -> Any:
        """A proxy is as unreachable as everything else."""
        return self.poolmanager

    def send(self, *args: Any, **kwargs: Any) -> Response:
        """Send into nothing; these are no attempts at the service."""
        with striking(None):
            return _send(self, *args, **kwargs)

    def _breaking(self, pool: HTTPConnectionPool) -> HTTPConnectionPool:
        make: Callable[..., Any] = pool.ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> Any:
            return self._break(make(*args, **kwargs))

        pool.ConnectionCls = connection  # type: ignore[assignment]
        return pool

    def _break(self, connection: HTTPConnection) -> HTTPConnection:
        """Let a real connection object meet its failure in the method in which a real one meets it."""

        def connect() -> None:
            if self._answer is None:
                break_fresh(connection, self._harm)
            else:
                connection.sock = broken_socket(self._harm, self._answer)
                pretend_verified(connection)

        connection.connect = connect  # type: ignore[method-assign]
        return connection
