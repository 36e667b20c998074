"""Say where a process comes from: which start of its host, when it began, and whose child it is."""

from __future__ import annotations

import os
from functools import cache

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BEGAN = 19  # the place in /proc/PID/stat behind the command's name: field 22 of proc(5)


def origin(pid: int) -> dict[str, object]:
    """Return the parent of this very process, when both began, and the id of the host's start.

    Numbers of processes are used again, those of a restarted container at once; with their beginning they are not.
    """
    parent = os.getppid()
    return {"parent": parent, "parent_born": born(parent), "born": born(pid), "boot": boot()}


def born(pid: int) -> int:
    """Return when a process began, in clock ticks since its host's start; 0 where that cannot be told (not Linux)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[_BEGAN]) if len(fields) > _BEGAN else 0


@cache
def boot() -> str:
    """Return the id of the host's start, "" where there is none (not Linux)."""
    return _read(_BOOT_ID).decode(errors="replace").strip()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""
