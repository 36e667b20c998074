"""Reduce an exception, or whatever a worker's call comes to, to what can be compared between two runs."""

from __future__ import annotations

import re
from http.client import HTTPMessage
from typing import Any

from requests.models import PreparedRequest, Response

_UNLIKE = (
    (re.compile(r"(?<=port=)\d+|(?<=:)\d{2,5}\b"), "PORT"),
    (re.compile(r"0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(r"_ssl\.c:\w+"), "_ssl.c"),
)


def normal(text: str) -> str:
    """Return a text without what differs from run to run: ports and addresses."""
    for pattern, name in _UNLIKE:
        text = pattern.sub(name, text)
    return text


def anatomy(thing: object, seen: tuple[int, ...] = ()) -> Any:
    """Return a tree of plain values: of an exception its type, arguments, attributes (response too), cause, context.

    Two exceptions with equal trees cannot be told apart by any code that handles them.
    """
    if id(thing) in seen:
        return "seen above"
    seen = (*seen, id(thing))
    if isinstance(thing, BaseException):
        return {
            "type": _name(thing),
            "text": normal(str(thing)),
            "args": anatomy(thing.args, seen),
            **{name: anatomy(value, seen) for name, value in sorted(vars(thing).items())},
            "cause": anatomy(thing.__cause__, seen),
            "context": anatomy(thing.__context__, seen),
            "suppresses context": thing.__suppress_context__,
        }
    if isinstance(thing, Response):
        return {"status": thing.status_code, "reason": thing.reason, "attempts": _attempts(thing)}
    if isinstance(thing, PreparedRequest):
        return {"method": thing.method, "url": normal(thing.url or "")}
    return _plain(thing, seen)


def _plain(thing: object, seen: tuple[int, ...]) -> Any:
    if isinstance(thing, (tuple, list)):
        return [anatomy(one, seen) for one in thing]
    if isinstance(thing, dict):
        return {normal(str(name)): anatomy(value, seen) for name, value in thing.items()}
    if isinstance(thing, (str, bytes)):
        return normal(thing if isinstance(thing, str) else repr(thing))
    if thing is None or isinstance(thing, (bool, int, float)):
        return thing
    return "headers" if isinstance(thing, HTTPMessage) else _name(thing)


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _attempts(response: Response) -> int:
    retries = getattr(response.raw, "retries", None)
    return 1 + len(getattr(retries, "history", ()))
