"""Decide whether a call is struck, and by what: settings + call + counts -> Decision.

Chance is keyed, not streamed: a draw depends on the seed, the site, the subject and the attempt only, so the same seed
gives the same faults whatever the thread, process, fork or order, and every ledger line can be recomputed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ami_fault_site.faults import (
    API_SITES,
    DAMAGE_KINDS,
    HTTP_SITES,
    LOOP_SITES,
    NETWORK_KINDS,
    POINTS_AT,
    Call,
    Decision,
    Draw,
    Effect,
    Harm,
    Layer,
    Limit,
    Phase,
    Point,
    Site,
    Trigger,
)
from ami_fault_site.rules import CRASH, Rule, Term
from ami_fault_site.settings import Settings


class Counts(Protocol):
    """What is counted over all processes of a run."""

    def passed(self, name: str) -> int:
        """Count one more passage, and return how many there have been with it."""

    def has_room(self, limit: Limit) -> bool:
        """Say whether a limit is not reached yet."""


def draw(seed: int, key: str, subject: str, attempt: str) -> float:
    """Return the number in [0, 1) that belongs to this key.

    The top 53 bits of a 64-bit blake2b, so that the result is exact and below 1: a rate of 1 always strikes and a rate
    of 0 never does. `attempt` is "" where every attempt at a subject shares one fate.
    """
    digest = hashlib.blake2b(
        f"{seed}\x1f{key}\x1f{subject}\x1f{attempt}".encode(errors="surrogatepass"), digest_size=8
    ).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


class Roll(NamedTuple):
    """The one roll of a call: a number in [0, 1) and the key that it comes from; for a batch the smallest of its tasks.

    `left` is what remains to be rolled with: after a miss at share p it is (number - p) / (1 - p), uniform again.
    """

    left: float
    struck: Draw

    def missed(self, share: float) -> Roll:
        """Return the roll that is left once it has missed a share."""
        return self._replace(left=min((self.left - share) / (1.0 - share), 1.0)) if share < 1.0 else self


def roll(seed: int, key: str, draws: Sequence[Draw]) -> Roll:
    """Roll for a call: the smallest m of its n draws, as 1 - (1 - m)^n, which is uniform in [0, 1).

    So a batch is struck at exactly the rate whatever its size, nearly independent of how tasks are grouped.
    """
    least, struck = min(((draw(seed, key, one.subject, one.attempt), one) for one in draws), key=lambda pair: pair[0])
    size = len(draws)
    return Roll(least if size == 1 else -math.expm1(size * math.log1p(-least)), struck)


def can_strike(settings: Settings) -> bool:
    """Say whether anything is set that can strike at all."""
    rates = (
        settings.network_error_rate, settings.image_404_rate, settings.corrupt_image_rate, settings.worker_crash_rate,
        settings.transient_error_rate,
    )  # fmt: skip
    return bool(any(rates) or settings.rules or settings.permanent_error_images or settings.exhaust)


def points_at(settings: Settings, call: Call) -> tuple[Point, ...]:
    """Return the points of this passage at which the crash rate strikes."""
    if call.role not in settings.crash_process:
        return ()
    return tuple(point for point in POINTS_AT.get(call.site, ()) if point in settings.crash_points)


def rates_at(settings: Settings, call: Call) -> tuple[tuple[Effect, float], ...]:
    """Return the effects that can strike a call by chance, in the order of their intervals, without the zeros.

    At the attempt layer a network error strikes the attempts at a call, and all else the call as a whole.
    """
    candidates: list[tuple[Effect, float]] = []
    if call.site in API_SITES and (call.attempt > 0) == (settings.network_layer is Layer.ATTEMPT):
        candidates.append((Effect.NETWORK, settings.network_error_rate))
    if call.site is Site.IMAGE and call.attempt == 0:
        candidates.append((Effect.IMAGE_404, settings.image_404_rate))
    if call.site is Site.OPEN:
        candidates.append((Effect.CORRUPT, settings.corrupt_image_rate))
    if settings.worker_crash_rate > 0.0 and points_at(settings, call):
        candidates.append((Effect.CRASH, settings.worker_crash_rate))
    if call.site in LOOP_SITES:
        candidates.append((Effect.TRANSIENT, settings.transient_error_rate))
    return tuple((effect, rate) for effect, rate in candidates if rate > 0.0)


def decide(settings: Settings, call: Call, counts: Counts) -> Decision:
    """Say which fault strikes this call, or why none does; a call is rolled for once, whatever could strike it.

    Named images come first, then the rules in their order, then the rates. A limited term is chosen only while it has
    room; whoever carries the fault out takes the place.
    """
    if settings.jobs and call.job not in settings.jobs:
        whose = "it belongs to no job that is known" if call.job is None else f"job {call.job} is another"
        return Decision(reason=f"AMI_TEST_JOBS: {whose}")
    named = settings.permanent_error_images
    if named and call.attempt == 0 and any(name in named for name in call.names):
        return _permanent(settings.seed, call)
    rolled: Roll | None = None
    for index, rule in enumerate(settings.rules):
        if _concerns(settings, rule, index, call):
            rolled = rolled or roll(settings.seed, call.site.value, call.draws)
            found, rolled = _by_rule(settings, call, rule, index, rolled, counts)
            if found is not None:
                return found
    return _by_rate(settings, call, rolled)


def _permanent(seed: int, call: Call) -> Decision:
    effect = Effect.IMAGE_404 if call.site is Site.IMAGE else Effect.CORRUPT
    struck = _lasting(call)[0]
    return Decision(
        reason=f"{effect.value}: {call.names[0]} is in AMI_TEST_PERMANENT_ERROR_IMAGES",
        harm=Harm(effect, "http-404" if effect is Effect.IMAGE_404 else _choose(seed, effect, struck, DAMAGE_KINDS)),
        trigger=Trigger.PERMANENT,
        rate=1.0,
        struck=struck,
    )


def _lasting(call: Call) -> tuple[Draw, ...]:
    """Return the keys of what lasts for the whole run, whatever the attempt."""
    return tuple(Draw(one.subject, "") for one in call.draws)


# --- rules


def _concerns(settings: Settings, rule: Rule, index: int, call: Call) -> bool:
    """Say whether a rule is about this call; an image is among a rule's share of the images for the whole run."""
    at_attempts = settings.network_layer is Layer.ATTEMPT and call.site in HTTP_SITES
    if (call.attempt > 0) != at_attempts or not rule.applies(call):
        return False
    if call.site in POINTS_AT and rule.site == CRASH and not _points_of(settings, rule, call):
        return False
    share = rule.image_share
    return share is None or draw(settings.seed, f"rule-{index}/images", call.draws[0].subject, "") < share


def _points_of(settings: Settings, rule: Rule, call: Call) -> tuple[Point, ...]:
    wanted = rule.points or frozenset(settings.crash_points)
    return tuple(point for point in POINTS_AT[call.site] if point in wanted)


def _by_rule(
    settings: Settings, call: Call, rule: Rule, index: int, rolled: Roll, counts: Counts
) -> tuple[Decision | None, Roll]:
    """Try a rule's terms from left to right. The probability comes before the count: a miss does not burn one."""
    passage = counts.passed(f"rule-{index}") if rule.counts_passages else 0
    for number, term in enumerate(rule.terms):
        if (term.after and passage <= term.after) or (passage - term.after) % term.every:
            continue
        if rolled.left >= term.share:
            rolled = rolled.missed(term.share)
            continue
        limit = None if term.most is None else Limit(f"rule-{index}-term-{number}", term.most)
        if limit is None or counts.has_room(limit):
            return _struck_by_rule(settings, call, rule, term, limit, rolled), rolled
        rolled = rolled._replace(left=rolled.left / term.share)
    return None, rolled


def _struck_by_rule(
    settings: Settings, call: Call, rule: Rule, term: Term, limit: Limit | None, rolled: Roll
) -> Decision:
    harm = term.harm_for(settings.ack_wait)
    if harm is None:
        return Decision(reason=f"off by rule: {rule}", rule=str(rule), limit=limit)
    point = _point(settings.seed, _points_of(settings, rule, call), rolled.struck) if rule.site == CRASH else None
    chance = f", drew {rolled.left:.6f} < {term.share:g}" if term.share < 1.0 else ""
    return Decision(
        reason=f"{harm.effect.value}: {harm.kind}{chance} by rule: {rule}",
        harm=_with_jitter(settings.seed, harm, rolled.struck),
        trigger=Trigger.RULE,
        point=point,
        rate=term.share,
        draw=rolled.left,
        struck=rolled.struck,
        rule=str(rule),
        limit=limit,
    )


def _with_jitter(seed: int, harm: Harm, struck: Draw) -> Harm:
    """Fix how long a slow call takes: seconds +- jitter, uniform."""
    if not harm.jitter:
        return harm
    share = 2 * draw(seed, "slow/jitter", struck.subject, struck.attempt) - 1
    return harm._replace(seconds=max(0.0, harm.seconds + share * harm.jitter), jitter=0.0)


# --- rates


def _by_rate(settings: Settings, call: Call, rolled: Roll | None) -> Decision:
    """Lay the faults in adjacent intervals of the one roll, so that each keeps its exact rate."""
    rates = rates_at(settings, call)
    if not rates:
        return Decision(reason="no fault is set for this call")
    if call.site in (Site.IMAGE, Site.OPEN):
        rolled = roll(settings.seed, call.site.value, _lasting(call))
    rolled = rolled or roll(settings.seed, call.site.value, call.draws)
    eligible = tuple(effect for effect, _ in rates)
    total = 0.0
    for effect, rate in rates:
        total += rate
        # A sum such as 0.3333333333 + 0.6666666667 may miss 1 by a rounding error; settings refuses what exceeds it.
        total = 1.0 if math.isclose(total, 1.0) else total
        if rolled.left < total:
            return Decision(
                reason=f"{effect.value}: drew {rolled.left:.6f} < {total:.6f}",
                harm=_harm(settings, effect, rolled.struck),
                point=_point(settings.seed, points_at(settings, call), rolled.struck)
                if effect is Effect.CRASH
                else None,
                rate=rate,
                draw=rolled.left,
                struck=rolled.struck,
                eligible=eligible,
            )
    reason = f"drew {rolled.left:.6f}, not below {total:.6f}"
    return Decision(reason=reason, draw=rolled.left, struck=rolled.struck, eligible=eligible)


def _harm(settings: Settings, effect: Effect, struck: Draw) -> Harm:
    """Say how exactly a fault strikes that was drawn by its rate."""
    if effect is Effect.NETWORK and settings.network_kinds:
        harms = settings.network_kinds
        harm = harms[_index(settings.seed, effect, struck, len(harms))].harm(settings.ack_wait)
        return _with_jitter(settings.seed, harm, struck)
    if effect is Effect.CRASH:
        return Harm(effect, settings.crash_mode.value)
    kinds = {
        Effect.NETWORK: NETWORK_KINDS,
        Effect.CORRUPT: DAMAGE_KINDS,
        Effect.IMAGE_404: ("http-404",),
        Effect.TRANSIENT: ("exception",),
    }
    return Harm(effect, _choose(settings.seed, effect, struck, kinds[effect]))


def _choose(seed: int, effect: Effect, struck: Draw, kinds: Sequence[str]) -> str:
    return kinds[_index(seed, effect, struck, len(kinds))]


def _index(seed: int, effect: Effect, struck: Draw, size: int) -> int:
    return int(draw(seed, f"{effect.value}/kind", struck.subject, struck.attempt) * size)


def _point(seed: int, points: Sequence[Point], struck: Draw) -> Point:
    return points[int(draw(seed, "crash/point", struck.subject, struck.attempt) * len(points))]


def phase_of(point: Point) -> Phase:
    """Return when a crash at this point comes, relative to the call that the point belongs to."""
    after = (Point.AFTER_FETCH, Point.AFTER_BATCH, Point.POSTING_UNHEARD, Point.AFTER_POST)
    if point is Point.IN_BATCH:
        return Phase.DURING
    return Phase.AFTER if point in after else Phase.BEFORE
