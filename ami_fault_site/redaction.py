"""Take tokens and URL queries out of text before it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_CREDENTIAL = re.compile(r"(?i)(?<![a-z])(token|bearer|basic)([\"']?[ :=]+[\"']?)[\w.~+/=-]{8,}")
_USERINFO = re.compile(r"(://)[^\s/\"'<>]+@")
# What follows takes time in proportion to the text: no place is looked at again from another beginning.
# A path, and its query if it has one, with or without a host: urllib3 names "url: /captures/1.jpg?X-Amz-Signature=...".
_QUERY = re.compile(r"(/[^\s?\"'<>]*)(?:(\?)[^\s\"'<>)]+)?")
# A query without a path before it, as in a rule's glob: up to where a list goes on, in quotes up to their end.
_QUOTED_QUERY = re.compile(
    r'(?<=")(?=[^"\n]*")((?:[^\s"]*[^\S\n])*?[^\s"?]*)\?(?=[^\s"]*=)([^"\n]*)',
)
_BARE_QUERY = re.compile(
    r"(?<![^\s\"'<>,\])])([^\s\"'<>,\])?]*)\?(?=[^\s\"'<>,\])]+=)([^\s\"'<>,\])]+)",
)
_COOKIE = re.compile(r"(?i)\b(set-cookie|cookie)([\"']?\s*[:=]\s*).*")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without credentials, cookies, URL queries and the given secrets of 4 characters or more."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    text = _CREDENTIAL.sub(r"\1\2***", text)
    text = _USERINFO.sub(r"\1***@", text)
    text = _COOKIE.sub(r"\1\2***", text)
    text = _QUERY.sub(lambda found: f"{found[1]}?***" if found[2] else found[1], text)
    return without_queries(text, lambda _query: "***")


def without_queries(text: str, instead: Callable[[str], str]) -> str:
    """Return the text with something instead of what follows the question mark of a query, and without passwords."""
    text = _USERINFO.sub(r"\1***@", text)
    for pattern in (_QUOTED_QUERY, _BARE_QUERY):
        text = pattern.sub(lambda found: f"{found[1]}?{instead(found[2])}", text)
    return text
