"""The promise of the faults of a batch: it goes on as after a function that really raises, or is really slow."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ami_fault_site.faults import InjectedTransientError
from ami_fault_site.grammar import parse_rules
from ami_fault_site.hooks import tasks
from ami_fault_site.sandbox.worker import loop
from ami_fault_site.sandbox.worker.settings import Settings
from tests.stage import Service, events, hand_out, injector, service
from tests.twins import table
from tests.twins.anatomy import normal
from tests.twins.table import Compared

TEXT = "the device is busy"
RAISES = f"""
def process_batch(batch, batch_num, pipeline, model_delay):
    raise RuntimeError({TEXT!r})
"""


@dataclass
class Met:
    """What becomes of a poll whose one job has one batch."""

    worked: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    errors: list[type[BaseException]] = field(default_factory=list)


def worker(more: str = "") -> ModuleType:
    """Return the sample worker's loop as a module of its own, with something else at its end."""
    spec = importlib.util.spec_from_loader("twin_loop", None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(inspect.getsource(loop) + more, module.__dict__)
    return module


def poll(module: ModuleType, stage: Service) -> Met:
    """Let a worker poll once for jobs and work off what there is."""
    met = Met()
    stage.asked.clear()
    hand_out(stage, 1, 2)
    settings = Settings(f"{stage.url}/api/v2", "token", "twin", 2, 0, 0.0, 0.0, 1, 1)
    with _logged(met):
        met.worked = module._poll_once(settings, ["moth_binary"], _Once(stage))
    met.asked = sorted(stage.asked)  # answers are posted while the next tasks are asked for
    return met


class _Once:
    """A conduct that lets the queue be drained after its first batch."""

    def __init__(self, stage: Service) -> None:
        self._stage = stage

    def work_off(self, _batch: object, _pipeline: str, work: Callable[[], Any]) -> Any:
        self._stage.tasks = []
        return work()

    def rest(self) -> None:
        """Do nothing."""


@contextmanager
def _logged(met: Met) -> Iterator[None]:
    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            met.log.append(f"{record.levelname} {normal(record.getMessage())}")
            if record.exc_info and record.exc_info[0]:
                met.errors.append(record.exc_info[0])

    handler = Collect(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def test_these_are_the_faults_of_a_batch() -> None:
    assert [row.fault.split(" ")[0] for row in table.rows(Compared.BATCH)] == ["transient-error", "slow"]


def test_a_transient_error_leaves_the_loop_as_an_exception_of_its_own_function_does(tmp_path: Path) -> None:
    with service() as stage:
        good, real = poll(worker(), stage), poll(worker(RAISES), stage)
        module, one = worker(), injector(tmp_path, rules=parse_rules("batch: 1*transient"), max_deliver=0)
        assert tasks.install(module, ("process_batch",), one) is not None
        injected, again = poll(module, stage), poll(module, stage)
    (fault,) = events(one.run, "fault")
    ours = f"injected by ami-fault-site: {fault.text('reason')}"
    assert (real.errors, injected.errors) == ([RuntimeError], [InjectedTransientError])
    assert issubclass(InjectedTransientError, RuntimeError)
    assert [line.replace(ours, TEXT) for line in injected.log] == real.log
    assert real.log == [f"ERROR Failed to process job 1 with pipeline moth_binary: {TEXT}"]
    assert (injected.worked, injected.asked) == (real.worked, real.asked)
    assert [path for _, path in injected.asked if "/result/" in path] == []
    assert (again.worked, again.asked, again.log) == (good.worked, good.asked, good.log)
    assert [path for _, path in again.asked if "/result/" in path] == ["/api/v2/jobs/1/result/"]


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_slow_batch_is_worked_off_as_by_a_function_that_is_slow(tmp_path: Path, phase: str) -> None:
    slow = "_quick = process_batch\ndef process_batch(*a): time.sleep(0.05); return _quick(*a)\n"
    with service() as stage:
        real = poll(worker(slow), stage)
        module, one = worker(), injector(tmp_path, rules=parse_rules(f"batch: 1*delay(0.05)@{phase}"))
        assert tasks.install(module, ("process_batch",), one) is not None
        injected = poll(module, stage)
    assert len(events(one.run, "fault")) == 1
    assert injected == real
    (ended,) = events(one.run, "batch-end")
    assert float(str(ended.data["seconds"])) >= 0.05
