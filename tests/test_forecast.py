from __future__ import annotations

import heapq
import math
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from operator import attrgetter

import pytest

from ami_fault_site.faults import Call, Draw, Effect, Point, Site, Trigger
from ami_fault_site.forecast import Expectation, Forecast, forecast
from ami_fault_site.load import Load, LoadError
from ami_fault_site.plan import decide
from ami_fault_site.profiles import available, load
from ami_fault_site.settings import Settings, parse
from ami_fault_site.unforeseen import unforeseen
from tests.counting import Counting
from tests.thorough import IS_THOROUGH

pytestmark = pytest.mark.untraced

KNOWN = {"AMI_TEST_ACK_WAIT": "60"}  # of the service; a load says what it really is
EVERY = {name: parse({**KNOWN, **load(name).values}) for name in available()}
FORESEEN = {name: each._replace(ack_wait=None) for name, each in EVERY.items() if not unforeseen(each)}
SPARING = {name: each for name, each in FORESEEN.items() if each.worker_crash_rate or each.transient_error_rate}
SHIPPED = {name: each._replace(max_deliver=0) for name, each in FORESEEN.items()}  # faults take last deliveries too
SERIAL = Load(96, 8, workers=0, ack_wait=60, max_deliver=2)
SMALL = Load(100, 4, workers=2, prefetch=1, ack_wait=20, max_deliver=2, seconds_an_image=0.02, restart_delay=1)
REAL = Load(150, 6, ack_wait=60, max_deliver=2, seconds_an_image=0.4)
SIZES = {"small": SMALL, **({"real": REAL} if IS_THOROUGH else {})}
LOADS = pytest.mark.parametrize("load", [SERIAL, *SIZES.values()], ids=["serial", *SIZES])
BUSY_LOADS = pytest.mark.parametrize("load", list(SIZES.values()), ids=list(SIZES))
PROFILES = pytest.mark.parametrize("name", SHIPPED if IS_THOROUGH else ["heavy", "images", "light", "transient"])

RUNS = 150  # of each settings and load: seeds 0, 1, 2, ...

Task = tuple[float, int, int]  # when it was handed out, its sequence, its delivery count


class Played:
    """A worker and a queue played through in simulated time, struck by the real plan."""

    def __init__(self, settings: Settings, load: Load) -> None:
        self.settings, self.load, self.now = settings, load, 0.0
        self.fresh = deque(range(1, load.images + 1))
        self.back: list[Task] = []  # when it comes back, its sequence, its next delivery count
        self.strikes: Counter[Effect] = Counter()
        self.calls: Counter[Site] = Counter()
        self.looked: dict[int, Effect | None] = {}
        self.bad: dict[int, Effect] = {}
        self.unanswered = self.exhausted = 0
        while self.fresh or self.back:
            if self.fails(Site.JOBS):
                self.now += 5
            elif not self.works_off():
                self.now += 5.5

    def struck(self, site: Site, *draws: Draw, loses: Iterable[Task] = ()) -> Effect | None:
        self.calls[site] += 1
        effect = decide(self.settings, Call(site, draws, None if site is Site.JOBS else 1), Counting()).effect
        if self.settings.max_deliver != 0 and any(delivery == self.load.max_deliver for _, _, delivery in loses):
            return None  # no fault takes a last delivery
        self.strikes.update([effect] if effect else [])
        return effect

    def fails(self, site: Site) -> bool:
        return self.struck(site, Draw("", str(self.calls[site] + 1))) is not None

    def fetch(self) -> list[Task]:
        taken: list[Task] = []
        while len(taken) < self.load.batch:
            if self.back and self.back[0][0] <= self.now:
                taken.append((self.now, *heapq.heappop(self.back)[1:]))
            elif self.fresh:
                taken.append((self.now, self.fresh.popleft(), 1))
            else:
                break
        if self.settings.image_404_rate or self.settings.corrupt_image_rate:
            for _, number, _ in taken:
                self.look_at(number)
        return taken

    def look_at(self, number: int) -> None:
        if number not in self.looked:  # what is drawn for an image holds for the whole run
            calls = (Call(site, (Draw(str(number), ""),), 1, (str(number),)) for site in (Site.IMAGE, Site.OPEN))
            effects = (decide(self.settings, call, Counting()).effect for call in calls)
            self.looked[number] = next((effect for effect in effects if effect), None)
        effect = self.looked[number]
        if effect:
            self.bad[number] = effect
            self.strikes[effect] += 1

    def works_off(self) -> bool:
        """Pass over the job once: False if there was nothing to do."""
        loaders, waiting = max(self.load.workers, 1), deque[list[Task]]()
        most = self.load.workers * self.load.prefetch

        def refill(most: int) -> None:
            nonlocal loaders
            while loaders and len(waiting) < most:
                tasks = [] if self.fails(Site.TASKS) else self.fetch()
                if tasks:
                    waiting.append(tasks)
                else:
                    loaders -= 1

        refill(most or 1)
        worked = bool(waiting)
        while waiting:
            batch = waiting.popleft()
            refill(most)
            self.now += self.load.seconds_an_image * len(batch)
            held = [*batch, *(task for one in waiting for task in one)]
            draws = (Draw(str(number), str(delivery)) for _, number, delivery in batch)
            effect = self.struck(Site.BATCH, *draws, loses=held)
            if effect:
                self.leave(held)
                self.now += self.load.restart_delay if effect is Effect.CRASH else 0.0
                return True
            smallest = min(batch, key=lambda task: task[1:])
            if self.struck(Site.RESULT, Draw(str(smallest[1]), str(smallest[2])), loses=batch):
                self.leave(batch)
            refill(most or 1)
        return worked

    def leave(self, tasks: list[Task]) -> None:
        self.unanswered += len(tasks)
        for handed_out, number, delivery in tasks:
            if delivery == self.load.max_deliver:
                self.exhausted += 1
            else:
                heapq.heappush(self.back, (handed_out + (self.load.ack_wait or 0.0), number, delivery + 1))


@cache
def played(settings: Settings, load: Load, runs: int) -> list[Played]:
    return [Played(settings.with_seed(seed), load) for seed in range(runs)]


def mean(runs: list[Played], value: Callable[[Played], float]) -> float:
    return statistics.fmean(value(run) for run in runs)


def sigma_of(runs: list[Played], value: Callable[[Played], float]) -> float:
    return statistics.stdev(value(run) for run in runs) / math.sqrt(len(runs))


def assert_close(expected: float, runs: list[Played], value: Callable[[Played], float], within: float = 0.0) -> None:
    """Four sigma of what was played, and a share of it where the forecast is an approximation."""
    found, sigma = mean(runs, value), sigma_of(runs, value)
    assert abs(found - expected) <= within * found + 4 * sigma + 1e-9, f"expected {expected}, played {found} +- {sigma}"


def expectation(found: Forecast, effect: Effect) -> Expectation:
    return next(each for each in found.faults if each.effect is effect)


unanswered, exhausted, took = attrgetter("unanswered"), attrgetter("exhausted"), attrgetter("now")


def of(effect: Effect) -> Callable[[Played], float]:
    return lambda run: run.strikes[effect]


def spared(effect: Effect) -> Callable[[Played], float]:
    return lambda run: run.strikes[effect] == 0


def test_a_load_with_anything_wrong_is_refused_with_every_problem_at_once() -> None:
    with pytest.raises(LoadError) as caught:
        Load(0, 10_001, 0, 65, 0.0, 0, -1, math.nan, max_restarts=1.5, idle_sleep=math.inf, named=1)  # type: ignore[arg-type]

    assert caught.value.problems == [
        "images=0: is a whole number from 1 to 1000000",
        "batch=10001: is a whole number from 1 to 10000",
        "prefetch=0: is a whole number from 1 to 100",
        "workers=65: is a whole number from 0 to 64",
        "max_deliver=0: is a whole number from 1 to 1000",
        "max_restarts=1.5: is a whole number from 0 to 1000000",
        "named=1: is a whole number from 0 to 0",
        "seconds_an_image=-1: is a number of seconds, 0 or more",
        "restart_delay=nan: is a number of seconds, 0 or more",
        "idle_sleep=inf: is a number of seconds, 0 or more",
        "ack_wait=0.0: is a number of seconds above 0",
    ]
    assert str(caught.value).count("\n") == 10


@pytest.mark.parametrize(
    ("load", "held"),
    [
        (Load(1000, 24), 408),  # the real worker: 4 loaders with 4 batches ahead, and one in the loop
        (Load(40, 8, workers=2), 40),
        (Load(1000, 24, workers=0), 24),
        (Load(10, 24, workers=0), 10),
        (Load(200, 8, workers=2, prefetch=1), 24),
        (Load(5000, 64), 1000),
    ],
)
def test_a_worker_holds_what_it_prefetches_and_one_batch_more_but_never_more_than_there_is(
    load: Load, held: int
) -> None:
    assert load.held == held


def test_a_lease_is_held_for_as_long_as_all_that_is_held_takes() -> None:
    assert Load(1000, 5, workers=1, prefetch=1, seconds_an_image=2).held_seconds == 20
    assert Load(1000, 5, workers=0, seconds_an_image=2).held_seconds == 10


def test_what_the_load_does_not_say_of_the_service_is_taken_from_the_settings() -> None:
    def service(load: Load) -> tuple[float | None, int]:
        found = forecast(Settings(ack_wait=30.0, max_deliver=5), load)
        return found.load.ack_wait, found.max_deliver

    assert (service(Load(9, 3)), service(Load(9, 3, ack_wait=8, max_deliver=3))) == ((30, 5), (8, 3))


def test_an_unknown_max_deliver_is_assumed_to_be_two_and_stays_unknown_in_the_load() -> None:
    found = forecast(Settings(worker_crash_rate=0.5, max_deliver=0), Load(8, 8, workers=0))

    assert (found.max_deliver, found.load.max_deliver, found.load.ack_wait) == (2, None, None)
    assert found.exhausted == pytest.approx(8 * 0.5**2)


def test_a_serial_worker_loses_each_delivery_with_the_same_chance() -> None:
    settings = Settings(worker_crash_rate=0.2, transient_error_rate=0.1, network_error_rate=0.25, max_deliver=0)
    lost = 1 - 0.7 * 0.75  # q: struck in the loop, or its result post failed

    found = forecast(settings, Load(80, 8, workers=0, max_deliver=3))

    assert found.unanswered == pytest.approx(80 * (lost + lost**2 + lost**3))
    assert found.exhausted == pytest.approx(80 * lost**3)
    assert expectation(found, Effect.CRASH).chances == pytest.approx(10 * (1 + lost + lost**2))
    assert expectation(found, Effect.CRASH).expected == pytest.approx(2 * (1 + lost + lost**2))
    assert found.calls.results == pytest.approx(7 * (1 + lost + lost**2))
    assert found.enough_deliveries == math.ceil(math.log(0.01 / 80) / math.log(lost))


def test_a_strike_takes_the_prefetched_batches_along() -> None:
    # Of 2 batches held, the first is struck and takes both (1/2), or the second is struck alone (1/4).
    found = forecast(Settings(worker_crash_rate=0.5, max_deliver=0), Load(2, 1, workers=1, prefetch=1, max_deliver=1))

    assert found.unanswered == found.exhausted == pytest.approx(0.5 * 2 + 0.25 * 1)
    assert expectation(found, Effect.CRASH).chances == pytest.approx(1.5)


def test_in_a_long_job_strikes_take_the_share_that_the_formula_says() -> None:
    load = Load(1_000_000, 10, workers=2, prefetch=2, max_deliver=1)
    strike, window = 0.1, 5

    share = forecast(Settings(transient_error_rate=strike, max_deliver=0), load).exhausted / load.images

    assert share == pytest.approx(strike * window / (1 + strike * (window - 1)), abs=1e-4)


def test_a_run_without_faults_loses_nothing_and_takes_what_its_images_take() -> None:
    found = forecast(Settings(), Load(100, 10, workers=0, ack_wait=60, seconds_an_image=2))

    assert found.faults == ()
    assert (found.unanswered, found.enough_deliveries, found.least_seconds, found.nothing_fires) == (0, 1, 200, 1.0)
    assert (found.calls.polls, found.calls.tasks, found.calls.results) == (1, 11, 10)


def test_every_expected_crash_costs_its_restart_delay_up_to_the_last_restart() -> None:
    settings = Settings(worker_crash_rate=0.5, max_deliver=0)

    assert forecast(settings, Load(80, 8, workers=0, max_deliver=1, restart_delay=3)).least_seconds == 15
    found = forecast(settings, Load(80, 8, workers=0, max_deliver=1, restart_delay=3, max_restarts=2))
    assert found.least_seconds == 6


def test_what_is_surely_lost_is_waited_for_once_less_than_it_is_handed_out() -> None:
    load = Load(8000, 8, workers=0, ack_wait=30, max_deliver=3, restart_delay=0)

    assert forecast(Settings(transient_error_rate=0.5, max_deliver=0), load).least_seconds == pytest.approx(60)


def test_no_missing_image_is_opened_and_no_named_image_is_rolled_for() -> None:
    settings = Settings(image_404_rate=0.5, corrupt_image_rate=0.1, permanent_error_images=("3", "17"))

    found = forecast(settings, Load(102, 8))

    assert found.faults == (
        Expectation(Effect.IMAGE_404, Trigger.RATE, 0.5, 100, 50.0, 0.5**100),
        Expectation(Effect.CORRUPT, Trigger.RATE, 0.1, 50.0, 5.0, 0.95**100),
        Expectation(Effect.IMAGE_404, Trigger.PERMANENT, 1.0, 2, 2, 0.0),
    )


@pytest.mark.parametrize(("named", "nothing"), [(None, 1.0), (0, 1.0), (1, 0.0)])
def test_a_named_image_is_sure_to_fire_only_if_the_job_is_known_to_have_it(named: int | None, nothing: float) -> None:
    found = forecast(Settings(permanent_error_images=("3", "17")), Load(10, 5, named=named))

    assert found.nothing_fires == nothing
    assert [each.expected for each in found.faults] == [2 if named is None else named]


def test_where_only_some_jobs_may_be_struck_no_poll_is() -> None:
    every = forecast(Settings(network_error_rate=0.1), SERIAL)
    some = forecast(Settings(network_error_rate=0.1, jobs=frozenset({1})), SERIAL)

    chances = expectation(every, Effect.NETWORK).chances
    assert expectation(some, Effect.NETWORK).chances == pytest.approx(chances - every.calls.polls)
    assert some.nothing_fires == pytest.approx(every.nothing_fires / 0.9)


def test_a_budget_of_no_faults_leaves_none() -> None:
    found = forecast(Settings(worker_crash_rate=1.0, permanent_error_images=("3",), max_faults=0), SERIAL)

    assert (found.faults, found.nothing_fires, found.unanswered) == ((), 1.0, 0.0)


def test_rates_of_one_strike_everything_and_no_number_of_deliveries_is_enough() -> None:
    rates = Settings(worker_crash_rate=0.4, transient_error_rate=0.6, network_error_rate=1.0)

    found = forecast(rates._replace(max_deliver=0), SERIAL)

    assert (found.exhausted, found.enough_deliveries, found.nothing_fires) == (96, None, 0.0)


def test_an_idle_worker_polls_after_each_sleep_and_then_each_loader_fetches() -> None:
    idle = (1 - math.exp(-1)) * 55 / 2.5  # one loss is expected, and nothing else is left to do meanwhile

    settings = Settings(transient_error_rate=1.0, max_deliver=0)
    found = forecast(settings, Load(8, 8, ack_wait=55, max_deliver=2, idle_sleep=2))

    assert found.calls.polls == pytest.approx(1 + 2 + idle)
    assert found.calls.tasks == pytest.approx(2 + 4 + 4 * idle)


@PROFILES
def test_what_a_serial_worker_suffers_is_expected_exactly(name: str) -> None:
    found, runs = forecast(SHIPPED[name], SERIAL), played(SHIPPED[name], SERIAL, RUNS)

    for each in found.faults:
        if each.effect in (Effect.CRASH, Effect.TRANSIENT):
            assert_close(each.expected, runs, of(each.effect))
    assert_close(found.unanswered, runs, unanswered)
    assert_close(found.exhausted, runs, exhausted)
    assert_close(found.calls.results, runs, lambda run: run.calls[Site.RESULT])


@pytest.mark.parametrize("name", ["crashes", "transient"])
@pytest.mark.parametrize("workers", [1, 4])
def test_what_one_delivery_loses_with_all_that_is_prefetched_is_expected_exactly(name: str, workers: int) -> None:
    once = Load(100, 4, workers=workers, max_deliver=1)
    found, runs = forecast(SHIPPED[name], once), played(SHIPPED[name], once, RUNS)

    assert_close(found.faults[0].expected, runs, of(found.faults[0].effect))
    assert_close(found.exhausted, runs, exhausted)


@LOADS
@PROFILES
def test_with_every_profile_strikes_and_losses_are_expected_within_a_fifth(name: str, load: Load) -> None:
    found, runs = forecast(SHIPPED[name], load), played(SHIPPED[name], load, RUNS)

    for each in found.faults:
        if each.effect in (Effect.CRASH, Effect.TRANSIENT, Effect.NETWORK):
            assert_close(each.expected, runs, of(each.effect), within=0.2)
    assert_close(found.unanswered, runs, unanswered, within=0.2)
    assert_close(found.exhausted, runs, exhausted, within=0.25)


@LOADS
@PROFILES
def test_no_run_is_shorter_on_average_than_the_least_time(name: str, load: Load) -> None:
    runs = played(SHIPPED[name], load, RUNS)
    least, mostly = forecast(SHIPPED[name], load).least_seconds, mean(runs, took) + 4 * sigma_of(runs, took) + 1e-9

    assert 0.4 * mean(runs, took) <= least <= mostly


@BUSY_LOADS
@pytest.mark.parametrize("name", ["heavy", "network", "transient", *(["crashes", "medium"] if IS_THOROUGH else [])])
def test_after_four_deliveries_what_is_used_up_is_expected_within_a_factor_of_three(name: str, load: Load) -> None:
    longer = replace(load, max_deliver=4)
    runs = played(SHIPPED[name], longer, RUNS)
    sigma = sigma_of(runs, exhausted)

    expected, found = forecast(SHIPPED[name], longer).exhausted, mean(runs, exhausted)

    assert found < 3 * expected + 4 * sigma
    assert expected < 3 * (found + 4 * sigma)


@BUSY_LOADS
@pytest.mark.parametrize("name", ["heavy", "transient", *(["crashes", "medium"] if IS_THOROUGH else [])])
def test_with_as_many_deliveries_as_advised_next_to_no_task_is_used_up(name: str, load: Load) -> None:
    enough = forecast(SHIPPED[name], load).enough_deliveries
    assert enough is not None

    advised = played(SHIPPED[name], replace(load, max_deliver=enough), RUNS)

    assert mean(advised, exhausted) < 0.1


def test_the_chance_that_nothing_fires_is_as_often_met() -> None:
    load = Load(40, 8, workers=2, prefetch=1, ack_wait=10, max_deliver=2)
    found, runs = forecast(SHIPPED["light"], load), played(SHIPPED["light"], load, 4 * RUNS)

    assert found.nothing_fires == pytest.approx(0.98**5 * 0.98**13 * 0.9801**40)
    assert_close(found.nothing_fires, runs, lambda run: not run.strikes and not run.bad)
    for each in found.faults:
        assert_close(each.never, runs, spared(each.effect))


@pytest.mark.parametrize("effect", [Effect.IMAGE_404, Effect.CORRUPT], ids=lambda effect: str(effect.value))
def test_as_many_images_are_bad_as_expected(effect: Effect) -> None:
    found, runs = forecast(SHIPPED["images"], SERIAL), played(SHIPPED["images"], SERIAL, RUNS)
    named = {3, 17}

    def bad(run: Played) -> int:
        return sum(effect is struck for number, struck in run.bad.items() if number not in named)

    assert_close(expectation(found, effect).expected, runs, bad)
    assert all(run.bad.keys() >= named for run in runs)


def test_a_serial_worker_whose_last_deliveries_are_spared_loses_all_but_those() -> None:
    settings = Settings(worker_crash_rate=0.2, transient_error_rate=0.1, network_error_rate=0.25)
    lost = 1 - 0.7 * 0.75

    found = forecast(settings, Load(80, 8, workers=0, max_deliver=3))

    assert (found.budget, found.exhausted, found.enough_deliveries) == (True, 0.0, 1)
    assert found.unanswered == pytest.approx(80 * (lost + lost**2))
    assert expectation(found, Effect.CRASH).chances == pytest.approx(10 * (1 + lost))
    assert expectation(found, Effect.TRANSIENT).never == pytest.approx(0.9 ** (10 * (1 + 1 - 0.8 * 0.75)))
    assert found.calls.results == pytest.approx(7 * (1 + lost) + 10 * lost**2)
    network = expectation(found, Effect.NETWORK)
    assert network.chances == pytest.approx(found.calls.polls + found.calls.tasks + 7 * (1 + lost))


def test_where_the_first_delivery_is_the_last_only_what_loses_nothing_can_strike() -> None:
    settings = Settings(worker_crash_rate=0.5, transient_error_rate=0.5, network_error_rate=0.5)

    found = forecast(settings, replace(SERIAL, max_deliver=1))

    assert [expectation(found, effect).expected for effect in (Effect.CRASH, Effect.TRANSIENT)] == [0, 0]
    assert expectation(found, Effect.NETWORK).chances == pytest.approx(found.calls.polls + found.calls.tasks)
    assert found.nothing_fires == pytest.approx(0.5 ** (1 + 13))
    assert (found.unanswered, found.calls.results) == (0, 12)


@LOADS
@pytest.mark.parametrize("name", SPARING)
def test_where_last_deliveries_are_spared_what_strikes_is_expected_within_a_fifth(name: str, load: Load) -> None:
    found, runs = forecast(SPARING[name], load), played(SPARING[name], load, RUNS // 3)

    for each in found.faults:
        if each.effect in (Effect.CRASH, Effect.TRANSIENT, Effect.NETWORK):
            assert_close(each.expected, runs, of(each.effect), within=0.2)
    assert_close(found.unanswered, runs, unanswered, within=0.2)
    assert {run.exhausted for run in runs} == {found.exhausted} == {0}
    assert 0.4 * mean(runs, took) <= found.least_seconds <= mean(runs, took) + 4 * sigma_of(runs, took) + 1e-9


@pytest.mark.parametrize("name", SPARING)
def test_after_four_deliveries_too_what_strikes_is_expected_within_a_fifth_if_the_last_is_spared(name: str) -> None:
    longer = replace(SMALL, max_deliver=4)
    found, runs = forecast(SPARING[name], longer), played(SPARING[name], longer, RUNS // 3)

    assert_close(found.unanswered, runs, unanswered, within=0.2)
    assert {run.exhausted for run in runs} == {0}


def test_a_dry_run_loses_nothing_and_is_told_what_would_strike() -> None:
    settings = Settings(worker_crash_rate=0.5, network_error_rate=0.5, image_404_rate=0.5, dry_run=True)

    found = forecast(settings, SERIAL)

    assert (found.unanswered, found.exhausted, found.calls.results) == (0, 0, 12)
    assert [(each.effect, each.chances) for each in found.faults] == [
        (Effect.CRASH, 12), (Effect.NETWORK, 1 + 13 + 12), (Effect.IMAGE_404, 96),
    ]  # fmt: skip


def test_crashes_that_strike_nowhere_around_a_batch_are_not_foreseen() -> None:
    settings = Settings(worker_crash_rate=0.5, crash_points=(Point.IDLE,))

    found = forecast(settings, SERIAL)

    assert (found.faults, found.unanswered, found.settings) == ((), 0, settings)
