"""Lay out deliveries as spans: how long a worker held each, how that ended, and which delivery came after it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ami_fault_site.history import Lease, Task
from ami_fault_site.report.page.lanes import Lanes
from ami_fault_site.report.page.timescale import Timescale
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.ends import How


@dataclass(frozen=True)
class Span:
    """One delivery that was received, in seconds of the timescale; `row` is its place below its lane's bar, from 1."""

    task: Task
    delivery: int
    lane: int
    row: int
    began: float
    ended: float
    how: How
    cause: str


@dataclass(frozen=True)
class Link:
    """A way from a delivery to the next one of its task, by their places among the spans."""

    before: int
    after: int


@dataclass(frozen=True)
class _Held:
    task: Task
    lease: Lease
    lane: int
    began: float
    ended: float
    how: How
    cause: str


def spans(case: Case, times: Timescale, lanes: Lanes) -> tuple[list[Span], list[Link]]:
    """Return every delivery of which the receipt is known, in the order of receipt, and the links between them."""
    held = sorted(_held(case, times, lanes), key=lambda one: (one.began, one.lane, one.task.key, one.lease.delivery))
    rows = _rows(held)
    found = [
        Span(
            one.task, one.lease.delivery, one.lane, row, one.began, one.ended, one.how, one.cause
        )
        for one, row in zip(held, rows, strict=True)
    ]  # fmt: skip
    return found, _links(held)


def _held(case: Case, times: Timescale, lanes: Lanes) -> Iterable[_Held]:
    for task in case.tasks():
        for lease in task.leases:
            if lease.is_known:
                end = case.ends.of(task, lease)
                clock = case.ends.clock(lease)
                began = times.at(clock, lease.received)
                ended = times.at(clock, _end(case, lease, end.at))
                lane = lanes.of[case.lives.holder(lease.process).key]
                yield _Held(task, lease, lane, began, max(began, ended), end.how, end.cause)


def _end(case: Case, lease: Lease, at: float | None) -> float:
    """Return when a delivery was over; where only the order is known, when its holder was last heard of."""
    heard = [post.heard for post in lease.posts if post.is_accepted and post.heard is not None]
    if heard:
        return min(heard)
    if at is not None:
        return at
    return max(lease.received, case.lives.silent_since(case.lives.holder(lease.process)))


def _rows(held: Sequence[_Held]) -> list[int]:
    """Give each span the first row of its lane that is free by then."""
    free: dict[int, list[int]] = {}
    busy: dict[int, list[tuple[float, int]]] = {}
    most: dict[int, int] = {}
    rows = []
    for one in held:
        idle, taken = free.setdefault(one.lane, []), busy.setdefault(one.lane, [])
        while taken and taken[0][0] <= one.began:
            heapq.heappush(idle, heapq.heappop(taken)[1])
        if idle:
            row = heapq.heappop(idle)
        else:
            row = most[one.lane] = most.get(one.lane, 0) + 1
        heapq.heappush(taken, (one.ended, row))
        rows.append(row)
    return rows


def _links(held: Sequence[_Held]) -> list[Link]:
    places = {(one.task.key, one.lease.delivery): number for number, one in enumerate(held)}
    links = []
    for number, one in enumerate(held):
        later = [d.delivery for d in one.task.leases if d.is_known and d.delivery > one.lease.delivery]
        if later:
            links.append(Link(number, places[one.task.key, min(later)]))
    return links
