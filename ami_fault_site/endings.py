"""Say what a run waits for, what an exit of its worker was, and how the run ends."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum


class Until(Enum):
    """What a run waits for."""

    DRAINED = "drained"
    IDLE = "idle"
    EXIT = "exit"


class ExitKind(Enum):
    """Why an incarnation ended, told by the ledger and not by its exit code."""

    INJECTED = "injected"
    ORGANIC = "organic"
    REFUSED = "refused"  # by the hook, which found its settings wrong
    OPERATOR = "operator"
    ENDED = "ended"  # by us, because the run was over


PLAINLY = {
    ExitKind.INJECTED: "an injected crash",
    ExitKind.ORGANIC: "an exit of its own",
    ExitKind.REFUSED: "it refused its settings",
    ExitKind.OPERATOR: "stopped by the operator",
    ExitKind.ENDED: "stopped at the end of the run",
}


class Outcome(Enum):
    """How a run ended."""

    DRAINED = "drained"
    IDLE = "idle"
    EXITED = "exited"
    TIMEOUT = "timeout"
    RESTARTS_EXHAUSTED = "restarts-exhausted"
    SERVICE_GONE = "service-gone"
    NOT_ARMED = "not-armed"
    SETTINGS = "settings"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Options:
    """How to supervise; durations in seconds.

    `timeout` None is no limit, `idle_after` None is twice ack_wait, and `ack_wait` None is not known. `workers` run
    side by side; each may be started again `max_restarts` times.
    """

    until: Until = Until.DRAINED
    max_restarts: int = 50
    restart_delay: float = 5.0
    idle_after: float | None = None
    timeout: float | None = None
    ack_wait: float | None = None
    workers: int = 1


def decide_restart(kind: ExitKind, code: int, armed: bool, restarts: int, options: Options) -> Outcome | None:
    """Say how the run ends with this exit, or None if the worker is to be started again."""
    if kind is ExitKind.OPERATOR:
        return Outcome.INTERRUPTED
    if kind is ExitKind.REFUSED:
        return Outcome.SETTINGS
    if not armed:
        return Outcome.NOT_ARMED
    if options.until is Until.EXIT and code == 0:
        return Outcome.EXITED
    if restarts >= options.max_restarts:
        return Outcome.RESTARTS_EXHAUSTED
    return None


def kind_of(outcome: Outcome | None, crashed: bool, refused: bool) -> ExitKind:
    """Say why an incarnation ended: `outcome` is how the run ended with it, None if it goes on."""
    if outcome is Outcome.INTERRUPTED:
        return ExitKind.OPERATOR
    if outcome is not None:
        return ExitKind.ENDED
    if refused:
        return ExitKind.REFUSED
    return ExitKind.INJECTED if crashed else ExitKind.ORGANIC


def exit_text(code: int) -> str:
    """Say an exit code in words; a negative one is the signal that killed the process."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
