"""Beside the seams: tag what Sentry is told of injected failures, or keep Sentry silent for the run.

Sentry asks its global event processors about every event, whether it was initialised before or after us, and before
the worker's own processors and its `before_send`: nothing of Sentry or of the worker is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ami_fault_site.faults import Effect
from ami_fault_site.injected import Injected
from ami_fault_site.injector import Injector, say

SILENT = "silent"
TAGS = "ami_fault_site"
"""What the names of our tags begin with: `.injected`, `.effect` and `.run`."""

Event = dict[str, Any]


def install(module: ModuleType, injector: Injector, _first_call: Callable[[], None]) -> Callable[[], None]:
    """Look at every event of this process; raises AttributeError if an event cannot be held back and has to be.

    Errors, messages and transactions are events. Check-ins, sessions, and logs and metrics where they are enabled, are
    not: Sentry sends them without asking.
    """
    silent = injector.settings.sentry == SILENT
    try:
        add = module.scope.add_global_event_processor
    except AttributeError:
        if silent:
            raise
        say("injected errors go to Sentry without tags: this sentry_sdk has no global event processors")
        return lambda: None
    processor = _Processor(injector.injected, injector.run.path.name, silent)
    add(processor)

    def undo() -> None:
        processor.active = False
        added = getattr(module.scope, "global_event_processors", [])
        if processor in added:
            added.remove(processor)

    return undo


class _Processor:
    """What Sentry calls with each event; returns the event, or None to drop it."""

    def __init__(self, injected: Injected, run: str, silent: bool) -> None:
        self.active = True
        self._injected = injected
        self._run = run
        self._silent = silent
        self._complained = False

    def __call__(self, event: Event, hint: Mapping[str, Any] | None) -> Event | None:
        if not self.active:
            return event
        if self._silent:
            return None
        try:
            effect = None if event.get("type") else self._injected.behind(_reported(hint or {}))
            return event if effect is None else self._tagged(event, effect)
        except Exception as error:
            self._complain(error)
            return event

    def _tagged(self, event: Event, effect: Effect) -> Event:
        ours = {f"{TAGS}.injected": "true", f"{TAGS}.effect": effect.value, f"{TAGS}.run": self._run}
        return {**event, "tags": {**dict(event.get("tags") or {}), **ours}}

    def _complain(self, error: Exception) -> None:
        """Say once that a tag is missing; the run is none the worse for it."""
        if not self._complained:
            self._complained = True
            say(f"an event went to Sentry without a tag, please report it: {type(error).__name__}")


def _reported(hint: Mapping[str, Any]) -> BaseException | None:
    """Return the exception that an event is about, or that the log line which became one names."""
    record = hint.get("log_record")
    args = getattr(record, "args", None)
    named = (getattr(record, "msg", None), *(args if isinstance(args, tuple) else ()))
    candidates = (*(hint.get("exc_info") or ())[1:2], *named)
    return next((one for one in candidates if isinstance(one, BaseException)), None)
