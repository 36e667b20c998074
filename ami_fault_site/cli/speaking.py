"""What every command shares: the application, how it talks, and how it refuses."""

from __future__ import annotations

import os
import sys

import typer

from ami_fault_site import target
from ami_fault_site.redaction import redact

USAGE, SETTINGS_WRONG, INTERRUPTED = 2, 78, 130

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


def say(text: str) -> None:
    """Talk to the operator: a line on stderr, without secrets."""
    print(f"ami-fault: {redact(text, (os.environ.get(target.TOKEN, ''),))}", file=sys.stderr)  # noqa: T201


def refuse(error: Exception, code: int) -> int:
    """Say every problem, one a line, and return the exit code."""
    for problem in str(error).splitlines():
        say(problem)
    return code
