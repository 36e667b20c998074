"""The seam at the worker's task loop: die around or in a batch, let an exception out of it, or slow it down."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from ami_fault_site import antenna
from ami_fault_site.antenna import Delivery
from ami_fault_site.faults import Call, Decision, Draw, Effect, Phase, Point, Seam, Site
from ami_fault_site.hooks.patch import install as patch
from ami_fault_site.hooks.patch import is_hooked
from ami_fault_site.injector import Injector, say
from ami_fault_site.witness import rows_of

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
    if name is None or is_hooked(vars(module)[name]):
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
    tasks = tuple((one.sequence, one.delivery) for one in deliveries)
    if deliveries and site is Site.BATCH:
        draws = tuple(Draw(str(sequence), str(delivery)) for sequence, delivery in tasks)
    else:
        draws = (Draw("", injector.attempt(site)),)
    return Call(site, draws, job, tasks=tasks, role=injector.role)


def _named_job(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """Return what the function gets as its `job_id`, by position or by name."""
    by_name = kwargs.get("job_id")
    if by_name is not None:
        return by_name
    return inspect.signature(function).bind_partial(*args, **kwargs).arguments.get("job_id")


class _Passage(NamedTuple):
    """One batch on its way through the loop, and what was decided about it."""

    injector: Injector
    call: Call
    decision: Decision
    deliveries: tuple[Delivery, ...]

    def strike(self) -> None:
        """Die, or let an exception out of the loop, as decided."""
        self.injector.strike(self.call, self.decision, tasks=rows_of(self.deliveries), stream=self.stream)

    def slow_down(self) -> None:
        """Let the batch take longer, if that is not forbidden."""
        harm = self.decision.harm
        rows = rows_of(self.deliveries)
        if harm is not None and self.injector.grant(self.call, self.decision, tasks=rows, stream=self.stream):
            time.sleep(harm.seconds)

    @property
    def stream(self) -> str:
        """The stream of the batch's tasks."""
        return self.deliveries[0].stream if self.deliveries else ""

    def meets(self, *moments: Point | Phase) -> None:
        """Strike if this is the moment for it."""
        point, harm = self.decision.point, self.decision.harm
        if harm is None or (point or harm.phase) not in moments:
            return
        if harm.effect is Effect.SLOW:
            self.slow_down()
        else:
            self.strike()


def _pass_on(injector: Injector, call: Call, deliveries: tuple[Delivery, ...], work: Callable[[], object]) -> object:
    passage = _Passage(injector, call, injector.decide(call), deliveries)
    decision = passage.decision
    injector.book(
        "batch", site=call.site.value, job=call.job, stream=passage.stream, tasks=rows_of(deliveries),
        draw=decision.draw, eligible=[effect.value for effect in decision.eligible],
    )  # fmt: skip
    began = time.monotonic()
    passage.meets(Point.BEFORE_BATCH, Phase.BEFORE)
    try:
        result = _work(passage, work) if decision.point is Point.IN_BATCH else work()
    except BaseException as error:
        injector.book("batch-end", job=call.job, error=type(error).__name__, seconds=round(time.monotonic() - began, 4))
        raise
    injector.injected.passed()
    passage.meets(Phase.AFTER)  # a slow batch is not over before
    injector.book("batch-end", job=call.job, error="", seconds=round(time.monotonic() - began, 4))
    passage.meets(Point.AFTER_BATCH)
    return result


_CALLS_BEFORE = 2  # that are seen before any of the loop's function: of our own that calls it, and of itself


def _work(passage: _Passage, work: Callable[[], object]) -> object:
    """Strike in the midst of a batch: at the first call that the loop's function makes, else at its end.

    At its end also under a profiler that is no function, as cProfile before Python 3.12: it could not be put back.
    """
    calls, before = 0, sys.getprofile()

    def look(frame: FrameType, event: Any, argument: object) -> None:
        nonlocal calls
        calls += event == "call"
        if before is not None:
            before(frame, event, argument)
        if calls > _CALLS_BEFORE:
            sys.setprofile(before)
            passage.meets(Point.IN_BATCH)

    if before is None or callable(before):
        sys.setprofile(look)
    try:
        result = work()
    finally:
        # What is raised out of `look` takes it off. The loop may have set one of its own, which stays.
        if sys.getprofile() in (look, None) and (before is None or callable(before)):
            sys.setprofile(before)
    if calls <= _CALLS_BEFORE:
        passage.meets(Point.IN_BATCH)
    return result
