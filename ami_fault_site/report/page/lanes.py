"""Put the lives of workers into lanes: one after the other in one lane, beside each other in lanes of their own."""

from __future__ import annotations

from dataclasses import dataclass

from ami_fault_site.endings import exit_text
from ami_fault_site.report.page.timescale import Timescale
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.lives import Holder, HolderKey

_ENDS = {
    "injected": "an injected crash",
    "organic": "an exit of its own",
    "refused": "it refused its settings",
    "operator": "the operator's stop",
    "ended": "the end of the run",
}


@dataclass(frozen=True)
class Bar:
    """One life of a worker, from `began` to `ended` in seconds of the timescale. `how` says how it ended."""

    name: str
    lane: int
    began: float
    ended: float
    how: str
    is_injected: bool


@dataclass(frozen=True)
class Lanes:
    """The lanes by their names, the lives in them, and in which lane each life is."""

    names: tuple[str, ...]
    bars: tuple[Bar, ...]
    of: dict[HolderKey, int]


@dataclass(frozen=True)
class _Span:
    """A life on the timescale; `place` are its run, and its host or, where a supervisor numbered it, its worker."""

    place: tuple[str, str, int]
    began: float
    ended: float
    key: HolderKey
    name: str
    how: str
    is_injected: bool


def lanes(case: Case, times: Timescale) -> Lanes:
    """Lay out every life of a worker. Those of one run and host that do not overlap share a lane."""
    free: list[tuple[tuple[str, str, int], float]] = []  # of each lane whose it is, and when its last life ended
    bars, of = [], {}
    for one in sorted(_spans(case, times), key=lambda span: (span.place, span.began, span.ended, span.key)):
        own = [n for n, (place, end) in enumerate(free) if place == one.place and (place[2] or end <= one.began)]
        lane = own[0] if own else len(free)
        free[lane : lane + 1] = [(one.place, one.ended)]
        of[one.key] = lane
        bars.append(Bar(one.name, lane, one.began, one.ended, one.how, one.is_injected))
    return Lanes(_names([place for place, _ in free]), tuple(bars), of)


def _spans(case: Case, times: Timescale) -> list[_Span]:
    bounds: dict[HolderKey, tuple[float, float]] = {}
    holders: dict[HolderKey, Holder] = {one.key: one for one in case.lives.all()}
    for process in case.history.processes:
        key = case.lives.holder(process.number).key
        first, last = times.at(process.clock, process.first), times.at(process.clock, process.last)
        before = bounds.get(key, (first, last))
        bounds[key] = (min(first, before[0]), max(last, before[1]))
    spans = [_alone(times, holder, *bounds[key]) for key, holder in holders.items() if key[2] < 0]
    for (run, number), life in case.history.lives.items():
        if number > 0:
            key = (run, "", number)
            began, ended = bounds.get(key, (times.end, 0.0))
            if life.clock is not None:
                began = began if life.began is None else times.at(life.clock, life.began)
                ended = ended if life.ended is None else times.at(life.clock, life.ended)
            of_ours = holders[key].how.is_ours if key in holders else life.kind == "injected"
            how = holders[key].how.value if key in holders else _ENDS.get(life.kind, "no end that is known")
            how += "" if life.code is None else f", {exit_text(life.code)}"
            name = f"incarnation {number}" + (f" of {run}" if run else "")
            spans.append(_Span((run, "", life.worker), began, max(began, ended), key, name, how, of_ours))
    return spans


def _alone(times: Timescale, holder: Holder, first: float, last: float) -> _Span:
    """Return a life that nobody supervised; of whose end nothing is known, to when it was last heard of."""
    ended = last if holder.end is None else max(first, times.at(holder.clock, holder.end))
    return _Span((*holder.key[:2], 0), first, ended, holder.key, holder.name, holder.how.value, holder.how.is_ours)


def _names(places: list[tuple[str, str, int]]) -> tuple[str, ...]:
    """Name each lane by what tells it from the others: its number, its host, its run."""
    runs = {run for run, _, _ in places}
    seen: dict[tuple[str, str], int] = {}
    named = []
    for run, host, worker in places:
        seen[run, host] = seen.get((run, host), 0) + 1
        is_alone = sum((run, host) == other[:2] for other in places) == 1
        parts = ["worker" if is_alone else f"worker {worker or seen[run, host]}"]
        parts += [f"on {host}"] if host else []
        parts += [f"of {run}"] if len(runs) > 1 else []
        named.append(" ".join(parts))
    return tuple(named)
