"""Count how many tasks were answered in each stretch of a run, and set that against the faults."""

from __future__ import annotations

from dataclasses import dataclass

from ami_fault_site.report.page.histogram import Histogram, histogram
from ami_fault_site.report.page.timescale import Timescale
from ami_fault_site.verdict.case import Case

_STEPS, _LEAST = 60, 1.0  # steps at most, and their least width in seconds


@dataclass(frozen=True)
class Pace:
    """A whole run in one point: tasks answered a second, and faults that struck for each hundred tasks handed out."""

    name: str
    answered_a_second: float
    faults_a_hundred_tasks: float


def answered(case: Case, times: Timescale) -> Histogram:
    """Count the tasks by when an answer was first accepted, in steps of seconds of the timescale."""
    return histogram([max(0.0, at) for at in _moments(case, times)], _STEPS, _LEAST)


def pace(case: Case, name: str) -> Pace | None:
    """Return how fast a run went from its first delivery to its last answer; None if nothing was answered."""
    times = Timescale(case)
    moments = list(_moments(case, times))
    if not moments:
        return None
    received = [
        times.at(case.ends.clock(lease), lease.received)
        for task in case.tasks()
        for lease in task.leases
        if lease.is_known
    ]
    took = max(max(moments) - min(received, default=0.0), 0.001)
    handed_out = sum(task.handed_out > 0 for task in case.tasks())
    return Pace(name, len(moments) / took, 100.0 * len(case.history.injections) / max(handed_out, 1))


def _moments(case: Case, times: Timescale) -> list[float]:
    found = []
    for task in case.tasks():
        heard = [(post.heard, post.process) for _, post in task.accepted() if post.heard is not None]
        if heard:
            found.append(min(times.at(case.history.processes[process].clock, at) for at, process in heard))
    return found
