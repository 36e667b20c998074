"""What the supervisor writes down of a run, and reads of it: its own ledger beside those of the worker's processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ami_fault_site.history import History
from ami_fault_site.ledger import Ledger, Reader, incarnation_of
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.service import Seen

_SEALED_AT_ONCE = 200  # files in one event


class Books:
    """The ledger of a run, written to by the supervisor and read back as a history. `tell` says what goes wrong."""

    def __init__(self, run: RunFolder, tell: Callable[[str], None]) -> None:
        self.history = History()
        self._reader = Reader(run.ledger)
        self._ledger = Ledger(run.ledger, 0)
        self._run = run
        self._tell = tell
        self._said: dict[int, tuple[object, ...]] = {}

    def write(self, kind: str, /, **data: object) -> None:
        """Write one event; if that fails the run goes on, and is not complete."""
        try:
            self._ledger.append(kind, **data)
        except OSError as error:
            self.mark_incomplete()
            self._tell(f"the ledger cannot be written: {error.strerror}")

    def mark_incomplete(self) -> None:
        """Leave a sign that something of the run could not be kept."""
        self._run.mark_incomplete()

    def read(self) -> None:
        """Take what has been booked since into the history."""
        self.history.add(self._reader.new())

    def is_armed(self, incarnation: int) -> bool:
        """Say whether an incarnation has booked by now that it is armed."""
        self.read()
        return self.history.life(incarnation).armed

    def seal(self, incarnation: int) -> None:
        """Book how many lines each file of an incarnation has: its processes are gone, none may have fewer later."""
        counts = self._reader.counts()
        files = [[name, lines] for name, lines in sorted(counts.items()) if incarnation_of(name) == incarnation]
        for start in range(0, len(files), _SEALED_AT_ONCE):
            self.write("sealed", files=files[start : start + _SEALED_AT_ONCE])

    def write_seen(self, seen: Mapping[int, Seen]) -> None:
        """Book what the service says of each job whenever that has changed."""
        for job, one in sorted(seen.items()):
            detail = one.detail
            said = (detail.status, detail.processed, detail.remaining, detail.failed)
            if self._said.get(job) != said:
                self._said[job] = said
                names = ("status", "processed", "remaining", "failed")
                times = {"asked": round(one.asked, 6), "heard": round(one.at, 6)}
                self.write("seen", job=job, **dict(zip(names, said, strict=True)), **times)

    def close(self) -> None:
        """Book the orderly end, and read the last of it."""
        self._ledger.end()
        self.read()
