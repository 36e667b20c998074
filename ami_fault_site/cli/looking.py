"""Look before and beside a run: plan, doctor, stop, site-dir, bundle."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import ami_fault_site
from ami_fault_site import bundle, doctor, outlook, profiles, runfolder, target
from ami_fault_site.cli.speaking import SETTINGS_WRONG, RefusedError, app
from ami_fault_site.forecast import forecast
from ami_fault_site.grammar import GRAMMAR
from ami_fault_site.load import Load
from ami_fault_site.redaction import redact
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
    }
    effective = profiles.resolve(os.environ, over)
    load = Load(
        images,
        batch,
        prefetch,
        workers,
        max_deliver=max_deliver,
        seconds_an_image=seconds_an_image,
        restart_delay=restart_delay,
        max_restarts=max_restarts,
    )
    found = forecast(effective.settings, load)
    print(outlook.as_json(found, effective) if as_json else outlook.to_text(found, effective))  # noqa: T201  a result


@app.command()
def grammar() -> None:
    """Print how rules are written: AMI_TEST_RULES, and --rule of `run`."""
    print(GRAMMAR, end="")  # noqa: T201  a result


@app.command("doctor")
def doctor_command(
    python: Annotated[str, typer.Option(help="The worker's interpreter, if it is not this one.")] = sys.executable,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Look whether the hook works in the worker's environment, who is in its way, and what it would do."""
    found = doctor.examine(os.environ, Path.cwd(), python)
    try:
        in_force = doctor.effective_lines(profiles.resolve(os.environ))
    except SettingsError:
        in_force = []
    good = all(one.level is not doctor.Level.BAD for one in found)
    shown = _findings_as_json(good, found, in_force) if as_json else _findings_as_text(found, in_force)
    print(redact(shown, (os.environ.get(target.TOKEN, ""),)))  # noqa: T201  a result
    raise typer.Exit(0 if good else SETTINGS_WRONG)


def _findings_as_text(found: list[doctor.Examined], in_force: list[tuple[str, str, str]]) -> str:
    words = {doctor.Level.OK: "ok", doctor.Level.NOTE: "note", doctor.Level.BAD: "BAD"}
    lines = []
    for one in found:
        lines.append(f"{words[one.level]:<4}  {one.name}: {one.found}")
        lines += [f"      {one.cure}"] if one.cure else []
    lines += [f"      {name} = {value}  ({source})" for name, value, source in in_force]
    if not in_force:
        lines.append("      the settings in force can be shown once the problems above are mended")
    return "\n".join(lines)


def _findings_as_json(good: bool, found: list[doctor.Examined], in_force: list[tuple[str, str, str]]) -> str:
    return json.dumps(
        {
            "good": good,
            "found": [
                {"name": one.name, "level": one.level.value, "found": one.found, "cure": one.cure} for one in found
            ],
            "settings": [{"name": name, "value": value, "source": source} for name, value, source in in_force],
        },
        indent=2,
    )


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


@app.command("bundle")
def bundle_command(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")]) -> None:
    """Write a folder for PYTHONPATH that works for any worker, where nothing can be installed."""
    try:
        bundle.write(folder)
    except bundle.BundleError as error:
        raise RefusedError(str(error)) from error
    place = folder.absolute()
    print(_USE_OF_BUNDLE.format(folder=shlex.quote(str(place)), name=shlex.quote(place.name)))  # noqa: T201  a result


_USE_OF_BUNDLE = """{folder}: all that a worker needs, for Python 3.10 to 3.13 on any system; its own libraries win.

The worker's environment:   export PYTHONPATH={folder} AMI_TEST_FAULT_INJECTION_ENABLED=true AMI_TEST_PROFILE=medium
A run under supervision:    PYTHONPATH={folder} ami-fault run --profile medium -- COMMAND...
A container:                docker run -v {folder}:/faults:ro -e PYTHONPATH=/faults \\
                              -e AMI_TEST_FAULT_INJECTION_ENABLED=true -e AMI_TEST_PROFILE=medium \\
                              -v "$PWD/run":/run-folder -e AMI_TEST_RUN_DIR=/run-folder IMAGE
An image (Dockerfile):      COPY {name} /faults
                            ENV PYTHONPATH=/faults
Is the hook there?          PYTHONPATH={folder} ami-fault doctor --python /path/to/the/worker's/python"""
