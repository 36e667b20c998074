"""The promises of supervisor and incarnation: restarts, exits told apart, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ami_fault_site import runfolder, target
from ami_fault_site.display import PlainDisplay
from ami_fault_site.endings import ExitKind, Options, Outcome, Until, decide_restart, exit_text
from ami_fault_site.faults import Mode
from ami_fault_site.incarnation import END_ORPHANS, Incarnation
from ami_fault_site.service import JobWatch, Service
from ami_fault_site.settings import Settings, as_text
from ami_fault_site.supervisor import Supervisor, child_environ
from tests import stage

ARMED = "import requests\n"
TASKS = """
import os, requests
url = os.environ["AMI_ANTENNA_API_BASE_URL"]
requests.post(f"{url}/jobs/1/tasks/", json={"batch_size": 1}, timeout=5)
"""
PLAIN = Settings(enabled=True, seed=1)
FOR_EVER = "import time\nwhile True: time.sleep(0.05)\n"


def supervisor(
    folder: Path,
    code: str,
    options: Options,
    url: str = "http://127.0.0.1:9",
    flags: tuple[str, ...] = (),
    settings: Settings = PLAIN,
    service_is_gone: Callable[[], bool] = lambda: False,
    **more: str,
) -> tuple[Supervisor, JobWatch]:
    """Return a supervisor for `python FLAGS -c CODE`, and what watches its jobs."""
    joined = runfolder.join(settings, folder / "runs")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AMI_")},
        "AMI_ANTENNA_API_BASE_URL": f"{url}/api/v2",
        "AMI_ANTENNA_API_AUTH_TOKEN": "0123456789abcdef",
        **more,
    }
    where = target.find(environ, folder)
    over = {**as_text(joined.settings), "AMI_TEST_RUN_DIR": str(joined.run.path)}
    watch = JobWatch(Service(where), joined.run.jobs, (where.token,), every=0.1)
    command = [sys.executable, *flags, "-c", code]
    environ = child_environ(environ, over)
    return Supervisor(command, environ, joined.run, where, watch, options, PlainDisplay(), service_is_gone), watch


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("kind", "code", "armed", "restarts", "until", "expected"),
    [
        (ExitKind.INJECTED, 86, True, 0, Until.DRAINED, None),
        (ExitKind.ORGANIC, 1, True, 49, Until.DRAINED, None),
        (ExitKind.ORGANIC, 0, True, 0, Until.DRAINED, None),
        (ExitKind.ORGANIC, -11, True, 0, Until.IDLE, None),
        (ExitKind.ORGANIC, 0, True, 0, Until.EXIT, Outcome.EXITED),
        (ExitKind.ORGANIC, 1, True, 0, Until.EXIT, None),
        (ExitKind.ORGANIC, 1, True, 50, Until.DRAINED, Outcome.RESTARTS_EXHAUSTED),
        (ExitKind.REFUSED, 78, True, 0, Until.DRAINED, Outcome.SETTINGS),
        (ExitKind.ORGANIC, 0, False, 0, Until.DRAINED, Outcome.NOT_ARMED),
        (ExitKind.OPERATOR, -15, True, 0, Until.DRAINED, Outcome.INTERRUPTED),
        (ExitKind.OPERATOR, 78, False, 99, Until.EXIT, Outcome.INTERRUPTED),
    ],
)
def test_what_follows_an_exit(
    kind: ExitKind, code: int, armed: bool, restarts: int, until: Until, expected: Outcome | None
) -> None:
    assert decide_restart(kind, code, armed, restarts, Options(until=until)) is expected


def test_an_organic_exit_is_restarted_until_the_restarts_are_used_up_and_its_last_words_kept(tmp_path: Path) -> None:
    code = ARMED + "import sys\nfor n in range(30): print('line', n)\nprint('Token 0123456789abcdef')\nsys.exit(3)"
    one, _ = supervisor(tmp_path, code, Options(max_restarts=2, restart_delay=0.0))
    assert one.run() is Outcome.RESTARTS_EXHAUSTED
    lives = [one.history.life(number) for number in (1, 2, 3)]
    assert [(life.kind, life.code, life.armed) for life in lives] == [("organic", 3, True)] * 3
    assert lives[0].last_words == [*(f"line {n}" for n in range(21, 30)), "Token ***"]
    kept = (tmp_path / "runs" / "latest" / "output" / "0001.log").read_text().splitlines()
    assert kept[0] == "line 0"
    assert kept[-1] == "Token ***"


def test_a_worker_that_leaves_by_itself_while_the_run_comes_to_its_end_was_not_stopped_by_us(tmp_path: Path) -> None:
    code = ARMED + f"open({str(tmp_path / 'leaving')!r}, 'w').close()\nimport os\nos._exit(3)"

    def service_is_gone() -> bool:
        time.sleep(0.5 if (is_leaving := (tmp_path / "leaving").exists()) else 0.0)
        return is_leaving

    one, _ = supervisor(tmp_path, code, Options(), service_is_gone=service_is_gone)

    assert one.run() is Outcome.SERVICE_GONE
    assert [(life.kind, life.code) for life in one.history.lives.values() if life.number] == [("organic", 3)]


@pytest.mark.parametrize(("workers", "whose"), [(1, "the worker's"), (3, "every worker's")])
def test_a_run_of_several_workers_says_whose_exits_it_waits_for(tmp_path: Path, workers: int, whose: str) -> None:
    one, _ = supervisor(tmp_path, ARMED, Options(until=Until.EXIT, workers=workers))

    assert one.waiting_for() == f"{whose} first exit with status 0"


def test_an_injected_crash_is_told_by_the_ledger_and_not_by_the_exit_code(tmp_path: Path) -> None:
    """Both leave with 86; only one of them is in the ledger."""
    code = ARMED + (
        "import os\n"
        "if os.environ['AMI_TEST_INCARNATION'] == '2': os._exit(86)\n"
        "def loop(batch): pass\n"
        "requests.post(os.environ['AMI_ANTENNA_API_BASE_URL'] + '/jobs/1/tasks/', json={}, timeout=5)\n"
        f"loop([{stage.reply_subject(1)!r}])\n"
    )
    crashing = Settings(enabled=True, seed=1, worker_crash_rate=1.0)
    options = Options(max_restarts=1, restart_delay=0.0)
    with stage.service() as service:
        one, _ = supervisor(tmp_path, code, options, service.url, settings=crashing, AMI_TEST_TASK_LOOP="__main__:loop")
        assert one.run() is Outcome.RESTARTS_EXHAUSTED
    lives = [one.history.life(number) for number in (1, 2)]
    assert [(life.kind, life.code) for life in lives] == [("injected", 86), ("organic", 86)]


@pytest.mark.parametrize("mode", [Mode.KILL, Mode.EXIT])
def test_a_sibling_on_another_gpu_that_dies_of_a_fault_takes_the_parent_along_and_that_is_the_faults_doing(
    tmp_path: Path, mode: Mode
) -> None:
    """As torch.multiprocessing.spawn: one process a GPU, and the parent gives up when one of them has died."""
    code = ARMED + (
        "import multiprocessing, sys\n"
        "def loop(batch): pass\n"
        "def work(gpu):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not a tracer's, which may come to grief in the middle\n"
        "    url = os.environ['AMI_ANTENNA_API_BASE_URL'] + '/jobs/1/tasks/'\n"
        "    requests.post(url, json={}, timeout=5)\n"
        f"    loop([{stage.reply_subject(1)!r}]) if gpu else signal.pause()\n"
        "import os, signal\n"
        "context = multiprocessing.get_context('fork')\n"
        "siblings = [context.Process(target=work, args=(gpu,)) for gpu in range(2)]\n"
        "for one in siblings: one.start()\n"
        "siblings[1].join()\n"
        "siblings[0].terminate()\n"
        "siblings[0].join()\n"
        "sys.exit(f'process 1 ended with {siblings[1].exitcode}')\n"
    )
    crashing = Settings(enabled=True, seed=1, worker_crash_rate=1.0, crash_mode=mode)
    with stage.service() as service:
        options = Options(max_restarts=0)
        one, _ = supervisor(tmp_path, code, options, service.url, settings=crashing, AMI_TEST_TASK_LOOP="__main__:loop")
        assert one.run() is Outcome.RESTARTS_EXHAUSTED
    life = one.history.life(1)
    assert (life.kind, life.code, life.last_words) == ("injected", 1, [])


def test_a_run_that_ends_before_its_latest_start_has_armed_was_armed_all_the_same(tmp_path: Path) -> None:
    code = ("import os, signal\nif os.environ['AMI_TEST_INCARNATION'] == '2': signal.pause()\n") + ARMED
    with stage.service() as service:
        one, _ = supervisor(tmp_path, code, Options(restart_delay=0.0, timeout=4.0), service.url)
        assert one.run() is Outcome.TIMEOUT
    assert [one.history.life(number).armed for number in (1, 2)] == [True, False]


def test_a_worker_that_hangs_by_a_fault_is_ended_once_its_tasks_are_handed_out_again(tmp_path: Path) -> None:
    code = ARMED + (
        "import os\n"
        "def loop(batch): pass\n"
        "requests.post(os.environ['AMI_ANTENNA_API_BASE_URL'] + '/jobs/1/tasks/', json={}, timeout=5)\n"
        f"loop([{stage.reply_subject(1)!r}])\n"
    )
    hanging = Settings(enabled=True, seed=1, worker_crash_rate=1.0, crash_mode=Mode.HANG)
    options = Options(max_restarts=0, ack_wait=0.2, timeout=60)
    with stage.service() as service:
        one, _ = supervisor(tmp_path, code, options, service.url, settings=hanging, AMI_TEST_TASK_LOOP="__main__:loop")
        assert one.run() is Outcome.RESTARTS_EXHAUSTED
    life = one.history.life(1)
    assert (life.kind, life.code, life.hung) == ("injected", -signal.SIGKILL, True)
    assert life.ended is not None
    assert life.ended - one.history.injections[0].at >= 2.2


def test_a_worker_that_ends_without_the_hook_ends_the_run_at_once(tmp_path: Path) -> None:
    one, _ = supervisor(tmp_path, "print('no hook')", Options(), flags=("-S",))
    assert one.run() is Outcome.NOT_ARMED
    assert [number for _, number in one.history.lives] == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="connections of other processes are seen on Linux only")
def test_a_worker_that_calls_the_service_without_the_hook_ends_the_run_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, socket\n"
        "from urllib.parse import urlsplit\n"
        "where = urlsplit(os.environ['AMI_ANTENNA_API_BASE_URL'])\n"
        "with socket.create_connection((where.hostname, where.port)): signal.pause()\n"
    )
    with stage.service() as service:
        one, _ = supervisor(tmp_path, code, Options(), service.url, ("-S",))
        began = time.monotonic()
        assert one.run() is Outcome.NOT_ARMED
    assert time.monotonic() - began < 20


def test_drained_means_that_every_job_with_a_lease_is_final(tmp_path: Path) -> None:
    with stage.service() as service:
        stage.hand_out(service, 1)
        one, watch = supervisor(tmp_path, TASKS + FOR_EVER, Options(timeout=60), service.url)
        ended: list[Outcome] = []

        def finish_the_job() -> None:
            wait_for(lambda: bool(service.paths("/jobs/1/?")))
            ended.append(Outcome.DRAINED)
            service.status = "SUCCESS"

        helper = threading.Thread(target=finish_the_job)
        helper.start()
        assert one.run() is Outcome.DRAINED
        helper.join()
        assert ended == [Outcome.DRAINED]
        details = watch.finish(settle=0.1)
    assert details[1].status == "SUCCESS"
    assert one.history.life(1).kind == "ended"
    names = sorted(path.name for path in (tmp_path / "runs" / "latest" / "jobs").iterdir())
    assert {name.rpartition("-")[2] for name in names} >= {"first.json", "end.json", "settled.json"}
    assert watch.consumer() == {"max_deliver": 2.0, "ack_wait": 8.0}


def test_idle_means_that_nothing_was_handed_out_or_answered_for_so_long(tmp_path: Path) -> None:
    with stage.service() as service:
        one, _ = supervisor(tmp_path, TASKS + FOR_EVER, Options(until=Until.IDLE, idle_after=1.0), service.url)
        assert one.waiting_for() == "1 s without a lease or an answer"
        assert one.run() is Outcome.IDLE


@pytest.mark.parametrize(("ack_wait", "seconds"), [(8.0, 16.0), (None, 330.0)])
def test_idle_is_twice_ack_wait_where_that_is_known(tmp_path: Path, ack_wait: float | None, seconds: float) -> None:
    one, _ = supervisor(tmp_path, "", Options(until=Until.IDLE, ack_wait=ack_wait))
    assert one.waiting_for() == f"{seconds:g} s without a lease or an answer"


def test_exit_means_the_first_exit_with_0(tmp_path: Path) -> None:
    code = ARMED + "import os, sys\nsys.exit(os.environ['AMI_TEST_INCARNATION'] == '1')"
    one, _ = supervisor(tmp_path, code, Options(until=Until.EXIT, restart_delay=0.0))
    assert one.run() is Outcome.EXITED
    assert [life.code for life in one.history.lives.values() if life.number] == [1, 0]


def test_the_time_may_be_up_while_the_worker_runs_and_while_it_is_waited_for(tmp_path: Path) -> None:
    one, _ = supervisor(tmp_path / "a", ARMED + FOR_EVER, Options(timeout=4.0))
    assert one.run() is Outcome.TIMEOUT
    one, _ = supervisor(tmp_path / "b", ARMED, Options(timeout=4.0, restart_delay=60.0))
    assert one.run() is Outcome.TIMEOUT


def test_orphans_are_gone_before_the_next_start(tmp_path: Path) -> None:
    """A child that ignores SIGTERM outlives its parent, and would still hold tasks while the next life begins."""
    pids = tmp_path / "pids"
    code = ARMED + (
        "import os, signal, subprocess, sys\n"
        f"before = open({str(pids)!r}, 'a+'); before.seek(0)\n"
        "def alive(pid):\n"
        "    try: os.kill(pid, 0)\n"
        "    except ProcessLookupError: return False\n"
        "    return True\n"
        "print('alive', [pid for pid in map(int, before.read().split()) if alive(pid)])\n"
        "stubborn = 'import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()'\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', stubborn], stdout=subprocess.PIPE)\n"
        "child.stdout.read(1)\n"
        f"open({str(pids)!r}, 'a').write(f'{{child.pid}} ')\n"
        "os._exit(1)\n"
    )
    one, _ = supervisor(tmp_path, code, Options(max_restarts=1, restart_delay=0.0))
    assert one.run() is Outcome.RESTARTS_EXHAUSTED
    assert (tmp_path / "runs" / "latest" / "output" / "0002.log").read_text().splitlines()[0] == "alive []"
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_stop_by_the_operator_is_no_crash_of_the_worker(tmp_path: Path) -> None:
    """The worker swallows SIGINT, as the real one does; it gets SIGTERM next."""
    ready = tmp_path / "ready"
    code = ARMED + (
        "import signal\n"
        "signal.signal(signal.SIGINT, lambda *_: print('swallowed', flush=True))\n"
        f"open({str(ready)!r}, 'w').close()\n"
    )
    one, _ = supervisor(tmp_path, code + FOR_EVER, Options(timeout=30))

    def interrupt() -> None:
        wait_for(ready.exists)
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    assert one.run() is Outcome.INTERRUPTED
    helper.join()
    assert (one.history.life(1).kind, one.history.life(1).code) == ("operator", -15)
    assert "swallowed" in (tmp_path / "runs" / "latest" / "output" / "0001.log").read_text()


def test_other_signals_are_passed_on_to_the_worker(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = ARMED + (
        "import signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))\n"
        f"open({str(ready)!r}, 'w').close()\n"
    )
    one, _ = supervisor(tmp_path, code + FOR_EVER, Options(until=Until.EXIT, timeout=30))

    def send() -> None:
        wait_for(ready.exists)
        os.kill(os.getpid(), signal.SIGUSR1)

    helper = threading.Thread(target=send)
    helper.start()
    assert one.run() is Outcome.EXITED
    helper.join()


def test_the_output_is_passed_through_raw_and_kept_redacted(tmp_path: Path) -> None:
    passed: list[bytes] = []
    command = [
        sys.executable,
        "-S",
        "-c",
        "print('GET http://h/x.jpg?sig=1 Token 0123456789abcdef'); print('end', end='')",
    ]
    life = Incarnation(command, os.environ, tmp_path / "log", ("0123456789abcdef",), passed.append)
    assert life.process.wait() == 0
    life.end_group(END_ORPHANS)
    assert life.finish() == ["GET http://h/x.jpg?*** Token ***", "end"]
    assert b"".join(passed) == b"GET http://h/x.jpg?sig=1 Token 0123456789abcdef\nend"
    assert (tmp_path / "log").read_text() == "GET http://h/x.jpg?*** Token ***\nend\n"


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(100): sys.stdout.write('x' * 10000)"
    life = Incarnation([sys.executable, "-S", "-c", code], os.environ, tmp_path / "log", (), lambda chunk: None)
    life.process.wait()
    life.end_group(END_ORPHANS)
    life.finish()
    assert max(map(len, life.tail)) < 200_000
    assert sum(map(len, life.tail)) == 1_000_000


def test_exits_are_said_in_words() -> None:
    assert [exit_text(code) for code in (0, 86, -9, -64)] == [
        "exit code 0",
        "exit code 86",
        "killed by SIGKILL",
        "killed by SIGRTMAX" if sys.platform == "linux" else "killed by signal 64",
    ]
    assert exit_text(-200) == "killed by signal 200"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a process namespace needs Linux and root")
def test_it_works_as_process_1_and_reaps_orphans(tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip("no process namespace can be made here")
    worker = ARMED + (
        "import os, subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-S', '-c', 'import signal; signal.pause()'])\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-m", "ami_fault_site", "run", "--until", "exit", "--run-dir", str(tmp_path / "run")]
    environ = {**os.environ, "AMI_TEST_WORKER_CRASH_RATE": "0"}
    done = subprocess.run(
        ["unshare", "--pid", "--fork", *command, "--", sys.executable, "-c", worker],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "exited: the worker ended by itself" in done.stdout


def test_a_killed_supervisor_takes_its_worker_along(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = ARMED + f"import os\nwith open({str(ready)!r}, 'w') as f: f.write(str(os.getpid()))\n" + FOR_EVER
    command = [sys.executable, "-m", "ami_fault_site", "run", "--profile", "light", "--until", "exit", "--"]
    run = subprocess.Popen([*command, sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for(lambda: ready.exists() and ready.read_text() != "")
    worker = int(ready.read_text())
    run.kill()
    run.wait()
    wait_for(lambda: not _is_running(worker))
    assert not _is_running(worker)


def _is_running(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return listed.strip() != "" and not listed.startswith("Z")


# --- several workers side by side


def test_each_of_several_workers_has_its_own_lives_and_restarts(tmp_path: Path) -> None:
    """The second to start goes on for ever; the other leaves twice, and is then out."""
    code = ARMED + (
        "import os, signal\n"
        "if os.environ['AMI_TEST_INCARNATION'] == '2': signal.pause()\n"
    )  # fmt: skip
    options = Options(max_restarts=1, restart_delay=0.0, timeout=6.0, workers=2)
    one, _ = supervisor(tmp_path, code, options)
    assert one.run() is Outcome.TIMEOUT
    lives = [one.history.life(number) for number in (1, 2, 3)]
    assert [(life.worker, life.kind) for life in lives] == [(1, "organic"), (2, "ended"), (1, "organic")]


def test_a_run_ends_once_every_worker_has_left_with_status_0(tmp_path: Path) -> None:
    code = ARMED + "import os\nraise SystemExit(1 if os.environ['AMI_TEST_INCARNATION'] == '1' else 0)\n"
    options = Options(until=Until.EXIT, restart_delay=0.0, timeout=60.0, workers=2)
    one, _ = supervisor(tmp_path, code, options)
    assert one.run() is Outcome.EXITED
    lives = [one.history.life(number) for number in (1, 2, 3)]
    assert [(life.worker, life.code) for life in lives] == [(1, 1), (2, 0), (1, 0)]


def test_when_all_are_out_of_restarts_the_run_is_over(tmp_path: Path) -> None:
    one, _ = supervisor(tmp_path, ARMED, Options(max_restarts=0, timeout=60.0, workers=2))
    assert one.run() is Outcome.RESTARTS_EXHAUSTED


def test_all_workers_are_ended_at_once_and_none_is_left(tmp_path: Path) -> None:
    """Each ignores SIGTERM: one after the other they would take twice as long to be killed."""
    code = ARMED + "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pause()\n"
    one, _ = supervisor(tmp_path, code, Options(timeout=4.0, workers=3))
    assert one.run() is Outcome.TIMEOUT
    ended = [one.history.life(number).ended for number in (1, 2, 3)]
    assert None not in ended
    assert max(ended) - min(ended) < 4.0  # type: ignore[type-var, operator]
    assert [process.pid for process in one.history.processes[1:] if _is_running(process.pid)] == []
