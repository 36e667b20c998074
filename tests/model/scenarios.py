"""Draw scenarios from a seed: healthy ones, wild ones, and one for each way to misbehave."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from ami_fault_site.faults import Effect, Phase, Point
from ami_fault_site.grammar import parse_rules
from ami_fault_site.rules import HarmTemplate
from ami_fault_site.settings import Settings
from tests.model.scenario import Misbehaviour, Reaper, Sabotage, Scenario

LOST = (HarmTemplate(Effect.NETWORK, "read-timeout", Phase.AFTER),)
"""Network errors that keep from the worker what the service answers."""

SLOW = parse_rules("batch: 20%delay(0.5)")


def _mixed(crash: float, network: float, image: float, transient: float) -> Settings:
    """Return settings with a bit of everything; `image` is the rate of missing and of damaged images."""
    return Settings(
        enabled=True,
        worker_crash_rate=crash,
        network_error_rate=network,
        corrupt_image_rate=image,
        image_404_rate=image,
        transient_error_rate=transient,
    )


PROFILES: Mapping[str, Settings] = {
    "none": Settings(enabled=True),
    "light": _mixed(crash=0.01, network=0.02, image=0.01, transient=0.01),
    "medium": _mixed(crash=0.05, network=0.05, image=0.02, transient=0.05),
    "heavy": _mixed(crash=0.15, network=0.15, image=0.05, transient=0.10),
    "crashes": Settings(enabled=True, worker_crash_rate=0.20),
    "network": Settings(enabled=True, network_error_rate=0.30),
    "images": Settings(
        enabled=True, corrupt_image_rate=0.10, image_404_rate=0.10, permanent_error_images=("3", "0011.jpg")
    ),
    "transient": Settings(enabled=True, transient_error_rate=0.20),
}
"""The rates of the shipped profiles."""


def healthy(seed: int, profile: str | None = None) -> Scenario:
    """Draw a scenario in which nobody fails and no task can run out of deliveries, except by the worst of luck.

    The profile is drawn too unless one is named. The service is quick enough, ack_wait is longer than any lease is
    held, and it hands a task out up to 25 times. The operator may stop the run, others may work on the jobs.
    """
    rng = random.Random(f"healthy/{seed}")
    settings = _in_depth(seed, PROFILES[profile if profile is not None else rng.choice(list(PROFILES))])
    batch, loaders, prefetch = rng.randint(1, 12), rng.randint(0, 3), rng.randint(1, 3)
    ahead = (loaders * (prefetch + 1) + 2) * batch
    stop = rng.uniform(2.0, 60.0) if rng.random() < 0.15 else None
    return Scenario(
        seed=seed,
        jobs=rng.choice((1, 1, 1, 2, 3)),
        images=rng.randint(1, 80),
        unstarted=rng.choice((0, 0, 1)),
        job_gap=rng.choice((0.0, 10.0)),
        batch=batch,
        loaders=loaders,
        prefetch=prefetch,
        ack_wait=round(3.0 + 0.3 * ahead, 1),
        max_deliver=25,
        settings=settings,
        hosts=rng.choice((1, 1, 2)),
        workers=rng.choice((1, 1, 2, 3)),
        unsupervised=rng.random() < 0.15,
        timeout=900.0,
        stop_after=stop,
        restart_delay=rng.choice((1.0, 5.0)),
        max_restarts=1000,
        others=rng.choice((0, 0, 0, 1, 2)),
        token=True,
    )


def _in_depth(seed: int, settings: Settings) -> Settings:
    """Let some faults strike elsewhere than before a call or a batch: a loader, an answer, the time that a batch takes.

    Drawn by itself, so that everything else stays as it was.
    """
    rng = random.Random(f"below/{seed}")
    lost, deaths, slow = (rng.random() < 0.4 for _ in range(3))
    if lost:
        settings = settings._replace(network_kinds=(*LOST, HarmTemplate(Effect.NETWORK, "refused")))
    if deaths:
        settings = settings._replace(crash_points=(Point.BEFORE_BATCH, Point.AFTER_BATCH, Point.AFTER_FETCH))
    return settings._replace(rules=SLOW) if slow else settings


def wild(seed: int) -> Scenario:
    """Draw a scenario in which anything may go wrong that is not the service's doing, and much may stay unknown."""
    rng = random.Random(f"wild/{seed}")
    base = healthy(seed)
    token = rng.random() < 0.85
    return replace(
        base,
        ack_wait=rng.choice((1.0, 2.0, 5.0, base.ack_wait)),
        max_deliver=rng.choice((1, 2, 2, 3, 5)),
        timeout=rng.choice((30.0, 90.0, 150.0)),
        max_restarts=rng.choice((0, 2, 50)),
        idle_after=25.0,
        until="drained" if token and rng.random() < 0.8 else "idle",
        reaper=Reaper(every=7.0, idle=rng.choice((15.0, 40.0))) if rng.random() < 0.3 else None,
        broken=rng.choice((0.0, 0.0, 0.1)),
        trouble=rng.choice((0.0, 0.0, 0.05)),
        organic_crash=rng.choice((0.0, 0.0, 0.1)),
        loader_death=rng.choice((0.0, 0.0, 0.1)),
        latency=rng.choice((0.02, 0.02, 0.2)),
        saving=rng.choice((0.3, 0.3, 2.0)),
        settings=base.settings._replace(max_faults=rng.choice((None, None, 3))),
        knows_parameters=rng.random() < 0.8,
        knows_log=token and rng.random() < 0.6,
        token=token,
    )


_ANY = Scenario(images=40, batch=5, loaders=1, prefetch=2, ack_wait=4.0, max_deliver=3, restart_delay=1.0, timeout=60.0)
_MANY = replace(_ANY, images=60, batch=4)  # batches, so that some are surely struck
_CRASHING = replace(_MANY, settings=Settings(enabled=True, worker_crash_rate=0.35))
_BAD_IMAGES = Settings(enabled=True, image_404_rate=0.2)

_SABOTAGED: Mapping[Sabotage, Scenario] = {
    Sabotage.NEVER_REDELIVERS: _CRASHING,
    Sabotage.REDELIVERS_LATE: replace(_CRASHING, timeout=240.0),
    Sabotage.REDELIVERS_EARLY: replace(_CRASHING, ack_wait=10.0, max_deliver=8, timeout=240.0),
    Sabotage.REDELIVERS_FOREVER: replace(_ANY, ack_wait=3.0, images=100, model_time=0.1),
    Sabotage.HANDS_OUT_TWICE: _ANY,
    Sabotage.STRANDS_LAST_BATCH: _ANY,
    Sabotage.INVENTS_TASKS: _ANY,
    Sabotage.STARVES_SECOND_JOB: replace(_ANY, jobs=2, until="idle", idle_after=25.0),
    Sabotage.ACKS_BEFORE_SAVING: _ANY,
    Sabotage.RECORDS_HALF: _ANY,
    Sabotage.ERROR_AS_SUCCESS: replace(_ANY, settings=_BAD_IMAGES),
    Sabotage.SUCCESS_AS_FAILURE: _ANY,
    Sabotage.COLLAPSES_AFTER_FAULT: replace(_ANY, settings=_BAD_IMAGES, timeout=120.0),
    Sabotage.FORGETS_EXHAUSTED: replace(_CRASHING, max_deliver=1, reaper=Reaper(every=5.0, idle=15.0), timeout=240.0),
    Sabotage.EARLY_SUCCESS: _ANY,
    Sabotage.SERVES_AFTER_END: replace(_ANY, until="idle"),
    Sabotage.REOPENS_FINISHED_JOB: replace(_ANY, until="idle", idle_after=25.0),
    Sabotage.NEVER_ENDS: _ANY,
}

_MISBEHAVING: Mapping[Misbehaviour, Scenario] = {
    Misbehaviour.DROPS_POSTS: replace(_ANY, max_deliver=2),
    Misbehaviour.HANGS: replace(_ANY, batch=3),
    Misbehaviour.FINAL_TRANSIENT: replace(_MANY, settings=Settings(enabled=True, transient_error_rate=0.35)),
}


def sabotaged(sabotage: Sabotage, seed: int) -> Scenario:
    """Draw a scenario in which a sabotage of the service shows."""
    return replace(_SABOTAGED[sabotage], seed=seed, sabotage=sabotage)


def misbehaving(misbehaviour: Misbehaviour, seed: int) -> Scenario:
    """Draw a scenario in which a misbehaviour of the worker shows."""
    return replace(_MISBEHAVING[misbehaviour], seed=seed, misbehaviour=misbehaviour)
