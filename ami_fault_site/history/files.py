"""Number the processes of a history and their clocks: one ledger file is one process, one host and boot one clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from ami_fault_site.history.records import Place, Process, Ref
from ami_fault_site.ledger import Event

_MARKS_APART = 1.0  # seconds; so the history grows with the length of a run and not with its events
_SAME_CLOCK = 5.0  # seconds by which wall and monotonic clock of one boot may drift apart before it counts as another


@dataclass
class Files:
    """Which process each event is of."""

    processes: list[Process] = field(default_factory=list)
    _numbers: dict[tuple[str, str, str, int], int] = field(default_factory=dict)
    _clocks: list[tuple[str, str, float]] = field(default_factory=list)
    _last: Process | None = field(default=None, compare=False)

    def of(self, event: Event) -> Process:
        """Return the process that an event is of, made at first sight, and note how far it has come."""
        process = self._last
        # Nearly always the file that the event before was read from, whose name is then the very same object.
        if process is None or event.file is not process.file or event.pid != process.pid or event.run != process.run:
            process = self._last = self._find(event)
        if event.mono > process.last:
            process.last = event.mono
            if event.mono > process.marks[-1][0] + _MARKS_APART:
                process.marks.append((event.mono, event.line))
        elif event.mono < process.first:
            process.first = event.mono
        if event.line > process.last_line:
            process.last_line = event.line
        return process

    def _find(self, event: Event) -> Process:
        key = (event.run, event.host, event.file, event.pid)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.processes)
            told = (event.run, event.host, self._clock(event), event.pid, event.incarnation, event.file)
            marks = [(event.mono, event.line)]
            self.processes.append(Process(number, *told, first=event.mono, marks=marks))
        return self.processes[number]

    def place(self, ref: Ref) -> Place:
        """Say where a line stands."""
        process = self.processes[ref[0]]
        return Place(process.run, process.file, ref[1])

    def wall_base(self, clock: int) -> float:
        """Return what to add to a monotonic time of this clock to have seconds since 1970, by that host's own clock."""
        return self._clocks[clock][2]

    def _clock(self, event: Event) -> int:
        """Number the monotonic clocks: one a host and boot. Their readings can be compared, others cannot.

        A file begins with the id of the boot, where there is one: a host's name may be another host's as well. The wall
        clock, which somebody may set meanwhile, is asked only where there is none.
        """
        base, boot = event.wall - event.mono, event.text("boot")
        for number, (host, other, known) in enumerate(self._clocks):
            is_same = boot == other if boot and other else abs(base - known) < _SAME_CLOCK
            if host == event.host and is_same:
                return number
        self._clocks.append((event.host, boot, base))
        return len(self._clocks) - 1
