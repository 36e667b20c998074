"""The seam at urllib3's connections, below the caller's own retries: ask at each attempt, and break the connection.

Only attempts that a thread makes inside `striking` are seen at all.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Protocol, TypeVar

from ami_fault_site.faults import CONNECT_KINDS, Harm, Phase, Seam
from ami_fault_site.hooks.breaking import (
    break_fresh,
    broken_socket,
    comes_instead,
    comes_upon,
    whole_socket,
    why_not,
)
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.hooks.recording import Answer, record
from ami_fault_site.hooks.wire import ScriptedSocket, wait
from ami_fault_site.injector import Injector

T = TypeVar("T")

# Of writing: urllib3 lives through these, and reads what the server may have said before it hung up.
_SURVIVED = (errno.EPIPE, errno.ESHUTDOWN, errno.EPROTOTYPE, errno.ECONNRESET)


class Attempts(Protocol):
    """What one call wants to know of its attempts, and to do to them."""

    def begin(self) -> Harm | None:
        """Say how the attempt that begins now breaks, None if it does not."""

    def heard(self, harm: Harm, answer: Answer, unable: str) -> bool:
        """Take what the service really answered, for a harm of phase after or during; False lets it through.

        `unable` is why the harm cannot take its place, if so.
        """

    def withhold(self, why: str) -> None:
        """Take why such a harm cannot be done to the attempt that has begun, whatever is answered."""

    def ended(self, status: int, error: BaseException | None) -> None:
        """Take how the attempt that began last has ended: the status of the answer's head, or the error."""


class _Attempt:
    """An attempt under way. `again` sends its request once more, None if its body cannot be sent twice."""

    def __init__(
        self,
        connection: Any,
        harm: Harm | None,
        heard: Callable[[Harm, Answer, str], bool],
        told: Callable[[int, BaseException | None], None],
    ) -> None:
        self.connection, self.harm, self.heard, self.told = connection, harm, heard, told
        self.is_sent = self.is_sending = False
        self.again: Callable[[], object] | None = None
        self.survived: BaseException | None = None

    def end(self, status: int = 0, error: BaseException | None = None) -> None:
        """Tell how it has ended."""
        if _here.attempt is self:
            _here.attempt = None
            self.told(status, error or self.survived)


class _Here(threading.local):
    attempts: Attempts | None = None
    attempt: _Attempt | None = None


_here = _Here()


class striking:  # noqa: N801 - it reads as the function that it would be, if contextlib were not slower
    """Let the connections that this thread uses meanwhile ask `attempts`; with None they are left alone."""

    __slots__ = ("_attempts", "_before")

    def __init__(self, attempts: Attempts | None) -> None:
        self._attempts = attempts

    def __enter__(self) -> None:
        self._before = _here.attempts, _here.attempt
        _here.attempts, _here.attempt = self._attempts, None

    def __exit__(self, *_raised: object) -> None:
        try:
            if _here.attempt is not None:
                _here.attempt.end()
        finally:
            _here.attempts, _here.attempt = self._before


def install(module: ModuleType, injector: Injector) -> Callable[[], None]:
    """Hook the connections of the module urllib3.connection."""
    hooks = _Hooks(injector)
    plain, secure = module.HTTPConnection, module.HTTPSConnection
    undo = [patch(owner, "connect", hooks.connect) for owner in (plain, secure)]
    undo += [patch(plain, name, hooks.request) for name in ("request", "request_chunked")]
    undo.append(patch(plain, "getresponse", hooks.getresponse))
    injector.seams[Seam.TRANSPORT] = "urllib3.connection"

    def undo_all() -> None:
        while undo:
            undo.pop()()

    return undo_all


class _Hooks:
    """An attempt begins at the first of connect and request, and ends with getresponse or an error."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def connect(
        self, wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        """Begin an attempt, unless this is part of sending its request."""
        if _here.attempts is None or self._is_sending(connection):
            return wrapped(*args, **kwargs)
        attempt = self._begin(_here.attempts, connection)
        harm = attempt.harm
        try:
            if harm is None or not comes_instead(harm) or (_is_proxied(connection) and harm.kind not in CONNECT_KINDS):
                wrapped(*args, **kwargs)
            else:
                break_fresh(connection, harm)
        except BaseException as error:
            attempt.end(0, error)
            raise
        return None

    def request(
        self, wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        """Begin an attempt, unless connect did, and send its request: into nothing, if it breaks before."""
        if _here.attempts is None or self._is_sending(connection):
            return wrapped(*args, **kwargs)
        attempt = _here.attempt
        is_new = attempt is None or attempt.connection is not connection or attempt.is_sent
        if attempt is None or is_new:
            attempt = self._begin(_here.attempts, connection)
        attempt.is_sent = attempt.is_sending = True
        try:
            if attempt.harm is not None and comes_instead(attempt.harm):
                _break(connection, attempt.harm)
            if attempt.harm is not None and comes_upon(attempt.harm):
                attempt.again = _repeated(wrapped, args, kwargs)
                if attempt.again is None:
                    attempt.harm, withhold = None, _here.attempts.withhold
                    self._ask(lambda: withhold("the body can be sent only once"), None)
                elif "preload_content" in kwargs:
                    kwargs = {**kwargs, "preload_content": False}  # the answer shall come as it was sent
            return wrapped(*args, **kwargs)
        except BaseException as error:
            attempt.survived = error
            if getattr(error, "errno", None) not in _SURVIVED:
                attempt.end(0, error)
            raise
        finally:
            attempt.is_sending = False

    def getresponse(
        self, wrapped: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        """End the attempt."""
        attempt = _here.attempt
        # urllib3 1.26 first calls this as Python 2 had it, in vain.
        if attempt is None or attempt.connection is not connection or args or kwargs:
            return wrapped(*args, **kwargs)
        try:
            response = self._answer(attempt, wrapped)
        except BaseException as error:
            attempt.end(0, error)
            raise
        attempt.survived = None
        attempt.end(response.status)
        return response

    def _answer(self, attempt: _Attempt, wrapped: Callable[[], Any]) -> Any:
        harm, connection = attempt.harm, attempt.connection
        if harm is not None and harm.kind == "delay" and harm.phase is Phase.AFTER:
            response = wrapped()
            wait(harm.seconds)
            return response
        if harm is None or attempt.again is None:
            return wrapped()
        # urllib3 1.26 tells it to the socket only; not every TLS library's socket tells it back.
        timeout = getattr(connection.sock, "gettimeout", lambda: connection.timeout)()
        answer = record(wrapped())
        unable = why_not(harm, answer)
        strikes = self._ask(lambda: attempt.heard(harm, answer, unable), False) and not unable
        if connection.sock is not None:
            connection.sock.close()
        connection.sock = broken_socket(harm, answer) if strikes else whole_socket(answer)
        attempt.is_sending = True
        try:
            attempt.again()
        finally:
            attempt.is_sending = False
        connection.sock.settimeout(timeout)
        return wrapped()

    def _begin(self, attempts: Attempts, connection: Any) -> _Attempt:
        if _here.attempt is not None:
            _here.attempt.end()
        harm = self._ask(attempts.begin, None)

        def told(status: int, error: BaseException | None) -> None:
            self._ask(lambda: attempts.ended(status, error), None)

        _here.attempt = attempt = _Attempt(connection, harm, attempts.heard, told)
        if harm is not None and harm.kind == "delay" and harm.phase is Phase.BEFORE:
            wait(harm.seconds)
        return attempt

    def _ask(self, work: Callable[[], T], otherwise: T) -> T:
        """Do some work of our own, whose own connections are nobody's attempts."""
        with striking(None):
            return self._injector.sheltered(work, otherwise)

    def _is_sending(self, connection: Any) -> bool:
        attempt = _here.attempt
        return attempt is not None and attempt.is_sending and attempt.connection is connection


def _is_proxied(connection: Any) -> bool:
    return getattr(connection, "proxy", None) is not None


def _break(connection: Any, harm: Harm) -> None:
    """Break a connection that is about to send, be it fresh, from the pool, or broken already."""
    if harm.kind in CONNECT_KINDS:
        break_fresh(connection, harm)  # raises; urllib3 closes what was open
    if isinstance(connection.sock, ScriptedSocket):
        return
    if connection.sock is None and _is_proxied(connection):
        connection.connect()  # urllib3 takes what fails before this for the proxy's failure
    if connection.sock is None:
        break_fresh(connection, harm)
    else:
        connection.sock.close()
        connection.sock = broken_socket(harm)


def _repeated(
    send: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Callable[[], object] | None:
    """Return how to send a request once more, None if its body can be read only once."""
    body = kwargs.get("body", args[2] if len(args) > 2 else None)
    again = partial(send, *args, **kwargs)
    return again if body is None or isinstance(body, (bytes, bytearray, str)) else None
