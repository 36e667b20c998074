"""What the attempts at a call show: whether it was tried again, whether the pauses grew, whether a wait was kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ami_fault_site.faults import Effect, Phase, Site
from ami_fault_site.history.records import Injection, Ref, Tally

REPEATABLE = (Site.JOBS.value, Site.IMAGE.value)
"""The sites whose calls are GETs, which may be sent again without harm."""

_PASSING_STATUSES = frozenset({500, 502, 503, 504})
_TOO_MANY = 429
_PASSING_KINDS = frozenset({"refused", "connect-timeout", "reset", "closed", "read-timeout", "stall"})
_PASSING_ERRORS = frozenset(
    {
        "ConnectTimeout", "ConnectTimeoutError", "ConnectionAbortedError", "ConnectionError", "ConnectionRefusedError",
        "ConnectionResetError", "NewConnectionError", "ProtocolError", "ReadTimeout", "ReadTimeoutError",
        "RemoteDisconnected", "TimeoutError",
    }
)  # fmt: skip
_LONGER = 0.1  # seconds by which a pause is longer than another, and not only measured so
_TOO_SHORT = 0.1  # seconds by which a wait may seem shorter than it was
_MOST = 10_000  # requests that are remembered until they are tried again; more would tell nothing new


class Try(NamedTuple):
    """One attempt at a call: times in monotonic seconds, `retry_after` in seconds. `kind` is the fault's, if any."""

    began: float
    ended: float
    status: int
    error: str
    kind: str
    struck: bool
    retry_after: float | None
    ref: Ref
    site: str = Site.IMAGE.value
    image: str = ""
    job: int = 0
    lease: tuple[int, int, int] = (0, 0, 0)  # sequence, publish time, delivery; of an image

    @property
    def has_failed(self) -> bool:
        """Whether it brought nothing that is of use."""
        return self.struck or self.status == 0 or self.status >= 400

    @property
    def what(self) -> str:
        """How it failed, in a word."""
        return self.kind or self.error or f"http-{self.status}"


def is_passing(one: Try, phase: str) -> bool:
    """Say whether an attempt failed in a way that the next may not.

    Not what broke off in the midst of a body: by then a library has handed the answer over, and repeats nothing.
    """
    if one.status in _PASSING_STATUSES:
        return True
    if one.status == _TOO_MANY:
        return one.retry_after is not None
    if one.status or phase == Phase.DURING.value:
        return False
    return one.kind in _PASSING_KINDS or (not one.kind and one.error in _PASSING_ERRORS)


@dataclass
class Pauses:
    """Requests whose pauses were looked at: how many did not do as they should, the worst of them, and where."""

    judged: int = 0
    bad: Tally = field(default_factory=Tally)
    worst: tuple[float, ...] = ()
    best: tuple[float, ...] = ()


@dataclass
class Calls:
    """The calls of one site by their attempts: how many were struck, came well through it, or failed for it."""

    calls: int = 0
    absorbed: int = 0
    failed: int = 0
    tries: int = 0
    struck: int = 0


@dataclass
class Attempts:
    """All attempts of a history, as far as anything is asked of them: tallies, and the first lines of each kind.

    `unrepeated` are the requests that met a passing failure and were not sent again, by process, site and image, as
    far as no later call took them up; `met` counts all that met one. `growth` is about pauses between three attempts
    or more, `told_when` counts those whose pauses an answer asked for, `waits` is about answers that asked to wait,
    (seconds asked for, seconds waited).
    """

    sites: dict[str, Calls] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    unrepeated: dict[tuple[int, str, str], Try] = field(default_factory=dict)
    growth: Pauses = field(default_factory=Pauses)
    waits: Pauses = field(default_factory=Pauses)
    told_when: int = 0
    told_to_wait: list[tuple[int, int, float, float]] = field(default_factory=list)  # clock, job, since, until
    _waiting: dict[tuple[int, str], Try] = field(default_factory=dict)

    def take(
        self,
        process: int,
        clock: int,
        tries: Sequence[Try],
        struck: bool,
        faults: Sequence[Injection],
        lease: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """Take in a call that has ended. `struck` is whether its outcome is our doing.

        `lease` is what an image was loaded for: sequence, publish time and delivery.
        """
        site = tries[0].site
        counts = self.sites.setdefault(site, Calls())
        hit = sum(one.struck for one in tries)
        counts.calls += 1
        counts.tries += len(tries)
        counts.struck += hit
        counts.absorbed += hit > 0 and not struck and not tries[-1].has_failed
        counts.failed += struck and any(one.effect is Effect.NETWORK for one in faults)
        subject = tries[0].image
        if self.unrepeated:
            self.unrepeated.pop((process, site, subject), None)
        before = self._waiting.pop((process, subject), None) if self._waiting else None
        if before is not None:
            self._wait(before, tries[0])
        if len(tries) == 1 and not tries[0].has_failed:
            return
        phase = faults[-1].phase if faults else ""
        for request in _requests(tries):
            self._judge(site, process, request, phase)
        last = self.unrepeated.get((process, site, subject))
        if last is not None:
            self.unrepeated[process, site, subject] = last._replace(lease=lease)
        self._asked_to_wait(site, process, clock, tries[-1])

    def _judge(self, site: str, process: int, request: Sequence[Try], phase: str) -> None:
        if site in REPEATABLE:
            passing = [one for one in request if is_passing(one, phase)]
            if passing:
                self.met[site] = self.met.get(site, 0) + 1
                if passing[0] is request[-1] and len(self.unrepeated) < _MOST:
                    self.unrepeated[process, site, request[-1].image] = request[-1]
        for one, following in itertools.pairwise(request):
            if one.retry_after is not None:
                self._wait(one, following)
        if len(request) > 2:
            if all(one.retry_after is None for one in request[:-1]):
                self._growth(request)
            else:
                self.told_when += 1

    def _growth(self, request: Sequence[Try]) -> None:
        """Look whether the pauses grow: none shorter than the one before, and the last longer than the first."""
        pauses = tuple(max(0.0, after.began - one.ended) for one, after in itertools.pairwise(request))
        self.growth.judged += 1
        shrinks = any(later < earlier - _LONGER for earlier, later in itertools.pairwise(pauses))
        if shrinks or pauses[-1] <= pauses[0] + _LONGER:
            self.growth.bad.add(request[-1].ended, request[-1].ref)
            self.growth.worst = min(self.growth.worst or pauses, pauses, key=lambda some: (some[-1] - some[0], some))
        else:
            self.growth.best = max(self.growth.best or pauses, pauses, key=lambda some: (len(some), some))

    def _wait(self, one: Try, following: Try) -> None:
        """Look whether a request was repeated no sooner than the answer before had asked."""
        asked, waited = one.retry_after or 0.0, max(0.0, following.began - one.ended)
        told = (asked, waited)
        self.waits.judged += 1
        if waited < asked - _TOO_SHORT:
            self.waits.bad.add(following.ended, following.ref)
            self.waits.worst = min(self.waits.worst or told, told, key=lambda some: (some[1] - some[0], some))
        else:
            self.waits.best = min(self.waits.best or told, told, key=lambda some: (some[1] - some[0], some))

    def _asked_to_wait(self, site: str, process: int, clock: int, last: Try) -> None:
        """Remember that the next attempt at this is to wait; it may be another call."""
        if last.retry_after is None:
            return
        if last.image and len(self._waiting) < _MOST:
            self._waiting[process, last.image] = last
        elif site == Site.TASKS.value and len(self.told_to_wait) < _MOST:
            self.told_to_wait.append((clock, last.job, last.ended, last.ended + last.retry_after))


def _requests(tries: Sequence[Try]) -> Iterator[Sequence[Try]]:
    """Split a call's attempts where one went well: what follows is another request, to where a redirect led."""
    start = 0
    for number, one in enumerate(tries, 1):
        if not one.has_failed or number == len(tries):
            yield tries[start:number]
            start = number
