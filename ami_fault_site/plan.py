"""Decide whether a call is struck, and by what: settings + call -> Decision.

Chance is keyed, not streamed: a draw depends on the seed, the site, the subject and the attempt only, so the same seed
gives the same faults whatever the thread, process, fork or order, and every ledger line can be recomputed.
"""

from __future__ import annotations

import hashlib
import math

from ami_fault_site.faults import (
    API_SITES,
    DAMAGE_KINDS,
    NETWORK_KINDS,
    Call,
    Decision,
    Draw,
    Effect,
    Harm,
    Phase,
    Site,
    Trigger,
)
from ami_fault_site.settings import Settings


def draw(seed: int, key: str, subject: str, attempt: str) -> float:
    """Return the number in [0, 1) that belongs to this key.

    The top 53 bits of a 64-bit blake2b, so that the result is exact and below 1: a rate of 1 always strikes and a rate
    of 0 never does. `attempt` is "" where every attempt at a subject shares one fate.
    """
    digest = hashlib.blake2b(
        f"{seed}\x1f{key}\x1f{subject}\x1f{attempt}".encode(errors="surrogatepass"), digest_size=8
    ).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def threshold(rate: float, size: int) -> float:
    """Return the draw below which one of `size` tasks must fall for a batch to be struck at exactly `rate`.

    1 - (1 - rate)^(1/size): the chance that the smallest of `size` independent uniform draws is below it is `rate`.
    """
    if rate >= 1.0:
        return 1.0
    return -math.expm1(math.log1p(-rate) / size)


def rates_at(settings: Settings, site: Site) -> tuple[tuple[Effect, float], ...]:
    """Return the effects that can strike at a site by chance, in the order of their intervals, without the zeros."""
    if site in API_SITES:
        candidates = [(Effect.NETWORK, settings.network_error_rate)]
    elif site is Site.IMAGE:
        candidates = [(Effect.IMAGE_404, settings.image_404_rate)]
    elif site is Site.OPEN:
        candidates = [(Effect.CORRUPT, settings.corrupt_image_rate)]
    else:
        candidates = [(Effect.CRASH, settings.worker_crash_rate), (Effect.TRANSIENT, settings.transient_error_rate)]
    return tuple((effect, rate) for effect, rate in candidates if rate > 0.0)


def decide(settings: Settings, call: Call) -> Decision:
    """Say which fault strikes this call, or why none does; a call is rolled for once, whatever could strike it."""
    if settings.jobs and call.job not in settings.jobs:
        whose = "it belongs to no job that is known" if call.job is None else f"job {call.job} is another"
        return Decision(reason=f"AMI_TEST_JOBS: {whose}")
    named = any(name in settings.permanent_error_images for name in call.names)
    if named:
        return _permanent(settings.seed, call)
    rates = rates_at(settings, call.site)
    if not rates:
        return Decision(reason="no fault is set for this call")
    return _roll(settings.seed, call, rates)


def _permanent(seed: int, call: Call) -> Decision:
    effect = Effect.IMAGE_404 if call.site is Site.IMAGE else Effect.CORRUPT
    return Decision(
        reason=f"{effect.value}: {call.names[0]} is in AMI_TEST_PERMANENT_ERROR_IMAGES",
        harm=Harm(effect, _kind(seed, effect, call.draws[0])),
        trigger=Trigger.PERMANENT,
        rate=1.0,
        struck=call.draws[0],
    )


def _roll(seed: int, call: Call, rates: tuple[tuple[Effect, float], ...]) -> Decision:
    """Lay the faults in adjacent intervals of the smallest draw, so that each keeps its exact rate."""
    key = call.site.value
    drawn, struck = min(
        ((draw(seed, key, one.subject, one.attempt), one) for one in call.draws), key=lambda pair: pair[0]
    )
    eligible = tuple(effect for effect, _ in rates)
    size, total = len(call.draws), 0.0
    for effect, rate in rates:
        total += rate
        # A sum such as 0.3333333333 + 0.6666666667 may miss 1 by a rounding error; settings refuses what exceeds it.
        bound = threshold(1.0 if math.isclose(total, 1.0) else total, size)
        if drawn < bound:
            return Decision(
                reason=f"{effect.value}: drew {drawn:.6f} < {bound:.6f}",
                harm=Harm(effect, _kind(seed, effect, struck), _phase(seed, effect, struck)),
                rate=rate,
                draw=drawn,
                struck=struck,
                eligible=eligible,
            )
    return Decision(reason=f"drew {drawn:.6f}, not below {bound:.6f}", draw=drawn, struck=struck, eligible=eligible)


def _kind(seed: int, effect: Effect, struck: Draw) -> str:
    kinds = {Effect.NETWORK: NETWORK_KINDS, Effect.CORRUPT: DAMAGE_KINDS, Effect.IMAGE_404: ("http-404",)}.get(effect)
    if kinds is None:
        return "exit" if effect is Effect.CRASH else "exception"
    return kinds[int(draw(seed, f"{effect.value}/kind", struck.subject, struck.attempt) * len(kinds))]


def _phase(seed: int, effect: Effect, struck: Draw) -> Phase:
    if effect is Effect.CRASH and draw(seed, "crash/phase", struck.subject, struck.attempt) >= 0.5:
        return Phase.AFTER
    return Phase.BEFORE
