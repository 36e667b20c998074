"""Start a sandbox in a process of its own and never leave it behind; find one that is running."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from ami_fault_site.sandbox.options import SandboxError, SandboxInfo, SandboxOptions, info_from_json

__all__ = ["READY_WITHIN", "SandboxError", "arguments", "info_of", "running"]

READY_WITHIN = 30.0
_GONE_WITHIN = 10.0
_ASK_TIMEOUT = 5.0
_LAST_LINES = 12
_FLAGS = {
    "images": "--images",
    "jobs": "--jobs",
    "ack_wait": "--ack-wait",
    "max_deliver": "--max-deliver",
    "max_ack_pending": "--max-ack-pending",
    "reaper_interval": "--reaper-interval",
    "reaper_idle": "--reaper-idle",
    "fail_threshold": "--fail-threshold",
    "image_dir": "--image-dir",
    "nats_url": "--nats-url",
    "port": "--port",
    "token": "--token",
    "sabotage": "--sabotage",
}


@contextlib.contextmanager
def running(options: SandboxOptions) -> Iterator[SandboxInfo]:
    """Run a sandbox for as long as the block lasts; raise SandboxError, with its last words, if it does not start."""
    # A file and not a pipe: nobody reads it while the sandbox runs, and a full pipe would stop it.
    with tempfile.TemporaryFile() as words:
        process = _start(options, words)
        try:
            yield info_from_json(_ready_line(process, words))
        finally:
            _stop(process)


def _start(options: SandboxOptions, words: IO[bytes]) -> subprocess.Popen[bytes]:
    # The session keeps a Ctrl-C meant for the worker away from the service; the pipe to its stdin, which is never
    # written to, tells it when we are gone.
    return subprocess.Popen(
        [sys.executable, "-m", "ami_fault_site.sandbox", *arguments(options), "--watch-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        env={name: value for name, value in os.environ.items() if not name.startswith("AMI_TEST_")},
        start_new_session=True,
    )


def arguments(options: SandboxOptions) -> list[str]:
    """Write options as the command line that means the same."""
    written = []
    for name, flag in _FLAGS.items():
        value = getattr(options, name)
        if value not in (None, ""):
            written.append(f"{flag}={value}")
    return [*written, *(f"--pipeline={slug}" for slug in options.pipelines)]


def _ready_line(process: subprocess.Popen[bytes], words: IO[bytes]) -> str:
    deadline = time.monotonic() + READY_WITHIN
    said = b""
    while process.stdout is not None and not said.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 65536) if readable else b""
        if not chunk:
            raise SandboxError(_why_not(process, words, ended=bool(readable)))
        said += chunk
    return said.decode()


def _why_not(process: subprocess.Popen[bytes], words: IO[bytes], ended: bool) -> str:
    if ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE_WITHIN)
    what = f"ended with status {process.poll()}" if ended else f"was not ready within {READY_WITHIN:g} s"
    words.seek(0)
    last = words.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join([f"the sandbox {what}; its last words:", *(last or ["(none)"])])


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.terminate()
    try:
        process.wait(_GONE_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def info_of(port: int) -> SandboxInfo:
    """Ask the sandbox at a port of this machine what it is; raise SandboxError if none answers there."""
    import requests  # not above: most commands ask nobody, and would load it all the same

    try:
        answer = requests.get(f"http://127.0.0.1:{port}/sandbox/", timeout=_ASK_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise SandboxError(f"no sandbox answers at port {port} of this machine ({type(error).__name__})") from error
    return info_from_json(answer.text)
