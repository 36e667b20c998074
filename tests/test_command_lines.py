"""The promise of everything we show: each `ami-fault ...` of the README and of the examples is one that it takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, cast

import pytest
import typer.core
import typer.main

from ami_fault_site.cli.speaking import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = sorted((ROOT / "scripts" / "examples").iterdir())
UsageError = cast("type[Exception]", typer.BadParameter.__base__)  # that of the click which typer has, or brings
NAMED = re.compile(r"(?:^|[\s/(])ami-fault\s")
FENCE = re.compile(r"^```\w*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def filled(code: str) -> str:
    """Return a line of a manual with all that is optional in it, and 1 for what stands in capitals."""
    return re.sub(r"\b[A-Z]+\b", "1", re.sub(r"[\[\]]|\.\.\.", "", code.replace("\n", " ")))


def lines(path: Path) -> Iterator[str]:
    """Return the lines of a shell in a file: of Markdown what stands as code, of others also what a comment says."""
    text = path.read_text()
    if path.suffix == ".md":
        prose, *fenced = FENCE.sub("", text), *FENCE.findall(text)
        text = "".join([*fenced, *(f"{filled(code)}\n" for code in re.findall(r"`([^`]+)`", prose))])
    for line in text.replace("\\\n", " ").splitlines():
        if NAMED.search(line):
            yield re.sub(r"^[\s#]*(?:\$ )?", "", line)


def commands(line: str) -> Iterator[list[str]]:
    """Return the words behind each `ami-fault` of a line; what a variable or a command stands for is 1."""
    while inner := re.search(r"\$\(([^()]*)\)", line):
        yield from commands(inner[1])
        line = line.replace(inner[0], "1")
    line = line.replace('"$@"', "").replace(" %i ", " 1 ")
    line = re.sub(r"\$\{\w+[^}]*\}|\$\w+", "1", line)
    words = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    words.whitespace_split = True
    command: list[str] = []
    for word in (*words, ";"):
        if set(word) <= set(";&|<>"):
            yield from behind(command)
            command = []
        else:
            command.append(word)


def behind(words: list[str]) -> Iterator[list[str]]:
    at = next((n for n, word in enumerate(words) if PurePath(word).name == "ami-fault"), None)
    if at is not None:
        yield words[at + 1 :]


def parse(words: list[str]) -> str:
    """Read the words as `ami-fault` would, and return the command; raises UsageError if it would refuse them."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="ami-fault")
    while isinstance(command, typer.core.TyperGroup):
        name, *words = words
        command = command.get_command(context, name)
        if command is None:
            raise UsageError(f"No such command {name!r}.")
        context = command.context_class(command, parent=context, info_name=name)
    return str(command.make_context(context.info_name, words, parent=context.parent).command_path)


SHOWN = [(path.name, words) for path in (README, *EXAMPLES) for line in lines(path) for words in commands(line)]


@pytest.mark.parametrize(("name", "words"), SHOWN, ids=[f"{name}: {shlex.join(words)}" for name, words in SHOWN])
def test_a_command_that_we_show_is_one_that_there_is(name: str, words: list[str]) -> None:
    assert parse(words).startswith("ami-fault ")


def test_all_that_show_commands_were_read() -> None:
    assert {name for name, _ in SHOWN} == {path.name for path in (README, *EXAMPLES)}
    assert len(SHOWN) >= 35


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("ami-fault rnu --sandbox", "rnu --sandbox"),
        ("X=1 /some/bin/ami-fault run --sandbx; ami-fault check", "run --sandbx"),
        ("$ ami-fault run --sandbox && ami-fault run --job a  # 12", "run --job a"),
        ('job=$(ami-fault plan --batch 8) && ami-fault run --job "$job"', "plan --batch 8"),
    ],
)
def test_a_wrong_command_is_found(line: str, wrong: str) -> None:
    assert [shlex.join(words) for words in commands(line) if not is_taken(words)] == [wrong]


def is_taken(words: list[str]) -> bool:
    try:
        parse(words)
    except UsageError:
        return False
    return True
