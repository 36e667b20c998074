"""Make and start a job to test with."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from ami_fault_site import joborder, profiles, target
from ami_fault_site.cli.running import target_of
from ami_fault_site.cli.speaking import RefusedError, app, say

job = typer.Typer(help="Make and start a job to test with.", no_args_is_help=True)
app.add_typer(job, name="job")


@job.callback()
def _group() -> None:
    """Keep `start` a word of its own, although there is no other."""


@job.command()
def start(
    project: Annotated[int, typer.Option(min=1, help="The project's number.")],
    collection: Annotated[int, typer.Option(min=1, help="The number of the collection that the images are in.")],
    pipeline: Annotated[str, typer.Option(metavar="SLUG", help="The pipeline that is to process them.")],
    images: Annotated[int, typer.Option(min=1, help="How many images at most.")],
    name: Annotated[str, typer.Option(help="What the job is called.")] = "",
) -> None:
    """Make an async job over Antenna's API, start it, and print its number, as `run --job` takes it."""
    where = target_of(os.environ, profiles.resolve(os.environ).settings)
    if not where.token:
        raise RefusedError(f"{target.TOKEN}: is required, in the environment or in .env in the working directory")
    called = name or f"fault test {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC"
    ordered = joborder.order(where, joborder.Wanted(project, collection, pipeline, images, called))
    say(f"job {ordered.number} at {where.host}: {called!r}, {ordered.status}")
    if ordered.dispatch_mode not in ("", joborder.ASYNC):
        say(f"job {ordered.number} is dispatched as {ordered.dispatch_mode}: no worker that polls will see it")
    print(ordered.number)  # noqa: T201  the result
