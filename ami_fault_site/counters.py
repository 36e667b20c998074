"""Numbers that the processes of a run count on together, one small file each."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable

from ami_fault_site.forks import around_fork


class Counters:
    """The counters in `folder`, named `count-NAME`; its methods raise OSError if the folder is not there any more.

    The lock is lockf on a file that this very process has opened: flock would be shared with a fork's parent. Each file
    stays open, because whoever closes one gives up all locks that its process has on it, those of another thread too;
    and to open it anew was most of what a call cost.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}
        self._lock = threading.RLock()
        around_fork(after_in_child=self._begin_life)

    def _begin_life(self) -> None:
        """Open files of one's own: a fork has its parent's, whose locks it does not have."""
        self._lock = threading.RLock()
        self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                os.close(self._open.popitem()[1])

    def count(self, name: str, more: int = 1) -> int:
        """Count on, 1, 2, 3... over all processes of the run, and return the number reached."""
        return self._change(name, lambda number: number + more)[1]

    def take(self, name: str, most: int) -> bool:
        """Take one of so many places; False once all are taken. Exact across processes."""
        return self._change(name, lambda number: min(number + 1, most))[0] < most

    def counted(self, name: str) -> int:
        """Return the number that has been reached, 0 if nothing has been counted."""
        with self._lock:
            if name not in self._open and not os.path.exists(self._path(name)):
                return 0
            return self._change(name, lambda number: number)[0]

    def _path(self, name: str) -> str:
        return f"{self._folder}/count-{name}"

    def _change(self, name: str, change: Callable[[int], int]) -> tuple[int, int]:
        """Replace a number by another, alone; return both."""
        with self._lock:
            descriptor = self._descriptor(name)
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
            try:
                before = int(os.pread(descriptor, 20, 0) or b"0")
                after = change(before)
                if after != before:
                    os.pwrite(descriptor, b"%d" % after, 0)
                return before, after
            finally:
                fcntl.lockf(descriptor, fcntl.LOCK_UN)

    def _descriptor(self, name: str) -> int:
        """Return the open file of a counter; one that was removed meanwhile is no longer the others' counter."""
        descriptor = self._open.get(name, -1)
        if descriptor >= 0 and os.fstat(descriptor).st_nlink:
            return descriptor
        if descriptor >= 0:
            os.close(self._open.pop(name))
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._open[name] = descriptor
        return descriptor
