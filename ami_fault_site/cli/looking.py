"""Look before and beside a run: plan, doctor, stop, site-dir."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import ami_fault_site
from ami_fault_site import doctor, outlook, profiles, runfolder, target
from ami_fault_site.cli.speaking import SETTINGS_WRONG, RefusedError, app
from ami_fault_site.forecast import Load, forecast
from ami_fault_site.settings import SettingsError


@app.command()
def plan(
    images: Annotated[int, typer.Option(help="How many images the job has.")],
    batch: Annotated[int, typer.Option(help="Tasks that the worker asks for at a time.")],
    profile: Annotated[str, typer.Option(help="A profile's name or path.")] = "",
    prefetch: Annotated[int, typer.Option(help="Batches that each loader has in hand.")] = 4,
    workers: Annotated[int, typer.Option(help="Loader subprocesses; 0 loads serially.")] = 4,
    ack_wait: Annotated[float | None, typer.Option(help="Seconds until an unanswered task comes back.")] = None,
    max_deliver: Annotated[int | None, typer.Option(help="How often a task is handed out at most.")] = None,
    seconds_an_image: Annotated[float, typer.Option(help="What the models take; 0: not known.")] = 0.0,
    restart_delay: Annotated[float, typer.Option(envvar="RESTART_DELAY", help="Seconds.")] = 5.0,
    max_restarts: Annotated[int, typer.Option(envvar="MAX_RESTARTS")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say before a run what to expect: faults, time, what they cost, and what to be warned of."""
    over = {
        "AMI_TEST_PROFILE": profile,
        "AMI_TEST_ACK_WAIT": "" if ack_wait is None else f"{ack_wait:g}",
        "AMI_TEST_MAX_DELIVER": "" if max_deliver is None else str(max_deliver),
    }
    effective = profiles.resolve(os.environ, over)
    load = Load(
        images,
        batch,
        prefetch,
        workers,
        seconds_an_image=seconds_an_image,
        restart_delay=restart_delay,
        max_restarts=max_restarts,
    )
    found = forecast(effective.settings, load)
    print(outlook.as_json(found, effective) if as_json else outlook.to_text(found, effective))  # noqa: T201  a result


@app.command("doctor")
def doctor_command() -> None:
    """Look whether the hook works in this environment, and what it would do."""
    console = Console(highlight=False)
    found = doctor.examine(os.environ, target.find(os.environ, Path.cwd()))
    for one in found:
        console.print(f"{'good' if one.good else 'BAD '}  {one.name}: {one.found}", markup=False, soft_wrap=True)
        if not one.good and one.cure:
            console.print(f"      {one.cure}", markup=False, soft_wrap=True)
    try:
        for name, value, source in doctor.effective_lines(profiles.resolve(os.environ)):
            console.print(f"      {name} = {value}  ({source})", markup=False, soft_wrap=True)
    except SettingsError:
        console.print("      the settings in force can be shown once the problems above are mended")
    raise typer.Exit(0 if all(one.good for one in found) else SETTINGS_WRONG)


@app.command()
def stop(run_name: Annotated[str, typer.Argument(metavar="RUN")] = runfolder.LATEST) -> None:
    """End fault injection in a run, in every process, at its next decision; the worker goes on."""
    try:
        path = runfolder.find(run_name, Path.cwd() / runfolder.HOME)
        runfolder.RunFolder(path).stop_file.touch()
    except FileNotFoundError as error:
        raise RefusedError(str(error)) from error
    except OSError as error:
        raise RefusedError(f"{error.filename}: cannot be written: {error.strerror}") from error
    print(f"no more faults in {path}")  # noqa: T201  a result


@app.command("site-dir")
def site_dir() -> None:
    """Print the folder that goes on PYTHONPATH where nothing can be installed."""
    print(Path(ami_fault_site.__file__).resolve().parent / "site")  # noqa: T201  a result
