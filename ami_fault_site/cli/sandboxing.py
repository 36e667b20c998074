"""Start a sandbox Antenna, or say how to reach one."""

from __future__ import annotations

import shlex
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ami_fault_site import target
from ami_fault_site.cli.speaking import RefusedError, app, say
from ami_fault_site.sandbox.launch import info_of, running
from ami_fault_site.sandbox.options import SandboxInfo, SandboxOptions
from ami_fault_site.sandbox.photographs import pictures_of

SANDBOX_PORT = 8765
_SABOTAGE = "One way to misbehave; `ami-fault sandbox --sabotage ?` lists them."


@app.command("sandbox")
def sandbox_command(
    env: Annotated[bool, typer.Option("--env", help="Print the exports for a running sandbox, and leave.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes any free one.")] = SANDBOX_PORT,
    images: Annotated[str, typer.Option(help="How many images a job has, or a folder of them.")] = "200",
    jobs: Annotated[int, typer.Option(min=1)] = 1,
    pipeline: Annotated[list[str] | None, typer.Option(help="May be repeated; jobs are dealt out over them.")] = None,
    ack_wait: Annotated[float, typer.Option(help="Seconds until an unanswered task is handed out again.")] = 10.0,
    max_deliver: Annotated[int, typer.Option(min=1, help="How often a task is handed out at most.")] = 2,
    reaper_interval: Annotated[float, typer.Option(help="Seconds between the reaper's looks.")] = 900.0,
    reaper_idle: Annotated[float, typer.Option(help="Seconds after which the reaper takes an idle job.")] = 600.0,
    nats_url: Annotated[str | None, typer.Option(help="An existing NATS server with JetStream.")] = None,
    sabotage: Annotated[str, typer.Option(help=_SABOTAGE)] = "",
) -> None:
    """Start a sandbox Antenna and keep it until Ctrl-C, or print the exports for one that runs."""
    if env:
        for name, value in exports(info_of(port)).items():
            print(f"export {name}={shlex.quote(value)}")  # noqa: T201  a result
        return
    asked = SandboxOptions(
        jobs=jobs,
        pipelines=tuple(pipeline or ["moth_binary"]),
        ack_wait=ack_wait,
        max_deliver=max_deliver,
        reaper_interval=reaper_interval,
        reaper_idle=reaper_idle,
        nats_url=nats_url,
        port=port,
        sabotage=sabotage,
    )
    with running(pictures(asked, images)) as info:
        say(f"a sandbox Antenna at {info.base_url}, jobs {', '.join(map(str, info.jobs))}; Ctrl-C ends it")
        taken = urlsplit(info.base_url).port
        which = "" if taken == SANDBOX_PORT else f" --port {taken}"
        say(f'in another shell: eval "$(ami-fault sandbox --env{which})"')
        _wait_for_interrupt()


def exports(info: SandboxInfo) -> dict[str, str]:
    """Return the environment variables by which a worker and a run find a sandbox, and know how it is set."""
    return {
        target.BASE_URL: info.base_url,
        target.TOKEN: info.token,
        target.SERVICE_NAME: info.service_name,
        "AMI_TEST_ACK_WAIT": f"{info.ack_wait:g}",
        "AMI_TEST_MAX_DELIVER": str(info.max_deliver),
    }


def pictures(options: SandboxOptions, images: str) -> SandboxOptions:
    """Read --images, which is a number of made images, or a folder whose pictures are served once each."""
    if not images:
        return options
    if images.isascii() and images.isdigit() and int(images) > 0:
        return replace(options, images=int(images))
    if Path(images).is_dir():
        return replace(options, image_dir=images, images=len(pictures_of(images)))
    raise RefusedError(f"--images={images!r}: is a number of images above 0, or a folder of pictures")


def _wait_for_interrupt() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(0.5):
        continue
