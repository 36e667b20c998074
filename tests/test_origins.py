"""Where a process comes from, told by real processes, one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ami_fault_site import origins
from ami_fault_site.history import History
from ami_fault_site.ledger import Reader
from ami_fault_site.verdict.lives import Lives

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")

WORKER = """
import os, sys
from pathlib import Path
from ami_fault_site.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]), 0)
ledger.append("armed")
loader = os.fork()
ledger.append("call", site="tasks", call=1, job=7)
if not loader:
    os._exit(0)
os.waitpid(loader, 0)
os._exit(137)
"""


@linux
def test_a_process_tells_when_it_and_its_parent_began_and_which_start_of_the_host_that_was() -> None:
    code = "import json, os; from ami_fault_site.origins import origin; print(json.dumps(origin(os.getpid())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    told = dict(item.split(": ") for item in done.stdout.strip("{}\n").replace('"', "").split(", "))

    own = origins.born(os.getpid())
    assert (int(told["parent"]), int(told["parent_born"])) == (os.getpid(), own)
    assert 0 < own < int(told["born"])
    assert told["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip() == origins.boot()


def test_of_a_process_that_is_not_there_no_beginning_is_known() -> None:
    assert origins.born(2**22 + 1) == 0


@linux
def test_each_start_of_a_worker_by_somebody_else_is_a_life_of_its_own_and_its_loaders_are_in_it(tmp_path: Path) -> None:
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", WORKER, str(tmp_path)], check=False, timeout=30)
        assert done.returncode == 137
    history = History()
    history.add(Reader(tmp_path).new())
    lives = Lives(history)

    assert len(history.processes) == 6
    assert len(lives.all()) == 3
    mains = {one.pid: one for one in history.processes if one.parent == os.getpid()}
    for one in history.processes:
        main = mains[one.pid if one.pid in mains else one.parent]
        assert lives.holder(one.number).key == lives.holder(main.number).key
        assert one.born > 0
