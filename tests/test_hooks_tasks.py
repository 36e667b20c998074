"""The promises of hooks.tasks: crashes and exceptions at the loop, with the tasks that they concern."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import FrameType, ModuleType
from typing import Any

import pytest

from ami_fault_site.faults import InjectedTransientError
from ami_fault_site.grammar import parse_rules
from ami_fault_site.hooks import tasks
from ami_fault_site.hooks.patch import Hook
from ami_fault_site.injector import Injector
from tests.stage import events, injector, reply_subject


def worker(name: str = "my_worker", function: str = "_process_batch") -> ModuleType:
    module = ModuleType(name)
    source = f"done = []\ndef {function}(batch, *more, **named):\n    done.append(batch)\n    return 'result'\n"
    exec(source, module.__dict__)
    return module


def batch(*sequences: int) -> dict[str, Any]:
    return {
        "images": object(),
        "reply_subjects": [reply_subject(n) for n in sequences[:-1]],
        "failed_items": [{"reply_subject": reply_subject(sequences[-1]), "error": "failed to load image"}],
    }


def test_the_first_function_that_the_module_has_is_hooked_and_undone(tmp_path: Path) -> None:
    module = worker(function="_process_job")
    original = vars(module)["_process_job"]
    undo = tasks.install(module, ("_process_batch", "_process_job"), injector(tmp_path))
    assert undo is not None
    assert isinstance(vars(module)["_process_job"], Hook)
    undo()
    assert vars(module)["_process_job"] is original


def test_a_module_without_any_of_them_is_left_alone(tmp_path: Path) -> None:
    assert tasks.install(worker(), ("another",), injector(tmp_path)) is None


def test_a_transient_fault_leaves_the_function_before_its_work_and_names_the_task(tmp_path: Path) -> None:
    module, one = worker(), injector(tmp_path, transient_error_rate=1.0)
    tasks.install(module, ("_process_batch",), one)
    with pytest.raises(InjectedTransientError, match=r"^injected by ami-fault-site: transient-error: drew "):
        module._process_batch(batch(3, 4, 5), 0)
    assert vars(module)["done"] == []
    booked, fault = events(one.run, "batch", "fault")
    assert [row[0] for row in booked.rows("tasks")] == [3, 4, 5]
    assert fault.text("subject") in ("3", "4", "5")
    assert [row[0] for row in fault.rows("tasks")] == [3, 4, 5]
    assert fault.number("job") == 1


def test_without_a_fault_the_work_is_done_and_its_end_booked(tmp_path: Path) -> None:
    module, one = worker(), injector(tmp_path)
    tasks.install(module, ("_process_batch",), one)
    assert module._process_batch(batch(1, 2), batch_num=0) == "result"
    assert [event.kind for event in events(one.run)] == ["start", "batch", "batch-end"]


def test_the_workers_own_exception_passes_and_is_booked(tmp_path: Path) -> None:
    module, one = worker(), injector(tmp_path)
    exec("def _process_batch(batch): raise KeyError('own')", module.__dict__)
    tasks.install(module, ("_process_batch",), one)
    with pytest.raises(KeyError):
        module._process_batch(batch(1, 2))
    assert events(one.run, "batch-end")[0].text("error") == "KeyError"


@pytest.mark.parametrize(("seed", "phase"), [(1, ""), (2, ""), (3, ""), (4, ""), (5, ""), (6, "")])
def test_a_crash_ends_the_process_with_86_before_or_after_the_work(tmp_path: Path, seed: int, phase: str) -> None:
    module, one = worker(), injector(tmp_path, worker_crash_rate=1.0, seed=seed)
    tasks.install(module, ("_process_batch",), one)
    done = tmp_path / "done"
    exec(f"def _work(batch): open({str(done)!r}, 'w').close()", module.__dict__)
    exec("_real = _process_batch.__wrapped__", module.__dict__)
    child = os.fork()
    if child == 0:
        vars(module)["done"] = type("Done", (), {"append": staticmethod(module._work)})()
        module._process_batch(batch(1, 2, 3))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 86
    fault = events(one.run, "fault")[0]
    assert fault.text("effect") == "crash"
    assert done.exists() == (fault.text("phase") == "after")
    assert events(one.run)[-1].kind == "fault"


@pytest.mark.parametrize("function", ["_process_job", "run_worker"])
def test_a_loop_that_takes_a_whole_job_is_struck_per_job_and_that_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], function: str
) -> None:
    module, one = worker("trapdata.cli.worker", function), injector(tmp_path, transient_error_rate=1.0)
    tasks.install(module, (function,), one)
    per = "job" if function == "_process_job" else "start of the worker"
    said = f"the crash and transient rates are per {per} here, not per batch\n"
    assert capfd.readouterr().err.endswith(said)
    for number in (1, 2):
        with pytest.raises(InjectedTransientError):
            getattr(module, function)("moth_binary", job_id=9)
        fault = events(one.run, "fault")[-1]
        assert (fault.text("site"), fault.text("attempt"), fault.number("job")) == ("job-pass", str(number), 9)


def test_the_named_function_may_take_its_tasks_in_any_shape(tmp_path: Path) -> None:
    class Task:
        reply_subject = reply_subject(11)

    module, one = worker(), injector(tmp_path)
    tasks.install(module, ("_process_batch",), one)
    module._process_batch([Task(), {"reply_subject": reply_subject(12)}], extra=(reply_subject(13),))
    assert [row[0] for row in events(one.run, "batch")[0].rows("tasks")] == [11, 12, 13]


def test_the_job_of_a_whole_job_loop_is_known_by_position_too(tmp_path: Path) -> None:
    module, one = worker(), injector(tmp_path, transient_error_rate=1.0, jobs=frozenset({12}))
    exec("def _process_job(pipeline, job_id, settings=None): return 'done'", module.__dict__)
    tasks.install(module, ("_process_job",), one)
    assert module._process_job("moth_binary", 13) == "done"
    with pytest.raises(InjectedTransientError):
        module._process_job("moth_binary", 12)


def test_a_second_loop_is_not_hooked_inside_the_first(tmp_path: Path) -> None:
    one = injector(tmp_path)
    assert tasks.install(worker("first"), ("_process_batch",), one) is not None
    assert tasks.install(worker("second"), ("_process_batch",), one) is None


# --- in the midst of a batch

WITH_CALLS = """
seen = []
def step(name):
    seen.append(name)
    return name
def _process_batch(batch):
    seen.append("begun")
    step("one")
    step("two")
    return "result"
"""
WITHOUT_CALLS = """
seen = []
def _process_batch(batch):
    seen[:] = ["begun", "one", "two"]
    return "result"
"""
ROOT = Path(__file__).parent.parent


@contextmanager
def profiled(profile: Any) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)


def in_batch(folder: Path, source: str, terms: str = "1*sysexit", **values: Any) -> tuple[ModuleType, Injector]:
    """Return a worker whose loop is this, and is struck so in the midst of its batches."""
    module = ModuleType("my_worker")
    exec(source, module.__dict__)
    one = injector(folder, rules=parse_rules(f"crash[point=in-batch]: {terms}"), max_deliver=0, **values)
    assert tasks.install(module, ("_process_batch",), one) is not None
    return module, one


def test_a_batch_is_struck_at_its_first_call_with_what_came_before_done(tmp_path: Path) -> None:
    module, one = in_batch(tmp_path, WITH_CALLS)
    with pytest.raises(SystemExit, match=r"^86$"):
        module._process_batch(batch(1, 2))
    assert vars(module)["seen"] == ["begun"]
    assert [event.kind for event in events(one.run)] == ["start", "batch", "fault", "batch-end"]
    assert [event.text("phase") for event in events(one.run, "fault")] == ["during"]
    assert [event.text("error") for event in events(one.run, "batch-end")] == ["SystemExit"]


def test_a_batch_that_calls_nothing_is_struck_at_its_end_before_it_is_over(tmp_path: Path) -> None:
    module, one = in_batch(tmp_path, WITHOUT_CALLS)
    with pytest.raises(SystemExit, match=r"^86$"):
        module._process_batch(batch(1, 2))
    assert vars(module)["seen"] == ["begun", "one", "two"]
    assert [event.kind for event in events(one.run)] == ["start", "batch", "fault", "batch-end"]


@pytest.mark.parametrize("source", [WITH_CALLS, WITHOUT_CALLS], ids=["with calls", "without calls"])
def test_a_strike_that_is_withheld_lets_the_batch_be_worked_off_and_is_withheld_once(
    tmp_path: Path, source: str
) -> None:
    module, one = in_batch(tmp_path, source, max_faults=0)
    assert module._process_batch(batch(1, 2)) == "result"
    assert vars(module)["seen"] == ["begun", "one", "two"]
    assert [event.kind for event in events(one.run)] == ["start", "batch", "withheld", "batch-end"]
    assert sys.getprofile() is None


@pytest.mark.parametrize("source", [WITH_CALLS, WITHOUT_CALLS], ids=["with calls", "without calls"])
@pytest.mark.parametrize("max_faults", [0, None], ids=["withheld", "struck"])
def test_a_profile_function_sees_all_that_the_batch_does_and_is_there_afterwards(
    tmp_path: Path, source: str, max_faults: int | None
) -> None:
    module, _ = in_batch(tmp_path, source, max_faults=max_faults)
    names: list[str] = []

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_globals is vars(module):
            names.append(frame.f_code.co_name)

    with profiled(profile):
        try:
            module._process_batch(batch(1, 2))
        except SystemExit:
            names.append("struck")
        assert sys.getprofile() is profile
    inner = [] if source is WITHOUT_CALLS else ["step"] if max_faults is None else ["step", "step"]
    assert names == ["_process_batch", *inner, *(["struck"] if max_faults is None else [])]


def test_a_profiler_that_is_no_function_is_left_alone_and_the_batch_is_struck_at_its_end(tmp_path: Path) -> None:
    """In an interpreter of its own: there can be one such profiler at a time, and coverage may be it."""
    code = """
        import cProfile, sys
        from pathlib import Path
        from tests.test_hooks_tasks import WITH_CALLS, batch, in_batch
        module, one = in_batch(Path(sys.argv[1]), WITH_CALLS)
        with cProfile.Profile() as profiler:
            own = sys.getprofile()
            try:
                module._process_batch(batch(1, 2))
            except SystemExit as left:
                print("left with", left)
            print(sys.getprofile() is own)
        names = {getattr(entry.code, "co_name", "") for entry in profiler.getstats()}
        print(module.seen, sorted(names & {"step", "_process_batch"}))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    before_its_end = sys.version_info >= (3, 12)  # there, cProfile is not in the way
    seen = ["begun"] if before_its_end else ["begun", "one", "two"]
    called = ["_process_batch"] if before_its_end else ["_process_batch", "step"]
    assert done.stdout.splitlines() == ["left with 86", "True", f"{seen} {called}"]


def test_a_profile_function_that_the_batch_sets_stays(tmp_path: Path) -> None:
    module, _ = in_batch(tmp_path, "import sys\ndef _process_batch(batch): sys.setprofile(batch)", max_faults=0)

    def own(_frame: FrameType, _event: str, _argument: object) -> None:
        """Look on."""

    with profiled(None):
        module._process_batch(own)
        assert sys.getprofile() is own


def test_an_exception_of_the_workers_own_passes_and_nothing_is_struck(tmp_path: Path) -> None:
    module, one = in_batch(tmp_path, "def _process_batch(batch): raise KeyError('own')")
    with pytest.raises(KeyError, match=r"^'own'$"):
        module._process_batch(batch(1, 2))
    assert [event.kind for event in events(one.run)] == ["start", "batch", "batch-end"]
    assert sys.getprofile() is None


def test_a_batch_that_is_worked_off_later_is_struck_when_its_function_returns(tmp_path: Path) -> None:
    module, one = in_batch(tmp_path, "def _process_batch(batch): yield from batch")
    with pytest.raises(SystemExit):
        module._process_batch(batch(1, 2))
    assert [event.kind for event in events(one.run)] == ["start", "batch", "fault", "batch-end"]


@pytest.mark.parametrize("source", [WITH_CALLS, WITHOUT_CALLS], ids=["with calls", "without calls"])
def test_a_process_dies_in_the_midst_of_a_batch_and_books_nothing_more(tmp_path: Path, source: str) -> None:
    module, one = in_batch(tmp_path, source, "1*exit")
    child = os.fork()
    if child == 0:
        module._process_batch(batch(1, 2))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 86
    assert [event.kind for event in events(one.run)] == ["start", "batch", "fault"]


# --- slow batches


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_slow_batch_takes_at_least_as_long_as_was_asked_for_and_is_worked_off(tmp_path: Path, phase: str) -> None:
    module, one = worker(), injector(tmp_path, rules=parse_rules(f"batch: 1*delay(0.05)@{phase}"))
    tasks.install(module, ("_process_batch",), one)
    assert module._process_batch(batch(1, 2)) == "result"
    assert [event.kind for event in events(one.run)] == ["start", "batch", "fault", "batch-end"]
    fault, ended = events(one.run, "fault", "batch-end")
    assert (fault.text("effect"), fault.text("phase"), fault.data["seconds"]) == ("slow", phase, 0.05)
    assert float(str(ended.data["seconds"])) >= 0.05
