"""End this process, or bring it to a stop, in one of the ways in which worker processes die."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Mapping

from ami_fault_site.faults import CRASH_EXIT_CODE, Mode

# Kept from the start: a worker may replace them, a test surely does.
_exit, _kill, _abort = os._exit, os.kill, os.abort


def die(mode: Mode) -> None:
    """End this process at once in this way: no exception, no cleanup, nothing flushed.

    HANG never returns; SYSEXIT raises SystemExit(86), which the worker may catch or swallow.
    """
    _WAYS[mode]()


def _by_signal(number: signal.Signals) -> Callable[[], None]:
    def kill() -> None:
        _leave_no_core()
        _kill(os.getpid(), number)
        # Not there any more, unless the worker has a handler of its own for it: then it dies all the same.
        _pause(1.0)
        _kill(os.getpid(), signal.SIGKILL)

    return kill


def _leave_no_core() -> None:
    """Let no file of the size of a model be written for a death that nobody will look into."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _by_abort() -> None:
    _leave_no_core()
    _abort()


def _hang() -> None:
    while True:
        _pause(None)


def _pause(seconds: float | None) -> None:
    threading.Event().wait(seconds)


def _by_exception() -> None:
    raise SystemExit(CRASH_EXIT_CODE)


_WAYS: Mapping[Mode, Callable[[], None]] = {
    Mode.EXIT: lambda: _exit(CRASH_EXIT_CODE),
    Mode.KILL: _by_signal(signal.SIGKILL),
    Mode.SEGV: _by_signal(signal.SIGSEGV),
    Mode.ABORT: _by_abort,
    Mode.HANG: _hang,
    Mode.SYSEXIT: _by_exception,
}
