"""Odd places and odd company: a jumping clock, many threads, forks out of threads, children started in other ways."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from ami_fault_site.history import History
from ami_fault_site.ledger import Reader
from tests.e2e.conftest import Antenna, Workers, call, is_complete

pytestmark = pytest.mark.untraced

CALLS = ["call", "end", "jobs", "start"]  # what a process books, beside where and that it armed, that polls once


def books_of(workers: Workers, code: str, url: str = "", **settings: str) -> tuple[int, dict[int, list[str]]]:
    """Run a worker to its good end; return its id, and what each process booked, which has to be complete."""
    process = workers.start(code, **workers.on(SERVICE=url, **settings))
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, ""), complained
    assert "Traceback" not in complained
    ledgers = workers.ledgers()
    assert [is_complete(events) for events in ledgers.values()] == [True] * len(ledgers)
    kinds = {
        pid: sorted(event.kind for event in events if event.kind not in ("armed", "target"))
        for pid, events in ledgers.items()
    }
    return process.pid, kinds


# Clocks

JUMPING = """
    import itertools
    import os
    import time

    real, jumps = time.time, itertools.cycle([0, 86400, -86400, 7200])
    time.time = lambda: real() + next(jumps)

    import client

    for _ in range(3):
        next(jumps)
        child = os.fork()
        client.poll()
        if not child:
            break
        assert os.waitpid(child, 0)[1] == 0
"""


def test_a_wall_clock_that_jumps_changes_neither_the_order_nor_a_duration(workers: Workers, antenna: Antenna) -> None:
    books_of(workers, JUMPING, antenna.url)
    for events in workers.ledgers().values():
        assert all(one.mono <= other.mono for one, other in pairwise(events))
        took = [float(event.text("seconds")) for event in events if event.kind == "jobs"]
        assert all(0 <= seconds < 60 for seconds in took), took
    walls = [event.wall for events in workers.ledgers().values() for event in events]
    assert max(walls) - min(walls) > 86_400


@pytest.mark.skipif(not os.path.exists("/proc/sys/kernel/random/boot_id"), reason="one start of the host has no name")
def test_processes_between_which_the_wall_clock_jumped_are_compared_by_their_one_clock(
    workers: Workers, antenna: Antenna
) -> None:
    books_of(workers, JUMPING, antenna.url)
    history = History()
    history.add(Reader(workers.run_folder.ledger).new())
    assert [process.clock for process in history.processes] == [0] * 4


# Threads


def test_two_hundred_threads_that_call_at_once_are_all_booked(workers: Workers, antenna: Antenna) -> None:
    code = """
        import threading
        import client

        client.survives(client.poll)
        together = threading.Barrier(200)

        def work():
            together.wait()
            client.survives(client.poll)

        threads = [threading.Thread(target=work, name=f"thread-{number}") for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    books_of(workers, code, antenna.url, AMI_TEST_NETWORK_ERROR_RATE="0.5")
    (events,) = workers.ledgers().values()
    threads = sorted(["MainThread", *(f"thread-{number}" for number in range(200))])
    assert sorted(event.thread for event in events if event.kind == "call") == threads
    assert sorted(event.thread for event in events if event.kind in ("jobs", "no-answer")) == threads
    struck = [event.thread for event in events if event.kind == "fault"]
    assert 50 < len(struck) == len(set(struck)) < 150


def test_sixteen_threads_that_import_at_once_arm_once_and_hook_once(workers: Workers) -> None:
    code = """
        import importlib
        import sys
        import threading
        import types
        import charset_normalizer  # what takes long beforehand, so that both seams appear while the first one arms
        import urllib3

        sys.setswitchinterval(1e-5)
        together, names = threading.Barrier(16), ("requests", "PIL.Image")
        hooked = []

        def work(name):
            together.wait()
            importlib.import_module(name)
            import PIL.Image
            import requests
            hooked.append((requests.Session.__dict__["send"], PIL.Image.open))

        threads = [threading.Thread(target=work, args=(names[number % 2],)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(hooked) == 16
        assert len({id(send) for send, _ in hooked}) == len({id(look) for _, look in hooked}) == 1
        for hook in hooked[0]:
            assert type(hook).__name__ == "Hook"
            assert type(hook.__wrapped__) is types.FunctionType
    """
    books_of(workers, code)
    assert workers.kinds() == ["armed", "end", "start"]


def test_a_loop_that_several_threads_find_at_their_first_calls_is_hooked_once(
    workers: Workers, antenna: Antenna
) -> None:
    # Each child is a chance of its own that two threads find the loop at once: its parent has made no call.
    code = """
        import os
        import sys
        import threading
        import client

        def loop(batch):
            return type(sys.modules["__main__"].loop.__wrapped__).__name__

        def work():
            together.wait()
            client.survives(client.poll)

        sys.setswitchinterval(1e-6)
        for _ in range(20):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                continue
            together = threading.Barrier(8)
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sys.modules["__main__"].loop([]) == "function"  # below our hook there is no other
            break
    """
    pid, kinds = books_of(workers, code, antenna.url, AMI_TEST_TASK_LOOP="__main__:loop")
    kinds.pop(pid, None)
    assert list(kinds.values()) == [sorted(["start", "end", "batch", "batch-end", *["call", "jobs"] * 8])] * 20
    assert not workers.run_folder.is_incomplete()


CALLS_AS_IT_IS_IMPORTED = """
import client
client.poll()


def _process_job(batch):
    return _process_batch(batch)


def _process_batch(batch):
    return len(batch)
"""
IS_CALLED_BY_ANOTHER_THREAD_MEANWHILE = """
import threading
import client


def _process_job(batch):
    return _process_batch(batch)


thread = threading.Thread(target=client.poll)
thread.start()
thread.join()


def _process_batch(batch):
    return len(batch)
"""


@pytest.mark.parametrize("module", [CALLS_AS_IT_IS_IMPORTED, IS_CALLED_BY_ANOTHER_THREAD_MEANWHILE])
@pytest.mark.parametrize("named", ["", "trapdata.cli.worker:_process_batch"])
def test_a_loop_whose_module_is_still_being_imported_at_the_first_call_is_hooked_once_and_whole(
    workers: Workers, antenna: Antenna, module: str, named: str
) -> None:
    package = workers.folder / "trapdata" / "cli"
    package.mkdir(parents=True)
    (package / "worker.py").write_text(module)
    code = """
        from trapdata.cli import worker

        for _ in range(3):
            assert worker._process_job([1]) == 1
    """
    settings = {"AMI_TEST_TASK_LOOP": named} if named else {}
    _, kinds = books_of(workers, code, antenna.url, PYTHONPATH=str(workers.folder), **settings)
    assert list(kinds.values()) == [sorted(["start", "end", "call", "jobs", *["batch", "batch-end"] * 3])]


def test_a_program_that_calls_before_all_of_it_is_defined_and_one_that_it_starts_are_not_stopped(
    workers: Workers, antenna: Antenna
) -> None:
    code = """
        import subprocess
        import sys
        import client

        client.poll()

        def loop(batch):
            return len(batch)

        client.poll()
        assert loop([1]) == 1
        subprocess.run([sys.executable, "-c", "import client; client.poll()"], check=True)
    """
    pid, kinds = books_of(workers, code, antenna.url, AMI_TEST_TASK_LOOP="__main__:loop")
    assert kinds.pop(pid) == sorted(["start", "end", "batch", "batch-end", *["call", "jobs"] * 2])
    assert list(kinds.values()) == [sorted(["start", "end", "call", "jobs"])]


def test_a_program_that_has_no_such_loop_is_stopped_at_its_first_call(workers: Workers, antenna: Antenna) -> None:
    code = """
        import client

        def loop(batch):
            return len(batch)

        client.poll()
        print("went on")
    """
    ended = workers.run(code, **workers.on(SERVICE=antenna.url, AMI_TEST_TASK_LOOP="__main__:lop"))
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "AMI_TEST_TASK_LOOP='__main__:lop': the module has no such function" in ended.stderr


# Children


def test_children_that_threads_fork_book_on_their_own(workers: Workers, antenna: Antenna) -> None:
    # A first call before the threads: requests imports inside of it, and the lock of an import under way in another
    # thread stays locked in a child for ever. Without our hook, too: half of such runs hung.
    code = """
        import multiprocessing
        import threading
        import warnings
        import client

        warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks: just what this is about
        client.poll()

        def work():
            child = multiprocessing.get_context("fork").Process(target=client.poll)
            child.start()
            client.poll()
            children.append(child)

        children = []
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for child in children:  # not by the threads: they take each other's exit codes
            child.join()
        codes = [child.exitcode for child in children]
        assert codes == [0] * 8, codes
    """
    pid, kinds = books_of(workers, code, antenna.url)
    assert kinds.pop(pid) == sorted(["start", "end", *["call", "jobs"] * 9])
    assert list(kinds.values()) == [CALLS] * 8


def test_a_child_of_posix_spawn_is_armed_and_ends_its_ledger(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import sys
        import client

        if len(sys.argv) == 1:
            command = [sys.executable, __file__, "child"]
            child = os.posix_spawn(sys.executable, command, os.environ)
            assert os.waitpid(child, 0)[1] == 0
        client.poll()
    """
    pid, kinds = books_of(workers, code, antenna.url)
    assert list(kinds.values()) == [CALLS, CALLS]
    assert {events[0].number("parent") for own, events in workers.ledgers().items() if own != pid} == {pid}


def test_a_child_with_an_empty_environment_is_off_and_disturbs_nobody(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import subprocess
        import sys
        import client

        client.poll()
        look = "import sys, PIL.Image, requests; print([name for name in sys.modules if name.startswith('ami_')])"
        for environment in ({}, {"AMI_TEST_RUN_DIR": os.environ["AMI_TEST_RUN_DIR"]}):
            said = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True)
            assert (said.returncode, said.stdout, said.stderr) == (0, "[]\\n", ""), said
    """
    pid, kinds = books_of(workers, code, antenna.url)
    assert kinds == {pid: CALLS}


# Folders


def test_a_worker_in_a_directory_that_was_removed_is_armed_if_its_run_folder_is_elsewhere(workers: Workers) -> None:
    (workers.folder / "gone").mkdir()
    command = workers.command("import requests\nprint('went on')")
    enter = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    ended = call(workers.folder, "sh", "-c", enter, "sh", workers.folder / "gone", *command, **workers.on())
    assert (ended.returncode, ended.stdout) == (0, "went on\n"), ended.stderr
    (events,) = workers.ledgers().values()
    assert is_complete(events)


def test_a_run_folder_that_is_read_only_stops_a_worker_and_not_one_that_runs(
    workers: Workers, antenna: Antenna
) -> None:
    code = """
        import os
        import client

        client.poll()
        os.chmod(os.environ["AMI_TEST_RUN_DIR"] + "/ledger", 0o500)
        if os.access(os.environ["AMI_TEST_RUN_DIR"] + "/ledger", os.W_OK):
            os._exit(77)
        child = os.fork()
        client.poll()
        assert client.poll() == [1]
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    process = workers.start(code, **workers.on(SERVICE=antenna.url))
    _, complained = process.communicate(timeout=60)
    if process.returncode == 77:
        pytest.skip("who runs this may write everywhere")
    assert process.returncode == 0, complained
    said = [line for line in complained.splitlines() if "cannot be" in line]
    assert len(said) == 1
    assert said[0].startswith("ami-fault-site: the ledger cannot be written: Permission denied; no more faults from")
    (events,) = workers.ledgers().values()
    assert is_complete(events)
    refused = workers.run("import requests\nprint('went on')", **workers.on())
    problem = f"AMI_TEST_RUN_DIR={str(workers.run_folder.path)!r}: cannot be written: Permission denied"
    assert (refused.returncode, refused.stdout, refused.stderr) == (78, "", f"ami-fault-site: {problem}\n")
