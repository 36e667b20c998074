"""Look how the worker's own command starts Python: a flag or a variable there can turn the hook off."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ami_fault_site.doctor.probe import Probed
from ami_fault_site.doctor.terms import Examined, bad, note, ok

WORKER = "ami"
COMMAND = "AMI_TEST_WORKER_COMMAND"
_TAKE_A_WORD = "cmWX"  # options of Python after which the rest of a word, or the next, is theirs
_LONGEST_HEAD = 4096


@dataclass(frozen=True)
class Started:
    """How a command starts Python: where that is written, the interpreter, and the letters of its options."""

    where: str
    python: str
    letters: frozenset[str]


def examine_commands(probed: Probed, environ: Mapping[str, str]) -> Iterator[Examined]:
    """Look at the worker's script beside the interpreter, at the command that is set, and at Python's variables."""
    script = Path(probed.python).parent / WORKER
    ways = [way for way in (of_script(script, environ), of_command(environ)) if way is not None]
    for way in ways:
        yield _judge(way, probed)
    yield _judge_variables(probed, environ)


def of_script(path: Path, environ: Mapping[str, str]) -> Started | None:
    """Read how a console script starts Python; None if there is no such script or it is not one of Python's."""
    try:
        with path.open("rb") as stream:
            lines = stream.read(_LONGEST_HEAD).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    if words[:1] == ["/bin/sh"] and len(lines) > 1 and lines[1].startswith("'''exec'"):
        words = _split(lines[1].removeprefix("'''exec'"))  # how pip writes a path that is too long for the first line
    return _started(str(path), words, environ)


def of_command(environ: Mapping[str, str]) -> Started | None:
    """Read how AMI_TEST_WORKER_COMMAND starts Python; None if it is not set or starts something else."""
    return _started(COMMAND, _split(environ.get(COMMAND, "")), environ)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _started(where: str, words: Sequence[str], environ: Mapping[str, str]) -> Started | None:
    rest = list(words)
    while rest and (os.path.basename(rest[0]) in ("env", "-S") or "=" in rest[0]):
        rest.pop(0)
    if not rest or "python" not in os.path.basename(rest[0]):
        return None
    python = shutil.which(rest[0], path=environ.get("PATH")) or rest[0]
    return Started(where, python, frozenset(_letters(rest[1:])))


def _letters(words: Sequence[str]) -> Iterator[str]:
    """Yield the one-letter options up to the script, `-c` or `-m`."""
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-") or word == "-":
            return
        for at, letter in enumerate(word[1:], 1):
            yield letter
            if letter in _TAKE_A_WORD:
                if letter in "cm":
                    return
                if at == len(word) - 1:
                    next(waiting, None)
                break


def _judge(way: Started, probed: Probed) -> Examined:
    name = f"started by {way.where}"
    flags = "".join(sorted(way.letters))
    shown = f"{way.python} -{flags}" if flags else way.python
    if "S" in way.letters:
        cure = f"start it without -S: {way.python} {way.where if way.where != COMMAND else '...'}"
        return bad(name, f"{shown}: with -S Python reads no .pth file and no sitecustomize", cure)
    path_ignored = way.letters & {"I", "E"}
    if path_ignored and not probed.start.lines:
        cure = "start it without this option, or pip install ami-fault-site into that environment"
        return bad(name, f"{shown}: with -{min(path_ignored)} Python ignores PYTHONPATH, by which we come here", cure)
    if way.letters & {"I", "s"} and _comes_by_user_site(probed):
        cure = "start it without this option, or pip install ami-fault-site into the environment itself"
        return bad(name, f"{shown}: the user's site, where ami-fault-site is installed, is not read", cure)
    if not _same_environment(way.python, probed.python):
        return note(name, f"{shown}, not {probed.python}", f"look at that one: ami-fault doctor --python {way.python}")
    return ok(name, shown)


def _comes_by_user_site(probed: Probed) -> bool:
    user = probed.start.user_site
    lines = probed.start.lines
    return bool(user and lines) and all(line.startswith(user + os.sep) for line in lines)


def _same_environment(one: str, other: str) -> bool:
    """Whether two interpreters lie in the same folder: python and python3 of an environment are one."""
    folders = os.path.dirname(one), os.path.dirname(other)
    try:
        return folders[0] == folders[1] or os.path.samefile(*folders)
    except OSError:
        return False


_VARIABLES = {
    "PYTHONPATH": "{0}",
    "PYTHONHOME": "{0}: this Python takes its standard library from there",
    "PYTHONNOUSERSITE": "set: what is installed with `pip install --user` is not seen",
    "PYTHONSAFEPATH": "set: the working folder is not on the path, which does us no harm",
}


def _judge_variables(probed: Probed, environ: Mapping[str, str]) -> Examined:
    given = {name: environ[name] for name in _VARIABLES if environ.get(name)}
    found = "; ".join(f"{name}={_VARIABLES[name].format(text)}" for name, text in given.items()) or "none is set"
    if "PYTHONHOME" in given or ("PYTHONNOUSERSITE" in given and not probed.start.started):
        return note("Python's variables", found, "unset it for the worker, unless it is meant")
    return ok("Python's variables", found)
