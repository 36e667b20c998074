"""Ask the plan, book, carry out: what stands between the hooks and everything else."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from ami_fault_site import plan
from ami_fault_site.antenna import Delivery, Lease
from ami_fault_site.banner import banner
from ami_fault_site.budget import Budget
from ami_fault_site.deaths import die
from ami_fault_site.faults import (
    KILLING,
    SETTINGS_EXIT_CODE,
    Call,
    Decision,
    Effect,
    InjectedTransientError,
    Limit,
    Mode,
    Role,
    Seam,
    Site,
    Trigger,
)
from ami_fault_site.hosts import refused_host
from ami_fault_site.injected import Injected
from ami_fault_site.ledger import Ledger
from ami_fault_site.redaction import redact
from ami_fault_site.rules import CRASH
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.settings import Settings

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

    def __init__(self, settings: Settings, run: RunFolder, ledger: Ledger, tree: str = "") -> None:
        self.settings = settings
        self.run = run
        self.seams: dict[Seam, str] = {}
        self.here = _Here()
        self._tree = tree or str(settings.incarnation)
        self._can_strike = plan.can_strike(settings)
        self.budget = Budget(settings.max_deliver, run, self._tree, self._main, self._can_strike)
        self.can_die = settings.worker_crash_rate > 0 or any(rule.site == CRASH for rule in settings.rules)
        self.injected = Injected()
        self._ledger = ledger
        self._silent = False
        self._hosts: set[str] = set()

    @property
    def role(self) -> Role:
        """What this process is to its worker: what multiprocessing calls a daemon loads for another."""
        multiprocessing = sys.modules.get("multiprocessing.process")
        daemon = multiprocessing is not None and multiprocessing.current_process().daemon
        return Role.LOADER if daemon else Role.MAIN

    def _main(self) -> int:
        return os.getppid() if self.role is Role.LOADER else os.getpid()

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

    # --- deciding

    def decide(self, call: Call) -> Decision:
        """Ask the plan; books nothing. What it lets through on purpose ("off") takes its place here."""
        if self._silent:
            return Decision(reason="the ledger is incomplete")
        while True:
            decision = plan.decide(self.settings, call, self)
            limit = decision.limit if decision.harm is None else None
            if limit is None or self._silent or self._counting(partial(self._take, limit), False):
                return decision  # else another process took the last place meanwhile

    def attempt(self, site: Site) -> str:
        """Number the calls that carry no identity, over all processes of the run; "" if nothing can strike them."""
        if self._silent or not self._can_strike:
            return ""
        return self._counting(lambda: str(self.run.count(site.value)), "")

    def passed(self, name: str) -> int:
        """Count one more passage over all processes of the run."""
        return 0 if self._silent else self._counting(lambda: self.run.count(name), 0)

    def has_room(self, limit: Limit) -> bool:
        """Say whether a limit is not reached yet."""
        return self._counting(lambda: self.run.counted(limit.name) < limit.most, False)

    def received(self, leases: Sequence[Lease]) -> None:
        """Note what was handed out: for the windows, and what of it is on its last delivery."""
        if leases and self.settings.start_after_tasks is not None:
            self._counting(lambda: self.run.count("tasks-handed-out", len(leases)), 0)
        if leases and self.budget.is_news():
            self.book("budget", max_deliver=self.budget.most, source=self.budget.source)
        self._counting(lambda: self.budget.received(lease.delivery for lease in leases), None)

    def fetching(self) -> AbstractContextManager[object]:
        """Be about to fetch tasks, until what they are was received: who is about to die waits for it."""
        return self._sharing(self.budget.fetching(), None) if self.budget.is_kept else nullcontext()

    def has_put_all_behind(self) -> None:
        """Note that the worker asks for jobs: whatever it was at before is done, or given up."""
        self.budget.begin_pass()
        self._counting(self.budget.forget, None)

    def answered(self, deliveries: Iterable[Delivery]) -> None:
        """Note that answers to these were heard."""
        self._counting(lambda: self.budget.answered(deliveries), None)

    # --- striking

    def grant(
        self,
        call: Call,
        decision: Decision,
        /,
        loses: Iterable[Delivery] | None = (),
        unable: str = "",
        **told: object,
    ) -> bool:
        """Book the fault that is about to strike, or why it is withheld; True if it may be carried out now.

        `loses` are the deliveries that nobody can answer any more if it strikes, None if they cannot be told. `unable`
        is why it could not be carried out here, if so. `told` is added to what is booked.
        """
        if decision.harm is None or self._silent:
            return False
        why = unable or self._outside() or self._counting(lambda: self.budget.forbids(loses), "")
        return self._book_fault(call, decision, why, told)

    def strike(self, call: Call, decision: Decision, /, **told: object) -> None:
        """End this process or leave the task loop by an exception, as decided, and book it before.

        Returns if that is withheld. What the process tree holds is lost with it, so nobody of it may fetch meanwhile.
        """
        if decision.harm is None or self._silent:
            return
        with self._sharing(self.budget.closing(), "the budget cannot be kept") as forbidden, self._ledger.alone():
            why = self._outside() or forbidden
            if not self._book_fault(call, decision, why, told):
                return
            if not self._counting(lambda: self._doom(call, decision), False):
                return
            if decision.effect is Effect.TRANSIENT:
                error = InjectedTransientError(f"injected by ami-fault-site: {decision.reason}")
                self.injected.struck(decision.effect, error)
                raise error
            if decision.kind not in (Mode.HANG.value, Mode.SYSEXIT.value):
                die(Mode(decision.kind))
        die(Mode(decision.kind))  # of what goes on to live, nobody must wait for the lock

    def _doom(self, call: Call, decision: Decision) -> bool:
        """Let those fetch no more who would lose what they got. A main process lives through what does not kill it."""
        if call.site is Site.POSTING and decision.kind == Mode.SYSEXIT.value:
            return True  # a thread that posts ends, and nothing else
        is_main = call.role is Role.MAIN
        # Who hangs is ended by somebody, with all that it holds by then.
        ends = decision.kind in (Mode.HANG.value, *(mode.value for mode in KILLING))
        self.budget.doom(is_main and ends)
        if is_main:
            self.budget.begin_pass()
        return True

    def guard(self, call: Call, decision: Decision, /, **told: object) -> bool:
        """Book a failure that keeps more from being lost to a fault; True if it may be carried out now.

        It follows from a fault that has struck: no cap, window or stop file withholds it, and it takes no place.
        """
        self.book("fault", **_told(call, decision), role=self.role.value, **told)
        return not self._silent

    def book_passage(self, call: Call, decision: Decision) -> None:
        """Book that a crash could have struck by its rate, at a passage that is no event otherwise."""
        if decision.eligible:
            eligible = [effect.value for effect in decision.eligible]
            self.book("passage", site=call.site.value, job=call.job, draw=decision.draw, eligible=eligible)

    def meet_host(self, host: str) -> None:
        """Look at the host of an API call once: refuse one that may not be tested, print an incarnation's banner."""
        if host in self._hosts:
            return
        self._hosts.add(host)
        why = refused_host(urlsplit(f"//{host}").hostname or "", self.settings)
        if why:
            self.book("refused", target=host)
            stop([why])
        self.book("target", target=host)
        if not self._silent:
            self._print_banner(host)

    def _book_fault(self, call: Call, decision: Decision, why: str, more: dict[str, object]) -> bool:
        if not why:
            why = self._counting(lambda: self._claim(decision), "a counter of the run folder cannot be kept")
        told = {**_told(call, decision), "role": self.role.value, **more}
        if why:
            self.book("withheld", **told, why=why)
            return False
        self.book("dry" if self.settings.dry_run else "fault", **told)
        return not self.settings.dry_run and not self._silent

    def _outside(self) -> str:
        return self._counting(self._withheld, "the run folder cannot be read")

    def _withheld(self) -> str:
        settings, run = self.settings, self.run
        if run.is_stopped():
            return "the stop file is there"
        if settings.start_after is not None and run.age() < settings.start_after:
            return f"window: AMI_TEST_START_AFTER={settings.start_after:g}"
        if settings.stop_after is not None and run.age() >= settings.stop_after:
            return f"window: AMI_TEST_STOP_AFTER={settings.stop_after:g}"
        least = settings.start_after_tasks
        if least is not None and run.counted("tasks-handed-out") < least:
            return f"window: AMI_TEST_START_AFTER_TASKS={least}"
        return ""

    def _claim(self, decision: Decision) -> str:
        """Take the places that a fault needs; say which there is none of."""
        most = self.settings.max_faults
        if most is not None and not self.run.counted("faults") < most:
            return f"AMI_TEST_MAX_FAULTS={most} is reached"
        if decision.limit is not None and not self._take(decision.limit):
            return f"{decision.limit.most} of {decision.limit.most} struck already by rule: {decision.rule}"
        if most is not None and not self.run.take("faults", most):
            return f"AMI_TEST_MAX_FAULTS={most} is reached"
        return ""

    def _take(self, limit: Limit) -> bool:
        return self.run.take(limit.name, limit.most)

    def _counting(self, work: Callable[[], T], otherwise: T) -> T:
        """Use what the processes of the run share; without it, nothing is injected any more."""
        try:
            return work()
        except (OSError, ValueError) as error:
            self._give_up(f"a counter of the run folder cannot be kept: {getattr(error, 'strerror', None) or error}")
            return otherwise

    @contextmanager
    def _sharing(self, shared: AbstractContextManager[T], otherwise: T) -> Iterator[T]:
        """Enter what the processes of the run share; if that fails nothing is injected any more."""
        with ExitStack() as stack:
            yield self._counting(lambda: stack.enter_context(shared), otherwise)

    def _print_banner(self, host: str) -> None:
        try:
            first = self.run.claim(f"banner-{self._tree}")
        except OSError as error:
            self._give_up(f"the run folder cannot be written: {error.strerror}")
            return
        if first:
            seams = dict(self.seams)  # another thread may import another seam's library meanwhile
            for line in banner(self.settings, seams, host, self.run.path, str(self.budget)):
                say(line)

    def _give_up(self, problem: str) -> None:
        if self._silent:
            return
        self._silent = True
        self.run.mark_incomplete()
        say(f"{problem}; no more faults from process {os.getpid()}, the worker goes on")


def _told(call: Call, decision: Decision) -> dict[str, object]:
    """Return what a fault event says: enough to recompute the decision."""
    struck, harm, point = decision.struck, decision.harm, decision.point
    return {
        "site": call.site.value,
        "effect": harm.effect.value if harm else "",
        "trigger": decision.trigger.value,
        "kind": decision.kind,
        "phase": (plan.phase_of(point) if point else decision.phase).value,
        "point": point.value if point else "",
        "reason": redact(decision.reason),
        "rate": decision.rate,
        "draw": decision.draw,
        "job": call.job,
        "subject": struck.subject if struck else "",
        "attempt": struck.attempt if struck else "",
        "try": call.attempt,
        "image": call.names[0] if call.names else "",
        "counted": decision.trigger is Trigger.RATE,
        **({"rule": redact(decision.rule)} if decision.rule else {}),
        **({"seconds": round(harm.seconds, 3)} if harm and harm.seconds else {}),
        **({"retry_after": harm.retry_after} if harm and harm.retry_after is not None else {}),
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
