"""Keep the tree clean: hypothesis puts what it works out about our code into a folder that goes with the session."""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis.configuration import set_hypothesis_home_dir


def pytest_configure(config: pytest.Config) -> None:
    home = tempfile.mkdtemp(prefix="hypothesis-")
    set_hypothesis_home_dir(home)
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests that wait for real processes over all others, so that each process has its share of them."""
    waiting = [item for item in items if "e2e" in item.path.parts]
    busy = [item for item in items if "e2e" not in item.path.parts]
    if waiting and busy:
        apart = len(busy) / len(waiting)
        places = {id(item): (number + 0.5) * apart for number, item in enumerate(waiting)}
        places |= {id(item): float(number) for number, item in enumerate(busy)}
        items.sort(key=lambda item: places[id(item)])
