"""The promises of forks: methods are called around a fork, and keep nobody alive; with who goes, go his files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ami_fault_site.counters import Counters
from ami_fault_site.forks import around_fork
from ami_fault_site.ledger import Ledger


class Told:
    """Tells through a pipe what is called of it."""

    def __init__(self) -> None:
        self.hear, self.tell = os.pipe()
        around_fork(before=self.before, after_in_parent=self.after_in_parent, after_in_child=self.after_in_child)

    def before(self) -> None:
        os.write(self.tell, b"b")

    def after_in_parent(self) -> None:
        os.write(self.tell, b"p")

    def after_in_child(self) -> None:
        os.write(self.tell, b"c")


def fork() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def test_methods_are_called_before_a_fork_and_on_both_sides_of_it() -> None:
    told = Told()
    fork()
    assert sorted(os.read(told.hear, 10)) == sorted(b"bpc")


def test_they_keep_nobody_alive_and_are_not_called_any_more() -> None:
    told = Told()
    hear, tell = told.hear, told.tell
    del told
    fork()
    os.close(tell)
    assert os.read(hear, 10) == b""


def opened(folder: Path) -> list[str]:
    """Return the files of a folder that this process has open."""
    links = (os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    return [name for link in links if os.path.islink(link) and (name := os.readlink(link)).startswith(str(folder))]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what is open cannot be listed here")
def test_a_ledger_and_counters_close_their_files_when_nobody_has_them_any_more(tmp_path: Path) -> None:
    ledger, counters = Ledger(tmp_path, 0), Counters(str(tmp_path))
    ledger.append("end")
    counters.count("tasks")
    assert len(opened(tmp_path)) == 2
    del ledger, counters
    assert opened(tmp_path) == []


def test_whoever_has_closed_their_files_hears_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: heard.append(unraisable.exc_value))
    ledger, counters = Ledger(tmp_path, 0), Counters(str(tmp_path))
    ledger.append("end")
    counters.count("tasks")
    os.close(ledger._descriptor)
    os.close(*counters._open.values())
    del ledger, counters
    assert heard == []
