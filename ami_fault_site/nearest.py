"""Say which of the known names was probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that resembles this one most, "" if none does."""
    from difflib import get_close_matches  # only where somebody has slipped, and not while every worker starts

    return next(iter(get_close_matches(name, list(known), n=1)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean ...?)", or "" if no known name resembles this one."""
    close = nearest(name, known)
    return f" (did you mean {close}?)" if close else ""
