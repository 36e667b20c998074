"""Parse one line of the grammar of rules, by recursive descent: line -> rule or effect, or the first problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NoReturn, TypeVar

from ami_fault_site.faults import Phase, Point, Role
from ami_fault_site.nearest import did_you_mean
from ami_fault_site.rules import (
    KEYS,
    LONGEST,
    SITES,
    Duration,
    Form,
    HarmTemplate,
    Match,
    Rule,
    Term,
    forms_at,
    keys_at,
)

ORDER = "a term is [after N] [every K] [P%] [N*] EFFECT, in this order"
MOST = 1_000_000
_ID = re.compile(r"[0-9]{1,18}")
_OFF = re.compile(r"off\b(?![.-]\w)", re.ASCII)
_OUT_OF_ORDER = re.compile(r"[0-9]|(?:after|every)\b")
_WORD = re.compile(r"[A-Za-z_]\w*(?:[.-]\w+)*", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ack_wait|ms|s|)(?![\w.])")
_VALUE = re.compile(r'"[^"]*"|[^\[\],"]+')

E = TypeVar("E", bound=Enum)


class BadRuleError(Exception):
    """What is wrong with a line, and where in it, from 0."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message, self.at = message, at


class Parser:
    """One line, and how far it has been read; its methods read what they are named after, or raise BadRuleError."""

    def __init__(self, line: str) -> None:
        self.line, self.at = line, 0

    def rule(self) -> Rule:
        """Read the line as a rule; raise BadRuleError with what is wrong first."""
        site = self._one_of(SITES, "site")
        match = self._match(site) if self._take("[") else Match()
        self._need(":")
        terms = [self._term(site)]
        while self._take("->"):
            start = self._here()
            if terms[-1].always:
                self._fail(f"no passage is left for this term: {terms[-1]} takes every one", start)
            terms.append(self._term(site))
        self._end("-> and another term, or the end")
        return Rule(site, match, tuple(terms))

    def harm(self, site: str) -> HarmTemplate:
        """Read the line as an effect at a site of SITES; raise BadRuleError with what is wrong first."""
        harm = self._effect(site)
        self._end("the end")
        return harm

    def _match(self, site: str) -> Match:
        read: dict[str, object] = {}
        starts: dict[str, int] = {}
        while not read or self._take(","):
            start = self._here()
            key = self._one_of(KEYS, "key")
            if key in starts:
                self._fail(f"{key} is given twice", start)
            starts[key] = start
            self._need("=")
            field, reader = _READERS[key]
            read[field] = reader(*self._value())
        self._need("]")
        match = Match(**read)  # type: ignore[arg-type]
        known = keys_at(site, match.points)
        for key, start in starts.items():
            if key not in known:
                where = f"{site}[{Match(points=match.points)}]" if match.points and "point" in known else site
                self._fail(f"{key} cannot be matched at {where}, only {_listed(known)}", start)
        return match

    def _value(self) -> tuple[str, int]:
        """Read what a key must be; return it without its quotes, and where it begins."""
        start = self._here()
        found = (self._take(_VALUE) or "").strip()
        text = found[1:-1] if found.startswith('"') else found
        if not text:
            self._fail("expected a value; one that holds , ; # [ or ] is written in double quotes", start)
        return text, start

    def _term(self, site: str) -> Term:
        after, every = self._number_after("after", 0), self._number_after("every", 1)
        share, most, start = 1.0, None, self._here()
        number = self._take(_NUMBER)
        if number and self._take("%"):
            share, start = _share(number, start), self._here()
            number = self._take(_NUMBER)
        if number:
            if not self._take("*"):
                self._fail(ORDER, start)
            most = _whole(number, start)
        return Term(self._effect_or_off(site), after, every, share, most)

    def _number_after(self, word: str, otherwise: int) -> int:
        if not self._take(re.compile(rf"{word}\b")):
            return otherwise
        start = self._here()
        return _whole(self._take(_NUMBER) or "", start)

    def _effect_or_off(self, site: str) -> HarmTemplate | None:
        if not self._take(_OFF):
            return self._effect(site, ("off",))
        if self._take("@"):
            self._fail("off has no phase", self.at - 1)
        return None

    def _effect(self, site: str, others: tuple[str, ...] = ()) -> HarmTemplate:
        if self._ahead(_OUT_OF_ORDER):
            self._fail(ORDER, self._here())
        forms = forms_at(site)
        name = self._one_of((*others, *forms), "effect", f" at {site}")
        kind, durations = self._arguments(name, forms[name])
        return HarmTemplate(forms[name].effect, kind, self._phase(name, forms[name].phases), **durations)

    def _arguments(self, name: str, form: Form) -> tuple[str, dict[str, Duration]]:
        """Read what stands in parentheses; return the kind of the harm, and its durations by their fields."""
        kind, durations = "exception" if name == "transient" else name, dict[str, Duration]()
        start = self._here()
        if bool(self._take("(")) is not bool(form.first):
            self._fail(
                f"{name} {f'is written {form.usage(name)}' if form.first else 'takes nothing in parentheses'}", start
            )
        if not form.first:
            return kind, durations
        if form.first == "N":
            kind = self._status()
        else:
            durations["seconds"] = self._duration()
        if form.option and self._take(","):
            start = self._here()
            self._one_of((form.option,), "argument", f" of {name}")
            self._need("=")
            durations[form.option] = self._duration()
            if "jitter" in durations and _exceeds(durations["jitter"], durations["seconds"]):
                self._fail("the jitter exceeds the delay", start)
        self._need(")")
        return kind, durations

    def _status(self) -> str:
        start = self._here()
        text = self._take(_NUMBER) or ""
        if len(text) != 3 or not 400 <= float(text) <= 599:
            self._fail("a status is a whole number from 400 to 599", start)
        return f"http-{text}"

    def _duration(self) -> Duration:
        start = self._here()
        found = _DURATION.match(self.line, start)
        number = round(float(found[1] + ("e-3" if found[2] == "ms" else "")), 9) if found else LONGEST + 1
        if found is None or number > LONGEST:
            self._fail(f"a duration is 2, 0.5s, 500ms or 1.5ack_wait, and at most {LONGEST:g} s", start)
        self.at = found.end()
        return Duration(ack_waits=number) if found[2] == "ack_wait" else Duration(number)

    def _phase(self, name: str, allowed: tuple[Phase, ...]) -> Phase:
        start = self._here()
        if not self._take("@"):
            return allowed[0] if allowed else Phase.BEFORE
        if not allowed:
            self._fail(f"{name} has no phase: the point says when", start)
        phase = Phase(self._one_of([phase.value for phase in Phase], "phase"))
        if phase not in allowed:
            self._fail(f"{name} cannot be @{phase.value}, only {_listed(f'@{one.value}' for one in allowed)}", start)
        return phase

    def _one_of(self, names: Iterable[str], what: str, where: str = "") -> str:
        """Read one of the names; the problem with another tells the nearest, and all of them if that helps."""
        names, start = tuple(names), self._here()
        word = self._take(_WORD)
        if word is None:
            self._fail(f"expected {'an' if what[0] in 'ae' else 'a'} {what}{where}: {_listed(names)}", start)
        if word not in names:
            hint = did_you_mean(word, names)
            known = f": {_listed(names)}" if where or not hint else ""
            self._fail(f"unknown {what} {word!r}{where}{hint}{known}", start)
        return word

    def _end(self, what: str) -> None:
        if self._here() < len(self.line):
            self._fail(f"expected {what}", self.at)

    def _here(self) -> int:
        """Return where the next thing begins, past any blanks."""
        while self.at < len(self.line) and self.line[self.at].isspace():
            self.at += 1
        return self.at

    def _ahead(self, pattern: re.Pattern[str]) -> bool:
        return pattern.match(self.line, self._here()) is not None

    def _take(self, what: str | re.Pattern[str]) -> str | None:
        """Read a sign or a pattern if it comes next."""
        if isinstance(what, str):
            found = what if self.line.startswith(what, self._here()) else None
        else:
            match = what.match(self.line, self._here())
            found = match[0] if match else None
        self.at += len(found or "")
        return found

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(f"expected {sign}", self.at)

    def _fail(self, message: str, at: int) -> NoReturn:
        raise BadRuleError(message, at)


def _exceeds(jitter: Duration, delay: Duration) -> bool:
    """Whether it does for certain: which of 2 s and 1.5ack_wait is longer is known only when the ack_wait is."""
    if bool(jitter.ack_waits) is not bool(delay.ack_waits):
        return False
    return (jitter.ack_waits, jitter.seconds) > (delay.ack_waits, delay.seconds)


def _whole(text: str, at: int) -> int:
    if not _ID.fullmatch(text) or not 1 <= int(text) <= MOST:
        raise BadRuleError(f"expected a whole number from 1 to {MOST}", at)
    return int(text)


def _wholes(least: int) -> Callable[[str, int], frozenset[int]]:
    def read(text: str, at: int) -> frozenset[int]:
        parts = [part.strip() for part in text.split("|")]
        if not all(_ID.fullmatch(part) and int(part) >= least for part in parts):
            raise BadRuleError(f"expected a whole number from {least}, or several: 7|8", at)
        return frozenset(map(int, parts))

    return read


def _share(text: str, at: int) -> float:
    share = round(float(f"{text}e-2"), 11)
    if not 0.0 < share <= 1.0:
        raise BadRuleError(f"a share is above 0% and at most 100%, not {text}%", at)
    return share


def _image_share(text: str, at: int) -> float:
    number = text[:-1].rstrip()
    if not text.endswith("%") or not _NUMBER.fullmatch(number):
        raise BadRuleError(f"a share of the images is a percentage, such as 20%, not {text!r}", at)
    return _share(number, at)


def _members(kind: type[E], what: str) -> Callable[[str, int], frozenset[E]]:
    def read(text: str, at: int) -> frozenset[E]:
        names = {str(one.value): one for one in kind}
        parts = [part.strip() for part in text.split("|")]
        for part in parts:
            if part not in names:
                hint = did_you_mean(part, names) or f" (it is {_listed(names)})"
                raise BadRuleError(f"unknown {what} {part!r}{hint}", at)
        return frozenset(names[part] for part in parts)

    return read


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


_READERS: dict[str, tuple[str, Callable[[str, int], object]]] = {
    "job": ("jobs", _wholes(0)),
    "task": ("tasks", _wholes(1)),
    "name": ("name", lambda text, _: text),
    "delivery": ("deliveries", _wholes(1)),
    "attempt": ("attempts", _wholes(1)),
    "process": ("roles", _members(Role, "process")),
    "point": ("points", _members(Point, "point")),
    "images": ("images", _image_share),
}
"""The fields of Match by their keys, and how each is read."""
