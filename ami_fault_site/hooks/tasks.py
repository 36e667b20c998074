"""The seam at the worker's task loop: crash before or after a batch, or let an exception out of it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ami_fault_site import antenna
from ami_fault_site.antenna import Delivery
from ami_fault_site.faults import Call, Decision, Draw, Effect, InjectedTransientError, Phase, Seam, Site
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.injector import Injector, say

# Functions that are not called for a batch: where the loop takes more, its rates are for more.
_WIDER = {"_process_job": "a whole job: the crash and transient rates are per job here, not per batch"}
_WIDER["run_worker"] = (
    "every job there is: the crash and transient rates are per start of the worker here, not per batch"
)


def install(module: ModuleType, functions: tuple[str, ...], injector: Injector) -> Callable[[], None] | None:
    """Hook the first of these functions that the module has.

    None if it has none of them, or if another module's loop is hooked: nested loops would roll twice for one batch.
    """
    hooked = injector.seams.get(Seam.TASK, "")
    if hooked and hooked.partition(":")[0] != module.__name__:
        return None
    name = next((name for name in functions if callable(vars(module).get(name))), None)
    if name is None:
        return None
    site = Site.JOB_PASS if name in _WIDER else Site.BATCH
    where = f"{module.__name__}:{name}"
    if site is Site.JOB_PASS:
        say(f"{where} takes {_WIDER[name]}")

    def loop(
        wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> object:
        nothing: tuple[Delivery, ...] = ()
        deliveries = injector.sheltered(lambda: tuple(antenna.deliveries_in([args, kwargs], depth=5)), nothing)
        call = _call(injector, site, deliveries, injector.sheltered(lambda: _named_job(wrapped, args, kwargs), None))
        return _pass_on(injector, call, deliveries, lambda: wrapped(*args, **kwargs))

    injector.seams[Seam.TASK] = where
    return patch(module, name, loop)


def _call(injector: Injector, site: Site, deliveries: tuple[Delivery, ...], job_id: object) -> Call:
    """Key a batch on each of its tasks; a passage without tasks is numbered."""
    job = job_id if isinstance(job_id, int) else next((d.job for d in deliveries), None)
    if deliveries and site is Site.BATCH:
        return Call(site, tuple(Draw(str(d.sequence), str(d.delivery)) for d in deliveries), job)
    return Call(site, (Draw("", injector.attempt(site)),), job)


def _named_job(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """Return what the function gets as its `job_id`, by position or by name."""
    by_name = kwargs.get("job_id")
    if by_name is not None:
        return by_name
    return inspect.signature(function).bind_partial(*args, **kwargs).arguments.get("job_id")


def _pass_on(injector: Injector, call: Call, deliveries: tuple[Delivery, ...], work: Callable[[], object]) -> object:
    decision = injector.decide(call)
    tasks = [[d.sequence, d.delivery, d.consumer_sequence, d.published] for d in deliveries]
    stream = deliveries[0].stream if deliveries else ""
    injector.book(
        "batch", site=call.site.value, job=call.job, stream=stream, tasks=tasks, draw=decision.draw,
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
