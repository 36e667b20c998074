"""The seam at requests.Session.send: name the call, ask, pass on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getattr_static
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

# Not from `requests` itself, which is still being imported when this module is.
from requests.exceptions import RequestException
from requests.models import PreparedRequest, Response

from ami_fault_site.faults import Decision, Harm, Seam
from ami_fault_site.hooks.failing_adapter import failing
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.injector import Injector
from ami_fault_site.witness import Passage, Witness


class _Here(threading.local):
    """This thread's call: how deep in Session.send it is (redirects re-enter it), and how it shall fail."""

    depth = 0
    api = False
    failure: Harm | None = None


def install(module: ModuleType, injector: Injector, first_call: Callable[[], None]) -> Callable[[], None]:
    """Hook Session.send, which decides, and Session.get_adapter, through which a struck call fails."""
    witness = Witness(injector, _prepared_url)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=witness.renew_after_fork)
    here = _Here()

    def send(
        wrapped: Callable[..., Response], session: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Response:
        request: PreparedRequest = args[0] if args else kwargs["request"]
        url = request.url or ""
        host = urlsplit(url).netloc.rpartition("@")[2]
        if here.depth:
            if here.api:
                injector.meet_host(host)  # an API call may be redirected to where no test may go
            return wrapped(*args, **kwargs)
        passage = injector.sheltered(lambda: witness.recognize(request.method or "", url, request.body), None)
        if passage is None:
            return wrapped(*args, **kwargs)
        able = getattr_static(session, "get_adapter", None) is vars(module.Session)["get_adapter"]
        here.depth, here.api = here.depth + 1, passage.lease is None
        try:
            asked = injector.sheltered(lambda: _ask(injector, witness, first_call, passage, host, able), NOT_ASKED)
            here.failure = asked.decision.harm if asked.struck else None
            return _pass_on(witness, passage, asked, lambda: wrapped(*args, **kwargs))
        finally:
            here.depth -= 1
            here.failure = None

    def get_adapter(
        wrapped: Callable[..., Any], _session: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        adapter = wrapped(*args, **kwargs)
        harm, here.failure = here.failure, None
        return adapter if harm is None else failing(adapter, harm, lambda _answer: True)

    undo_send = patch(module.Session, "send", send)
    undo_adapter = patch(module.Session, "get_adapter", get_adapter)
    injector.seams[Seam.HTTP] = "requests.Session.send"

    def undo() -> None:
        undo_send()
        undo_adapter()

    return undo


@dataclass(frozen=True)
class _Asked:
    decision: Decision
    struck: bool


NOT_ASKED = _Asked(Decision(reason="it could not be asked"), False)


def _ask(
    injector: Injector, witness: Witness, first_call: Callable[[], None], passage: Passage, host: str, able: bool
) -> _Asked:
    first_call()
    decision = injector.decide(passage.call)
    witness.begins(passage, decision, host)
    unable = "" if able else "the session chooses its adapter in a way of its own"
    return _Asked(decision, injector.grant(passage.call, decision, unable=unable))


def _pass_on(witness: Witness, passage: Passage, asked: _Asked, send: Callable[[], Response]) -> Response:
    shelter = witness.injector.sheltered
    try:
        response = send()
    except BaseException as error:
        failure = error
        shelter(lambda: witness.failed(passage, asked.decision, asked.struck, failure), None)
        raise
    shelter(lambda: witness.answered(passage, asked.decision, asked.struck, response), None)
    return response


def _prepared_url(url: str) -> str:
    """Return a URL as requests sends it, "" if requests would refuse it."""
    request = PreparedRequest()
    try:
        request.prepare_url(url, None)
    except (RequestException, UnicodeError, ValueError):
        return ""
    return request.url or ""
