"""Processes and threads that a worker starts: all armed, each with a ledger of its own, whole after an orderly end."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial

import pytest

from ami_fault_site.ledger import Event
from tests.e2e.conftest import Antenna, Workers, eventually, is_complete

CALLS = ["call", "end", "jobs", "start"]  # what a child books that polls once and ends in order


def kinds(events: list[Event]) -> list[str]:
    """Return what a process has booked, apart from the host that it calls first and `armed`."""
    return sorted(event.kind for event in events if event.kind not in ("target", "armed"))


def armed_children(workers: Workers, parent: int) -> list[list[Event]]:
    """Return the ledgers of all processes but the parent's, which has to be complete."""
    ledgers = workers.ledgers()
    assert is_complete(ledgers.pop(parent))
    return list(ledgers.values())


def run_of(workers: Workers, code: str, url: str, told: int = 0) -> int:
    """Run a worker to its good end and return its id; so many processes tell their run folder and seed."""
    process = workers.start(code, **workers.on(SERVICE=url))
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    assert "Traceback" not in complained
    assert said == f"{workers.run_folder.path} 7\n" * told
    return process.pid


def test_a_forked_child_books_on_its_own(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import sys
        import client

        client.poll()
        child = os.fork()
        print(os.environ["AMI_TEST_RUN_DIR"], os.environ["AMI_TEST_SEED"], flush=True)
        client.poll()
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    parent = run_of(workers, code, antenna.url, told=2)
    (child,) = armed_children(workers, parent)
    assert kinds(child) == CALLS
    assert is_complete(child)
    assert child[0].number("parent") == parent


def test_a_child_that_books_nothing_leaves_no_file(workers: Workers, antenna: Antenna) -> None:
    code = """
        import multiprocessing
        import os
        import client

        if __name__ == "__main__":
            client.poll()
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                process = multiprocessing.get_context("fork").Process(target=print, args=("",), kwargs={"end": ""})
                process.start()
                process.join()
    """
    assert armed_children(workers, run_of(workers, code, antenna.url)) == []


MULTIPROCESSING = """
    import multiprocessing
    import os
    import client

    def child():
        client.poll()
        print(os.environ["AMI_TEST_RUN_DIR"], os.environ["AMI_TEST_SEED"], flush=True)

    if __name__ == "__main__":
        context = multiprocessing.get_context("METHOD")
        processes = [context.Process(target=child) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, process.exitcode
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_child_of_multiprocessing_is_armed_and_ends_its_ledger(
    workers: Workers, antenna: Antenna, method: str
) -> None:
    parent = run_of(workers, MULTIPROCESSING.replace("METHOD", method), antenna.url, told=2)
    children = [events for events in armed_children(workers, parent) if "call" in kinds(events)]
    assert [kinds(events) for events in children] == [CALLS, CALLS]
    assert [is_complete(events) for events in children] == [True, True]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_child_that_arms_itself_late_ends_its_ledger_too(workers: Workers, antenna: Antenna, method: str) -> None:
    code = MULTIPROCESSING.replace("METHOD", method).replace("    import client\n", "", 1)
    code = code.replace("def child():\n", "def child():\n        import client\n")
    process = workers.start(code, **workers.on(SERVICE=antenna.url))
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    children = [events for events in workers.ledgers().values() if "call" in kinds(events)]
    assert [kinds(events) for events in children] == [CALLS, CALLS]
    assert [is_complete(events) for events in children] == [True, True]


def test_threads_book_into_one_ledger_without_gaps(workers: Workers, antenna: Antenna) -> None:
    code = """
        import threading
        import client

        def work():
            for task in client.lease(5):
                assert client.look(task) == (1, 1)
                assert client.answer(task) == "accepted"

        threads = [threading.Thread(target=work, name=f"thread-{number}") for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    parent = run_of(workers, code, antenna.url)
    (events,) = workers.ledgers().values()
    assert events[0].pid == parent
    assert is_complete(events)
    answers = [event.thread for event in events if event.kind == "answer"]
    assert sorted(answers) == sorted(5 * [f"thread-{number}" for number in range(8)])


def test_a_child_forked_while_a_thread_holds_the_locks_does_not_hang(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import signal
        import threading
        import warnings
        import client
        from ami_fault_site import hooks

        warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks: just what this is about
        injector = hooks._watch.injector
        held, done = threading.Event(), threading.Event()

        def hold():
            with injector._ledger._lock, injector.run._counters._lock:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if not child:
            signal.alarm(20)
            client.poll()
            hooks._watch.injector._ledger.end()
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        done.set()
        thread.join()
        assert ended == 0, ended
    """
    (child,) = armed_children(workers, run_of(workers, code, antenna.url))
    assert kinds(child) == CALLS
    assert is_complete(child)


def test_a_kill_at_any_moment_leaves_a_ledger_that_can_be_read(workers: Workers, antenna: Antenna) -> None:
    code = """
        import client

        while True:
            client.poll()
            for task in client.lease(3):
                client.look(task)
                client.answer(task)
    """

    def has_begun(pid: int) -> bool:
        return len(workers.read()[0].get(pid, ())) > 3

    processes = [workers.start(code, **workers.on(SERVICE=antenna.url)) for _ in range(10)]
    for process in processes:
        eventually(partial(has_begun, process.pid), "a worker books")
        time.sleep(random.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    ledgers = workers.ledgers()
    assert sorted(ledgers) == sorted(process.pid for process in processes)
    assert "end" not in workers.kinds()
    for events in ledgers.values():
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_a_ledger_that_was_cut_in_its_last_line_is_read_up_to_there(workers: Workers, antenna: Antenna) -> None:
    parent = run_of(workers, "import client\nclient.poll()", antenna.url)
    (path,) = workers.run_folder.ledger.glob("*.jsonl")
    whole = workers.ledgers()[parent]
    path.write_bytes(path.read_bytes()[:-5])
    assert workers.ledgers()[parent] == whole[:-1]
