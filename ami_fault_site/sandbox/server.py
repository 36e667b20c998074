"""Join the parts of a sandbox into one process, say that it is ready, and take it all down in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from ami_fault_site.sandbox.backend import Backend
from ami_fault_site.sandbox.jobs import Image
from ami_fault_site.sandbox.nats_server import running_server
from ami_fault_site.sandbox.options import SERVICE_NAME, SandboxError, SandboxInfo, SandboxOptions
from ami_fault_site.sandbox.photographs import album
from ami_fault_site.sandbox.queue import QueueSettings, QueueUnavailable, connected
from ami_fault_site.sandbox.sabotage import backend_kind
from ami_fault_site.sandbox.service import API, make_app

_GRACE = 2.0
# Longer than a worker's sleep between polls: a connection closed while idle looks like a network error of the service.
_KEEP_ALIVE = 120
_BACKLOG = 512


class PortInUseError(SandboxError):
    """Somebody else listens on the port that was asked for."""


async def serve(options: SandboxOptions, watch_stdin: bool = False) -> None:
    """Run a sandbox until SIGTERM, SIGINT or, if told so, the end of stdin; its ready line goes to stdout.

    Raises SandboxError if a part of it cannot be started.
    """
    with _listening(options.port) as sock, _nats_url(options) as nats_url:
        host, port = sock.getsockname()
        settings = QueueSettings(options.ack_wait, options.max_deliver, options.max_ack_pending)
        photographs = album(options.images, options.image_dir)
        kind = backend_kind(options.sabotage)
        async with connected(nats_url, settings, kind.queue_kind) as queue:
            address = f"http://{host}:{port}"
            images = [Image(str(i), f"{address}/captures/{photo.name}") for i, photo in enumerate(photographs, 1)]
            backend = kind(options, queue, images)
            await _start_jobs(backend)
            info = _info(options, f"{address}{API}", nats_url, backend)
            await _run(make_app(backend, info, photographs), sock, backend, info, watch_stdin)


async def _start_jobs(backend: Backend) -> None:
    try:
        await backend.start_first_jobs()
    except QueueUnavailable as error:
        raise SandboxError(f"the NATS server does not offer JetStream, or did not answer: {error}") from error


async def _run(app: FastAPI, sock: socket.socket, backend: Backend, info: SandboxInfo, watch_stdin: bool) -> None:
    stop = asyncio.Event()
    _on_signals(stop)
    if watch_stdin:
        _on_end_of_stdin(stop)
    async with _http(app, sock) as http:
        _say_ready(info)
        work = [stop.wait(), backend.settle_for_ever(), backend.reap_for_ever()]
        tasks = [http, *(asyncio.ensure_future(one) for one in work)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks[1:]:
            task.cancel()
        for task in done:
            task.result()  # a part that failed ends the whole, with its own words


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: they end more than the HTTP service. Both names, because versions differ."""

    def install_signal_handlers(self) -> None:
        """Install none."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def _http(app: FastAPI, sock: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=_KEEP_ALIVE
    )
    server = _Uvicorn(config)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    try:
        yield serving
    finally:
        server.should_exit = True
        await asyncio.wait([serving], timeout=_GRACE)
        server.force_exit = True  # somebody still downloads, or waits for tasks
        await asyncio.wait([serving], timeout=_GRACE)


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen(_BACKLOG)
        except OSError as error:
            raise PortInUseError(
                f"port {port} cannot be used: {error.strerror}; --port 0 takes any free one"
            ) from error
        yield sock


@contextlib.contextmanager
def _nats_url(options: SandboxOptions) -> Iterator[str]:
    if options.nats_url is not None:
        yield options.nats_url
        return
    with running_server() as server:
        yield server.url


def _info(options: SandboxOptions, base_url: str, nats_url: str, backend: Backend) -> SandboxInfo:
    return SandboxInfo(
        base_url=base_url,
        token=options.token,
        service_name=SERVICE_NAME,
        ack_wait=options.ack_wait,
        max_deliver=options.max_deliver,
        jobs=tuple(backend.jobs),
        pipelines=options.pipelines,
        nats_url=nats_url,
        pid=os.getpid(),
    )


def _say_ready(info: SandboxInfo) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more; the end of stdin will tell
        sys.stdout.write(info.as_json() + "\n")
        sys.stdout.flush()


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _on_end_of_stdin(stop: asyncio.Event) -> None:
    """Stop when whoever started us is gone, however it went: the kernel then closes its end of our stdin."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="stdin-watch", daemon=True).start()
