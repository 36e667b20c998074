"""The promises of hooks.tasks: crashes and exceptions at the loop, with the tasks that they concern."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ami_fault_site.faults import InjectedTransientError
from ami_fault_site.hooks import tasks
from ami_fault_site.hooks.patch import Hook
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
