"""What a worker's process tree holds on its last delivery: if a fault took that, no service could give it back.

Kept in the run folder, since the processes of a tree fetch, work and die apart: one empty file for each task that is
out on its last delivery, and one lock. A tasks call shares the lock from before it is sent until what it brought is
written down; who is about to die, or to give up a job, takes it alone. So at that moment nothing is on its way unseen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ami_fault_site.antenna import Delivery

_PATIENCE = 10.0  # seconds that one who is about to die waits for tasks calls under way; an empty one takes 0.5
_RETRY = 0.005


class Holdings:
    """The last deliveries that one tree holds, in `folder`, which its processes share.

    A task is out on its last delivery from its receipt until its answer was heard, whoever of the tree it was sent by.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: set[int] = set()
        self._begin_life()
        if hasattr(os, "register_at_fork"):
            # No fork may fall between the opening of the lock and its being noted.
            os.register_at_fork(
                before=lambda: self._guard.acquire(),
                after_in_parent=lambda: self._guard.release(),
                after_in_child=self._begin_life,
            )

    def _begin_life(self) -> None:
        """Note when this process began. A lock is shared by a fork: the child closes what it got along."""
        self._born = time.monotonic()
        for descriptor in self._open:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._open = set()
        self._made = False
        self._guard = threading.Lock()

    def received(self, deliveries: Iterable[Delivery], most: int) -> None:
        """Write down which of these are a task's last delivery, `most` being how often a task is handed out."""
        for one in deliveries:
            if one.delivery >= most:
                self._make()
                os.close(os.open(self._folder / _name(one), os.O_CREAT | os.O_WRONLY, 0o666))

    def answered(self, deliveries: Iterable[Delivery]) -> None:
        """Forget the tasks whose answer was heard, on whichever of their deliveries."""
        for one in deliveries:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / _name(one))

    def last(self) -> list[str]:
        """Return the tasks that are out on their last delivery, by name, in order."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        parts = sorted(name.split("~") for name in names if "~" in name)
        return [f"{stream} task {sequence}" for _, stream, sequence, _ in parts]

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Be about to fetch tasks: nobody of this tree dies meanwhile, until what was fetched is written down."""
        with self._locked(fcntl.LOCK_SH, None):
            yield

    @contextmanager
    def closing(self) -> Iterator[bool]:
        """Be about to lose what the tree holds; False if after 10 s a tasks call is still under way."""
        with self._locked(fcntl.LOCK_EX, _PATIENCE) as got:
            yield got

    def doom(self) -> None:
        """Mark that what loaders of this tree hold is given up: those that are alive now must fetch no more."""
        self._make()
        draft = self._folder / f"draft-{os.getpid()}-{threading.get_ident()}"
        draft.write_text(repr(time.monotonic()))
        os.replace(draft, self._folder / "doomed")

    def is_doomed(self) -> bool:
        """Say whether this process was alive when its tree, or its job, was given up."""
        try:
            return self._born < float((self._folder / "doomed").read_text())
        except (FileNotFoundError, ValueError):
            return False

    def _make(self) -> None:
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._made = True

    @contextmanager
    def _locked(self, how: int, patience: float | None) -> Iterator[bool]:
        """Hold the lock, which belongs to this opening of the file and not to the process: threads count each."""
        self._make()
        with self._guard:
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._open.add(descriptor)
        try:
            yield _lock(descriptor, how, patience)
        finally:
            if descriptor in self._open:
                self._open.discard(descriptor)
                os.close(descriptor)


def _lock(descriptor: int, how: int, patience: float | None) -> bool:
    if patience is None:
        fcntl.flock(descriptor, how)
        return True
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY)


def _name(delivery: Delivery) -> str:
    return f"last~{delivery.stream}~{delivery.sequence}~{delivery.published}"
