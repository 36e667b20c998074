"""Inject a fault on the wire by its name, at each of the two layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image
import pytest
import requests
import requests.sessions
import urllib3.connection

from ami_fault_site.faults import Effect, Harm, Layer, Phase
from ami_fault_site.grammar import parse_rules
from ami_fault_site.hooks import http, images, transport
from ami_fault_site.hooks.failing_adapter import failing
from ami_fault_site.hooks.recording import Answer
from ami_fault_site.injector import Injector
from tests.stage import injector

SECONDS = 0.05
"""How long something slow takes."""


def harm_of(fault: str) -> Harm:
    """Return what a fault does that is named as in the table."""
    effect, kind, phase = fault.split(" ")
    kind, _, later = kind.partition(":")
    return Harm(Effect(effect), kind, Phase(phase), float(later) if later else None, SECONDS)


@dataclass
class Always:
    """Each attempt breaks."""

    harm: Harm
    heard_of: list[Answer] = field(default_factory=list)

    def begin(self) -> Harm:
        return self.harm

    def heard(self, _harm: Harm, answer: Answer, unable: str) -> bool:
        if not unable:
            self.heard_of.append(answer)
        return True

    def withhold(self, why: str) -> None:
        raise AssertionError(why)

    def ended(self, status: int, error: BaseException | None) -> None:
        assert bool(status) is not isinstance(error, BaseException)


@contextmanager
def _at_each_attempt(always: Always, folder: Path) -> Iterator[None]:
    undo = transport.install(urllib3.connection, injector(folder))
    try:
        with transport.striking(always):
            yield
    finally:
        undo()


@contextmanager
def _at_the_call(always: Always, _folder: Path) -> Iterator[None]:
    real: Callable[..., object] = requests.Session.get_adapter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            requests.Session,
            "get_adapter",
            lambda self, url: failing(real(self, url), always.harm, lambda *told: always.heard(always.harm, *told)),
        )
        yield


LAYERS = {Layer.CALL: _at_the_call, Layer.ATTEMPT: _at_each_attempt}
"""How to let every call of this thread be struck, at each layer."""


@contextmanager
def by_rules(folder: Path, rules: str) -> Iterator[Injector]:
    """Hook requests and PIL in a run with these rules."""
    one = injector(folder, rules=parse_rules(rules))
    undo = [http.install(requests.sessions, one, lambda: None), images.install(PIL.Image, one, lambda: None)]
    try:
        yield one
    finally:
        while undo:
            undo.pop()()
