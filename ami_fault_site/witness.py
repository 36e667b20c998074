"""Book what a worker sees of the service: jobs listed, tasks handed out, images fetched, answers sent."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ami_fault_site import antenna
from ami_fault_site.antenna import ApiCall, Delivery, Lease
from ami_fault_site.faults import Call, Decision, Draw, Site
from ami_fault_site.injector import Injector
from ami_fault_site.redaction import redact

_IMAGES_KEPT = 20_000  # a loader holds at most a few hundred tasks; the oldest are long fetched
_ERROR_LENGTH = 200


class Request(Protocol):
    """What of a request matters here."""

    url: str | None


class Answer(Protocol):
    """What of a response matters here."""

    status_code: int

    @property
    def content(self) -> bytes:
        """The body, read when it is asked for."""

    @property
    def next(self) -> Request | None:
        """Where a redirect leads that was not followed."""


@dataclass(frozen=True)
class Passage:
    """A request on its way: what it is, when it began, and what has to be known of it when its answer comes."""

    call: Call
    number: int
    began: float
    lease: Lease | None = None
    answers: tuple[antenna.Answered, ...] = ()


@dataclass
class Witness:
    """Names the calls of one process and books them, before where their answer may be lost, and after.

    `normalize` turns a URL into the form that a prepared request has.
    """

    injector: Injector
    normalize: Callable[[str], str]
    _images: OrderedDict[str, Lease] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _passages: int = 0

    def renew_after_fork(self) -> None:
        """Replace the lock, which another thread may have held at the fork."""
        self._lock = threading.Lock()

    def recognize(self, method: str, url: str, body: object) -> Passage | None:
        """Say which of the worker's calls this is, and book that it begins; None for all others."""
        api_call = antenna.classify(method, url, self._images.__contains__)
        if api_call is None:
            return None
        if api_call.site is Site.IMAGE:
            lease = self._images.get(url)
            if lease is None:  # another thread has just taken it off the end of the list
                return None
            names = antenna.image_names(lease.image_id, lease.image_url)
            call = Call(Site.IMAGE, (Draw(lease.image_id or lease.image_name, ""),), lease.delivery.job, names)
            return Passage(call, self._next(), time.monotonic(), lease)
        answers = antenna.answers_in(body) if api_call.site is Site.RESULT and isinstance(body, (bytes, str)) else ()
        return Passage(self._call(api_call, answers), self._next(), time.monotonic(), None, answers)

    def begins(self, passage: Passage, decision: Decision, host: str) -> None:
        """Book an API call before it is made: if its answer never comes, this is all that is known of it.

        For an image, note that this thread is about it, so that its opening can be tied to its task.
        """
        if passage.lease is not None:
            self.injector.here.image = passage.lease
            return
        self.injector.meet_host(host)
        self.injector.book(
            "call",
            call=passage.number,
            site=passage.call.site.value,
            job=passage.call.job,
            stream=_stream(passage.answers),
            tasks=_rows(passage.answers),
            failed=[a.delivery.sequence for a in passage.answers if a.delivery and a.error is not None],
            **_decided(decision),
        )

    def answered(self, passage: Passage, decision: Decision, struck: bool, response: Answer) -> None:
        """Book the answer to a call. Its body is only read where it says something."""
        site, status = passage.call.site, response.status_code
        ok = status < 400
        if site is Site.IMAGE:
            if not ok:
                self.injector.here.image = None
            self._image(passage, decision, status, "", struck)
            self._redirected(passage, response)
        elif site is Site.JOBS:
            listed = antenna.jobs_in(response.content) if ok else ()
            self._done(passage, "jobs", status, struck, jobs=list(listed))
        elif site is Site.TASKS:
            self._leases(passage, status, antenna.leases_in(response.content) if ok else (), struck)
        elif site is Site.RESULT:
            accepted = antenna.is_accepted(status, response.content)
            self._answer(passage, "accepted" if accepted else "refused", status, "", struck)
        else:
            self._done(passage, "registered", status, struck)

    def failed(self, passage: Passage, decision: Decision, struck: bool, error: BaseException) -> None:
        """Book that no answer came. Only the error's type: its message names URLs."""
        name = type(error).__name__
        if passage.call.site is Site.IMAGE:
            self.injector.here.image = None  # there is nothing to open; what is opened next is something else
            self._image(passage, decision, 0, name, struck)
        elif passage.call.site is Site.RESULT:
            self._answer(passage, "not-sent" if struck else "unheard", 0, name, struck)
        else:
            self._done(passage, "no-answer", 0, struck, error=name)

    def _redirected(self, passage: Passage, response: Answer) -> None:
        """Remember that an image is also to be had elsewhere, for workers that follow redirects themselves."""
        if passage.lease is not None and response.next is not None and response.next.url:
            self._remember(response.next.url, passage.lease)

    def _next(self) -> int:
        with self._lock:
            self._passages += 1
            return self._passages

    def _call(self, api_call: ApiCall, answers: tuple[antenna.Answered, ...]) -> Call:
        """Key an answer on the smallest task in it; the others carry no identity and are numbered."""
        deliveries = [answer.delivery for answer in answers if answer.delivery is not None]
        if deliveries:
            least = min(deliveries, key=lambda d: (d.sequence, d.delivery))
            draw = Draw(str(least.sequence), str(least.delivery))
        else:
            draw = Draw("", self.injector.attempt(api_call.site))
        return Call(api_call.site, (draw,), api_call.job)

    def _leases(self, passage: Passage, status: int, leases: tuple[Lease, ...], struck: bool) -> None:
        for lease in leases:
            self._remember(lease.image_url, lease)
        rows = [[*_row(lease.delivery), lease.delivery.left, lease.image_id, lease.image_name] for lease in leases]
        stream = leases[0].delivery.stream if leases else ""
        self._done(passage, "leases", status, struck, stream=stream, leases=rows)

    def _answer(self, passage: Passage, outcome: str, status: int, error: str, struck: bool) -> None:
        errors = [
            [a.delivery.sequence if a.delivery else None, redact(a.error)[:_ERROR_LENGTH]]
            for a in passage.answers
            if a.error is not None
        ]
        images = [answer.image for answer in passage.answers if answer.delivery is not None]
        said = {"outcome": outcome, "error": error, "tasks": _rows(passage.answers), "images": images, "errors": errors}
        self._done(passage, "answer", status, struck, stream=_stream(passage.answers), **said)

    def _image(self, passage: Passage, decision: Decision, status: int, error: str, struck: bool) -> None:
        lease = passage.lease
        if lease is not None:
            about = {"error": error, "image": lease.image_id, "name": lease.image_name, "task": _row(lease.delivery)}
            self._done(passage, "image", status, struck, **about, **_decided(decision))

    def _done(self, passage: Passage, kind: str, status: int, struck: bool, **data: object) -> None:
        seconds = round(time.monotonic() - passage.began, 4)
        job = passage.call.job
        self.injector.book(kind, call=passage.number, job=job, status=status, seconds=seconds, struck=struck, **data)

    def _remember(self, url: str, lease: Lease) -> None:
        with self._lock:
            for key in {url, self.normalize(url)}:
                self._images[key] = lease
                self._images.move_to_end(key)
            while len(self._images) > _IMAGES_KEPT:
                self._images.popitem(last=False)


def _row(delivery: Delivery) -> list[object]:
    return [delivery.sequence, delivery.delivery, delivery.consumer_sequence, delivery.published]


def _stream(answers: tuple[antenna.Answered, ...]) -> str:
    return next((answer.delivery.stream for answer in answers if answer.delivery is not None), "")


def _rows(answers: tuple[antenna.Answered, ...]) -> list[list[object]]:
    return [_row(answer.delivery) for answer in answers if answer.delivery is not None]


def _decided(decision: Decision) -> dict[str, object]:
    return {"draw": decision.draw, "eligible": [effect.value for effect in decision.eligible]}
