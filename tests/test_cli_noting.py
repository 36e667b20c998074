"""`ami-fault note`, on run folders that a model has written."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ami_fault_site import runfolder, runs
from ami_fault_site.cli import main
from ami_fault_site.history import Note
from tests.model import healthy, play, write

TOKEN = "AMI_ANTENNA_API_AUTH_TOKEN"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("AMI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has ended."""
    (folder,) = write(play(healthy(67)), tmp_path / runfolder.HOME).values()
    (tmp_path / runfolder.HOME / "latest").symlink_to(folder.name)
    return folder


def notes(folder: Path) -> list[Note]:
    return runs.read([folder])[0].notes


def test_a_note_is_kept_in_the_run_with_its_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.time()
    assert main(["note", "killed  celeryworker\n"]) == 0
    assert capsys.readouterr().out == f"noted in {run}: killed celeryworker\n"

    (note,) = notes(run)
    assert note.text == "killed celeryworker"
    assert before - 0.001 <= note.wall <= time.time()


def test_what_was_done_a_while_ago_is_noted_for_then(run: Path) -> None:
    before = time.time()
    assert main(["note", "--ago", "2m", str(run), "restarted rabbitmq"]) == 0

    (note,) = notes(run)
    assert before - 120.001 <= note.wall <= time.time() - 120
    assert note.at <= time.monotonic() - 120


def test_a_note_changes_nothing_in_the_verdict_of_a_run_that_has_ended(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["check", "--json"])
    before = json.loads(capsys.readouterr().out)
    assert main(["note", "killed celeryworker"]) == 0
    capsys.readouterr()

    assert main(["check", "--json"]) == code
    after = json.loads(capsys.readouterr().out)
    assert {name for name in after if after[name] != before.get(name)} <= {"notes"}


def test_a_run_of_which_only_a_note_is_left_is_an_empty_one(run: Path) -> None:
    for path in (run / "ledger").iterdir():
        path.unlink()
    assert main(["note", "killed celeryworker"]) == 0

    assert runs.gaps(runs.read([run])[0]) == ["the ledger is empty: nothing was booked, or its files are gone"]


def test_secrets_are_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "0123456789abcdef")
    assert main(["note", "asked http://u:pw@h/captures/1.jpg?X-Sig=abc with 0123456789abcdef"]) == 0

    assert notes(run)[0].text == "asked http://***@h/captures/1.jpg?*** with ***"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([" \t"], "TEXT is empty: say what was done, such as 'killed celeryworker'"),
        (["x" * 10_240], "TEXT has 10,240 characters: a note has 500 at most"),
        (["a\x1b[31mb"], "TEXT='a\\x1b[31mb': holds '\\x1b', a control character or a byte that is no text"),
        (["caf\udce9"], "TEXT='caf\\udce9': holds '\\udce9', a control character or a byte that is no text"),
        (
            ["latest", "killed", "celeryworker"],
            "note takes a run and a text; put the text in quotes: 'latest killed celeryworker'",
        ),
        (["--ago", "soon", "x"], "--ago='soon': is a time such as 90s, 30m or 1h"),
        (["--ago", "200h", "x"], "--ago='200h': is 168h at most"),
        (["nowhere", "x"], "RUN='nowhere': not a run folder; under "),
    ],
)
def test_what_is_no_note_is_refused(
    run: Path, argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["note", *argv]) == 2
    assert capsys.readouterr().err.startswith(f"ami-fault: {problem}")
    assert notes(run) == []


def test_a_folder_that_cannot_be_written_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = run / "ledger"
    ledger.rename(run / "moved")
    assert main(["note", "killed celeryworker"]) == 2
    assert capsys.readouterr().err == (
        f"ami-fault: RUN={str(run)!r}: the note cannot be written: No such file or directory\n"
    )
