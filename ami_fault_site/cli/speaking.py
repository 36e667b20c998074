"""What every command shares: the application, how it talks, and how it refuses."""

from __future__ import annotations

import os
import re
import sys

import typer

from ami_fault_site import target
from ami_fault_site.redaction import redact

USAGE, SETTINGS_WRONG, INTERRUPTED = 2, 78, 130
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

app = typer.Typer(
    name="ami-fault",
    help="Test queue workers by making them fail on purpose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class RefusedError(Exception):
    """Why a command cannot be carried out, and the exit code that says so."""

    def __init__(self, problems: str, code: int = USAGE) -> None:
        super().__init__(problems)
        self.code = code


def seconds(option: str, text: str) -> float:
    """Read a time such as 90s, 30m or 1h, in seconds; raises RefusedError if it is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text.strip())
    if match is None:
        raise RefusedError(f"{option}={text!r}: is a time such as 90s, 30m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def say(text: str) -> None:
    """Talk to the operator: a line on stderr, without secrets; nowhere if that is closed, or nobody reads it."""
    if sys.stderr is None:  # `print` would take stdout instead
        return
    try:
        print(f"ami-fault: {redact(text, (os.environ.get(target.TOKEN, ''),))}", file=sys.stderr)  # noqa: T201
    except BrokenPipeError:
        # What it was told by then is enough for whoever has left; the exit code is that of the command.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


def refuse(error: Exception, code: int) -> int:
    """Say every problem, one a line, and return the exit code."""
    for problem in str(error).splitlines():
        say(problem)
    return code
