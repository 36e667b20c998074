"""What the doctor says of one thing: how it is, what was found, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How a thing is: as it should be, worth knowing, or in the way of the test."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True)
class Examined:
    """One thing looked at. `cure` says what to do, and is never empty where it is bad."""

    name: str
    level: Level
    found: str
    cure: str = ""


def ok(name: str, found: str) -> Examined:
    """Say that a thing is as it should be."""
    return Examined(name, Level.OK, found)


def note(name: str, found: str, cure: str = "") -> Examined:
    """Say what is worth knowing and does not hinder."""
    return Examined(name, Level.NOTE, found, cure)


def bad(name: str, found: str, cure: str) -> Examined:
    """Say what is in the way of the test, and what to do."""
    return Examined(name, Level.BAD, found, cure)
