"""Make a Ctrl-C last, even one that arrives where Python drops exceptions."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN = 0.05  # seconds


@contextmanager
def lasting_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt again, and print nothing, if it was raised inside a finalizer.

    The connection pools of finished sessions are closed in finalizers, at every poll: a worker that is idle would
    survive many a Ctrl-C. For the main thread only.
    """
    print_it = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            print_it(unraisable)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = print_it
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
