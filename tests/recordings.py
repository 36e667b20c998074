"""Import a recording of the real worker: rows of traffic -> the events that our hooks would have booked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ami_fault_site import antenna
from ami_fault_site.antenna import Delivery
from ami_fault_site.faults import Site
from ami_fault_site.history import History
from ami_fault_site.jobdetail import job_detail
from ami_fault_site.ledger import Event
from ami_fault_site.verdict.facts import Facts, JobWitness, Parameters

FOLDER = Path(__file__).parent.parent.parent / "shared" / "recordings"
PARAMETERS = Parameters(8.0, 2, {"ack_wait": "--ack-wait", "max_deliver": "--max-deliver"})


@dataclass
class _Booking:
    """One incarnation's ledger file. Recordings name threads and no processes: one file holds them all."""

    incarnation: int
    events: list[Event] = field(default_factory=list)
    calls: int = 0

    def book(self, kind: str, at: float, thread: str, /, **data: object) -> None:
        """Write one event. The recording's clock serves as both, so that base and wall agree."""
        line = len(self.events) + 1
        file = f"lab-{self.incarnation:04d}-{self.incarnation}-0.jsonl"
        told = (kind, at, at, "lab", self.incarnation, thread, self.incarnation, line)
        self.events.append(Event(*told, data, "", file, line))


def rows_of(name: str) -> list[dict[str, object]]:
    """Return a recording's rows without the redirects that belong to an outer call: nested in time, same thread."""
    rows = [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]
    rows.sort(key=lambda row: (row["t"], -row["dt"]))

    def is_inside(inner: dict[str, float], outer: dict[str, float]) -> bool:
        ends = inner["t"] + inner["dt"], outer["t"] + outer["dt"]
        return outer["t"] <= inner["t"] and ends[0] <= ends[1]

    outer = [row for row in rows if row["redirects"]]
    return [
        row
        for row in rows
        if not any(row is not one and row["thread"] == one["thread"] and is_inside(row, one) for one in outer)
    ]


def _row(delivery: Delivery) -> list[object]:
    return [delivery.sequence, delivery.delivery, delivery.consumer_sequence, delivery.published]


def events_of(name: str, killed_at: float | None = None) -> list[Event]:
    """Turn a recording into events; `killed_at` is when (s of its clock) a SIGKILL ended the first worker."""
    images: dict[str, antenna.Lease] = {}
    bookings = [_Booking(1), _Booking(2)]
    rows = rows_of(name)
    for row in rows:
        began, seconds = float(str(row["t"])), float(str(row["dt"]))
        booking = bookings[killed_at is not None and began > killed_at]
        call = antenna.classify(str(row["method"]), str(row["url"]), images.__contains__)
        if call is not None:
            _book(booking, call, row, began, seconds, images)
    supervisor = _Booking(0)
    first, last = float(str(rows[0]["t"])), float(str(rows[-1]["t"])) + float(str(rows[-1]["dt"]))
    supervisor.book("spawn", first - 1, "MainThread", incarnation=1, child=1)
    if killed_at is not None:
        supervisor.book("exit", killed_at, "MainThread", incarnation=1, code=-9, kind="organic", last_words=["Killed"])
        supervisor.book("spawn", killed_at + 1, "MainThread", incarnation=2, child=2)
    number = 1 if killed_at is None else 2
    supervisor.book("exit", last + 1, "MainThread", incarnation=number, code=-15, kind="ended", last_words=[])
    return [event for booking in (*bookings, supervisor) for event in booking.events]


def _book(
    booking: _Booking,
    call: antenna.ApiCall,
    row: dict[str, object],
    began: float,
    seconds: float,
    images: dict[str, antenna.Lease],
) -> None:
    booking.calls += 1
    thread, number, ended = str(row["thread"]), booking.calls, began + seconds
    about = {"call": number, "job": call.job, "status": row["status"], "seconds": seconds, "struck": False}
    answers = antenna.answers_in(str(row["request_body"] or "")) if call.site is Site.RESULT else ()
    deliveries = [one.delivery for one in answers if one.delivery is not None]
    tasks = [_row(one) for one in deliveries]
    stream = deliveries[0].stream if deliveries else ""
    if call.site is not Site.IMAGE:
        told = {"call": number, "site": call.site.value, "job": call.job, "stream": stream, "tasks": tasks}
        booking.book("call", began, thread, **told)
    if call.site is Site.IMAGE:
        lease = images[str(row["url"])]
        image = {"image": lease.image_id, "name": lease.image_name, "error": "", "task": _row(lease.delivery)}
        booking.book("image", ended, thread, **about, **image)
    elif call.site is Site.JOBS:
        booking.book("jobs", ended, thread, **about, jobs=list(antenna.jobs_in(str(row["response_body"]))))
    elif call.site is Site.TASKS:
        leases = antenna.leases_in(str(row["response_body"]))
        images.update({lease.image_url: lease for lease in leases})
        rows = [[*_row(one.delivery), one.delivery.left, one.image_id, one.image_name] for one in leases]
        stream = leases[0].delivery.stream if leases else ""
        booking.book("leases", ended, thread, **about, stream=stream, leases=rows)
    elif call.site is Site.RESULT:
        errors = [[a.delivery.sequence, a.error] for a in answers if a.delivery is not None and a.error is not None]
        said = {"outcome": "accepted", "error": "", "tasks": tasks, "errors": errors, "stream": stream}
        booking.book("answer", ended, thread, **about, **said, images=[one.image for one in answers])


def facts_of(name: str) -> Facts:
    """Return what is known beside a recording: its job's detail afterwards, and what its service was set to."""
    detail = job_detail(json.loads((FOLDER / name).read_text()))
    # Asked within the minute after the last call, when nothing moved any more.
    last = max(event.wall for event in events_of(name.replace("job-after", "worker").replace(".json", ".jsonl")))
    return Facts((), PARAMETERS, {detail.job: JobWitness(detail, last + 30, settled=True)})


def history_of(events: Iterator[Event] | list[Event]) -> History:
    """Fold events."""
    history = History()
    history.add(events)
    return history
