"""Keep the tree clean: hypothesis puts what it works out about our code into a folder that goes with the session."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

_LONGEST = ("test_selftest", "test_run", "test_grid", "test_attempt_rates")  # seconds by the dozen: they come first


def pytest_configure(config: pytest.Config) -> None:
    home = tempfile.mkdtemp(prefix="hypothesis-")
    set_hypothesis_home_dir(home)
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each process of the tests begin with its share of those that wait for real processes."""
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    waiting = [item for item in items if "e2e" in item.path.parts]
    waiting.sort(key=lambda item: item.path.stem not in _LONGEST)
    busy = [item for item in items if "e2e" not in item.path.parts]
    size = -(-len(busy) // shares)
    items[:] = [
        item
        for number in range(shares)
        for item in (*waiting[number::shares], *busy[number * size : (number + 1) * size])
    ]
