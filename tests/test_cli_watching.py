from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from ami_fault_site.cli import main
from ami_fault_site.faults import Effect
from ami_fault_site.ledger import Ledger
from ami_fault_site.runfolder import RunFolder, join
from ami_fault_site.settings import Settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that somebody else supervises: a worker has crashed, and is to be started again in a while."""
    monkeypatch.chdir(tmp_path)
    found = join(Settings(enabled=True, seed=1), tmp_path / "ami-fault-runs").run
    books = Ledger(found.ledger, 0)
    books.append("spawn", incarnation=1, child=5, worker=1)
    worker = Ledger(found.ledger, 1)
    worker.append("fault", effect=Effect.CRASH.value, kind="kill", site="batch", phase="before", tasks=[])
    books.append("exit", incarnation=1, code=-9, kind="injected", seconds=1.0, last_words=[])
    books.append("waiting", worker=1, seconds=60.0)
    return found


def test_a_run_of_another_process_is_told_from_its_folder(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--once"]) == 0

    told = capsys.readouterr().out
    assert "faults   1 crash" in [line.rstrip() for line in told.splitlines()]
    assert "worker 1 incarnation 1, crashed by a fault; starts again in " in told
    assert re.search(rf"^{run.path.name}: last heard of \d s ago$", told, re.MULTILINE)


def test_without_a_terminal_lines_are_said_until_the_run_has_ended(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        time.sleep(0.3)
        Ledger(run.ledger, 0).append("outcome", outcome="drained")

    ending = threading.Thread(target=end)
    ending.start()
    assert main(["watch", str(run.path)]) == 0
    ending.join()

    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("incarnation 1, next start in ")
    assert last.endswith("; ended: drained")


def test_what_is_no_run_cannot_be_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path / "nowhere")]) == 2
    assert "not a run folder" in capsys.readouterr().err
