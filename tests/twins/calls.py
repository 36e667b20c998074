"""The calls of a worker, and all that one of them shows: its outcome, its log, its pauses, its requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ami_fault_site.sandbox.worker import batches, client
from ami_fault_site.sandbox.worker.answers import Answer
from ami_fault_site.sandbox.worker.settings import Settings
from tests.twins.anatomy import anatomy, normal

SHORT, LONG = 0.5, 10.0
"""Seconds that a call waits for an answer: where none comes, and where one may only be late on a busy machine."""


def _settings(base: str) -> Settings:
    return Settings(f"{base}/api/v2", "token", "twin", 2, 0, 0.0, 0.0, 1, 1)


def _get(base: str) -> object:
    with client.http_session() as session:
        response = session.get(f"{base}/api/v2/jobs", timeout=client.GET_TIMEOUT)
        response.raise_for_status()
        return [response, response.json()]


def _post(base: str) -> object:
    with client.http_session() as session:
        response = session.post(f"{base}/api/v2/jobs/7/result/", json={}, timeout=client.POST_TIMEOUT)
        response.raise_for_status()
        return [response, response.json()]


def _fetch_tasks(base: str) -> object:
    with client.http_session("token") as session:
        return client.fetch_tasks(session, _settings(base), 7)


def _load(base: str) -> object:
    with client.http_session() as session:
        return batches._load(session, f"{base}/images/1.jpg")


def through_proxy(proxy: str, timeout: float) -> Shown:
    """Return what a call to a service behind this proxy shows."""

    def get(_base: str) -> object:
        with client.http_session() as session:
            session.proxies = {"http": proxy}
            return session.get("http://service.invalid/api/v2/jobs", timeout=client.GET_TIMEOUT)

    return _shown(get, "", timeout)


_ANSWERS: list[Answer] = []

CALLS: dict[str, Callable[[str], object]] = {
    "get": _get,
    "post": _post,
    "get_jobs": lambda base: client.get_jobs(_settings(base), ["moths"]),
    "fetch_tasks": _fetch_tasks,
    "post_results": lambda base: client.post_results(_settings(base), 7, _ANSWERS),
    "load": _load,
}
"""What a worker does with a service at a base URL: two bare requests, and the sample worker's own functions."""


@dataclass
class Shown:
    """All that a call lets be seen from inside its process."""

    outcome: Any = None
    log: list[tuple[str, str, str]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)


class _Collect(logging.Handler):
    def __init__(self, shown: Shown) -> None:
        super().__init__(logging.WARNING)
        self._shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        self._shown.log.append((record.name, record.levelname, normal(record.getMessage())))


@contextmanager
def _watched(shown: Shown, timeout: float) -> Iterator[None]:
    handler = _Collect(shown)
    logging.getLogger().addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Nobody else in these tests sleeps: the pauses of urllib3's Retry are noted, and not waited for.
            patch.setattr("time.sleep", shown.pauses.append)
            for module, name in ((client, "GET_TIMEOUT"), (client, "POST_TIMEOUT"), (batches, "GET_TIMEOUT")):
                patch.setattr(module, name, timeout)
            yield
    finally:
        logging.getLogger().removeHandler(handler)


def show(name: str, base: str, timeout: float) -> Shown:
    """Make a call of CALLS, and return what it shows."""
    return _shown(CALLS[name], base, timeout)


def _shown(call: Callable[[str], object], base: str, timeout: float) -> Shown:
    shown = Shown()
    with _watched(shown, timeout):
        try:
            shown.outcome = ["returned", _description(call(base))]
        except Exception as error:
            shown.outcome = ["raised", anatomy(error)]
    return shown


def _description(value: object) -> object:
    return repr(value) if isinstance(value, batches.Picture) else anatomy(value)
