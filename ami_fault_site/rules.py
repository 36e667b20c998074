"""Say what a rule is: at which calls it looks, what it does there and how often, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from ami_fault_site.faults import (
    ANSWER_KINDS,
    API_SITES,
    CONNECT_KINDS,
    DAMAGE_KINDS,
    HTTP_SITES,
    LOOP_SITES,
    POINTS_AT,
    SUBTLE_DAMAGE_KINDS,
    Call,
    Effect,
    Harm,
    Mode,
    Phase,
    Point,
    Role,
    Site,
)

LONGEST = 3600.0
"""The longest duration, in seconds."""

CRASH = "crash"
SITES: dict[str, tuple[Site, ...]] = {
    "jobs": (Site.JOBS,),
    "tasks": (Site.TASKS,),
    "result": (Site.RESULT,),
    "register": (Site.REGISTER,),
    "api": API_SITES,
    "image.get": (Site.IMAGE,),
    "image.open": (Site.OPEN,),
    "batch": LOOP_SITES,
    CRASH: tuple(POINTS_AT),
}
"""The sites by the names that rules give them."""

KEYS = ("job", "task", "name", "delivery", "attempt", "process", "point", "images")
"""What a rule can match, in the order in which it is written back."""

_LEASE = frozenset({"job", "task", "delivery", "process"})
_KNOWN_AT: dict[Site, frozenset[str]] = {
    Site.JOBS: frozenset({"attempt", "process"}),
    Site.TASKS: frozenset({"job", "attempt", "process"}),
    Site.RESULT: _LEASE | {"attempt"},
    Site.REGISTER: frozenset({"attempt", "process"}),
    Site.IMAGE: _LEASE | {"name", "attempt", "images"},
    Site.OPEN: _LEASE | {"name", "images"},
    Site.BATCH: _LEASE,
    Site.JOB_PASS: frozenset({"job", "process"}),
    Site.FETCHED: _LEASE,
    Site.DOWNLOADING: _LEASE | {"name"},
    Site.POSTING: _LEASE,
    Site.IDLE: frozenset({"process"}),
}


class Form(NamedTuple):
    """How an effect is written at a site.

    The first of `phases` is meant if none is named; without any, none can be. `first` is what stands first in its
    parentheses ("N", a status, or "S", a duration; "" means no parentheses), `option` what may follow by its name.
    """

    effect: Effect
    phases: tuple[Phase, ...] = (Phase.BEFORE,)
    first: str = ""
    option: str = ""

    def usage(self, name: str) -> str:
        """Return the effect `name` as one writes it: status(N, retry_after=S)."""
        option = f", {self.option}=S" if self.option else ""
        return f"{name}({self.first}{option})" if self.first else name


_EITHER = (Phase.BEFORE, Phase.AFTER)
_HTTP_FORMS = {
    **{kind: Form(Effect.NETWORK) for kind in CONNECT_KINDS},
    **{kind: Form(Effect.NETWORK, _EITHER) for kind in ANSWER_KINDS},
    "reset": Form(Effect.NETWORK, (Phase.BEFORE, Phase.DURING, Phase.AFTER)),
    "truncated": Form(Effect.NETWORK, (Phase.DURING,)),
    "status": Form(Effect.NETWORK, _EITHER, "N", "retry_after"),
    "delay": Form(Effect.SLOW, _EITHER, "S", "jitter"),
    "trickle": Form(Effect.SLOW, (Phase.DURING,), "S"),
}
_OPEN_FORMS = {kind: Form(Effect.CORRUPT) for kind in (*DAMAGE_KINDS, *SUBTLE_DAMAGE_KINDS)}
_LOOP_FORMS = {"transient": Form(Effect.TRANSIENT), "delay": _HTTP_FORMS["delay"]}
_CRASH_FORMS = {mode.value: Form(Effect.CRASH, ()) for mode in Mode}


def forms_at(site: str) -> dict[str, Form]:
    """Return the effects that are possible at a site of SITES, by their names, beside "off"."""
    if SITES[site][0] in HTTP_SITES:
        return _HTTP_FORMS
    return {"image.open": _OPEN_FORMS, "batch": _LOOP_FORMS, CRASH: _CRASH_FORMS}[site]


def sites_of(site: str, points: frozenset[Point] = frozenset()) -> tuple[Site, ...]:
    """Return what a site of SITES stands for; if points are named, only the passages that have one of them."""
    if site != CRASH or not points:
        return SITES[site]
    return tuple(one for one in SITES[site] if points.intersection(POINTS_AT[one]))


def keys_at(site: str, points: frozenset[Point] = frozenset()) -> tuple[str, ...]:
    """Return what a rule can match at a site of SITES: what is known of a call there."""
    known = frozenset({"point"} if site == CRASH else ()).union(*(_KNOWN_AT[one] for one in sites_of(site, points)))
    return tuple(key for key in KEYS if key in known)


class Duration(NamedTuple):
    """A length of time: `seconds`, or a multiple of the time after which the service hands a task out again."""

    seconds: float = 0.0
    ack_waits: float = 0.0

    def resolve(self, ack_wait: float | None) -> float:
        """Return it in seconds; raise ValueError if the ack_wait is needed and not known, or if it is above 3600."""
        if not self.ack_waits:
            return self.seconds
        if ack_wait is None:
            raise ValueError(f"{self} needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds")
        seconds = self.ack_waits * ack_wait
        if seconds > LONGEST:
            raise ValueError(f"{self} is {seconds:g} s with an ack_wait of {ack_wait:g} s: at most {LONGEST:g} s")
        return seconds

    def __str__(self) -> str:
        return f"{plain(self.ack_waits)}ack_wait" if self.ack_waits else plain(self.seconds)


class HarmTemplate(NamedTuple):
    """A Harm whose durations may still be multiples of the ack_wait."""

    effect: Effect
    kind: str
    phase: Phase = Phase.BEFORE
    retry_after: Duration | None = None
    seconds: Duration = Duration()
    jitter: Duration = Duration()

    def harm(self, ack_wait: float | None) -> Harm:
        """Return the Harm; raise ValueError as Duration.resolve does, or if the jitter exceeds the delay."""
        retry_after = None if self.retry_after is None else self.retry_after.resolve(ack_wait)
        seconds, jitter = self.seconds.resolve(ack_wait), self.jitter.resolve(ack_wait)
        if jitter > seconds:
            raise ValueError(f"{self}: the jitter exceeds the delay")
        return Harm(self.effect, self.kind, self.phase, retry_after, seconds, jitter)

    def __str__(self) -> str:
        name, arguments = self.kind, ""
        if self.kind.startswith("http-"):
            retry_after = "" if self.retry_after is None else f", retry_after={self.retry_after}"
            name, arguments = "status", f"({self.kind[5:]}{retry_after})"
        elif self.effect is Effect.SLOW:
            arguments = f"({self.seconds}, jitter={self.jitter})" if self.jitter != Duration() else f"({self.seconds})"
        elif self.effect is Effect.TRANSIENT:
            name = "transient"
        http = self.effect in (Effect.NETWORK, Effect.SLOW)
        meant = _HTTP_FORMS[name].phases[0] if http else Phase.BEFORE
        return f"{name}{arguments}" + ("" if self.phase is meant else f"@{self.phase.value}")


class Term(NamedTuple):
    """One step of a rule: `harm` (None is off: nothing strikes), and when.

    It lets `after` passages go by and then takes every `every`-th one, of those a `share` (above 0, at most 1), and
    not more than `most` in the whole run. What it does not take goes on to the next term.
    """

    harm: HarmTemplate | None
    after: int = 0
    every: int = 1
    share: float = 1.0
    most: int | None = None

    @property
    def always(self) -> bool:
        """Whether it takes every passage, so that none is left for a later term."""
        return self.after == 0 and self.every == 1 and self.share >= 1.0 and self.most is None

    def harm_for(self, ack_wait: float | None) -> Harm | None:
        """Return what it does, None if it is off; raise ValueError as HarmTemplate.harm does."""
        return None if self.harm is None else self.harm.harm(ack_wait)

    def __str__(self) -> str:
        after = f"after {self.after} " if self.after else ""
        every = f"every {self.every} " if self.every > 1 else ""
        share = f"{percent(self.share)}%" if self.share < 1.0 else ""
        most = "" if self.most is None else f"{self.most}*"
        return f"{after}{every}{share}{most}{'off' if self.harm is None else self.harm}"


class Match(NamedTuple):
    """What a call must be, beside its site; what is empty (None for `images`) is not asked for.

    `name` is a glob for any of the image's names; it cannot hold a double quote or the end of a line. `images` is a
    share of the images, above 0 and at most 1.
    """

    jobs: frozenset[int] = frozenset()
    tasks: frozenset[int] = frozenset()
    name: str = ""
    deliveries: frozenset[int] = frozenset()
    attempts: frozenset[int] = frozenset()
    roles: frozenset[Role] = frozenset()
    points: frozenset[Point] = frozenset()
    images: float | None = None

    def fits(self, call: Call) -> bool:
        """Whether the call is as asked; points and the share of the images are not looked at."""
        return (
            (not self.jobs or call.job in self.jobs)
            and (not self.attempts or max(call.attempt, 1) in self.attempts)  # a call as a whole is its first attempt
            and (not self.roles or call.role in self.roles)
            and (not self.name or any(fnmatchcase(name, self.name) for name in call.names))
            and (not (self.tasks or self.deliveries) or any(self._leased(*task) for task in call.tasks))
        )

    def _leased(self, sequence: int, delivery: int) -> bool:
        in_tasks = not self.tasks or sequence in self.tasks
        return in_tasks and (not self.deliveries or delivery in self.deliveries)

    def __str__(self) -> str:
        written = {
            "job": _numbers(self.jobs),
            "task": _numbers(self.tasks),
            "name": quoted(self.name),
            "delivery": _numbers(self.deliveries),
            "attempt": _numbers(self.attempts),
            "process": "|".join(role.value for role in Role if role in self.roles),
            "point": "|".join(point.value for point in Point if point in self.points),
            "images": "" if self.images is None else f"{percent(self.images)}%",
        }
        return ", ".join(f"{key}={text}" for key, text in written.items() if text)


class Rule(NamedTuple):
    """What happens at some calls: the first of `terms` that takes a passage decides. `site` is a name of SITES."""

    site: str
    match: Match
    terms: tuple[Term, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the calls it looks at; of a crash, only the passages that have one of the points named."""
        return sites_of(self.site, self.match.points)

    @property
    def points(self) -> frozenset[Point]:
        """The points at which it may crash; empty if none was named: those of AMI_TEST_CRASH_POINTS are meant."""
        return self.match.points

    @property
    def image_share(self) -> float | None:
        """Which share of the images it is about, above 0 and at most 1, None if all."""
        return self.match.images

    @property
    def counts_passages(self) -> bool:
        """Whether one has to know how many passages have gone by."""
        return any(term.after or term.every > 1 for term in self.terms)

    def applies(self, call: Call) -> bool:
        """Whether the call is one that it looks at; the point and the share of the images are still to be asked."""
        return call.site in self.sites and self.match.fits(call)

    def __str__(self) -> str:
        """Write it in the one way that parses back to an equal rule; numbers hold to nine decimals."""
        match = str(self.match)
        return f"{self.site}{f'[{match}]' if match else ''}: {' -> '.join(map(str, self.terms))}"


def plain(number: float) -> str:
    """Write a number with at most nine decimals, and never with an exponent."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """Write a share as a percentage, without the sign."""
    return plain(share * 100)


def quoted(glob: str) -> str:
    """Write a glob in quotes if it would end too early without."""
    return f'"{glob}"' if glob != glob.strip() or any(sign in glob for sign in ",;#[]") else glob


def _numbers(numbers: Iterable[int]) -> str:
    return "|".join(map(str, sorted(numbers)))
