"""One HTTP call of the worker, from before it is sent until it is heard: what strikes it, in which order."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from requests.exceptions import RequestException
from requests.models import REDIRECT_STATI, Response

from ami_fault_site import antenna
from ami_fault_site.antenna import Lease
from ami_fault_site.faults import Call, Decision, Draw, Effect, Harm, Layer, Phase, Point, Site, Trigger
from ami_fault_site.hooks.strikes import CallAttempts, Strike, decide_death
from ami_fault_site.injector import Injector
from ami_fault_site.witness import Heard, Passage, Witness, rows_of

T = TypeVar("T")

_DYING: dict[Site, Site] = {Site.IMAGE: Site.DOWNLOADING, Site.RESULT: Site.POSTING, Site.JOBS: Site.IDLE}
"""At which passage the process may die in such a call; after a tasks call, that of what was fetched."""

_BEFORE = (Point.DOWNLOADING, Point.POSTING_UNSENT, Point.IDLE)


def _fail_by_nothing(_harm: Harm | None) -> None:
    """Take the place of the seam, before it is known."""


class Crossing:
    """One classified call. `own_adapter` is whether its session chooses its adapter in a way of its own."""

    def __init__(self, injector: Injector, witness: Witness, passage: Passage, own_adapter: bool) -> None:
        self.is_api = passage.lease is None
        self._injector, self._witness, self._passage = injector, witness, passage
        self._unable = "the session chooses its adapter in a way of its own" if own_adapter else ""
        at_attempts = injector.settings.network_layer is Layer.ATTEMPT
        self._attempts = CallAttempts(injector, witness, passage) if at_attempts else None
        self._strike: Strike | None = None
        self._delay = 0.0
        self._fail_by: Callable[[Harm | None], None] = _fail_by_nothing
        self.is_new = True
        self.leads_on = False  # to where the last answer redirects
        self._last: Response | None = None
        settings, site = injector.settings, passage.call.site
        self.revises = (site is Site.JOBS and bool(settings.jobs)) or (site is Site.TASKS and bool(settings.exhaust))

    def go(self, send: Callable[[], Response], fail_by: Callable[[Harm | None], None]) -> Response:
        """Pass the call on, struck or not; returns the response or raises what a real failure raises.

        `fail_by` hears of each harm by which the hop that follows shall fail; of none, if none shall.
        """
        self._fail_by = fail_by
        decision = self._sheltered(self._decide, Decision(reason="it could not be asked"))
        death = self._sheltered(self._decide_death, None) if self._injector.can_die else None
        self._die_at(death, *_BEFORE)
        if decision.harm is not None:
            self._sheltered(lambda: self._arm(decision), None)
        if self._delay:
            time.sleep(self._delay)  # not while others wait for what is fetched
        fetches = self._passage.call.site is Site.TASKS
        with self._injector.fetching() if fetches else nullcontext():
            if fetches:
                self._sheltered(self._refuse_the_doomed, None)
            try:
                response = send()
            except BaseException as error:
                failure = error
                self._sheltered(lambda: self._tell(failure), None)
                self._sheltered(lambda: self._failed(decision, failure), None)
                raise
            self._sheltered(lambda: self._tell(response), None)
            self._die_unheard(death, response)
            self._sheltered(lambda: self._answered(decision, response), None)
        self._die_at(death, Point.AFTER_POST)
        if fetches and self._injector.can_die:
            self._die_with(response)
        return response

    def hop(self) -> CallAttempts | None:
        """Begin a hop, and return whose attempts it makes: the call's own request is struck, not where it leads."""
        is_first, self.is_new, self.leads_on = self.is_new, False, False
        return self._attempts if is_first else None

    def sent(self, response: Response) -> None:
        """Take the answer of a hop. What could not strike a redirect strikes where it leads."""
        self.leads_on = response.status_code in REDIRECT_STATI and response.is_redirect  # which looks at the headers
        self._last = response
        strike = self._strike
        harm = None if strike is None or strike.is_done else strike.decision.harm
        if self.leads_on and harm is not None and harm.phase is not Phase.BEFORE and harm.kind != "delay":
            self._fail_by(harm)

    def heard(self, answer: Heard, unable: str = "") -> bool:
        """Take what the service answered to a call that is struck as a whole; False lets it through.

        `unable` is why the harm cannot take its place, if so.
        """
        strike = self._strike
        if strike is None or answer.status_code in REDIRECT_STATI:
            return False
        return self._sheltered(lambda: strike.heard(answer, unable), False)

    def revise(self, response: Response) -> bytes | None:
        """Return the body that the worker shall read, None if it stays as it is."""
        return self._sheltered(lambda: self._revised(response), None)

    # --- what strikes the call

    @property
    def _harm(self) -> Harm | None:
        """What made the call fail, None if nothing of ours did."""
        if self._strike is not None and self._strike.is_done:
            return self._strike.harm
        return None if self._attempts is None else self._attempts.harm

    def _decide(self) -> Decision:
        decision = self._injector.decide(self._passage.call)
        self._witness.begins(self._passage, decision)
        return decision

    def _arm(self, decision: Decision) -> None:
        self._strike = Strike(self._injector, self._witness, self._passage, self._passage.call, decision)
        harm = self._strike.begin(self._unable)
        if harm is not None and harm.kind == "delay" and harm.phase is Phase.BEFORE:
            self._delay = harm.seconds
        else:
            self._fail_by(harm)

    def _failed(self, decision: Decision, error: BaseException) -> None:
        """Book an error; one that a response's hook has made of an answer (`raise_for_status`) is that answer."""
        answer: Response | None = getattr(error, "response", None)
        if answer is None or answer is not self._last or self.leads_on:
            self._witness.failed(self._passage, decision, self._harm, error)
        else:
            self._answered(decision, answer)

    def _answered(self, decision: Decision, response: Response) -> None:
        try:
            self._witness.answered(self._passage, decision, self._harm, response)
        except RequestException as error:  # a body that is read only now, and is cut short
            self._witness.failed(self._passage, decision, self._harm, error)

    def _tell(self, ended: Response | BaseException) -> None:
        """Remember whether the end of this call, an answer or an error, was our doing."""
        harm, injected = self._harm, self._injector.injected
        if harm is None:
            injected.passed()
        else:
            injected.struck(harm.effect, ended)

    def _refuse_the_doomed(self) -> None:
        """Let a loader fetch no more once an injected fault has given up what it holds: it would be lost unseen."""
        if self._unable or self._harm is not None or not self._injector.budget.is_doomed():
            return
        harm = Harm(Effect.NETWORK, "refused")
        reason = "budget: an injected fault gave up the job, what is fetched now would be lost"
        call = self._passage.call
        decision = Decision(reason, harm, Trigger.GUARD, struck=call.draws[0])
        if self._injector.guard(call, decision, call=self._passage.number):
            self._strike = Strike(self._injector, self._witness, self._passage, call, decision, is_done=True)
            self._fail_by(harm)

    # --- where the process dies

    def _decide_death(self) -> tuple[Call, Decision] | None:
        site = _DYING.get(self._passage.call.site)
        return None if site is None else decide_death(self._injector, self._passage, site)

    def _die_at(self, death: tuple[Call, Decision] | None, *points: Point) -> None:
        if death is not None and death[1].point in points:
            call, decision = death
            lease = self._passage.lease
            about = self._passage.deliveries if lease is None else (lease.delivery,)
            told = {"tasks": rows_of(about), "stream": about[0].stream if about else "", "call": self._passage.number}
            self._sheltered(lambda: self._injector.strike(call, decision, **told), None)

    def _die_unheard(self, death: tuple[Call, Decision] | None, response: Response) -> None:
        """Die once the service has answered and before the worker hears it."""
        if death is None or death[1].point is not Point.POSTING_UNHEARD or self._harm is not None:
            return
        self._sheltered(lambda: self._witness.lost(self._passage, response), None)
        self._die_at(death, Point.POSTING_UNHEARD)

    def _die_with(self, response: Response) -> None:
        """Die with what was just fetched."""
        nothing: tuple[Lease, ...] = ()
        leases = self._sheltered(lambda: self._fetched(response), nothing)
        if not leases:
            return
        tasks = tuple((lease.delivery.sequence, lease.delivery.delivery) for lease in leases)
        draws = tuple(Draw(str(sequence), str(delivery)) for sequence, delivery in tasks)
        role = self._injector.role
        call = Call(Site.FETCHED, draws, self._passage.call.job, tasks=tasks, role=role)
        rows = rows_of(lease.delivery for lease in leases)
        stream, number = leases[0].delivery.stream, self._passage.number

        def strike() -> None:
            decision = self._injector.decide(call)
            self._injector.book_passage(call, decision)
            self._injector.strike(call, decision, tasks=rows, stream=stream, call=number)

        self._sheltered(strike, None)

    def _fetched(self, response: Response) -> tuple[Lease, ...]:
        is_fetched = response.status_code < 400 and self._harm is None
        return antenna.leases_in(response.content) if is_fetched else ()

    # --- what the worker shall not read

    def _revised(self, response: Response) -> bytes | None:
        if self._passage.call.site is Site.JOBS:
            changed = antenna.only_jobs(response.content, self._injector.settings.jobs)
            if changed is None:
                return None
            self._injector.book("hidden", call=self._passage.number, jobs=list(changed[1]))
            return changed[0]
        kept_back = [lease for lease in antenna.leases_in(response.content) if self._keeps_back(lease)]
        if not kept_back:
            return None
        self._witness.withheld(self._passage, kept_back)
        return antenna.without_tasks(response.content, frozenset(lease.delivery.subject for lease in kept_back))

    def _keeps_back(self, lease: Lease) -> bool:
        names = antenna.image_names(lease.image_id, lease.image_url)
        settings, delivery = self._injector.settings, lease.delivery
        if not set(names) & set(settings.exhaust) or (settings.jobs and delivery.job not in settings.jobs):
            return False
        drawn = Draw(str(delivery.sequence), str(delivery.delivery))
        tasks = ((delivery.sequence, delivery.delivery),)
        call = Call(Site.TASKS, (drawn,), self._passage.call.job, names, tasks, role=self._injector.role)
        harm = Harm(Effect.WITHHOLD, Effect.WITHHOLD.value, Phase.AFTER)
        reason = f"{harm.kind}: {names[0]} is in AMI_TEST_EXHAUST"
        decision = Decision(reason, harm, Trigger.EXHAUST, rate=1.0, struck=drawn)
        rows = rows_of([delivery])
        return self._injector.grant(call, decision, call=self._passage.number, tasks=rows, stream=delivery.stream)

    def _sheltered(self, work: Callable[[], T], otherwise: T) -> T:
        return self._injector.sheltered(work, otherwise)
