"""The promise of the faults on the wire: what a worker meets is what it meets when the failure is real."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from ami_fault_site.faults import Layer, Phase
from tests.twins import table
from tests.twins.calls import CALLS, LONG, SHORT, Shown, show, through_proxy
from tests.twins.injected import LAYERS, Always, harm_of
from tests.twins.server import CannotMisbehaveError, behaving
from tests.twins.table import Compared, Row

ROWS = table.rows(Compared.WIRE)
_SILENT = ("never accepts", "never answers", "falls silent in the middle")


def timeout(twin: str) -> float:
    """Return how long to wait for such a server."""
    return SHORT if twin in _SILENT else LONG


@cache
def real(twin: str) -> tuple[str, dict[str, Shown]] | str:
    """Return the URL of the server that misbehaves so, and what each call shows; or why there is none here."""
    try:
        with behaving(twin) as server:
            return server.url, {name: show(name, server.url, timeout(twin)) for name in CALLS}
    except CannotMisbehaveError as error:
        return str(error)


def url_like(url: str, good: str) -> str:
    """Return where to meet the fault: where the real one was met, if that is no server that answers."""
    return good if url.startswith("http://127.0.0.1") else url


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.value)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault.replace(" ", "-"))
def test_a_fault_is_met_as_the_real_failure_is(row: Row, layer: Layer, tmp_path: Path) -> None:
    met = real(row.twin)
    if isinstance(met, str):
        pytest.skip(met)
    harm = harm_of(row.fault)
    with behaving("good") as server:
        base = url_like(met[0], server.url)
        for name, shown in met[1].items():
            always = Always(harm)
            server.asked.clear()
            with LAYERS[layer](always, tmp_path / name):
                injected = show(name, base, timeout(row.twin))
            assert (name, injected.outcome) == (name, shown.outcome)
            assert (name, injected.log) == (name, shown.log)
            assert (name, injected.pauses) == (name, [] if layer is Layer.CALL else shown.pauses)
            _assert_asked(harm.phase, harm.kind, server.asked, always)


def _assert_asked(phase: Phase, kind: str, asked: list[str], always: Always) -> None:
    """The service is not asked at all before, and is asked, and its answer told, during and after."""
    if kind == "delay":
        assert len(asked) == 1
    elif phase is Phase.BEFORE:
        assert (asked, always.heard_of) == ([], [])
    else:
        assert [answer.status_code for answer in always.heard_of] == [200] * len(asked)
        assert asked != []


@pytest.mark.parametrize("twin", ["refuses", "resets", "closes", "never answers", "is no web server", "answers 503"])
def test_an_attempt_that_goes_through_a_proxy_breaks_as_a_real_one_does(twin: str, tmp_path: Path) -> None:
    with behaving(twin) as server:
        shown = through_proxy(server.url, timeout(twin))
    for fault in [row.fault for row in ROWS if row.twin == twin]:
        with behaving("good") as server, LAYERS[Layer.ATTEMPT](Always(harm_of(fault)), tmp_path / fault):
            assert (fault, through_proxy(server.url, timeout(twin))) == (fault, shown)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.value)
@pytest.mark.parametrize("twin", ["closes in the middle", "resets in the middle", "falls silent in the middle"])
def test_a_failure_that_is_real_is_met_as_it_is_and_no_fault_comes_on_top(
    twin: str, layer: Layer, tmp_path: Path
) -> None:
    always = Always(harm_of("network-error http-503 after"))
    with behaving(twin) as server:
        shown = show("post", server.url, timeout(twin))
        with LAYERS[layer](always, tmp_path):
            injected = show("post", server.url, timeout(twin))
    if shown.outcome[1]["type"] == "requests.exceptions.JSONDecodeError":
        pytest.skip("to urllib3 1.26 an answer that ends early is an answer")
    assert (injected, always.heard_of) == (shown, [])


def test_the_twins_are_real_failures_and_the_good_one_is_none() -> None:
    """What the comparison stands on: a twin that fell asleep would make every fault that does nothing look right."""
    with behaving("good") as server:
        good = {name: show(name, server.url, LONG) for name in CALLS}
    assert [shown.log for shown in good.values()] == [[]] * len(CALLS)
    harmless = ("is late", "trickles")
    for row in ROWS:
        met = real(row.twin)
        if not isinstance(met, str):
            differs = {name for name, shown in met[1].items() if shown != good[name]}
            assert (row.twin, bool(differs)) == (row.twin, row.twin not in harmless)
