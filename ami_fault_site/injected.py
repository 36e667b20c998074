"""Remember what was injected, and tell it again from what went wrong by itself.

Nothing is kept alive and nothing is written on an object: an injected failure stays the library's own. There is no
lock either, which a fork could leave locked: every step is one operation on a dictionary or on a thread's own state.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from ami_fault_site.faults import Effect

# What a caller meets when it goes on with a damaged answer or image; a RuntimeError or a KeyError is its own.
_OF_WHAT_WAS_READ = (OSError, ValueError)


class _Here(threading.local):
    """What the last call through a seam was struck with in this thread, None if it was not struck."""

    last: Effect | None = None


class Injected:
    """Which exceptions and answers of this process were injected, by identity, for as long as they live.

    What cannot be told: a builtin exception (it cannot be referenced weakly) outside of the thread that met it, unless
    what it was raised from can be told; and what comes over from another process, such as the error of a loader.
    """

    def __init__(self) -> None:
        self._marks: dict[int, tuple[weakref.ref[object], Effect]] = {}
        self._here = _Here()

    def mark(self, thing: object, effect: Effect) -> None:
        """Remember an exception or an answer as injected; one that cannot be referenced weakly is passed over."""
        key, marks = id(thing), self._marks
        try:
            # The id is given to nothing else before this callback is done.
            marks[key] = weakref.ref(thing, lambda _gone: marks.pop(key, None)), effect
        except TypeError:
            return

    def struck(self, effect: Effect, thing: object = None) -> None:
        """Remember that this thread's last call through a seam failed, with `thing`, because it was struck."""
        self._here.last = effect
        self.mark(thing, effect)

    def passed(self) -> None:
        """Remember that this thread's last call through a seam was not made to fail."""
        self._here.last = None

    @property
    def last(self) -> Effect | None:
        """What this thread's last call was struck with: the cause of what a worker only says in words."""
        return self._here.last

    def tells(self, thing: object) -> Effect | None:
        """Return what was injected to cause this exception or answer, None if nothing is known of it.

        An exception is also told by what it was raised from or during, even `from None`, and by its `response`.
        """
        return next((effect for one in _chain(thing) if (effect := self._effect_of(one)) is not None), None)

    def behind(self, error: BaseException | None) -> Effect | None:
        """Return what is behind an error that this thread reports now; None as the error: it reports in words only.

        An answer that was cut short or is no JSON fails after its call, in the caller's hands: an error of I/O or of a
        value is then put down to the thread's last call, any other is not.
        """
        if error is None:
            return self.last
        if any(isinstance(one, _OF_WHAT_WAS_READ) for one in _chain(error)):
            return self.tells(error) or self.last
        return self.tells(error)

    def _effect_of(self, thing: object) -> Effect | None:
        kept = self._marks.get(id(thing))
        return kept[1] if kept is not None else None


def _chain(thing: object) -> Iterator[object]:
    """Yield a thing and, of an exception, what it came from, each once: such chains may be circles."""
    waiting, seen = [thing], set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseException):
            waiting += (getattr(one, "response", None), one.__context__, one.__cause__)
