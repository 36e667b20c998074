"""What the doctor reads out of the command that starts the worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from ami_fault_site.doctor import Level
from ami_fault_site.doctor.command import COMMAND, Started, examine_commands, of_command, of_script
from ami_fault_site.doctor.probe import Probed, Start

PATH = {"PATH": "/usr/bin:/bin"}


def probed(
    python: str = "/env/bin/python", lines: tuple[str, ...] = ("/env/lib/ami_fault_site.pth",), user: str = ""
) -> Probed:
    """Return what a probe told of an interpreter that we come to by these lines, else by PYTHONPATH."""
    start = Start(
        flags=(), finders=(), started=True, package="/p", own_version="1", before=(), after=(), customizers=(),
        user_site=user, lines=lines, loops={}, versions={},
    )  # fmt: skip
    return Probed(python, "3.11.7", start, None, "", {})


def script(folder: Path, head: str) -> Path:
    path = folder / "ami"
    path.write_text(f"{head}\nimport sys\n")
    return path


@pytest.mark.parametrize(
    ("head", "python", "letters"),
    [
        ("#!/env/bin/python", "/env/bin/python", ""),
        ("#!/env/bin/python3.12 -sE", "/env/bin/python3.12", "sE"),
        ("#! /env/bin/python -W error -I", "/env/bin/python", "WI"),
        ("#!/env/bin/python -Werror -S", "/env/bin/python", "WS"),
        ("#!/env/bin/python -m ami -S", "/env/bin/python", "m"),
        ("#!/env/bin/python script -S", "/env/bin/python", ""),
        ("#!/usr/bin/env -S A=1 /env/bin/python -I", "/env/bin/python", "I"),
        ("#!/bin/sh\n'''exec' \"/a long/bin/python\" -S \"$0\" \"$@\"\n' '''", "/a long/bin/python", "S"),
    ],
)
def test_a_script_tells_its_python_and_the_options(tmp_path: Path, head: str, python: str, letters: str) -> None:
    path = script(tmp_path, head)
    assert of_script(path, PATH) == Started(str(path), python, frozenset(letters))


@pytest.mark.parametrize("head", ["#!/bin/sh", "no first line", "", "#!", "\x7fELF"])
def test_what_is_no_script_of_python_tells_nothing(tmp_path: Path, head: str) -> None:
    assert of_script(script(tmp_path, head), PATH) is None


def test_without_a_script_nothing_is_told(tmp_path: Path) -> None:
    assert of_script(tmp_path / "ami", PATH) is None


def test_the_command_that_is_set_is_read_too() -> None:
    assert of_command({COMMAND: "/env/bin/python -S 'my worker.py'", **PATH}) == Started(
        COMMAND, "/env/bin/python", frozenset("S")
    )
    assert of_command({COMMAND: "ami worker", **PATH}) is None
    assert of_command(PATH) is None


@pytest.mark.parametrize(
    ("option", "at", "level", "words"),
    [
        ("-S", probed(), Level.BAD, "with -S Python reads no .pth file and no sitecustomize"),
        ("-I", probed(lines=()), Level.BAD, "with -I Python ignores PYTHONPATH, by which we come here"),
        ("-E", probed(lines=()), Level.BAD, "with -E Python ignores PYTHONPATH, by which we come here"),
        ("-I", probed(), Level.OK, "/env/bin/python -I"),
        ("-E", probed(), Level.OK, "/env/bin/python -E"),
        ("-s", probed(), Level.OK, "/env/bin/python -s"),
        (
            "-s", probed(lines=("/home/u/lib/ami_fault_site.pth",), user="/home/u/lib"), Level.BAD,
            "the user's site, where ami-fault-site is installed, is not read",
        ),
    ],
)  # fmt: skip
def test_an_option_is_bad_only_if_it_keeps_us_out(option: str, at: Probed, level: Level, words: str) -> None:
    command, _ = examine_commands(at, {COMMAND: f"/env/bin/python {option} worker.py"})
    assert command.level is level
    assert command.found.endswith(words)
    assert command.cure.startswith("start it without" if level is Level.BAD else "")


def test_a_script_of_another_environment_is_pointed_at(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "python").write_text("")
    path = script(tmp_path / "here", f"#!{tmp_path}/there/python")
    found, _ = examine_commands(probed(f"{tmp_path}/here/python"), PATH)
    assert (found.name, found.level) == (f"started by {path}", Level.NOTE)
    assert found.cure == f"look at that one: ami-fault doctor --python {tmp_path}/there/python"
    path.write_text(f"#!{tmp_path}/here/python3\n")
    found, _ = examine_commands(probed(f"{tmp_path}/here/python"), PATH)
    assert (found.level, found.found) == (Level.OK, f"{tmp_path}/here/python3")


def test_variables_of_python_are_shown_and_a_moved_library_is_a_remark() -> None:
    (quiet,) = examine_commands(probed(), {})
    assert (quiet.name, quiet.level, quiet.found) == ("Python's variables", Level.OK, "none is set")
    (path,) = examine_commands(probed(), {"PYTHONPATH": "/x"})
    assert (path.level, path.found) == (Level.OK, "PYTHONPATH=/x")
    (home,) = examine_commands(probed(), {"PYTHONHOME": "/y"})
    assert home.level is Level.NOTE
    assert home.found == "PYTHONHOME=/y: this Python takes its standard library from there"
