"""Ask the plan, book, carry out: what stands between the hooks and everything else."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from ami_fault_site import plan
from ami_fault_site.antenna import Lease
from ami_fault_site.faults import CRASH_EXIT_CODE, SETTINGS_EXIT_CODE, Call, Decision, Seam, Site, Trigger
from ami_fault_site.injected import Injected
from ami_fault_site.ledger import Ledger
from ami_fault_site.redaction import redact
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.settings import Settings, protected_by

T = TypeVar("T")

# Kept from the start: a worker may replace them, a test surely does.
_exit, _write = os._exit, os.write


def say(text: str) -> None:
    """Write a line to stderr in one piece, whatever has become of sys.stderr."""
    if sys.__stderr__ is None:
        return  # it was closed when Python started: whatever is number 2 now is somebody else's file
    try:
        _write(2, f"ami-fault-site: {redact(text)}\n".encode(errors="replace"))
    except OSError:
        return  # closed, or its reader has gone: there is nobody left to tell


class _Here(threading.local):
    """What this thread is about: the image that it downloaded last and has not opened yet."""

    image: Lease | None = None


class Injector:
    """One process's part in a run. Its methods never raise into the worker, except for the fault that was asked for.

    If something cannot be booked it says so once, injects nothing more and lets the worker go on: a fault that is not
    in the ledger would make every later judgement false.
    """

    def __init__(self, settings: Settings, run: RunFolder, ledger: Ledger) -> None:
        self.settings = settings
        self.run = run
        self.seams: dict[Seam, str] = {}
        self.here = _Here()
        self.injected = Injected()
        self._ledger = ledger
        self._silent = False
        self._hosts: set[str] = set()

    def sheltered(self, work: Callable[[], T], otherwise: T) -> T:
        """Do some work of our own that must not become the worker's trouble, whatever goes wrong in it."""
        try:
            return work()
        except Exception as error:
            # Not its message, which may hold a URL with its query.
            self._give_up(f"internal error, please report it: {type(error).__name__}")
            return otherwise

    def book(self, kind: str, /, **data: object) -> None:
        """Write one event."""
        if self._silent:
            return
        try:
            self._ledger.append(kind, **data)
        except OSError as error:
            self._give_up(f"the ledger cannot be written: {error.strerror or error}")

    def attempt(self, site: Site) -> str:
        """Number the calls that carry no identity, over all processes of the run."""
        if self._silent:
            return ""
        try:
            return str(self.run.count(site.value))
        except (OSError, ValueError) as error:
            self._give_up(f"a counter of the run folder cannot be kept: {error}")
            return ""

    def decide(self, call: Call) -> Decision:
        """Ask the plan; books nothing."""
        if self._silent:
            return Decision(reason="the ledger is incomplete")
        return plan.decide(self.settings, call)

    def grant(self, call: Call, decision: Decision, tasks: list[list[int]] | None = None, unable: str = "") -> bool:
        """Book the fault that is about to strike, or why it is withheld; True if it may be carried out now.

        `unable` is why it could not be carried out here, if so.
        """
        if decision.effect is None or self._silent:
            return False
        withheld = unable or self._withheld()
        self.book("withheld" if withheld else "fault", **_told(call, decision), why=withheld, tasks=tasks or [])
        return not withheld and not self._silent

    def crash(self) -> None:
        """End this process at once, as a crash does: no exception, no cleanup, nothing flushed."""
        _exit(CRASH_EXIT_CODE)

    def meet_host(self, host: str) -> None:
        """Look at the host of an API call once: refuse a protected one, print the banner at an incarnation's first."""
        if host in self._hosts:
            return
        self._hosts.add(host)
        entry = protected_by(urlsplit(f"//{host}").hostname or "", self.settings.protected_hosts)
        if entry:
            self.book("refused", target=host)
            stop([f"{host} is a protected host (AMI_TEST_PROTECTED_HOSTS={entry}): never tested"])
        self.book("target", target=host)
        if not self._silent:
            self._print_banner(host)

    def _withheld(self) -> str:
        if self.run.is_stopped():
            return "the stop file is there"
        if self.settings.max_faults is None:
            return ""
        try:
            granted = self.run.claim_slot(self.settings.max_faults)
        except OSError as error:
            self._give_up(f"a slot of the run folder cannot be claimed: {error.strerror}")
            granted = False
        return "" if granted else f"AMI_TEST_MAX_FAULTS={self.settings.max_faults} is reached"

    def _print_banner(self, host: str) -> None:
        incarnation = self.settings.incarnation
        try:
            # A process group is one start of the worker where no supervisor numbers its lives.
            first = self.run.claim(f"banner-{incarnation or f'group-{os.getpgrp()}'}")
        except OSError as error:
            self._give_up(f"the run folder cannot be written: {error.strerror}")
            return
        if first:
            for line in banner(self.settings, self.seams, host, self.run):
                say(line)

    def _give_up(self, problem: str) -> None:
        self._silent = True
        self.run.mark_incomplete()
        say(f"{problem}; no more faults from process {os.getpid()}, the worker goes on")


def banner(settings: Settings, seams: Mapping[Seam, str], host: str, run: RunFolder) -> list[str]:
    """Return the lines that tell what is armed, for whoever reads the worker's output."""
    rates = {
        "crash": settings.worker_crash_rate,
        "network": settings.network_error_rate,
        "corrupt": settings.corrupt_image_rate,
        "404": settings.image_404_rate,
        "transient": settings.transient_error_rate,
    }
    set_rates = ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate) or "none"
    permanent = f", {len(settings.permanent_error_images)} permanent images" if settings.permanent_error_images else ""
    most = "unknown" if settings.max_deliver is None else str(settings.max_deliver)
    lines = [
        f"incarnation {settings.incarnation} armed at {', '.join(f'{s.value} ({t})' for s, t in seams.items())}",
        f"rates: {set_rates}{permanent}; seed {settings.seed}",
        f"target {host}; max_deliver {most}; run folder {run.path}",
    ]
    if Seam.TASK not in seams and (settings.worker_crash_rate or settings.transient_error_rate):
        lines.append(
            "crash and transient faults cannot strike yet: no known task loop is loaded (AMI_TEST_TASK_LOOP names one)"
        )
    return lines


def _told(call: Call, decision: Decision) -> dict[str, object]:
    """Return what a fault event says: enough to recompute the decision."""
    struck = decision.struck
    return {
        "site": call.site.value,
        "effect": decision.effect.value if decision.effect else "",
        "trigger": decision.trigger.value,
        "kind": decision.kind,
        "phase": decision.phase.value,
        "reason": decision.reason,
        "rate": decision.rate,
        "draw": decision.draw,
        "job": call.job,
        "subject": struck.subject if struck else "",
        "attempt": struck.attempt if struck else "",
        "image": call.names[0] if call.names else "",
        "counted": decision.trigger is Trigger.RATE,
    }


def stop(problems: list[str]) -> None:
    """Say what is wrong, one problem a line, and leave the process: on but wrong means stop.

    A SystemExit would be swallowed by the real worker, which would then run a test other than the one asked for.
    """
    for problem in problems:
        say(problem)
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        say("stdout could not be flushed")
    _exit(SETTINGS_EXIT_CODE)
