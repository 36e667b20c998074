"""Keep the tree clean, let the longest tests come first, and trace what tests start where it is worth it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

# These come first, in this order: they take seconds by the dozen.
_LONGEST = (
    "test_selftest", "test_any_environment", "test_bench", "test_grid", "test_run", "test_attempt_rates",
    "test_neighbours", "test_order", "test_budget", "test_packaging",
)  # fmt: skip

# These need no environment, and are passed while the first process makes the one that the longest wait for.
_MEANWHILE = ("twins/test_images", "tests/test_supervisor", "tests/test_sandbox_sabotage")

# Of what these start, a good part runs nowhere else; for the others a tracer in children is half of the work in vain.
_TRACED = ("test_children", "test_sample_worker", "test_sandbox")
_TRACER = "COVERAGE_PROCESS_CONFIG"
_CONFIG = os.environ.pop(_TRACER, "") if "PYTEST_XDIST_WORKER" in os.environ else ""


def pytest_configure(config: pytest.Config) -> None:
    # Hypothesis puts what it works out about our code into a folder that goes with the session.
    home = tempfile.mkdtemp(prefix="hypothesis-")
    set_hypothesis_home_dir(home)
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each process of the tests begin with its share of those that wait for real processes."""
    for item in items:
        if "twins" in item.path.parts:
            item.add_marker(pytest.mark.untraced)
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    waiting = [item for item in items if "e2e" in item.path.parts]
    waiting.sort(key=lambda item: (*_LONGEST, item.path.stem).index(item.path.stem))
    others = [item for item in items if "e2e" not in item.path.parts]
    others.sort(key=lambda item: (item.path.parts, _case(item)))  # those that share what they work out stay together
    meanwhile = [[item for item in others if _file(item) == name] for name in ("", *_MEANWHILE)]
    busy = [item for item in others if _file(item) not in _MEANWHILE]
    size = -(-len(busy) // shares)
    items[:] = [
        item
        for number in range(shares)
        for item in (
            *itertools.chain.from_iterable(meanwhile[number::shares]),
            *waiting[number::shares],
            *busy[number * size : (number + 1) * size],
        )
    ]


def _file(item: pytest.Item) -> str:
    """Return the last two words of a test's file: its folder and its name."""
    return "/".join(item.path.with_suffix("").parts[-2:])


def _case(item: pytest.Item) -> str:
    """Return with what a test is tried."""
    spec = getattr(item, "callspec", None)
    return "" if spec is None else str(spec.id)


@pytest.fixture(scope="module", autouse=True)
def tracer_in_children(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the processes be traced that the tests of this file start, if it is worth it."""
    if not _CONFIG or not request.path.stem.startswith(_TRACED):
        yield
        return
    os.environ[_TRACER] = _CONFIG
    yield
    del os.environ[_TRACER]
