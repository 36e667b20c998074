"""Say what a job's log tells: how its consumer is set, what was delivered to anybody, which answers were recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TAIL = 20  # lines that are remembered of an excerpt, and looked for in the next
_OVERLAP = 3  # lines of it that must be found at least

_CONSUMER = re.compile(r"Created NATS consumer (\S+) \((.*?)\)")
_CONSUMER_FIELD = re.compile(r"(\w+)=([^,\s)]+)")
_STARTED = re.compile(r"Created NATS consumer ")
_RECORDED = re.compile(r"Processing pipeline result for job \d+, reply_subject: (\S+)")
_UNSAVED = re.compile(r"Error processing pipeline result for job \d+")
_UNDECLARED = re.compile(r"(\S+) is not a known algorithm")
_DELIVERED = re.compile(r"Tasks fetched: requested=\d+, delivered=(\d+)")
_QUEUED = re.compile(r"Successfully queued (\d+)/\d+ images to stream")
_RESTARTED = re.compile(r"Re-running job")
_GIVEN_UP = re.compile(r"jobs_health_check: marked (\d+) image")


class JobLog:
    """Reads a job's log piece by piece: each excerpt holds the newest lines of its moment.

    Of a job that was run again it tells of the last time; `restarted` is whether that was after the first excerpt.
    `undeclared` are reply subjects whose answers name an algorithm, the value, that the pipeline does not declare.
    `is_whole` is whether the excerpts reach back to the job's start and overlap, so that no line is missing.
    """

    def __init__(self) -> None:
        self.consumer: dict[str, float] = {}
        self.recorded: set[str] = set()
        self.unsaved: set[str] = set()
        self.undeclared: dict[str, str] = {}
        self.delivered = 0
        self.queued: int | None = None
        self.restarted = False
        self.is_whole = False
        self._tail: tuple[str, ...] = ()
        self._has_begun = False
        self._is_followed = False
        self._last_reply = ""

    def add(self, newest_first: Sequence[str]) -> None:
        """Take in an excerpt, newest line first, as the service gives it; excerpts come in the order of their time."""
        lines = [str(line) for line in reversed(newest_first)]
        if len(lines) <= 1:
            return  # a look at the state only, which asks for as few lines as it can
        start = self._joint(lines) if self._has_begun else 0
        if start is None:
            self.is_whole = False
            start = 0
        elif not self._has_begun:
            self.is_whole = any(_STARTED.search(line) for line in lines)
        self._has_begun = True
        for line in lines[start:]:
            self._read(line)
        self._is_followed = True
        self.consumer = self.consumer or consumer_settings(lines)
        self._tail = tuple(lines[-_TAIL:])

    def _joint(self, lines: Sequence[str]) -> int | None:
        """Return where in these lines the new ones begin; None if that cannot be told.

        They must overlap with the end of the last excerpt, and in one place only: lines of one second may repeat.
        """
        tail, found = self._tail, []
        for end in (end for end, line in enumerate(lines, 1) if line == tail[-1]):
            size = min(len(tail), end)
            if size >= min(_OVERLAP, len(tail)) and tuple(lines[end - size : end]) == tail[-size:]:
                found.append(end)
        return found[0] if len(found) == 1 else None

    def _read(self, line: str) -> None:
        recorded = _RECORDED.search(line)
        if recorded:
            self._last_reply = recorded[1]
            self.recorded.add(recorded[1])
        if _UNSAVED.search(line) and self._last_reply:
            self.unsaved.add(self._last_reply)
            undeclared = _UNDECLARED.search(line)
            if undeclared:
                self.undeclared[self._last_reply] = undeclared[1]
        delivered = _DELIVERED.search(line)
        if delivered:
            self.delivered += int(delivered[1])
        queued = _QUEUED.search(line)
        if queued:
            self.queued = int(queued[1])
        if _RESTARTED.search(line):  # from here on it is about other tasks
            self.restarted = self.restarted or self._is_followed
            self.recorded, self.unsaved, self.undeclared = set(), set(), {}
            self.delivered, self.queued, self._last_reply = 0, None, ""


def given_up(errors: Sequence[str]) -> int:
    """Return how many images the reaper has marked as failed, by a job's error texts."""
    return sum(int(match[1]) for error in errors if (match := _GIVEN_UP.search(error)))


def consumer_settings(lines: object) -> dict[str, float]:
    """Find max_deliver and ack_wait (s) in a job's log lines; {} if the line is not (or no longer) among them."""
    for line in lines if isinstance(lines, list) else []:
        match = _CONSUMER.search(str(line))
        if match:
            found = dict(_CONSUMER_FIELD.findall(match[2]))
            known = {key: found[key].rstrip("s") for key in ("max_deliver", "ack_wait") if key in found}
            return {key: float(text) for key, text in known.items() if text.replace(".", "", 1).isdigit()}
    return {}
