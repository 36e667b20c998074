"""Write down what the operator did to the service or the worker, to be told beside what came of it."""

from __future__ import annotations

import os
import unicodedata
from typing import Annotated

import typer

from ami_fault_site import runfolder, target
from ami_fault_site.cli import verdicts
from ami_fault_site.cli.speaking import RefusedError, app, seconds
from ami_fault_site.ledger import Ledger
from ami_fault_site.redaction import redact
from ami_fault_site.runfolder import RunFolder

_LONGEST = 500  # characters: a note is a line beside a finding
_LONGEST_AGO = 7 * 24 * 3600.0  # seconds
_NOT_TEXT = ("Cc", "Cs")  # control characters, and the bytes that no text could be made of


@app.command()
def note(
    words: Annotated[
        list[str], typer.Argument(metavar="[RUN] TEXT", help="What was done, in one word for the shell: in quotes.")
    ],
    ago: Annotated[str, typer.Option(metavar="TIME", help="How long ago that was: 90s, 2m.")] = "0s",
) -> None:
    """Write down what you did, such as "killed celeryworker": the report tells it beside what it may explain."""
    *run, text = words
    if len(run) > 1:
        raise RefusedError(f"note takes a run and a text; put the text in quotes: {' '.join(words)!r}")
    past = seconds("--ago", ago)
    if past > _LONGEST_AGO:
        raise RefusedError(f"--ago={ago!r}: is 168h at most")
    said = read_text(text)
    (path,) = verdicts.find(run or [runfolder.LATEST])
    ledger = Ledger(RunFolder(path).ledger, incarnation=0)
    try:
        ledger.append("note", text=said, ago=past)
    except OSError as error:
        raise RefusedError(f"RUN={str(path)!r}: the note cannot be written: {error.strerror}") from error
    ledger.end()
    print(f"noted in {path}: {said}")  # noqa: T201  a result


def read_text(text: str) -> str:
    """Return a note as it is kept: on one line and without secrets; raises RefusedError if it is none."""
    line = " ".join(text.split())
    if not line:
        raise RefusedError("TEXT is empty: say what was done, such as 'killed celeryworker'")
    if len(line) > _LONGEST:
        raise RefusedError(f"TEXT has {len(line):,} characters: a note has {_LONGEST} at most")
    odd = next((one for one in line if unicodedata.category(one) in _NOT_TEXT), None)
    if odd is not None:
        raise RefusedError(f"TEXT={line!r}: holds {odd!r}, a control character or a byte that is no text")
    return redact(line, (os.environ.get(target.TOKEN, ""),))
