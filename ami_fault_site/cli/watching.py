"""Watch a run that goes on elsewhere: in another process, or on another host that shares its folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ami_fault_site import runfolder
from ami_fault_site.cli import verdicts
from ami_fault_site.cli.speaking import app
from ami_fault_site.history import History
from ami_fault_site.ledger import Reader
from ami_fault_site.panel import panel, shown
from ami_fault_site.progress import Standing, in_one_line, standing
from ami_fault_site.runfolder import RunFolder

_EVERY, _EVERY_LINE = 1.0, 15.0  # seconds between two looks, and between two plain lines


@app.command()
def watch(
    run_name: Annotated[str, typer.Argument(metavar="RUN")] = runfolder.LATEST,
    once: Annotated[bool, typer.Option("--once", help="Say how far it is, and leave.")] = False,
) -> None:
    """Show how far a run is, until it has ended; it may be another process's, or another host's in a shared folder."""
    (path,) = verdicts.find([run_name])
    console = Console(highlight=False)
    history, reader = History(), Reader(RunFolder(path).ledger)
    history.add(reader.new())
    if once:
        console.print(_shown(path, standing(history, time.time())))
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            while not _tell(live, path, standing(history, time.time())):
                time.sleep(_EVERY)
                history.add(reader.new())
    else:
        _in_lines(history, reader)


def _tell(live: Live, path: Path, now: Standing) -> bool:
    live.update(_shown(path, now))
    return bool(now.outcome)


def _shown(path: Path, now: Standing) -> Group:
    """Show a run with how long ago it was last heard of: clocks of hosts that share a folder agree more or less."""
    if now.outcome:
        ending = f"{path.name} has ended: {now.outcome}"
    elif now.heard:
        ending = f"{path.name}: last heard of {max(0.0, time.time() - now.heard):.0f} s ago"
    else:
        ending = f"{path.name}: nothing was booked yet"
    return Group(panel(now), Text(shown(ending), "cyan"))


def _in_lines(history: History, reader: Reader) -> None:
    """Say a line now and then, and the last one at the end."""
    while True:
        now = standing(history, time.time())
        print(in_one_line(now) + (f"; ended: {shown(now.outcome)}" if now.outcome else ""), flush=True)  # noqa: T201
        if now.outcome:
            return
        deadline = time.monotonic() + _EVERY_LINE
        while time.monotonic() < deadline and not history.outcomes:
            time.sleep(_EVERY)
            history.add(reader.new())
