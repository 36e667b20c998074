"""`ami-fault report`: which page it writes where, and what it says if it cannot."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

import pytest

from ami_fault_site import runfolder
from ami_fault_site.cli import main
from tests.model import healthy, play, write


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("AMI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def made(folder: Path, seed: int, *, latest: bool = False) -> Path:
    """Write a run; its name tells its time and its seed."""
    (path,) = write(play(healthy(seed)), folder).values()
    if latest:
        (folder / "latest").symlink_to(path.name)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return made(tmp_path / runfolder.HOME, 67, latest=True)


def test_the_page_of_the_latest_run_is_written_into_its_folder_and_named(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report"]) == 0

    assert capsys.readouterr().out == f"{runfolder.HOME}/{good.name}/report.html\n"
    page = (good / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "PASS nothing lost" in page
    assert main(["check"]) == 0  # whatever else lies in a run folder


def test_a_page_takes_the_place_of_the_one_before_and_leaves_nothing_half_done(good: Path, tmp_path: Path) -> None:
    page = tmp_path / "here.html"
    page.write_text("the one before")
    assert main(["report", str(good), "--html", str(page)]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir() if "here" in path.name] == ["here.html"]


def test_where_no_page_can_be_written_that_is_told_by_name(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--html", "nowhere/page.html"]) == 2
    assert capsys.readouterr().err == (
        "ami-fault: --html='nowhere/page.html': cannot be written: No such file or directory\n"
    )


def test_without_the_libraries_it_is_told_what_to_install(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(["report"]) == 2
    assert capsys.readouterr().err == (
        "ami-fault: the HTML report needs jinja2 and plotly: pip install 'ami-fault-site[report]'\n"
    )
    assert not (good / "report.html").exists()


def test_only_with_several_runs_their_throughput_is_set_against_the_fault_rate(good: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other", 67)
    assert main(["report"]) == 0
    assert "Against the fault rate" not in (good / "report.html").read_text()
    assert main(["report", "--compare", str(other)]) == 0
    page = (good / "report.html").read_text()
    assert "Against the fault rate" in page
    assert f'<th scope="row" class="foreign">other/{other.name}</th>' in page


def test_it_is_opened_if_asked_for_and_it_is_told_if_there_is_no_browser(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["report", "--open"]) == 2
    assert opened == [(good / "report.html").as_uri()]
    assert capsys.readouterr().err.startswith("ami-fault: --open: no browser was found; the page is ")
