"""The promises of counters beyond those of the run folder: files that stay open, and what becomes of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ami_fault_site.counters import Counters


def test_a_counter_is_opened_once_and_counted_on_by_others(tmp_path: Path) -> None:
    one, other = Counters(str(tmp_path)), Counters(str(tmp_path))

    assert [one.count("jobs"), other.count("jobs", 5), one.count("jobs")] == [1, 6, 7]
    assert [one.counted("jobs"), other.counted("jobs"), one.counted("tasks")] == [7, 7, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["count-jobs"]


def test_a_fork_counts_on_with_a_file_of_its_own(tmp_path: Path) -> None:
    one = Counters(str(tmp_path))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert one.count("jobs") == 1
    child = os.fork()
    if child == 0:
        opened = len(os.listdir("/proc/self/fd")) if before else 0
        os._exit(0 if one.count("jobs") == 2 and opened <= before else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one.count("jobs") == 3


def test_what_is_removed_is_not_counted_on(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    one = Counters(str(folder))
    assert one.count("jobs") == 1

    (folder / "count-jobs").unlink()
    assert one.count("jobs") == 1
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        one.count("jobs")
