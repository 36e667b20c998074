"""The promise of the corners: tox knows them all, and none is passed with other libraries than its own."""

from __future__ import annotations

import re
import sys
from itertools import product
from pathlib import Path

import pytest

from tests import corners

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def test_tox_knows_every_corner_and_installs_something_of_its_own_in_each() -> None:
    tomllib = pytest.importorskip("tomllib")
    tox = tomllib.loads(PYPROJECT.read_text())["tool"]["tox"]
    assert tox["env_list"] == ["-".join(corner) for corner in product(corners.PYTHONS, corners.CORNERS)]
    conditions = " ".join(item["condition"] for item in tox["env_run_base"]["deps"] if isinstance(item, dict))
    assert set(re.findall(r"factor\.(\w+)", conditions)) == set(corners.CORNERS)
    assert tox["env_run_base"]["commands"][0] == ["python", "-m", "tests.corners", "{env_name}"]


def test_a_corner_is_not_passed_with_other_libraries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["corners", "py39-oldest"])
    assert corners.main() == 1
    said = capsys.readouterr()
    assert [name in said.out for name in ("requests", "urllib3", "PIL", "wrapt")] == [True] * 4
    python = f"error: Python {sys.version} is not py39"
    libraries = [f"error: {name} {version} is not {corners.OLD[name]}" for name, version in corners.in_force().items()]
    assert said.err.splitlines() == [*libraries, *python.splitlines()]
