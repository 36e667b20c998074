"""One HTTP call on its way to being struck, as a whole or at one of its attempts: granted, carried out, told."""

from __future__ import annotations

import time

from ami_fault_site.faults import Call, Decision, Draw, Effect, Harm, Phase, Site
from ami_fault_site.injector import Injector
from ami_fault_site.witness import Heard, Passage, Witness, leases_of


class Strike:
    """A decision about a call or an attempt. `is_done` is whether its harm makes it fail."""

    def __init__(
        self,
        injector: Injector,
        witness: Witness,
        passage: Passage,
        call: Call,
        decision: Decision,
        is_done: bool = False,
    ) -> None:
        self.injector, self.witness, self.passage = injector, witness, passage
        self.call, self.decision, self.is_done = call, decision, is_done

    def begin(self, unable: str = "") -> Harm | None:
        """Return what is to be done: granted by now, unless it depends on what the service answers."""
        harm = self.decision.harm
        if harm is None:
            return None
        if harm.kind == "tls" and not self.call.secure:
            unable = unable or "the call is not HTTPS"
        if not unable and harm.phase is not Phase.BEFORE and harm.kind != "delay":
            return harm
        # Of a post whose body could not be read it is not known what it answers.
        of_a_post = self.passage.deliveries or None if self.call.site is Site.RESULT else ()
        loses = of_a_post if harm.effect is not Effect.SLOW else ()
        if not self.injector.grant(self.call, self.decision, loses, unable, call=self.passage.number):
            return None
        self.is_done = harm.effect is not Effect.SLOW
        return harm

    def withhold(self, why: str) -> None:
        """Book why the harm cannot be done."""
        self.injector.grant(self.call, self.decision, (), why, call=self.passage.number)

    def heard(self, answer: Heard, unable: str = "") -> bool:
        """Take what the service answered, and say whether that is kept from the worker: not a last delivery.

        `unable` is why the harm cannot take its place, if so.
        """
        harm = self.decision.harm
        if harm is None:
            return False
        if unable:
            self.withhold(unable)
            return False
        is_lost = harm.effect is not Effect.SLOW
        # What trickles may come too late for a caller that waits no longer.
        loses = [lease.delivery for lease in leases_of(self.passage, answer)]
        if not self.injector.grant(self.call, self.decision, loses, call=self.passage.number):
            return False
        if is_lost and self.passage.lease is None:
            self.witness.lost(self.passage, answer)
        self.is_done = is_lost
        return True

    @property
    def harm(self) -> Harm | None:
        """What made it fail, None if nothing of ours did."""
        return self.decision.harm if self.is_done else None


class CallAttempts:
    """The attempts at one call: each is decided by itself, and booked when it has ended."""

    def __init__(self, injector: Injector, witness: Witness, passage: Passage) -> None:
        self.injector, self.witness, self.passage = injector, witness, passage
        self.number = 0
        self.last: Strike | None = None
        self._began = 0.0

    def begin(self) -> Harm | None:
        """Decide about the attempt that begins now."""
        return self.injector.sheltered(self._begin, None)

    def _begin(self) -> Harm | None:
        self.number += 1
        self._began = time.monotonic()
        base = self.passage.call
        draws = tuple(Draw(one.subject, f"{one.attempt}.{self.number}") for one in base.draws)
        call = base._replace(attempt=self.number, draws=draws)
        self.last = Strike(self.injector, self.witness, self.passage, call, self.injector.decide(call))
        return self.last.begin()

    def heard(self, _harm: Harm, answer: Heard, unable: str) -> bool:
        """Take what the service answered to the attempt, and why its harm cannot take the answer's place, if so."""
        last = self.last
        return last is not None and self.injector.sheltered(lambda: last.heard(answer, unable), False)

    def withhold(self, why: str) -> None:
        """Book why the harm of the attempt cannot be done."""
        last = self.last
        if last is not None:
            self.injector.sheltered(lambda: last.withhold(why), None)

    def ended(self, status: int, error: BaseException | None) -> None:
        """Book how the attempt went."""
        self.injector.sheltered(lambda: self._ended(status, error), None)

    def _ended(self, status: int, error: BaseException | None) -> None:
        passage, last = self.passage, self.last
        if last is None:
            return
        harm, decision, lease = last.harm, last.decision, passage.lease
        about = {} if lease is None else {"image": lease.image_id, "task": [*last.call.tasks[0]]}
        self.injector.book(
            "try",
            call=passage.number,
            site=passage.call.site.value,
            job=passage.call.job,
            number=self.number,
            status=status,
            error="" if error is None else type(error).__name__,
            struck=harm is not None,
            kind=decision.kind if harm is not None else "",
            retry_after=None if harm is None else harm.retry_after,
            seconds=round(time.monotonic() - self._began, 4),
            draw=decision.draw,
            eligible=[effect.value for effect in decision.eligible],
            **about,
        )

    @property
    def harm(self) -> Harm | None:
        """What made the last attempt fail, and the call with it."""
        return None if self.last is None else self.last.harm


def decide_death(injector: Injector, passage: Passage, site: Site) -> tuple[Call, Decision]:
    """Decide whether the process dies in this passage, which is a part of the call."""
    base = passage.call
    if site is Site.IDLE:
        draws: tuple[Draw, ...] = (Draw("", injector.attempt(site)),)
    elif site is Site.POSTING and base.tasks:
        draws = tuple(Draw(str(sequence), str(delivery)) for sequence, delivery in base.tasks)
    else:
        draws = base.draws
    call = base._replace(site=site, draws=draws)
    decision = injector.decide(call)
    injector.book_passage(call, decision)
    return call, decision
