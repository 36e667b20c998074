"""Book what a worker sees of the service: jobs listed, tasks handed out, images fetched, answers sent."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ami_fault_site import antenna
from ami_fault_site.antenna import ApiCall, Delivery, Lease
from ami_fault_site.faults import Call, Decision, Draw, Harm, Phase, Site
from ami_fault_site.injector import Injector
from ami_fault_site.redaction import redact

_IMAGES_KEPT = 10_000  # a loader holds at most a few hundred tasks; the oldest are long fetched
_ERROR_LENGTH = 200


class Request(Protocol):
    """What of a request matters here."""

    url: str | None


class Heard(Protocol):
    """What of the service's own answer matters here."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def content(self) -> bytes:
        """The body, read when it is asked for."""


class Answer(Heard, Protocol):
    """What of a response matters here."""

    @property
    def next(self) -> Request | None:
        """Where a redirect leads that was not followed."""


class Passage(NamedTuple):
    """A request on its way: what it is, when it began, and what has to be known of it when its answer comes."""

    call: Call
    number: int
    began: float
    lease: Lease | None = None
    answers: tuple[antenna.Answered, ...] = ()

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The deliveries that it answers."""
        return tuple(answer.delivery for answer in self.answers if answer.delivery is not None)


class Witness:
    """Names the calls of one process and books them, before where their answer may be lost, and after.

    `normalize` turns a URL into the form that a prepared request has.
    """

    def __init__(self, injector: Injector, normalize: Callable[[str], str]) -> None:
        self.injector = injector
        self.normalize = normalize
        self._images: OrderedDict[str, Lease] = OrderedDict()
        self._lock = threading.Lock()
        self._passages = 0

    def renew_after_fork(self) -> None:
        """Replace the lock, which another thread may have held at the fork."""
        self._lock = threading.Lock()

    def may_know(self, url: str) -> bool:
        """Say, at no cost, whether a URL may be one of the worker's; most that it may not be are somebody else's."""
        return url in self._images or antenna.may_be_api(url)

    def recognize(self, method: str, url: str, body: object) -> Passage | None:
        """Say which of the worker's calls this is; None for all others."""
        api_call = antenna.classify(method, url, self._images.__contains__)
        if api_call is None:
            return None
        began, secure = time.monotonic(), url.startswith("https:")
        if api_call.site is Site.IMAGE:
            lease = self._images.get(url)
            if lease is None:  # another thread has just taken it off the end of the list
                return None
            return Passage(about_image(lease, Site.IMAGE, self.injector, secure), self._next(), began, lease)
        answers = antenna.answers_in(body) if api_call.site is Site.RESULT and isinstance(body, (bytes, str)) else ()
        return Passage(self._call(api_call, answers, secure), self._next(), began, None, answers)

    def begins(self, passage: Passage, decision: Decision) -> None:
        """Book an API call before it is made: if its answer never comes, this is all that is known of it.

        For an image, note that this thread is about it, so that its opening can be tied to its task.
        """
        if passage.lease is not None:
            self.injector.here.image = passage.lease
            return
        if passage.call.site is Site.JOBS:
            self.injector.has_put_all_behind()
        self.injector.book(
            "call",
            call=passage.number,
            site=passage.call.site.value,
            job=passage.call.job,
            stream=_stream(passage.deliveries),
            tasks=rows_of(passage.deliveries),
            failed=[a.delivery.sequence for a in passage.answers if a.delivery and a.error is not None],
            **_decided(decision),
        )

    def answered(self, passage: Passage, decision: Decision, harm: Harm | None, response: Answer) -> None:
        """Book the answer to a call; `harm` is what made it fail. A body is only read where it says something."""
        site, status = passage.call.site, response.status_code
        if harm is not None and (status < 400 or harm.phase is not Phase.BEFORE):
            self._failed(passage, decision, harm, status, harm.kind)
        elif site is Site.IMAGE:
            if status >= 400:
                self.injector.here.image = None
            self._image(passage, decision, status, "", harm is not None)
            self._redirected(passage, response)
        elif site is Site.JOBS:
            listed = antenna.jobs_in(response.content) if status < 400 else ()
            self._done(passage, "jobs", status, harm is not None, jobs=list(listed))
        elif site is Site.TASKS:
            leases = antenna.leases_in(response.content) if status < 400 else ()
            self._leases(passage, status, leases, harm is not None)
        elif site is Site.RESULT:
            accepted = antenna.is_accepted(status, response.content)
            if accepted or harm is None:  # whatever the service has refused, no worker posts it again
                self.injector.answered(passage.deliveries)
            self._answer(passage, "accepted" if accepted else "refused", status, "", harm is not None)
        else:
            self._done(passage, "registered", status, harm is not None)

    def failed(self, passage: Passage, decision: Decision, harm: Harm | None, error: BaseException) -> None:
        """Book that no answer came. Only the error's type: its message names URLs."""
        self._failed(passage, decision, harm, 0, type(error).__name__)

    def lost(self, passage: Passage, heard: Heard) -> None:
        """Book what the service answered before that is kept from the worker: what it handed out nobody will see."""
        site, status = passage.call.site, heard.status_code
        leases = leases_of(passage, heard)
        accepted = site is Site.RESULT and antenna.is_accepted(status, heard.content)
        if accepted:
            self.injector.answered(passage.deliveries)
        self._book_lost(passage, status, leases, accepted)

    def withheld(self, passage: Passage, leases: Iterable[Lease]) -> None:
        """Book the tasks that are taken out of an answer before the worker sees it."""
        self._book_lost(passage, 200, tuple(leases), False)

    def _book_lost(self, passage: Passage, status: int, leases: tuple[Lease, ...], accepted: bool) -> None:
        told = {"call": passage.number, "site": passage.call.site.value, "job": passage.call.job, "status": status}
        handed = tuple(lease.delivery for lease in leases)
        rows = [_lease_row(lease) for lease in leases]
        answered = passage.deliveries
        self.injector.book(
            "lost", **told, stream=_stream(handed or answered), leases=rows, accepted=accepted, tasks=rows_of(answered)
        )

    def _failed(self, passage: Passage, decision: Decision, harm: Harm | None, status: int, error: str) -> None:
        struck = harm is not None
        if passage.call.site is Site.IMAGE:
            self.injector.here.image = None  # there is nothing to open; what is opened next is something else
            self._image(passage, decision, status, error, struck)
        elif passage.call.site is Site.RESULT:
            unsent = harm is not None and harm.phase is Phase.BEFORE
            self._answer(passage, "not-sent" if unsent else "unheard", status, error, struck)
        else:
            self._done(passage, "no-answer", status, struck, error=error)

    def _redirected(self, passage: Passage, response: Answer) -> None:
        """Remember that an image is also to be had elsewhere, for workers that follow redirects themselves."""
        if passage.lease is not None and response.next is not None and response.next.url:
            self._remember(response.next.url, passage.lease)

    def _next(self) -> int:
        with self._lock:
            self._passages += 1
            return self._passages

    def _call(self, api_call: ApiCall, answers: tuple[antenna.Answered, ...], secure: bool) -> Call:
        """Key an answer on the smallest task in it; the others carry no identity and are numbered."""
        tasks = sorted((one.delivery.sequence, one.delivery.delivery) for one in answers if one.delivery is not None)
        drawn = Draw(*map(str, tasks[0])) if tasks else Draw("", self.injector.attempt(api_call.site))
        role = self.injector.role
        return Call(api_call.site, (drawn,), api_call.job, tasks=tuple(tasks), role=role, secure=secure)

    def _leases(self, passage: Passage, status: int, leases: tuple[Lease, ...], struck: bool) -> None:
        for lease in leases:
            self._remember(lease.image_url, lease)
        self.injector.received(leases)
        rows = [_lease_row(lease) for lease in leases]
        stream = leases[0].delivery.stream if leases else ""
        self._done(passage, "leases", status, struck, stream=stream, leases=rows)

    def _answer(self, passage: Passage, outcome: str, status: int, error: str, struck: bool) -> None:
        errors = [
            [a.delivery.sequence if a.delivery else None, redact(a.error)[:_ERROR_LENGTH]]
            for a in passage.answers
            if a.error is not None
        ]
        images = [answer.image for answer in passage.answers if answer.delivery is not None]
        rows = rows_of(passage.deliveries)
        said = {"outcome": outcome, "error": error, "tasks": rows, "images": images, "errors": errors}
        self._done(passage, "answer", status, struck, stream=_stream(passage.deliveries), **said)

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


def about_image(lease: Lease, site: Site, injector: Injector, secure: bool = False, more: tuple[str, ...] = ()) -> Call:
    """Return the call that is about a task's image, at one of the sites of images; `more` are names of it besides."""
    delivery = lease.delivery
    return Call(
        site,
        (Draw(lease.image_id or lease.image_name, str(delivery.delivery)),),
        delivery.job,
        (*antenna.image_names(lease.image_id, lease.image_url), *more),
        ((delivery.sequence, delivery.delivery),),
        role=injector.role,
        secure=secure,
    )


def leases_of(passage: Passage, heard: Heard) -> tuple[Lease, ...]:
    """Return the tasks that an answer hands out."""
    is_handing_out = passage.call.site is Site.TASKS and heard.status_code < 400
    return antenna.leases_in(heard.content) if is_handing_out else ()


def rows_of(deliveries: Iterable[Delivery]) -> list[list[object]]:
    """Return deliveries as the ledger writes them: sequence, delivery, consumer sequence, publish time (ns)."""
    return [_row(delivery) for delivery in deliveries]


def _row(delivery: Delivery) -> list[object]:
    return [delivery.sequence, delivery.delivery, delivery.consumer_sequence, delivery.published]


def _lease_row(lease: Lease) -> list[object]:
    return [*_row(lease.delivery), lease.delivery.left, lease.image_id, lease.image_name]


def _stream(deliveries: tuple[Delivery, ...]) -> str:
    return deliveries[0].stream if deliveries else ""


def _decided(decision: Decision) -> dict[str, object]:
    return {"draw": decision.draw, "eligible": [effect.value for effect in decision.eligible]}
