"""Read the text of one setting into its value, or say what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from ami_fault_site.faults import Point, Role, Site
from ami_fault_site.grammar import parse_harms
from ami_fault_site.nearest import did_you_mean
from ami_fault_site.rules import HarmTemplate

TRUE_WORDS = ("true", "1", "yes", "on")
FALSE_WORDS = ("false", "0", "no", "off")

E = TypeVar("E", bound=Enum)


def read_text(text: str) -> str:
    """Take it as it is."""
    return text


def read_bool(text: str) -> bool:
    """Read true/1/yes/on or false/0/no/off in any case; raise ValueError that says what is allowed."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(f"is true or false ({'/'.join(TRUE_WORDS)} or {'/'.join(FALSE_WORDS)})")


def read_rate(text: str) -> float:
    """Read a probability from 0 to 1; raise ValueError with the likely meaning of anything else."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if 0.0 <= rate <= 1.0:
        return rate
    raise ValueError(f"a rate is a number from 0 to 1{_rate_hint(text, rate)}")


def _rate_hint(text: str, rate: float) -> str:
    if math.isnan(rate) and text.endswith("%"):
        try:
            rate = float(text[:-1])
        except ValueError:
            return ""
    elif not rate > 1.0:
        return ""
    if math.isinf(rate) or math.isnan(rate) or rate < 0:
        return ""
    return f" (did you mean {min(rate / 100, 1.0)}?)"


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` on."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ValueError(f"is a whole number, {least} or more")
        return int(text)

    return read


def read_seconds(text: str) -> float:
    """Read a duration in seconds, above 0 and finite; raise ValueError otherwise."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise ValueError("is a number of seconds above 0")
    return seconds


def read_names(text: str) -> tuple[str, ...]:
    """Read comma-separated names; a comma inside a name is written %2C."""
    return tuple(part.strip().replace("%2C", ",").replace("%2c", ",") for part in text.split(",") if part.strip())


def read_hosts(text: str) -> tuple[str, ...]:
    """Read comma-separated host names; raise ValueError if there is none: the guard cannot be switched off."""
    names = tuple(name.rstrip(".").strip("[]").lower() for name in read_names(text))
    # A port or a scheme would make the entry protect nothing; colons are right in an IPv6 address only.
    if not names or not all(names) or any("/" in name or name.count(":") == 1 for name in names):
        raise ValueError("is a list of host names separated by commas, at least one, without scheme and port")
    return names


def read_jobs(text: str) -> frozenset[int]:
    """Read comma-separated job ids; raise ValueError if one is not a whole number."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("is a list of job ids, whole numbers separated by commas")
    return frozenset(int(part) for part in parts)


def read_function(text: str) -> str:
    """Read module:function; raise ValueError if it is not of that form."""
    module, colon, function = text.partition(":")
    if not colon or not all(part.isidentifier() for part in module.split(".")) or not function.isidentifier():
        raise ValueError("is module:function, such as my_worker.loop:process_batch")
    return text


def one_of(words: type[E]) -> Callable[[str], E]:
    """Return a reader of one of an Enum's values, in any case."""

    def read(text: str) -> E:
        try:
            return words(text.lower())
        except ValueError:
            raise ValueError(f"is one of {_listed(words)}{_hint(text, words)}") from None

    return read


def read_points(text: str) -> tuple[Point, ...]:
    """Read comma-separated crash points, in the order of a worker's life; raises ValueError for any other."""
    words = [part.strip().lower() for part in text.split(",") if part.strip()]
    wrong = [word for word in words if word not in {point.value for point in Point}]
    if wrong or not words:
        hint = _hint(wrong[0], Point) if wrong else ""
        raise ValueError(f"is a list of crash points separated by commas: {_listed(Point)}{hint}")
    return tuple(point for point in Point if point.value in words)


def read_roles(text: str) -> tuple[Role, ...]:
    """Read main, loader or any; raises ValueError otherwise."""
    if text.lower() == "any":
        return tuple(Role)
    try:
        return (Role(text.lower()),)
    except ValueError:
        raise ValueError("is main, loader or any") from None


def read_network_kinds(text: str) -> tuple[HarmTemplate, ...]:
    """Read comma-separated effects of an API call; raises ValueError with a caret at what is wrong."""
    return parse_harms(text, Site.JOBS)


def read_sentry(text: str) -> str:
    """Read tag or silent; raises ValueError otherwise."""
    if text.lower() not in ("tag", "silent"):
        raise ValueError("is tag or silent")
    return text.lower()


def _listed(words: type[Enum]) -> str:
    return ", ".join(str(word.value) for word in words)


def _hint(text: str, words: type[Enum]) -> str:
    return did_you_mean(text.lower(), [str(word.value) for word in words])
