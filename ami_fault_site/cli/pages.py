"""Write the HTML page of a report: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ami_fault_site import report
from ami_fault_site.cli.speaking import say
from ami_fault_site.report.again import near
from ami_fault_site.verdict import Case

PAGE = "report.html"


def write(path: Path, case: Case, made: report.Report, compared: Mapping[str, Case] | None = None) -> None:
    """Write a page beside its place, then put it there; raises OSError, and MissingLibraryError without libraries."""
    content = report.to_html(case, made, compared)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def keep(folder: Path, case: Case, made: report.Report) -> None:
    """Leave the page in a run's folder, if the libraries are there that make it; nothing else depends on it."""
    try:
        write(folder / PAGE, case, made)
    except report.MissingLibraryError:
        return
    except OSError as error:
        say(f"the page cannot be written: {folder / PAGE}: {error.strerror}")
        return
    except Exception as error:  # the verdict does not hang on its picture
        say(f"the page could not be made, please report it: {type(error).__name__}: {error}")
        return
    say(f"the whole report: {near(folder / PAGE)}")
