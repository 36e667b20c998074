"""What a worker's process tree holds on its last delivery: if a fault took that, no service could give it back.

Kept in the run folder, since the processes of a tree fetch, work and die apart: a small file for each task that is out
and may be on its last delivery, and two locks. A tasks call shares the lock from before it is sent until what it
brought is written down; who is about to die, or to give up a job, takes it alone. So at that moment nothing is on its
way unseen. The gate is what one passes to the lock: who waits for it alone closes the gate, or new calls would keep
coming in for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ami_fault_site.antenna import Delivery
from ami_fault_site.forks import around_fork

PATIENCE = 10.0
"""Seconds that one who is about to die waits for the tasks calls under way; an empty one takes 0.5."""

_RETRY = 0.005
_TREE, _PASS, _HELD = "doomed-tree", "doomed-pass", "held~"


class Holdings:
    """The deliveries that one tree holds and that may be its last, in `folder`, which its processes share.

    A task is out from its receipt until its answer was heard, whoever of the tree it was sent by, or until its main
    process asks for jobs again. `patience` is how many seconds one who is about to die waits for others. `main` tells
    the process id of the main process that this one works for, or is.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE, main: Callable[[], int] = os.getpid) -> None:
        self._folder = os.fspath(folder)
        self.patience = patience
        self._main = main
        self._open: set[int] = set()
        self.begin_pass()
        self._begin_life()
        # No fork may fall between the opening of the lock and its being noted.
        around_fork(before=self._enter, after_in_parent=self._leave, after_in_child=self._begin_life)

    def _begin_life(self) -> None:
        """Note when this process began. A lock is shared by a fork: the child closes what it got along."""
        self._born = time.monotonic()
        for descriptor in self._open:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._open = set()
        self._made = False
        self._guard = threading.Lock()

    def _enter(self) -> None:
        self._guard.acquire()

    def _leave(self) -> None:
        self._guard.release()

    def begin_pass(self) -> None:
        """Note that whatever job this process worked at before is behind it; those forked from now on know it."""
        self._pass = time.monotonic()

    def forget(self) -> None:
        """Forget what this main process held: who asks for jobs again has answered it all, or given it up."""
        main = self._main()
        for name in self._names():
            if self._read(name)[1] == main:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(name))

    # --- what is out

    def received(self, deliveries: Iterable[Delivery], least: int) -> None:
        """Write down those of these that are delivery number `least` or a later one of their task."""
        main = self._main()
        for one in deliveries:
            if one.delivery >= least:
                self._make()
                descriptor = os.open(self._path(_name(one)), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
                try:
                    os.write(descriptor, f"{one.delivery} {main} {one.stream}".encode(errors="surrogatepass"))
                finally:
                    os.close(descriptor)

    def answered(self, deliveries: Iterable[Delivery]) -> None:
        """Forget the tasks whose answer was heard, on whichever of their deliveries."""
        for one in deliveries:  # most have no file; asking for each costs less than listing them all
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(_name(one)))

    def last(self, most: int) -> list[str]:
        """Return the tasks that are out on delivery number `most` or later, by name, in order."""
        found = []
        for name in self._names():
            delivery, _, stream = self._read(name)
            if delivery >= most:
                found.append((stream, int(name.split("~")[1])))
        return [f"{stream} task {sequence}" for stream, sequence in sorted(found)]

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.startswith(_HELD)]
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> tuple[int, int, str]:
        """Return which delivery of a task is out, for which main process, and its stream; 0 if it is answered."""
        try:
            text = self._content(name).decode(errors="surrogatepass")
            delivery, main, stream = text.split(" ", 2)
            return int(delivery), int(main), stream
        except (FileNotFoundError, ValueError):
            return 0, 0, ""

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"  # not a Path: to join and to name those was a quarter of a tasks call

    def _content(self, name: str) -> bytes:
        descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    # --- who may fetch

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Be about to fetch tasks: nobody of this tree dies meanwhile, until what was fetched is written down."""
        with ExitStack() as stack:
            with self._locked("gate", fcntl.LOCK_SH, None):
                stack.enter_context(self._locked("lock", fcntl.LOCK_SH, None))
            yield

    @contextmanager
    def closing(self) -> Iterator[bool]:
        """Be about to lose what the tree holds; False if a tasks call is still under way when patience is over."""
        until = time.monotonic() + self.patience
        with self._locked("gate", fcntl.LOCK_EX, until) as first, self._locked("lock", fcntl.LOCK_EX, until) as alone:
            yield first and alone

    def doom(self, whole_tree: bool) -> None:
        """Mark that what this main process and its loaders hold is given up, or with `whole_tree` all of the tree.

        Who is alive now must fetch no more: with `whole_tree` ever, else until its job is behind it.
        """
        self._make()
        draft = self._path(f"draft-{os.getpid()}-{threading.get_ident()}")
        Path(draft).write_text(repr(time.monotonic()))
        os.replace(draft, self._path(_TREE if whole_tree else f"{_PASS}-{self._main()}"))

    def is_doomed(self) -> bool:
        """Say whether this process was alive when its tree was given up, or belongs to a job that was.

        A loader belongs to the job that its parent was at when it was forked, even if that was given up before: its
        parent may not have noticed yet.
        """
        return self._born < self._doomed(_TREE) or self._pass < self._doomed(f"{_PASS}-{self._main()}")

    def _doomed(self, name: str) -> float:
        try:
            return float(self._content(name))
        except (FileNotFoundError, ValueError):
            return 0.0

    # --- locks

    def _make(self) -> None:
        if not self._made:
            os.makedirs(self._folder, exist_ok=True)
            self._made = True

    @contextmanager
    def _locked(self, name: str, how: int, until: float | None) -> Iterator[bool]:
        """Hold a lock, which belongs to this opening of the file and not to the process: threads count each."""
        self._make()
        with self._guard:
            descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._open.add(descriptor)
        try:
            yield _lock(descriptor, how, until)
        finally:
            with self._guard:
                if descriptor in self._open:
                    self._open.discard(descriptor)
                    os.close(descriptor)


def _lock(descriptor: int, how: int, until: float | None) -> bool:
    if until is None:
        fcntl.flock(descriptor, how)
        return True
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_RETRY)


def _name(delivery: Delivery) -> str:
    """Name the file of a task; whatever a stream is called, that is no part of a path."""
    stream = hashlib.blake2b(delivery.stream.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{_HELD}{delivery.sequence}~{delivery.published}~{stream}"
