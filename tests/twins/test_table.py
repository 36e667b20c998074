"""The promises of the table: no fault without a twin, no twin that does not exist, and no twin made from its fault."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from ami_fault_site.faults import ANSWER_KINDS, CONNECT_KINDS, NETWORK_KINDS, Layer, Phase
from tests.twins import server, table
from tests.twins.injected import LAYERS, harm_of
from tests.twins.table import TABLE, Compared

STATUSES = (401, 403, 404, 410, 413, 429, 500, 502, 503, 504)
EXPECTED = {
    *((kind, Phase.BEFORE) for kind in CONNECT_KINDS),
    *((kind, phase) for kind in ANSWER_KINDS for phase in (Phase.BEFORE, Phase.AFTER)),
    *((f"http-{status}", phase) for status in STATUSES for phase in (Phase.BEFORE, Phase.AFTER)),
    *(("truncated", Phase.DURING), ("reset", Phase.DURING), ("closed", Phase.DURING)),
    *(("stall", Phase.DURING), ("read-timeout", Phase.DURING)),
    *(("delay", Phase.BEFORE), ("delay", Phase.AFTER), ("trickle", Phase.DURING)),
}


def test_every_kind_of_failure_on_the_wire_has_a_row_for_each_of_its_phases() -> None:
    harms = [harm_of(row.fault) for row in table.rows(Compared.WIRE)]
    assert {(harm.kind, harm.phase) for harm in harms} == EXPECTED
    assert set(NETWORK_KINDS) <= {harm.kind for harm in harms}


def test_no_fault_has_two_rows() -> None:
    assert [fault for fault, count in Counter(row.fault for row in TABLE).items() if count > 1] == []


def test_every_twin_on_the_wire_is_a_server_that_misbehaves_and_all_but_the_good_one_are_twins() -> None:
    assert {row.twin for row in table.rows(Compared.WIRE)} == server.NAMES - {"good"}


def test_both_layers_are_compared() -> None:
    assert set(LAYERS) == set(Layer)


@pytest.mark.parametrize("module", ["server.py", "anatomy.py", "damage.py"])
def test_a_twin_shares_nothing_with_the_fault(module: str) -> None:
    tree = ast.parse(Path(__file__).with_name(module).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in names if name.split(".")[0] in ("ami_fault_site", "tests")] == []
