"""Decide what an ending and a verdict come to: the exit code, and the one word for it."""

from __future__ import annotations

from ami_fault_site.endings import Outcome
from ami_fault_site.faults import SETTINGS_EXIT_CODE
from ami_fault_site.verdict.terms import EXIT_CODES, Gate, Status, Verdict

ENDINGS = {
    Outcome.DRAINED: "every job has ended",
    Outcome.IDLE: "nothing was handed out or answered any more",
    Outcome.EXITED: "the worker ended by itself",
    Outcome.TIMEOUT: "the time was up",
    Outcome.RESTARTS_EXHAUSTED: "the worker ended more often than it may be restarted",
    Outcome.SERVICE_GONE: "the sandbox has ended",
    Outcome.NOT_ARMED: "the worker ran without the hook: no fault could strike",
    Outcome.SETTINGS: "the worker refused its settings",
    Outcome.INTERRUPTED: "stopped by the operator",
}
NOT_ARMED_CURE = (
    "install ami-fault-site into the environment that the worker's Python uses (ami-fault doctor looks at this one), "
    "start that Python without -S, or put the folder printed by `ami-fault site-dir` on PYTHONPATH"
)
_FIXED = {Outcome.INTERRUPTED: 130, Outcome.SERVICE_GONE: 3}
_FIXED |= {Outcome.NOT_ARMED: SETTINGS_EXIT_CODE, Outcome.SETTINGS: SETTINGS_EXIT_CODE}
_RESTARTS_EXHAUSTED = 6


def exit_code(outcome: Outcome | None, verdict: Verdict, gate: Gate = Gate.ALL, strict: bool = False) -> int:
    """Return the exit code of a run that ended so, or of a judgement without a run (None).

    130 interrupted, 78 not armed or settings wrong, 3 the sandbox has gone, 6 restarts exhausted unless the verdict
    fails; a run whose time was up is 1 or 3; all others are as the verdict says: 0, 1, 3 or 4.
    """
    if outcome in _FIXED:
        return _FIXED[outcome]
    failed = verdict.status(gate) is Status.FAIL
    if outcome is Outcome.RESTARTS_EXHAUSTED:
        return EXIT_CODES[Status.FAIL] if failed else _RESTARTS_EXHAUSTED
    if outcome is Outcome.TIMEOUT:
        return EXIT_CODES[Status.FAIL if failed else Status.UNKNOWN]
    return verdict.exit_code(gate, strict)


def standing(code: int, verdict: Verdict, gate: Gate = Gate.ALL) -> Status:
    """Return the one word for the whole: what the exit code says; for other codes fail if the verdict does.

    A worker that was not armed has shown nothing, whatever was seen of it.
    """
    for status, its_code in EXIT_CODES.items():
        if code == its_code:
            return status
    failed = verdict.status(gate) is Status.FAIL and code != SETTINGS_EXIT_CODE
    return Status.FAIL if failed else Status.UNKNOWN
