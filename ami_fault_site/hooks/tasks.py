"""The seam at the worker's task loop: crash before or after a batch, or let an exception out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ami_fault_site import antenna
from ami_fault_site.antenna import Delivery
from ami_fault_site.faults import Call, Decision, Draw, Effect, InjectedTransientError, Phase, Seam, Site
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.injector import Injector, say

# Functions that take a whole job, or run for ever: where the loop is per job, so are its rates.
_WHOLE_JOB = ("_process_job", "run_worker")


def install(module: ModuleType, functions: tuple[str, ...], injector: Injector) -> Callable[[], None] | None:
    """Hook the first of these functions that the module has; None if it has none of them, or one is hooked already."""
    name = next((name for name in functions if callable(vars(module).get(name))), None)
    if name is None:
        return None
    site = Site.JOB_PASS if name in _WHOLE_JOB else Site.BATCH
    where = f"{module.__name__}:{name}"
    if site is Site.JOB_PASS:
        say(f"{where} takes a whole job: the crash and transient rates are per job here, not per batch")

    def loop(
        wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        nothing: tuple[Delivery, ...] = ()
        deliveries = injector.sheltered(lambda: tuple(antenna.deliveries_in([args, kwargs], depth=5)), nothing)
        call = _call(injector, site, deliveries, kwargs.get("job_id"))
        return _pass_on(injector, call, deliveries, lambda: wrapped(*args, **kwargs))

    injector.seams[Seam.TASK] = where
    return patch(module, name, loop)


def _call(injector: Injector, site: Site, deliveries: tuple[Delivery, ...], job_id: object) -> Call:
    """Key a batch on each of its tasks; a passage without tasks is numbered."""
    job = job_id if isinstance(job_id, int) else _job(deliveries)
    if deliveries and site is Site.BATCH:
        return Call(site, tuple(Draw(str(d.sequence), str(d.delivery)) for d in deliveries), job)
    return Call(site, (Draw("", injector.attempt(site)),), job)


def _job(deliveries: tuple[Delivery, ...]) -> int | None:
    number = deliveries[0].stream.rpartition("_")[2] if deliveries else ""
    return int(number) if number.isdigit() else None


def _pass_on(injector: Injector, call: Call, deliveries: tuple[Delivery, ...], work: Callable[[], object]) -> object:
    decision = injector.decide(call)
    tasks = [[d.sequence, d.delivery, d.consumer_sequence, d.published] for d in deliveries]
    injector.book(
        "batch", site=call.site.value, job=call.job, tasks=tasks, draw=decision.draw,
        eligible=[effect.value for effect in decision.eligible],
    )  # fmt: skip
    began = time.monotonic()
    if decision.phase is Phase.BEFORE:
        _strike(injector, call, decision, tasks)
    try:
        result = work()
    except BaseException as error:
        injector.book("batch-end", job=call.job, error=type(error).__name__, seconds=round(time.monotonic() - began, 4))
        raise
    injector.book("batch-end", job=call.job, error="", seconds=round(time.monotonic() - began, 4))
    if decision.phase is Phase.AFTER:
        _strike(injector, call, decision, tasks)
    return result


def _strike(injector: Injector, call: Call, decision: Decision, tasks: list[list[int]]) -> None:
    if not injector.grant(call, decision, tasks):
        return
    if decision.effect is Effect.CRASH:
        injector.crash()
    raise InjectedTransientError(f"injected by ami-fault-site: {decision.reason}")
