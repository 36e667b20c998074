from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from ami_fault_site import plan
from ami_fault_site.faults import (
    API_SITES,
    DAMAGE_KINDS,
    LOOP_SITES,
    NETWORK_KINDS,
    Call,
    Decision,
    Draw,
    Effect,
    Phase,
    Point,
    Site,
    Trigger,
)
from ami_fault_site.injector import Injector
from ami_fault_site.ledger import Ledger, Reader
from ami_fault_site.plan import draw, phase_of, rates_at, roll
from ami_fault_site.runfolder import join
from ami_fault_site.settings import Settings
from tests.counting import Counting
from tests.thorough import times

pytestmark = pytest.mark.untraced

DECISIONS = times(20_000, 200_000)
CHECKED = 1_000  # of these, the decision itself is compared with the draw at every rate
RATES = (0.01, 0.1, 0.5)
SIZES: dict[str, Callable[[int], int]] = {
    "of one task": lambda n: 1,
    "of eight tasks": lambda n: 8,
    "of one to seven tasks": lambda n: n % 7 + 1,
}
FIELDS = {
    Effect.CRASH: "worker_crash_rate",
    Effect.TRANSIENT: "transient_error_rate",
    Effect.NETWORK: "network_error_rate",
    Effect.IMAGE_404: "image_404_rate",
    Effect.CORRUPT: "corrupt_image_rate",
}
SINGLE_SITES = {Effect.NETWORK: API_SITES, Effect.IMAGE_404: (Site.IMAGE,), Effect.CORRUPT: (Site.OPEN,)}


def decide(asked: Settings, passing: Call, counts: Counting | None = None) -> Decision:
    return plan.decide(asked, passing, counts or Counting())


def settings(seed: int = 7, **rates: float) -> Settings:
    return Settings(enabled=True, seed=seed, **rates)  # type: ignore[arg-type]


def one(effect: Effect, rate: float, seed: int = 7) -> Settings:
    return settings(seed, **{FIELDS[effect]: rate})


def call(site: Site, subject: object, attempt: object = "1", job: int | None = None) -> Call:
    return Call(site, (Draw(str(subject), "" if site in (Site.IMAGE, Site.OPEN) else str(attempt)),), job)


def batch(number: int, size: int) -> Call:
    return Call(Site.BATCH, tuple(Draw(str(number * 8 + task), "1") for task in range(size)))


def batch_of(kind: str, number: int) -> Call:
    return batch(number, SIZES[kind](number))


@cache
def batch_draws(kind: str) -> tuple[list[float], list[Effect | None]]:
    """Decide on batches that both faults could strike; keeps the draws and outcomes only."""
    asked = settings(worker_crash_rate=RATES[0], transient_error_rate=RATES[0])
    return outcomes(decide(asked, batch_of(kind, number)) for number in range(DECISIONS // len(SIZES)))


def single_of(effect: Effect, number: int) -> Call:
    sites = SINGLE_SITES[effect]
    return call(sites[number % len(sites)], number)


def outcomes(decisions: Iterable[Decision]) -> tuple[list[float], list[Effect | None]]:
    pairs = [(-1.0 if each.draw is None else each.draw, each.effect) for each in decisions]
    return [number for number, _ in pairs], [effect for _, effect in pairs]


def assert_within_four_sigma(count: int, rate: float, of: int) -> None:
    sigma = math.sqrt(of * rate * (1 - rate))
    assert abs(count - of * rate) < 4 * sigma, f"{count} of {of} at {rate}: {(count - of * rate) / sigma:+.1f} sigma"


@pytest.mark.parametrize("effect", SINGLE_SITES, ids=lambda effect: str(effect.value))
def test_calls_are_struck_at_the_rate_that_was_set(effect: Effect) -> None:
    asked = one(effect, RATES[0])
    draws, decided = outcomes(decide(asked, single_of(effect, number)) for number in range(DECISIONS))

    assert min(draws) >= 0
    assert_within_four_sigma(decided.count(effect), RATES[0], DECISIONS)
    for rate in RATES:
        struck = [number < rate for number in draws]
        assert_within_four_sigma(sum(struck), rate, DECISIONS)
        again = [decide(one(effect, rate), single_of(effect, number)).effect is effect for number in range(CHECKED)]
        assert again == struck[:CHECKED]


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("effect", [Effect.CRASH, Effect.TRANSIENT], ids=lambda effect: str(effect.value))
def test_batches_are_struck_at_the_rate_that_was_set_whatever_their_size(effect: Effect, kind: str) -> None:
    draws, _ = batch_draws(kind)
    some = [batch_of(kind, number) for number in range(CHECKED)]

    for rate in RATES:
        struck = [drawn < rate for drawn in draws]
        assert_within_four_sigma(sum(struck), rate, len(draws))
        assert [decide(one(effect, rate), each).effect is effect for each in some] == struck[:CHECKED]


@pytest.mark.parametrize("effect", [Effect.CRASH, Effect.TRANSIENT], ids=lambda effect: str(effect.value))
def test_batches_of_all_sizes_together_keep_the_rates_of_both_their_faults(effect: Effect) -> None:
    decided = [outcome for kind in SIZES for outcome in batch_draws(kind)[1]]

    assert len(decided) in range(DECISIONS - len(SIZES), DECISIONS + 1)
    assert_within_four_sigma(decided.count(effect), RATES[0], len(decided))


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(("crash", "transient"), [(0.1, 0.3), (0.5, 0.5), (0.02, 0.5)])
def test_two_faults_on_one_batch_keep_their_exact_rates(kind: str, crash: float, transient: float) -> None:
    draws, _ = batch_draws(kind)

    expected: list[Effect | None] = [
        Effect.CRASH if drawn < crash else Effect.TRANSIENT if drawn < crash + transient else None for drawn in draws
    ]
    assert_within_four_sigma(expected.count(Effect.CRASH), crash, len(draws))
    assert_within_four_sigma(expected.count(Effect.TRANSIENT), transient, len(draws))
    asked = settings(worker_crash_rate=crash, transient_error_rate=transient)
    assert [decide(asked, batch_of(kind, number)).effect for number in range(CHECKED)] == expected[:CHECKED]


def test_a_rate_of_0_never_fires_and_leaves_the_call_not_eligible() -> None:
    for site in Site:
        decisions = {decide(settings(), call(site, number)) for number in range(500)}
        assert decisions == {Decision(reason="no fault is set for this call")}


@pytest.mark.parametrize("effect", FIELDS, ids=lambda effect: str(effect.value))
def test_a_rate_of_1_always_fires(effect: Effect) -> None:
    sites = SINGLE_SITES.get(effect, LOOP_SITES)
    asked = one(effect, 1.0)

    assert {decide(asked, call(site, number)).effect for site in sites for number in range(2_000)} == {effect}
    if sites == LOOP_SITES:
        assert {decide(asked, batch(number, 8)).effect for number in range(500)} == {effect}


@pytest.mark.parametrize(
    "parts", [(0.7, 0.3), (0.9, 0.1), (0.1, 0.9), (0.3, 0.7), (1 / 3, 2 / 3), (0.3333333333, 0.6666666666)]
)
def test_two_rates_that_add_up_to_1_leave_no_batch_alone(parts: tuple[float, float]) -> None:
    asked = settings(worker_crash_rate=parts[0], transient_error_rate=parts[1])

    assert None not in {
        decide(asked, each).effect for each in (batch_of("of one to seven tasks", n) for n in range(3_000))
    }
    reasons = {decide(asked, batch(number, 8)).reason for number in range(300)}
    assert {reason.partition(" < ")[2] for reason in reasons if reason.startswith("transient")} <= {"1.000000"}


def test_a_draw_is_at_least_0_and_below_1_and_has_53_bits() -> None:
    draws = [draw(1, "result", str(number), "1") for number in range(2_000)]

    assert 0.0 <= min(draws) < 0.01
    assert 0.99 < max(draws) < 1.0
    assert all((number * 2**53).is_integer() for number in draws)


def test_a_draw_is_what_it_has_always_been() -> None:
    # Known numbers: whoever changes the formula makes every recorded seed worthless.
    assert draw(42, "result", "7", "1") == 0.6353490971132745


def test_no_two_parts_of_a_key_run_into_each_other() -> None:
    assert draw(1, "result", "11", "1") != draw(1, "result", "1", "11")
    assert draw(1, "result", "", "1") != draw(1, "result", "1", "")
    assert draw(11, "result", "1", "1") != draw(1, "1result", "1", "1")


@pytest.mark.parametrize("size", [1, 2, 8, 1000])
def test_the_roll_of_a_batch_is_uniform_and_names_the_task_with_the_smallest_draw(size: int) -> None:
    rolls = [roll(1, "batch", [Draw(f"{number}-{task}", "1") for task in range(size)]) for number in range(500)]

    for bound in (0.1, 0.5, 0.9):
        assert_within_four_sigma(sum(each.left < bound for each in rolls), bound, len(rolls))
    for number, each in enumerate(rolls):
        draws = {draw(1, "batch", f"{number}-{task}", "1"): f"{number}-{task}" for task in range(size)}
        assert each.struck.subject == draws[min(draws)]


def everything() -> tuple[Settings, list[Call]]:
    asked = settings(
        worker_crash_rate=0.3, transient_error_rate=0.3, network_error_rate=0.3, image_404_rate=0.3,
        corrupt_image_rate=0.3,
    )  # fmt: skip
    calls = [call(site, number) for site in Site for number in range(200)]
    return asked, calls + [batch(number, 8) for number in range(200)]


def test_the_same_seed_gives_the_same_decisions_whatever_the_order() -> None:
    asked, calls = everything()
    shuffled = random.Random(3).sample(calls, len(calls))

    in_order = {each: decide(asked, each) for each in calls}

    assert {each: decide(asked, each) for each in shuffled} == in_order


def test_the_order_of_the_tasks_in_a_batch_makes_no_difference() -> None:
    asked = settings(worker_crash_rate=0.3, transient_error_rate=0.3)

    for number in range(300):
        one_batch = batch(number, 8)
        assert decide(asked, Call(Site.BATCH, one_batch.draws[::-1])) == decide(asked, one_batch)


def test_another_seed_gives_other_decisions_at_the_same_rate() -> None:
    calls = [call(Site.RESULT, number) for number in range(10_000)]
    first, second = ([decide(one(Effect.NETWORK, 0.1, seed), each).effect for each in calls] for seed in (1, 2))
    both = sum(a is b is Effect.NETWORK for a, b in zip(first, second, strict=True))

    assert_within_four_sigma(both, 0.01, len(calls))


def test_sites_that_share_a_subject_are_struck_independently_of_each_other() -> None:
    asked = settings(image_404_rate=0.1, corrupt_image_rate=0.1)
    both = sum(
        decide(asked, call(Site.IMAGE, number)).effect is not None
        and decide(asked, call(Site.OPEN, number)).effect is not None
        for number in range(20_000)
    )

    assert_within_four_sigma(both, 0.01, 20_000)


def test_another_attempt_at_the_same_subject_is_another_roll() -> None:
    asked = one(Effect.NETWORK, 0.5)
    seen = {decide(asked, call(Site.RESULT, 1, attempt)).effect for attempt in range(1, 30)}

    assert seen == {None, Effect.NETWORK}


@pytest.mark.parametrize("site", [Site.IMAGE, Site.OPEN])
def test_a_missing_or_damaged_image_has_one_fate_whatever_the_attempt_the_job_or_the_name(site: Site) -> None:
    asked = settings(image_404_rate=0.5, corrupt_image_rate=0.5)

    for number in range(100):
        deliveries = [
            Call(site, (Draw(str(number), ""),), job=attempt, names=(str(number), f"{attempt}.jpg"))
            for attempt in range(1, 5)
        ]
        assert len({decide(asked, each) for each in deliveries}) == 1


def test_a_job_that_was_not_asked_for_is_never_struck_and_the_reason_says_so() -> None:
    asked = Settings(seed=1, network_error_rate=1.0, jobs=frozenset({4, 5}), permanent_error_images=("7",))

    assert decide(asked, call(Site.RESULT, 1, job=6)) == Decision(reason="AMI_TEST_JOBS: job 6 is another")
    assert decide(asked, Call(Site.IMAGE, (Draw("7", ""),), 6, ("7",))).effect is None
    assert decide(asked, call(Site.RESULT, 1, job=5)).effect is Effect.NETWORK
    # A poll belongs to no job: what it fails for, it fails for everybody's.
    assert decide(asked, call(Site.JOBS, "", job=None)).effect is None


NAMES = ("17", "moth.jpg", "http://images/site/moth.jpg", "http://images/site/moth.jpg?sig=a,b")


@pytest.mark.parametrize("named", NAMES)
@pytest.mark.parametrize(("site", "effect"), [(Site.IMAGE, Effect.IMAGE_404), (Site.OPEN, Effect.CORRUPT)])
def test_a_permanent_image_always_fails_by_whichever_name_it_was_given(named: str, site: Site, effect: Effect) -> None:
    asked = Settings(seed=1, permanent_error_images=("other", named))
    decision = decide(asked, Call(site, (Draw("17", ""),), 3, NAMES))

    assert decision.effect is effect
    assert decision.trigger is Trigger.PERMANENT
    assert decision.reason == f"{effect.value}: {NAMES[0]} is in AMI_TEST_PERMANENT_ERROR_IMAGES"
    assert (decision.rate, decision.draw, decision.struck, decision.eligible) == (1.0, None, Draw("17", ""), ())


def test_an_image_that_only_resembles_a_permanent_one_is_left_alone() -> None:
    asked = Settings(seed=1, permanent_error_images=("17", "moth"))

    assert decide(asked, Call(Site.IMAGE, (Draw("170", ""),), 3, ("170", "moth.jpg"))).effect is None


def test_the_reason_of_a_decision_tells_draw_and_bound() -> None:
    struck = decide(one(Effect.NETWORK, 1.0), call(Site.RESULT, 1))
    spared = decide(one(Effect.NETWORK, 1e-9), call(Site.RESULT, 1))

    assert struck.reason == f"network-error: drew {struck.draw:.6f} < 1.000000"
    assert spared.reason == f"drew {spared.draw:.6f}, not below 0.000000"
    assert (spared.effect, spared.eligible) == (None, (Effect.NETWORK,))


def test_a_decision_on_a_batch_lists_both_faults_as_eligible_and_names_the_task() -> None:
    one_batch = batch(5, 8)
    decision = decide(settings(worker_crash_rate=0.5, transient_error_rate=0.5), one_batch)
    least = min(one_batch.draws, key=lambda each: draw(7, "batch", each.subject, each.attempt))

    assert decision.eligible == (Effect.CRASH, Effect.TRANSIENT)
    assert decision.struck == least


@pytest.mark.parametrize(
    ("effect", "kinds"),
    [
        (Effect.NETWORK, NETWORK_KINDS),
        (Effect.CORRUPT, DAMAGE_KINDS),
        (Effect.IMAGE_404, ("http-404",)),
        (Effect.CRASH, ("exit",)),
        (Effect.TRANSIENT, ("exception",)),
    ],
)
def test_the_kinds_of_a_fault_are_about_equally_likely(effect: Effect, kinds: tuple[str, ...]) -> None:
    site = SINGLE_SITES.get(effect, (Site.BATCH,))[0]
    counts = Counter(decide(one(effect, 1.0), call(site, number)).kind for number in range(7_000))

    assert counts.keys() == set(kinds)
    if len(kinds) > 1:
        for count in counts.values():
            assert_within_four_sigma(count, 1 / len(kinds), 7_000)


def test_the_kinds_of_a_fault_do_not_depend_on_its_rate() -> None:
    struck = [number for number in range(500) if decide(one(Effect.NETWORK, 0.1), call(Site.RESULT, number)).effect]
    kinds = [[decide(one(Effect.NETWORK, rate), call(Site.RESULT, n)).kind for n in struck] for rate in (0.1, 1.0)]

    assert kinds[0] == kinds[1]
    assert len(set(kinds[0])) > 1


def test_a_crash_comes_before_the_batch_or_after_it_as_often_and_every_other_fault_before() -> None:
    points = Counter(decide(one(Effect.CRASH, 1.0), batch(number, 1)).point for number in range(4_000))

    assert_within_four_sigma(points[Point.AFTER_BATCH], 0.5, 4_000)
    assert points[Point.BEFORE_BATCH] + points[Point.AFTER_BATCH] == 4_000
    assert (phase_of(Point.BEFORE_BATCH), phase_of(Point.AFTER_BATCH)) == (Phase.BEFORE, Phase.AFTER)
    for effect in set(FIELDS) - {Effect.CRASH}:
        site = SINGLE_SITES.get(effect, (Site.BATCH,))[0]
        assert {decide(one(effect, 1.0), call(site, number)).phase for number in range(100)} == {Phase.BEFORE}


def test_the_effects_that_can_strike_at_a_site_are_those_whose_rate_is_set() -> None:
    asked = settings(
        worker_crash_rate=0.1, transient_error_rate=0.2, network_error_rate=0.3, image_404_rate=0.4,
        corrupt_image_rate=0.5,
    )  # fmt: skip

    for site in API_SITES:
        assert rates_at(asked, call(site, 1)) == ((Effect.NETWORK, 0.3),)
    for site in LOOP_SITES:
        assert rates_at(asked, call(site, 1)) == ((Effect.CRASH, 0.1), (Effect.TRANSIENT, 0.2))
        assert rates_at(settings(transient_error_rate=0.2), call(site, 1)) == ((Effect.TRANSIENT, 0.2),)
    assert rates_at(asked, call(Site.IMAGE, 1)) == ((Effect.IMAGE_404, 0.4),)
    assert rates_at(asked, call(Site.OPEN, 1)) == ((Effect.CORRUPT, 0.5),)


def test_a_decision_can_be_recomputed_from_its_line_in_the_ledger(tmp_path: Path) -> None:
    asked, calls = everything()
    joined = join(asked, tmp_path)
    injector = Injector(joined.settings, joined.run, Ledger(joined.run.ledger, 1))
    granted = [each for each in calls[::7] if injector.grant(each, injector.decide(each))]

    reader = Reader(joined.run.ledger)
    faults = [event for event in reader.new() if event.kind == "fault"]

    assert len(faults) == len(granted) > 50
    seed = int(json.loads((joined.run.path / "settings.json").read_text())["settings"]["AMI_TEST_SEED"])
    for event, struck in zip(faults, granted, strict=True):
        least = draw(seed, event.text("site"), event.text("subject"), event.text("attempt"))
        again = 1 - (1 - least) ** len(struck.draws)
        assert again == pytest.approx(event.data["draw"], rel=1e-9)
        assert event.text("reason").startswith(f"{event.text('effect')}: drew {again:.6f} < ")
