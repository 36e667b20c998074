"""The promises of the supervisor as a witness: what it books of a run beside the worker's own ledger."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ami_fault_site import runfolder, runs, target
from ami_fault_site.display import PlainDisplay
from ami_fault_site.endings import Options, Outcome, Until
from ami_fault_site.ledger import Event, Reader, incarnation_of
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.service import JobWatch, Service
from ami_fault_site.settings import Settings, as_text
from ami_fault_site.supervisor import Supervisor, child_environ
from tests import stage

ARMED = "import requests\n"
FOR_EVER = "import time\nwhile True: time.sleep(0.05)\n"
TOKEN = "0123456789abcdef"
NOWHERE = "http://127.0.0.1:9"


def tasks_of(job: int) -> str:
    """Return a worker's code that asks for tasks of a job."""
    return (
        "import os, requests\n"
        f"url = os.environ['AMI_ANTENNA_API_BASE_URL'] + '/jobs/{job}/tasks/'\n"
        "requests.post(url, json={'batch_size': 1}, timeout=5)\n"
    )


def supervisor(
    folder: Path, code: str, options: Options, url: str = NOWHERE, *, token: str = TOKEN, invocation: str = ""
) -> tuple[Supervisor, JobWatch, RunFolder]:
    """Return a supervisor for `python -c CODE`, what watches its jobs, and where both write."""
    joined = runfolder.join(Settings(enabled=True, seed=1), folder / "runs")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AMI_")},
        "AMI_ANTENNA_API_BASE_URL": f"{url}/api/v2",
        "AMI_ANTENNA_API_AUTH_TOKEN": token,
    }
    where = target.find(environ, folder)
    values = {**as_text(joined.settings), "AMI_TEST_RUN_DIR": str(joined.run.path)}
    watch = JobWatch(Service(where), joined.run.jobs, (where.token,), every=0.05)
    told = (joined.run, where, watch, options, PlainDisplay())
    command = [sys.executable, "-c", code]
    return Supervisor(command, child_environ(environ, values), *told, invocation=invocation), watch, joined.run


def booked(run: RunFolder, *kinds: str) -> list[Event]:
    """Return what the supervisor has booked, of these kinds or all."""
    events = Reader(run.ledger).new()
    return [one for one in events if one.incarnation == 0 and (not kinds or one.kind in kinds)]


def lines_of(run: RunFolder) -> dict[str, int]:
    return {path.name: len(path.read_bytes().splitlines()) for path in run.ledger.iterdir()}


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@contextmanager
def watching(watch: JobWatch, *jobs: int) -> Iterator[None]:
    """Follow these jobs without a worker, until something was heard of each."""
    watch.follow(set(jobs))
    watch.start()
    wait_for(lambda: set(jobs) <= watch.seen().keys() | watch.trouble().keys())
    yield
    watch.finish(settle=0.0)


# --- began, sealed, outcome


def test_a_run_is_booked_from_how_it_was_asked_for_to_how_it_ended(tmp_path: Path) -> None:
    options = Options(max_restarts=1, restart_delay=0.0)
    one, watch, run = supervisor(tmp_path, ARMED, options, invocation="ami-fault run --seed 1 -- ami worker")
    outcome = one.run()
    watch.finish(settle=0.0)
    one.conclude(outcome)

    kinds = ["start", "began", "spawn", "exit", "sealed", "waiting", "spawn", "exit", "sealed", "outcome", "end"]
    assert [event.kind for event in booked(run)] == kinds
    assert one.history.invocations == {"": "ami-fault run --seed 1 -- ami worker"}
    assert one.history.outcomes == {"": "restarts-exhausted"}
    assert booked(run, "end")[0].number("events") == len(kinds)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_whatever_ended_a_run_is_booked_by_its_name_and_read_back_at_once(tmp_path: Path, outcome: Outcome) -> None:
    one, _, run = supervisor(tmp_path, "", Options())
    one.conclude(outcome)

    assert [event.data for event in booked(run, "outcome")] == [{"outcome": outcome.value}]
    assert one.history.outcomes == {"": outcome.value}


def test_a_run_that_nobody_concluded_has_no_outcome(tmp_path: Path) -> None:
    one, watch, run = supervisor(tmp_path, ARMED, Options(until=Until.EXIT))
    assert one.run() is Outcome.EXITED
    watch.finish(settle=0.0)

    assert booked(run, "outcome", "end") == []
    assert one.history.outcomes == {}


def test_each_life_is_sealed_when_it_is_gone_with_the_lines_of_its_own_files_and_no_others(tmp_path: Path) -> None:
    one, watch, run = supervisor(tmp_path, ARMED, Options(max_restarts=1, restart_delay=0.0))
    one.run()
    watch.finish(settle=0.0)
    lines = lines_of(run)
    sealed = [event.rows("files") for event in booked(run, "sealed")]

    expected = [
        [[name, count] for name, count in sorted(lines.items()) if incarnation_of(name) == life] for life in (1, 2)
    ]
    assert sealed == expected
    assert [len(files) for files in sealed] == [1, 1]
    assert one.history.seals == {("", name): count for files in expected for name, count in files}
    assert one.history.shortened() == []


def test_a_life_that_booked_nothing_is_not_sealed(tmp_path: Path) -> None:
    one, watch, run = supervisor(tmp_path, "print('no hook')", Options())
    assert one.run() is Outcome.NOT_ARMED
    watch.finish(settle=0.0)

    assert booked(run, "sealed") == []
    assert one.history.seals == {}


def test_a_life_of_many_processes_is_sealed_in_pieces_of_200_files(tmp_path: Path) -> None:
    code = ARMED + (
        "import os, pathlib\n"
        "from ami_fault_site.ledger import Ledger\n"
        "folder = pathlib.Path(os.environ['AMI_TEST_RUN_DIR']) / 'ledger'\n"
        "for number in range(400): Ledger(folder, 1).append('note')\n"
    )
    one, watch, run = supervisor(tmp_path, code, Options(until=Until.EXIT))
    assert one.run() is Outcome.EXITED
    watch.finish(settle=0.0)
    sealed = [event.rows("files") for event in booked(run, "sealed")]

    assert [len(files) for files in sealed] == [200, 200, 1]
    assert one.history.seals == {("", name): lines for name, lines in lines_of(run).items() if "-0001-" in name}


def test_a_file_that_loses_a_whole_line_after_it_was_sealed_is_noticed(tmp_path: Path) -> None:
    one, watch, run = supervisor(tmp_path, ARMED, Options(until=Until.EXIT))
    one.conclude(one.run())
    watch.finish(settle=0.0)
    assert runs.read([run.path])[1].damage == ()

    ((name, count),) = booked(run, "sealed")[0].rows("files")
    path = run.ledger / str(name)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    lines = int(str(count))
    assert runs.read([run.path])[1].damage == (f"{name}:{lines - 1}: cut short, {lines} lines had been counted",)


# --- seen: stage.service() says of job 1 that 2 are processed, 0 remain and 0 failed


def test_what_the_service_says_of_a_job_is_booked_once_for_each_time_it_changes(tmp_path: Path) -> None:
    with stage.service() as service:
        stage.hand_out(service, 1)
        one, watch, run = supervisor(tmp_path, tasks_of(1) + FOR_EVER, Options(timeout=30), service.url)

        def go_on() -> None:
            wait_for(lambda: bool(watch.seen()))
            looks = len(service.paths("/jobs/1/?"))
            wait_for(lambda: len(service.paths("/jobs/1/?")) > looks + 3)  # nothing has changed in these
            service.status = "SUCCESS"

        helper = threading.Thread(target=go_on)
        helper.start()
        assert one.run() is Outcome.DRAINED
        helper.join()
        watch.finish(settle=0.0)
        one.conclude(Outcome.DRAINED)
    counts = {"processed": 2, "remaining": 0, "failed": 0}
    seen = [{name: event.data[name] for name in ("job", "status", *counts)} for event in booked(run, "seen")]

    assert seen == [{"job": 1, "status": status, **counts} for status in ("STARTED", "SUCCESS")]
    assert [one.status for one in one.history.job(1).seen] == ["STARTED", "SUCCESS"]


def test_what_was_seen_tells_when_the_service_was_asked_and_when_it_was_heard(tmp_path: Path) -> None:
    with stage.service() as service:
        one, watch, run = supervisor(tmp_path, "", Options(), service.url)
        before = time.monotonic()
        with watching(watch, 1):
            pass
        one.conclude(Outcome.TIMEOUT)
    (event,) = booked(run, "seen")
    asked, heard = float(str(event.data["asked"])), float(str(event.data["heard"]))

    assert before - 1e-5 <= asked < heard <= event.mono + 1e-5
    (seen,) = one.history.job(1).seen
    assert (seen.asked, seen.heard) == (asked, heard)


def test_what_the_service_says_last_is_booked_even_if_it_is_heard_after_the_workers_end(tmp_path: Path) -> None:
    with stage.service() as service:
        one, watch, run = supervisor(tmp_path, "", Options(), service.url)
        with watching(watch, 1):
            service.status = "FAILURE"
        one.conclude(Outcome.TIMEOUT)

    assert [event.kind for event in booked(run)] == ["start", "seen", "outcome", "end"]
    assert [event.text("status") for event in booked(run, "seen")] == ["FAILURE"]


def test_a_job_of_which_nothing_was_seen_is_not_booked_as_seen(tmp_path: Path) -> None:
    one, watch, run = supervisor(tmp_path, "", Options())
    with watching(watch, 1):
        pass
    one.conclude(Outcome.TIMEOUT)

    assert booked(run, "seen") == []


# --- unwitnessed: job 9 is not known to the service


def test_a_job_that_the_service_could_not_be_asked_about_is_booked_with_the_reason(tmp_path: Path) -> None:
    with stage.service() as service:
        one, watch, run = supervisor(tmp_path, "", Options(), service.url)
        with watching(watch, 1, 9, 8):
            pass
        one.conclude(Outcome.TIMEOUT)
    told = [event.data for event in booked(run, "unwitnessed")]

    assert told == [{"job": 8, "why": "status 404"}, {"job": 9, "why": "status 404"}]
    assert one.history.unwitnessed == {8: "status 404", 9: "status 404"}


def test_without_a_token_that_is_the_reason_and_the_run_says_so_when_it_is_read_back(tmp_path: Path) -> None:
    with stage.service() as service:
        one, watch, run = supervisor(tmp_path, "", Options(), service.url, token="")
        with watching(watch, 9):
            pass
        one.conclude(Outcome.TIMEOUT)

    assert [event.data for event in booked(run, "unwitnessed")] == [{"job": 9, "why": "no token"}]
    assert runs.read([run.path])[1].witness_missing == "no token"


def test_a_run_whose_jobs_were_all_witnessed_books_no_trouble(tmp_path: Path) -> None:
    with stage.service() as service:
        one, watch, run = supervisor(tmp_path, "", Options(), service.url, token="")
        with watching(watch, 1):
            pass
        one.conclude(Outcome.TIMEOUT)

    assert booked(run, "unwitnessed") == []
    assert runs.read([run.path])[1].witness_missing == ""


def test_a_job_that_a_worker_asks_for_tasks_in_vain_is_seen_all_the_same(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = tasks_of(1) + f"import pathlib, time\nwhile not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.02)\n"
    with stage.service() as service:
        one, watch, run = supervisor(tmp_path, code, Options(until=Until.EXIT, timeout=30), service.url)

        def end() -> None:
            wait_for(lambda: bool(booked(run, "seen")))
            seen.touch()

        helper = threading.Thread(target=end)
        helper.start()
        assert one.run() is Outcome.EXITED
        helper.join()
        watch.finish(settle=0.0)

    assert (one.history.jobs, one.history.asked_jobs) == (set(), {1})
    assert [event.number("job") for event in booked(run, "seen")] == [1]
