"""The benchmark runs: every part of it, in its short form; what it measures there says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import PARTS
from tests.e2e.conftest import ROOT, Pinned, clean_environment
from tests.thorough import IS_THOROUGH

pytestmark = pytest.mark.untraced


@pytest.mark.timeout(300)
def test_every_part_of_the_benchmark_runs_and_is_written_down(
    wheel: Path, wheel_python: Path, pinned: Pinned, tmp_path: Path
) -> None:
    made = tmp_path / "environments"  # by other tests: to make more would take longer than all that is measured in them
    made.mkdir()
    for name, python in (("bare", pinned.python), ("ours", wheel_python), ("whole", wheel_python)):
        (made / name).symlink_to(python.parent.parent)
    parts = [
        part for part in PARTS if IS_THOROUGH or part not in ("working", "crowds")
    ]  # those run in other tests, too
    only = [word for part in parts for word in ("--only", part)]
    command = [
        sys.executable, "-m", "tests.bench", "--short", "--without-peers", "--wheel", str(wheel),
        "--environments", str(made), "--out", str(tmp_path), *only,
    ]  # fmt: skip
    environ = clean_environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=280)

    assert done.returncode == 0, done.stderr
    print(done.stderr)
    written = json.loads((tmp_path / "bench.json").read_text())
    rows = written["rows"]
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == parts
    assert [row["subject"] for row in rows if row["measured"] is None] == []
    text = (tmp_path / "bench.md").read_text()
    assert [row["subject"] for row in rows if f"| {row['subject']}" not in text] == []
    assert done.stdout.strip() == text.strip()
    # What is counted, and not timed, holds in the short form too.
    counted = [row for row in rows if row["goal"] and row["goal"]["text"] in ("none", "identical objects")]
    assert [row["subject"] for row in counted if not row["is_met"]] == []
    assert len(counted) > 10
