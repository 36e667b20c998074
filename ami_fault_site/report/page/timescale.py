"""Say when something happened in seconds since the first thing that was booked, by the wall clock of its host."""

from __future__ import annotations

from datetime import datetime, timezone

from ami_fault_site.history import Process
from ami_fault_site.verdict.case import Case

_DIGITS = 3  # after the point: milliseconds


class Timescale:
    """Seconds since `began`, which is in seconds since 1970; 0 if nothing was booked. `end` is the last moment."""

    def __init__(self, case: Case) -> None:
        self._bases = {one.clock: case.history.files.wall_base(one.clock) for one in case.history.processes}
        spans = [(self._bases[one.clock] + one.first, self._bases[one.clock] + one.last) for one in _writers(case)]
        self.began = min((first for first, _ in spans), default=0.0)
        self.end = round(max((last for _, last in spans), default=self.began) - self.began, _DIGITS)
        self.clocks = len(self._bases)

    def at(self, clock: int, mono: float) -> float:
        """Return a moment on one host's monotonic clock, rounded to milliseconds."""
        return round(self._bases[clock] + mono - self.began, _DIGITS)

    def of_wall(self, wall: float) -> float:
        """Return a moment that is known in seconds since 1970."""
        return round(wall - self.began, _DIGITS)

    @property
    def start(self) -> str:
        """Tell the beginning as people read it, in UTC."""
        return f"{datetime.fromtimestamp(self.began, timezone.utc):%Y-%m-%d %H:%M:%S} UTC" if self.began else "never"


def _writers(case: Case) -> list[Process]:
    """Return the processes whose first and last lines bound the run; a note may come days later."""
    own = [one for one in case.history.processes if not one.is_bystander]
    return list(own or case.history.processes)
