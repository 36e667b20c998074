"""Forecast a run from its settings and its load: what will strike, what comes back, what is used up, how long it takes.

The worker is taken to load faster than it works, and so to hold as many tasks as it may: what is lost is rather less.
Leases that expire while they are held come on top, and AMI_TEST_MAX_FAULTS takes off, where it is reached. Crashes and
transient errors are taken per batch; a worker whose loop function takes a whole job is struck more rarely. What is not
a rate is not foreseen: `unforeseen` names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from ami_fault_site.antenna import ASSUMED_MAX_DELIVER
from ami_fault_site.faults import Effect, Trigger
from ami_fault_site.load import Load
from ami_fault_site.settings import Settings
from ami_fault_site.unforeseen import foreseen

NEGLIGIBLE = 0.01
"""Expected number of tasks that may be called none."""

RATE_FIELDS = {
    Effect.CRASH: "worker_crash_rate",
    Effect.TRANSIENT: "transient_error_rate",
    Effect.NETWORK: "network_error_rate",
    Effect.IMAGE_404: "image_404_rate",
    Effect.CORRUPT: "corrupt_image_rate",
}
"""Which setting holds the rate of which fault."""

_EMPTY_FETCH = 0.5  # s that the service waits for a task before it says that there is none
_MOST_DELIVERIES = 100  # beyond that, raising max_deliver is no advice
_ALMOST_ALWAYS = 0.99  # a rate of 1 at each call would mean calls without end


@dataclass(frozen=True)
class Expectation:
    """How often a fault is expected to strike: `rate` x `chances`; `never` is the chance that it does not at all.

    `chances` counts what could be struck: batches that reach the task loop, API calls, or images. A missing or damaged
    image is counted once: it is so for the whole run, and strikes again whenever it is handed out again.
    """

    effect: Effect
    trigger: Trigger
    rate: float
    chances: float
    expected: float
    never: float


@dataclass(frozen=True)
class Calls:
    """How many API calls of each kind a run is expected to make: polls for jobs, fetches of tasks, posts of results."""

    polls: float
    tasks: float
    results: float


@dataclass(frozen=True)
class Forecast:
    """What to expect of a run. `settings` are all that are in force, also those that are not foreseen.

    `load` has the service's parameters filled in from the settings; None is unknown.
    `max_deliver` is assumed where `load.max_deliver` is None. `budget` is whether faults spare a task's last delivery:
    then our own faults exhaust none. `unanswered` counts how often a task is handed out and
    not answered, `exhausted` the tasks that are never answered, all their deliveries being used up; both by our own
    faults alone. With `enough_deliveries` less than 0.01 are exhausted; None if even 100 are not enough.
    `least_seconds` is the time that a run takes at least, on average; a lucky one may take less. `nothing_fires` the
    chance that no fault strikes at all.
    """

    settings: Settings
    load: Load
    max_deliver: int
    budget: bool
    faults: tuple[Expectation, ...]
    calls: Calls
    unanswered: float
    exhausted: float
    enough_deliveries: int | None
    least_seconds: float
    nothing_fires: float


def forecast(settings: Settings, load: Load) -> Forecast:
    """Say what to expect of a run with these settings and this load."""
    load = replace(
        load,
        ack_wait=settings.ack_wait if load.ack_wait is None else load.ack_wait,
        max_deliver=(settings.max_deliver or None) if load.max_deliver is None else load.max_deliver,
    )
    given, settings = settings, _without(settings, *Effect) if settings.max_faults == 0 else foreseen(settings)
    course = _course(settings, load)
    return Forecast(
        settings=given,
        load=load,
        max_deliver=_max_deliver(load),
        budget=_budget(settings),
        faults=tuple(_expectations(settings, load, course)),
        calls=course.calls,
        unanswered=math.fsum(each.lost for each in course.generations),
        exhausted=course.generations[-1].lost,
        enough_deliveries=_enough_deliveries(settings, load),
        least_seconds=course.least_seconds,
        nothing_fires=_nothing_fires(settings, load),
    )


@dataclass(frozen=True)
class _Generation:
    """All deliveries that are the n-th of their task: batches, and how many reach the loop; tasks that are lost.

    `spared` is whether no fault may take them, since they are the last.
    """

    batches: float
    rolled: float
    strikes: float
    failed_posts: float
    lost: float
    spared: bool = False

    @property
    def losses(self) -> float:
        """How often something is lost, each time the tasks of one batch or of all that are held."""
        return self.strikes + self.failed_posts

    @property
    def loses(self) -> float:
        """The chance that anything is lost, as rare events are distributed."""
        return -math.expm1(-self.losses)


@dataclass(frozen=True)
class _Course:
    """How a run goes on average: its generations, its calls, and the least time that it takes in seconds."""

    generations: tuple[_Generation, ...]
    calls: Calls
    least_seconds: float

    @property
    def rolled(self) -> float:
        """How many batches may be struck in the loop."""
        return math.fsum(each.rolled for each in self.generations if not each.spared)

    @property
    def posts(self) -> float:
        """How many result posts may be struck."""
        return math.fsum(each.rolled - each.strikes for each in self.generations if not each.spared)


def _course(settings: Settings, load: Load) -> _Course:
    """Return how a run goes, a dry one as if nothing were set.

    On average it takes at least as long as the worker is busy, and at least ack_wait for each generation that loses
    something and comes back, times the chance of that: an unanswered task comes back exactly ack_wait after it was
    handed out, while other work may go on. What the last delivery loses does not come back; an unknown ack_wait is 0.
    """
    if settings.dry_run:
        settings = _without(settings, *Effect)
    generations = tuple(islice(_generations(settings, load), _max_deliver(load)))
    if _budget(settings):
        generations = (*generations[:-1], _spared(generations[-1]))
    ack_wait = load.ack_wait or 0.0
    busy = _busy_seconds(settings, load, generations)
    calls = _calls(settings, load, generations, _idle_seconds(ack_wait, generations, busy))
    return _Course(generations, calls, max(busy, ack_wait * math.fsum(each.loses for each in generations[:-1])))


def _generations(settings: Settings, load: Load) -> Iterator[_Generation]:
    """Yield what is handed out for the first time, for the second time, and so on.

    Each is what the one before it has lost, and what was lost together comes back together, as a queue of its own of
    so many batches (`arriving` counts the queues by their length). Of the batches waiting in a queue the first reaches
    the loop and is struck with the probability s; with it go those held behind it, at most `window` in all. Otherwise
    its post fails with the network error rate and is never repeated: it comes back alone, for the service has not seen
    it. In a long job q = s w / (1 + s (w - 1)) of the tasks are lost to strikes, w being the window; were it the same
    at each delivery, N q^M would be used up, but a queue that is shorter than the window loses less.

    Exact for a serial worker. With loaders, a failed fetch makes them hold less, the last batch is smaller than the
    others, and what comes back may mix with other work. Against the same worker and queue played through, with every
    profile, it is within a fifth for what strikes and what is lost, within a quarter for what is used up after 2
    deliveries, and within a factor of 3 for what is used up after 4.
    """
    strike = min(1.0, settings.worker_crash_rate + settings.transient_error_rate)
    number = load.batches
    window = load.batches_held
    arriving = [*[0.0] * number, 1.0]
    while True:
        batches = math.fsum(length * queues for length, queues in enumerate(arriving))
        lost = [0.0] * (window + 1)
        rolled = 0.0
        for waiting in range(len(arriving) - 1, 0, -1):
            reached = arriving[waiting]
            gone = min(window, waiting)
            lost[gone] += strike * reached
            arriving[waiting - gone] += strike * reached
            arriving[waiting - 1] += (1 - strike) * reached
            rolled += reached
        failed_posts = settings.network_error_rate * (1 - strike) * rolled
        lost[1] += failed_posts
        tasks = math.fsum(length * queues for length, queues in enumerate(lost)) * load.images / number
        yield _Generation(batches, rolled, strike * rolled, failed_posts, tasks)
        arriving = lost


def _spared(last: _Generation) -> _Generation:
    """Return the last deliveries as they go where no fault may take one: every batch reaches the loop, and is answered.

    A fault is withheld as well from a worker that holds but one of them, so rather fewer strike than is said.
    """
    return _Generation(last.batches, last.batches, 0.0, 0.0, 0.0, spared=True)


def _busy_seconds(settings: Settings, load: Load, generations: tuple[_Generation, ...]) -> float:
    """Return the seconds for each image that gets through the loop, and the restart delay for each expected crash."""
    through = math.fsum(each.rolled - each.strikes for each in generations) * load.images / load.batches
    crashes = settings.worker_crash_rate * math.fsum(each.rolled for each in generations if not each.spared)
    return through * load.seconds_an_image + min(crashes, load.max_restarts) * load.restart_delay


def _idle_seconds(ack_wait: float, generations: tuple[_Generation, ...], busy: float) -> float:
    """Estimate how long the worker has nothing to do and polls, waiting for what comes back.

    Each generation that loses something is waited for; only from the first there is work left that is done meanwhile:
    what follows its last loss, one part in losses + 1.
    """
    idle = 0.0
    for generation in generations[:-1]:
        meanwhile = 0.0 if idle else busy / (generation.losses + 1)
        idle += generation.loses * max(0.0, ack_wait - meanwhile)
    return idle


def _calls(settings: Settings, load: Load, generations: tuple[_Generation, ...], idle: float) -> Calls:
    """Estimate the API calls; a failed poll or fetch is made again, 1 / (1 - network error rate) times in all.

    Results: one post for each batch that gets through the loop. Tasks: one for each batch handed out, and an empty one
    for each loader at the end. Polls: one to begin with, one after each strike, and one whenever every loader has
    failed to fetch. An idle worker polls every idle_sleep + 0.5 s, and unless that fails each loader fetches once.
    """
    loaders, rate = max(load.workers, 1), min(settings.network_error_rate, _ALMOST_ALWAYS)
    tries = 1 / (1 - rate)
    strikes = math.fsum(each.strikes for each in generations)
    fetches = (math.fsum(each.batches for each in generations) + loaders) * tries
    polls = (1 + strikes + rate * fetches / loaders) * tries
    idle_polls = idle / (load.idle_sleep + _EMPTY_FETCH)
    results = math.fsum(each.rolled for each in generations) - strikes
    return Calls(polls + idle_polls, fetches + idle_polls * (1 - rate) * loaders, results)


def _expectations(settings: Settings, load: Load, course: _Course) -> Iterator[Expectation]:
    """Yield each fault that is set. `never` is (1 - rate)^chances, with the chances of a run without this fault."""
    for effect, rate in ((Effect.CRASH, settings.worker_crash_rate), (Effect.TRANSIENT, settings.transient_error_rate)):
        if rate:
            never = math.pow(1 - rate, _course(_without(settings, effect), load).rolled)
            yield Expectation(effect, Trigger.RATE, rate, course.rolled, rate * course.rolled, never)
    rate = settings.network_error_rate
    if rate:
        chances = _eligible(settings, course)
        never = math.pow(1 - rate, _eligible(settings, _course(_without(settings, Effect.NETWORK), load)))
        yield Expectation(Effect.NETWORK, Trigger.RATE, rate, chances, rate * chances, never)
    yield from _image_expectations(settings, load)


def _image_expectations(settings: Settings, load: Load) -> Iterator[Expectation]:
    """Yield the faults of images. A missing image is never opened; one that is named permanent is never rolled for."""
    named = _named(settings, load)
    others = load.images - named
    missing, corrupt = settings.image_404_rate, settings.corrupt_image_rate
    if missing:
        yield Expectation(Effect.IMAGE_404, Trigger.RATE, missing, others, missing * others, (1 - missing) ** others)
    if corrupt:
        opened, never = others * (1 - missing), (1 - (1 - missing) * corrupt) ** others
        yield Expectation(Effect.CORRUPT, Trigger.RATE, corrupt, opened, corrupt * opened, never)
    if settings.permanent_error_images:
        yield Expectation(Effect.IMAGE_404, Trigger.PERMANENT, 1.0, named, named, 0.0 if named else 1.0)


def _nothing_fires(settings: Settings, load: Load) -> float:
    """Return the chance that no fault strikes: the product of (1 - rate)^chances, all draws being independent.

    The chances are those of a run without a fault: every batch reaches the loop once, is fetched and posted once, the
    job is polled for once, each loader ends with an empty fetch. More calls are made while the job comes to its end,
    so it is rather less. Named images count if the job is known to have one: then it is 0.
    """
    if settings.permanent_error_images and load.named:
        return 0.0
    calm = _course(_without(settings, *Effect), load)
    others = load.images - _named(settings, load)
    batch = 1 - min(1.0, settings.worker_crash_rate + settings.transient_error_rate)
    image = (1 - settings.image_404_rate) * (1 - settings.corrupt_image_rate)
    calls = _eligible(settings, calm)
    return math.prod((math.pow(batch, calm.rolled), math.pow(1 - settings.network_error_rate, calls), image**others))


def _enough_deliveries(settings: Settings, load: Load) -> int | None:
    """Return the smallest max_deliver with which less than 0.01 tasks are used up; None if even 100 is not enough."""
    if _budget(settings) or settings.dry_run:
        return 1
    for number, generation in enumerate(islice(_generations(settings, load), _MOST_DELIVERIES), start=1):
        if generation.lost < NEGLIGIBLE:
            return number
    return None


def _eligible(settings: Settings, course: _Course) -> float:
    """Count the calls that may be struck: where only some jobs may, a poll belongs to none of them."""
    return course.calls.tasks + course.posts + (0.0 if settings.jobs else course.calls.polls)


def _named(settings: Settings, load: Load) -> int:
    """Return how many images of the job are named permanent; all that are named, if nobody knows."""
    return min(len(settings.permanent_error_images), load.images if load.named is None else load.named)


def _budget(settings: Settings) -> bool:
    return settings.max_deliver != 0


def _max_deliver(load: Load) -> int:
    return ASSUMED_MAX_DELIVER if load.max_deliver is None else load.max_deliver


def _without(settings: Settings, *effects: Effect) -> Settings:
    """Return the settings with these faults off; with missing images off, none is named either."""
    named = () if Effect.IMAGE_404 in effects else settings.permanent_error_images
    rates = {RATE_FIELDS[effect]: 0.0 for effect in effects if effect in RATE_FIELDS}
    return settings._replace(permanent_error_images=named, **rates)  # type: ignore[arg-type]
