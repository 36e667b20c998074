"""The seam at requests.Session.send: name the call, ask, pass on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

# Not from `requests` itself, which is still being imported when this module is.
from requests.exceptions import RequestException
from requests.models import PreparedRequest, Response

from ami_fault_site.faults import Decision, Seam
from ami_fault_site.hooks.failing_adapter import failing
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.injector import Injector
from ami_fault_site.witness import Passage, Witness


class _Here(threading.local):
    """This thread's call: how deep in Session.send it is (redirects re-enter it), and how it shall fail."""

    depth = 0
    failure = ""


def install(module: ModuleType, injector: Injector, first_call: Callable[[], None]) -> Callable[[], None]:
    """Hook Session.send, which decides, and Session.get_adapter, through which a struck call fails."""
    witness = Witness(injector, _prepared_url)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=witness.renew_after_fork)
    here = _Here()

    def send(
        wrapped: Callable[..., Response], _session: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Response:
        request: PreparedRequest = args[0] if args else kwargs["request"]
        url = request.url or ""
        passage = None
        if not here.depth:
            passage = injector.sheltered(lambda: witness.recognize(request.method or "", url, request.body), None)
        if passage is None:
            return wrapped(*args, **kwargs)
        first_call()
        here.depth += 1
        try:
            decision = injector.decide(passage.call)
            witness.begins(passage, decision, urlsplit(url).netloc.rpartition("@")[2])
            if injector.grant(passage.call, decision):
                here.failure = decision.kind
            return _pass_on(witness, passage, decision, bool(here.failure), lambda: wrapped(*args, **kwargs))
        finally:
            here.depth -= 1
            here.failure = ""

    def get_adapter(
        wrapped: Callable[..., Any], _session: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        adapter = wrapped(*args, **kwargs)
        kind, here.failure = here.failure, ""
        return failing(adapter, kind) if kind else adapter

    undo_send = patch(module.Session, "send", send)
    undo_adapter = patch(module.Session, "get_adapter", get_adapter)
    injector.seams[Seam.HTTP] = "requests.Session.send"

    def undo() -> None:
        undo_send()
        undo_adapter()

    return undo


def _pass_on(
    witness: Witness, passage: Passage, decision: Decision, struck: bool, send: Callable[[], Response]
) -> Response:
    shelter = witness.injector.sheltered
    try:
        response = send()
    except BaseException as error:
        failure = error
        shelter(lambda: witness.failed(passage, decision, struck, failure), None)
        raise
    shelter(lambda: witness.answered(passage, decision, struck, response), None)
    return response


def _prepared_url(url: str) -> str:
    """Return a URL as requests sends it, "" if requests would refuse it."""
    request = PreparedRequest()
    try:
        request.prepare_url(url, None)
    except (RequestException, UnicodeError, ValueError):
        return ""
    return request.url or ""
