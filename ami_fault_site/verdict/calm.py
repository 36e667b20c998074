"""Checks on calm: a fault stays one fault, and what it costs stays in proportion."""

from __future__ import annotations

from collections import Counter

from ami_fault_site.history import PACE_SECONDS, History, Pace
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

CASCADE = Check(
    "no-cascade",
    Group.STABILITY,
    Whose.SERVICE,
    "No call fails that we did not touch: no 5xx, no refusal, no hang of the service's own.",
)
GRACEFUL = Check(
    "degrades-gracefully",
    Group.STABILITY,
    Whose.SERVICE,
    "The service answers under faults about as fast as without.",
)

_SETUP_STATUSES = ("http-401", "http-403")
_HANGS = 120.0  # seconds without an answer in a process that lived on: twice the worker's longest timeout
_FEWEST = 20  # calls on either side of a comparison
_TIMES_SLOWER, _SECONDS_SLOWER = 4.0, 0.5


def no_cascade(case: Case) -> Finding:
    """Count the failures of the service's own."""
    troubles = sorted(case.history.troubles.values(), key=lambda one: (-one.tally.count, one.site, one.what))
    serious = [one for one in troubles if not one.what.startswith("http-4")]
    refused = [one for one in troubles if one.what in _SETUP_STATUSES]
    others = [one for one in troubles if one not in serious and one not in refused]
    warnings = [f"{one.tally.count} {one.site} calls were answered {one.what}" for one in others]
    hung = _hung(case)
    if serious or hung:
        parts = [f"{one.site} {one.what} x{one.tally.count}" for one in serious]
        parts += [f"{len(hung)} calls were never answered"] if hung else []
        refs = [*(ref for one in serious for ref in one.tally.refs), *hung]
        text = f"calls failed that we did not touch: {', '.join(parts)}"
        return case.say(CASCADE, Status.FAIL, text, refs=refs, warnings=warnings)
    if refused:
        one = refused[0]
        text = f"the service refuses the worker's token: {one.site} {one.what} x{one.tally.count}"
        return case.say(CASCADE, Status.FAIL, text, refs=one.tally.refs, whose=Whose.SETUP, warnings=warnings)
    calls = sum(pace.calls for pace in case.history.paces.values())
    return case.say(CASCADE, Status.PASS, "no call failed that we did not touch", warnings=warnings, judged=calls)


def _hung(case: Case) -> list[tuple[int, int]]:
    if case.facts.damage:  # the line that ends the call may be missing
        return []
    fetches = case.history.unended_fetches
    processes = case.history.processes
    own = [row for row in fetches if processes[row[1]].hung is None]
    return [ref for _, process, at, ref in own if processes[process].last - at > _HANGS]


def degrades_gracefully(case: Case) -> Finding:
    """Compare the median answer time under faults with that of a stretch, or a run, without."""
    first: dict[int, float] = {}
    for one in case.history.injections:
        clock = case.history.processes[one.process].clock
        first[clock] = min(one.at, first.get(clock, one.at))
    if not first:
        return case.say(GRACEFUL, Status.NOT_APPLICABLE, "no fault struck")
    calm, struck = Pace(), Pace()
    for (clock, stretch), pace in case.history.paces.items():
        began = first.get(clock)
        _merge(calm if began is None or (stretch + 1) * PACE_SECONDS <= began else struck, pace)
    before = case.facts.baseline if case.facts.baseline is not None else _median(calm)
    if (case.facts.baseline is None and calm.calls < _FEWEST) or struck.calls < _FEWEST or before is None:
        text = "there is no stretch without faults to compare with: --baseline RUN names a run without"
        return case.say(GRACEFUL, Status.NOT_APPLICABLE, text)
    after = _median(struck) or 0.0
    text = f"half of the calls were answered within {after:.3f} s under faults, and within {before:.3f} s without"
    slower = after > _TIMES_SLOWER * before and after - before > _SECONDS_SLOWER
    return case.say(GRACEFUL, Status.FAIL if slower else Status.PASS, text, judged=struck.calls)


def _merge(into: Pace, pace: Pace) -> None:
    into.calls += pace.calls
    into.buckets.update(pace.buckets)


def _median(pace: Pace) -> float | None:
    """Return the upper bound in seconds of the power of two of milliseconds that the median call fell into."""
    return median_seconds(pace.buckets)


def usual_answer_time(history: History) -> float | None:
    """Return the median answer time of a whole run in seconds, None if nothing was handed out or answered in it."""
    whole = Pace()
    for pace in history.paces.values():
        _merge(whole, pace)
    return _median(whole)


def median_seconds(buckets: Counter[int]) -> float | None:
    """Return the median of calls counted by powers of two of milliseconds, in seconds; None if there are none."""
    total, seen = sum(buckets.values()), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if 2 * seen >= total:
            return float(2**bucket) / 1000
    return None
