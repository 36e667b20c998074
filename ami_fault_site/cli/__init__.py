"""Root for the operator: it joins the commands, and turns what goes wrong into exit codes."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

import ami_fault_site
from ami_fault_site.berth import CannotStartError
from ami_fault_site.cli import jobs, judging, looking, noting, reporting, running, sandboxing, trying, watching  # noqa: F401  they add their commands
from ami_fault_site.cli.speaking import INTERRUPTED, SETTINGS_WRONG, USAGE, RefusedError, app, refuse
from ami_fault_site.load import LoadError
from ami_fault_site.report import ReportError
from ami_fault_site.runs import RunError
from ami_fault_site.sandbox.options import SandboxError, SandboxOptionError
from ami_fault_site.service import ServiceError
from ami_fault_site.settings import SettingsError
from ami_fault_site.target import TargetError


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(ami_fault_site.__version__)  # noqa: T201  a result
        raise typer.Exit


_USAGE_ERRORS = (
    TargetError, ServiceError, SandboxError, SandboxOptionError, CannotStartError, RunError, LoadError, ReportError,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Carry out a command and return its exit code: 0, 2 for wrong usage, and those of the run (see the README)."""
    _fill_standard_streams()
    # Names and signs that its encoding has not, as stderr does; where odd bytes of names go through, they do.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(args=argv, prog_name="ami-fault")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except SettingsError as error:
        return refuse(error, SETTINGS_WRONG)
    except RefusedError as error:
        return refuse(error, error.code)
    except _USAGE_ERRORS as error:
        return refuse(error, USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _fill_standard_streams() -> None:
    """Put the null device where a standard stream is closed, before some socket gets its number and our words."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
