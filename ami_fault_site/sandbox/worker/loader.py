"""Keep the loader subprocesses of a job: start them, take their batches, notice when one dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from urllib.request import getproxies_environment

from ami_fault_site.sandbox.worker.batches import Batch, batches
from ami_fault_site.sandbox.worker.settings import Settings

_GRACE = 2.0  # seconds that a loader has to finish what it is at, once the main process has gone or wants no more
_context = multiprocessing.get_context("fork")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Loader:
    """A subprocess and our end of its channel: batches come in, permits for one more fetch go out.

    There are no shared locks or queues: a process that is killed while it holds one would block all others.
    """

    process: BaseProcess
    channel: Connection


@dataclass(frozen=True)
class _End:
    """A loader's last message: why it ends, empty if in order."""

    problem: str = ""


@contextmanager
def loaded_batches(settings: Settings, job_id: int) -> Iterator[Iterator[Batch]]:
    """Yield the batches of a job in order of arrival; raises RuntimeError when a loader exits unexpectedly.

    The subprocesses live as long as the context. Without any, the batches are loaded serially right here.
    """
    if settings.num_workers == 0:
        yield batches(settings, job_id, number=0, threads=1, go_on=lambda: True)
        return
    crew: list[_Loader] = []
    stop, stopper = _context.Pipe(duplex=False)
    try:
        for number in range(settings.num_workers):
            crew.append(_start(settings, job_id, number, stop, [stopper, *(loader.channel for loader in crew)]))
        with _interrupted_by_deaths(crew):
            yield _take(crew)
    finally:
        _end(crew, stop, stopper)


def _start(settings: Settings, job_id: int, number: int, stop: Connection, inherited: Sequence[Connection]) -> _Loader:
    ours, theirs = _context.Pipe()
    arguments = (settings, job_id, number, theirs, stop, [*inherited, ours])
    process = _context.Process(target=_run, args=arguments, name=f"loader-{number}", daemon=True)
    # Ctrl-C goes to the whole group: it must not find a loader that does not ignore it yet.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        theirs.close()  # the loader's copy is now the only one, so its death is the end of the file
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for _ in range(settings.prefetch):
        _permit(ours)
    return _Loader(process, ours)


def _permit(channel: Connection) -> None:
    with suppress(OSError):  # a dead loader is noticed when we read from it
        channel.send(True)


def _take(crew: Sequence[_Loader]) -> Iterator[Batch]:
    waiting = {loader.channel: loader for loader in crew}
    while waiting:
        for channel in wait(list(waiting)):
            assert isinstance(channel, Connection)  # noqa: S101  for the type checker
            _raise_for_the_dead(crew)
            try:
                message = channel.recv()
            except (EOFError, OSError) as error:
                raise _unexpected(waiting[channel]) from error
            if isinstance(message, _End):
                del waiting[channel]
                if message.problem:
                    raise RuntimeError(message.problem)
                continue
            _permit(channel)
            yield message


def _unexpected(loader: _Loader) -> RuntimeError:
    return RuntimeError(f"loader worker (pid {loader.process.pid}) exited unexpectedly")


def _raise_for_the_dead(crew: Sequence[_Loader]) -> None:
    for loader in crew:
        if loader.process.exitcode:
            raise _unexpected(loader)


@contextmanager
def _interrupted_by_deaths(crew: Sequence[_Loader]) -> Iterator[None]:
    """Raise wherever the main thread is when a loader dies, even in the middle of a batch, as the real worker does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, lambda _number, _frame: _raise_for_the_dead(crew))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _end(crew: list[_Loader], stop: Connection, stopper: Connection) -> None:
    ending = crew.copy()
    crew.clear()  # from here on, no exit is unexpected
    for connection in (stopper, stop, *(loader.channel for loader in ending)):
        connection.close()
    deadline = time.monotonic() + _GRACE + 1
    for loader in ending:
        loader.process.join(max(0.0, deadline - time.monotonic()))
        if loader.process.is_alive():
            loader.process.kill()
            loader.process.join()
        loader.process.close()


def _run(
    settings: Settings, job_id: int, number: int, channel: Connection, stop: Connection, inherited: list[Connection]
) -> None:
    """Live a loader's life, in its own process."""
    _leave_the_parents_ways(inherited)
    threading.Thread(target=_leave_when_stopped, args=(stop,), name="leaver", daemon=True).start()
    outbox: queue.SimpleQueue[Batch | _End] = queue.SimpleQueue()
    sender = threading.Thread(target=_send_all, args=(outbox, channel), name="sender", daemon=True)
    sender.start()
    logger.info("Loader subprocess %d/%d starting iteration for job %d", number, settings.num_workers, job_id)
    try:
        for batch in batches(settings, job_id, number, settings.threads, lambda: _permitted(channel, stop)):
            outbox.put(batch)
        outbox.put(_End())
    except Exception as error:  # it is raised in the main process
        logger.error("Worker %d: Exception in iterator: %s", number, error)
        outbox.put(_End(f"loader worker (pid {os.getpid()}): {type(error).__name__}: {error}"))
    sender.join()


def _leave_the_parents_ways(inherited: Sequence[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for connection in inherited:  # a copy kept here would hide the main process's death from the other loaders
        connection.close()
    if sys.platform == "darwin" and not getproxies_environment():
        # Asking macOS for its proxies is not safe after a fork: the process can be killed for it.
        os.environ["no_proxy"] = "*"


def _leave_when_stopped(stop: Connection) -> None:
    """End this process soon after the main process closed its end of the pipe, at will or by dying."""
    wait([stop])
    time.sleep(_GRACE)
    os._exit(1)


def _permitted(channel: Connection, stop: Connection) -> bool:
    if stop in wait([channel, stop]):
        return False
    try:
        return bool(channel.recv())
    except (EOFError, OSError):
        return False


def _send_all(outbox: queue.SimpleQueue[Batch | _End], channel: Connection) -> None:
    """Send in a thread of its own, so that the next batch is loaded while the main process is busy."""
    with suppress(OSError):  # the main process does not listen any more
        while True:
            message = outbox.get()
            channel.send(message)
            if isinstance(message, _End):
                return
