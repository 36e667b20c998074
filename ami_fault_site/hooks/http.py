"""The seam at requests.Session.send: name the call, ask, pass on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from inspect import unwrap
from types import FunctionType, ModuleType
from typing import Any
from urllib.parse import urlsplit

# Not from `requests` itself, which is still being imported when this module is.
from requests.exceptions import RequestException
from requests.models import PreparedRequest, Response

from ami_fault_site.faults import Harm, Layer, Seam
from ami_fault_site.forks import around_fork
from ami_fault_site.hooks import transport
from ami_fault_site.hooks.crossing import Crossing
from ami_fault_site.hooks.failing_adapter import failing
from ami_fault_site.hooks.hop import Hop
from ami_fault_site.hooks.patch import Hook, is_hooked
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.hooks.revising import Revising
from ami_fault_site.injector import Injector
from ami_fault_site.witness import Witness


class _Here(threading.local):
    """This thread's call, the request that it began with, and how its next hop shall fail."""

    crossing: Crossing | None = None
    request: PreparedRequest | None = None
    harm: Harm | None = None


def install(module: ModuleType, injector: Injector, first_call: Callable[[], None]) -> Callable[[], None]:
    """Hook Session.send, which decides, and Session.get_adapter, through which a struck call fails."""
    seam = _Seam(module, injector, first_call)
    undo = seam.undo
    seam.hook_send()
    undo.append(patch(module.Session, "get_adapter", seam.get_adapter))
    if injector.settings.network_layer is Layer.ATTEMPT:
        undo.append(transport.install(sys.modules["urllib3.connection"], injector))
    injector.seams[Seam.HTTP] = "requests.Session.send"

    def undo_all() -> None:
        seam.is_up = False
        while undo:
            undo.pop()()

    return undo_all


class _Seam:
    def __init__(self, module: ModuleType, injector: Injector, first_call: Callable[[], None]) -> None:
        self.injector, self.first_call = injector, first_call
        self.of_module, self.sessions = vars(module), module.Session  # somebody may put another class there
        self.here = _Here()
        self.is_up = True  # a session's own get_adapter, which we are in, stays with it after the undo
        self.undo: list[Callable[[], None]] = []
        self.witness = Witness(self.injector, _prepared_url)
        around_fork(after_in_child=self.witness.renew_after_fork)

    def hook_send(self) -> None:
        """Hook Session.send, whoever else has; note whether below there is a send that will ask for our adapter."""
        self.is_asked = self._is_own(unwrap(vars(self.sessions)["send"]))
        self.undo.append(patch(self.sessions, "send", self.send))

    def _is_own(self, send: object) -> bool:
        return type(send) is FunctionType and send.__globals__ is self.of_module

    def send(
        self, wrapped: Callable[..., Response], session: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Response:
        request: PreparedRequest = args[0] if args else kwargs["request"]
        here = self.here
        within = here.crossing
        if within is not None and self._is_part(within, request, kwargs):
            if within.is_api and within.leads_on:
                self.injector.meet_host(_host(request))  # an API call may be redirected to where no test may go
            return wrapped(*args, **kwargs)
        crossing = None
        if self.witness.may_know(request.url or ""):
            crossing = self.injector.sheltered(lambda: self._crossing(request, session), None)
        if crossing is None and within is None:
            return wrapped(*args, **kwargs)
        before = within, here.request, here.harm
        here.crossing, here.request, here.harm = crossing, request, None
        try:
            if crossing is None:
                return wrapped(*args, **kwargs)
            return crossing.go(lambda: wrapped(*args, **kwargs), self._fail_by)
        finally:
            here.crossing, here.request, here.harm = before

    def _is_part(self, crossing: Crossing, request: PreparedRequest, kwargs: Mapping[str, Any]) -> bool:
        """Whether this is the call under way, or where that is redirected to, and not a call that a hook of it makes.

        requests follows a redirect by copies of the first request, which have the very hooks that it has.
        """
        first = self.here.request
        is_copy = first is not None and request.hooks is first.hooks and kwargs.get("allow_redirects") is False
        return crossing.is_new or (crossing.leads_on and is_copy)

    def get_adapter(
        self, wrapped: Callable[..., Any], _session: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        if self.is_up and self._is_own(vars(self.sessions).get("send")):
            self.hook_send()  # somebody has put back what he had found there; this call is past
        adapter, here = wrapped(*args, **kwargs), self.here
        crossing = here.crossing
        if crossing is None or not (crossing.is_new or crossing.leads_on):
            return adapter  # which somebody asks for by himself, such as a response's hook
        if crossing.revises:
            adapter = Revising(adapter, crossing.revise)
        harm, here.harm = here.harm, None
        if harm is not None:
            adapter = failing(adapter, harm, crossing.heard)
        return Hop(adapter, crossing, crossing.hop())

    def _crossing(self, request: PreparedRequest, session: object) -> Crossing | None:
        if not isinstance(request, PreparedRequest):
            return None  # which requests will say itself
        passage = self.witness.recognize(request.method or "", request.url or "", request.body)
        if passage is None:
            return None
        self.first_call()
        if passage.lease is None:
            self.injector.meet_host(_host(request))
        return Crossing(self.injector, self.witness, passage, not self._asks_us(session))

    def _asks_us(self, session: object) -> bool:
        """Whether this session will ask us for its adapter; one that got a function of its own for that is made to."""
        own = vars(session).get("get_adapter")
        if own is None and type(session) is self.sessions:  # as nearly every session
            return self.is_asked and is_hooked(vars(self.sessions).get("get_adapter"))
        if own is not None and type(own) is not Hook:
            patch(session, "get_adapter", self.get_adapter)  # inert once `send` is
        return self.is_asked and is_hooked(_chooser(session))

    def _fail_by(self, harm: Harm | None) -> None:
        self.here.harm = harm


def _host(request: PreparedRequest) -> str:
    return urlsplit(request.url or "").netloc.rpartition("@")[2]


def _chooser(session: object) -> object:
    """Return what chooses a session's adapter, without binding it; far quicker than to ask inspect."""
    if "get_adapter" in vars(session):
        return vars(session)["get_adapter"]
    return next((vars(kind)["get_adapter"] for kind in type(session).__mro__ if "get_adapter" in vars(kind)), None)


def _prepared_url(url: str) -> str:
    """Return a URL as requests sends it, "" if requests would refuse it."""
    request = PreparedRequest()
    try:
        request.prepare_url(url, None)
    except (RequestException, UnicodeError, ValueError):
        return ""
    return request.url or ""
