"""The promises of what a tree holds: real processes and threads fetch, die and are forked, and nothing goes unseen."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ami_fault_site.antenna import Delivery
from ami_fault_site.holdings import Holdings

QUICK = 0.05


def delivery(sequence: int, number: int = 2, stream: str = "job_1", published: int = 7) -> Delivery:
    return Delivery(stream, "c", number, sequence, sequence, published, 0)


_living: set[int] = set()


@pytest.fixture(autouse=True)
def _end_of_all() -> Iterator[None]:
    """Let no process outlive a test that has failed."""
    yield
    for pid in _living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _living.clear()


class Other:
    """A forked process that does something and then waits to be told to go on, or to be killed."""

    def __init__(self, work: Callable[[Other], None]) -> None:
        (self.hears, self._say), (self._heed, self._tell) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work(self)
                code = 0
            finally:
                os._exit(code)
        os.close(self._say)
        os.close(self._heed)
        _living.add(self.pid)

    def says(self, word: bytes) -> None:
        """Tell the parent; in the child."""
        os.write(self._say, word)

    def waits(self) -> None:
        """Wait until the parent says so; in the child."""
        os.read(self._heed, 1)

    def heard(self) -> bytes:
        """Wait for a word of the child."""
        return os.read(self.hears, 1)

    def ends(self) -> int:
        """Let the child go on, and return how it ended."""
        with contextlib.suppress(BrokenPipeError):  # it waits for nothing
            os.write(self._tell, b".")
        return self._ended()

    def killed(self) -> int:
        """Kill the child."""
        os.kill(self.pid, signal.SIGKILL)
        return self._ended()

    def _ended(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        _living.discard(self.pid)
        os.close(self.hears)
        os.close(self._tell)
        return code


def fetches(one: Holdings) -> Callable[[Other], None]:
    def work(other: Other) -> None:
        with one.fetching():
            other.says(b"f")
            other.waits()

    return work


@contextmanager
def a_thread_fetching(one: Holdings) -> Iterator[None]:
    """Let a thread be in the midst of a fetch."""
    begun, over = threading.Event(), threading.Event()

    def fetch() -> None:
        with one.fetching():
            begun.set()
            over.wait()

    thread = threading.Thread(target=fetch)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def is_alone(one: Holdings) -> bool:
    with one.closing() as alone:
        return alone


# --- what is out


def test_a_task_is_out_from_its_receipt_until_its_answer_was_heard(tmp_path: Path) -> None:
    one = Holdings(tmp_path / "held")
    assert one.last(2) == []
    one.received([delivery(5), delivery(3), delivery(4, number=1), delivery(30)], least=2)
    assert one.last(2) == ["job_1 task 3", "job_1 task 5", "job_1 task 30"]
    one.answered([delivery(5), delivery(99)])
    assert one.last(2) == ["job_1 task 3", "job_1 task 30"]


def test_an_answer_on_an_earlier_delivery_counts(tmp_path: Path) -> None:
    one = Holdings(tmp_path)
    one.received([delivery(5)], least=2)
    one.answered([delivery(5, number=1)])
    assert one.last(2) == []


def test_a_task_that_comes_back_is_out_on_its_later_delivery(tmp_path: Path) -> None:
    one = Holdings(tmp_path)
    one.received([delivery(5, number=9)], least=1)
    one.received([delivery(5, number=10)], least=1)
    assert (one.last(10), one.last(11)) == (["job_1 task 5"], [])


def test_a_retried_job_has_other_tasks_of_the_same_numbers(tmp_path: Path) -> None:
    one = Holdings(tmp_path)
    one.received([delivery(5), delivery(5, published=8)], least=2)
    one.answered([delivery(5)])
    assert one.last(2) == ["job_1 task 5"]


@pytest.mark.parametrize("stream", ["", "a~b~1", "../up", "a/b", "x" * 5000, "\udcff\n é", "doomed-tree", "job 1"])
def test_a_stream_may_have_any_name(tmp_path: Path, stream: str) -> None:
    one = Holdings(tmp_path / "held")
    one.received([delivery(1, stream=stream), delivery(2)], least=2)
    assert sorted(one.last(2)) == sorted([f"{stream} task 1", "job_1 task 2"])
    assert [path.parent for path in tmp_path.rglob("held~*")] == [tmp_path / "held"] * 2
    one.answered([delivery(1, stream=stream)])
    assert one.last(2) == ["job_1 task 2"]


def test_all_processes_of_a_tree_see_what_one_of_them_holds(tmp_path: Path) -> None:
    one = Holdings(tmp_path)
    assert Other(lambda _: one.received([delivery(5)], least=2)).ends() == 0
    assert one.last(2) == ["job_1 task 5"]
    assert Other(lambda _: one.answered([delivery(5)])).ends() == 0
    assert one.last(2) == []


# --- who fetches, and who is alone


def test_many_may_fetch_at_a_time_and_nobody_is_alone_meanwhile(tmp_path: Path) -> None:
    one = Holdings(tmp_path, QUICK)
    assert is_alone(one)
    others = [Other(fetches(one)) for _ in range(3)]
    assert [other.heard() for other in others] == [b"f"] * 3
    for other in others:
        assert not is_alone(one)
        assert other.ends() == 0
    assert is_alone(one)


def test_a_fetch_in_another_thread_counts_as_well(tmp_path: Path) -> None:
    one = Holdings(tmp_path, QUICK)
    with a_thread_fetching(one):
        assert not is_alone(one)
    assert is_alone(one)


def test_nobody_fetches_while_somebody_is_alone(tmp_path: Path) -> None:
    one = Holdings(tmp_path)
    with one.closing() as alone:
        assert alone
        other = Other(fetches(one))
        thread = threading.Thread(target=lambda: is_alone(Holdings(tmp_path, QUICK)))
        thread.start()
        thread.join()
        assert select.select([other.hears], [], [], 0)[0] == []
    assert other.heard() == b"f"
    assert other.ends() == 0


def test_who_is_about_to_die_waits_for_a_fetch_under_way(tmp_path: Path) -> None:
    one = Holdings(tmp_path)

    def fetch(other: Other) -> None:
        with one.fetching():
            other.says(b"f")
            other.waits()
            one.received([delivery(5)], least=2)

    other = Other(fetch)
    assert other.heard() == b"f"
    found: list[tuple[bool, list[str]]] = []

    def close() -> None:
        with one.closing() as alone:
            found.append((alone, one.last(2)))

    thread = threading.Thread(target=close)
    thread.start()
    thread.join(QUICK)
    assert found == []
    assert other.ends() == 0
    thread.join()
    assert found == [(True, ["job_1 task 5"])]


def test_who_waits_to_be_alone_is_not_kept_out_by_ever_new_fetches(tmp_path: Path) -> None:
    """Without the gate there is always a fetch under way: each of the two begins its next one during the other's."""
    one, turn, over = Holdings(tmp_path, 5.0), [threading.Semaphore(1), threading.Semaphore(0)], threading.Event()
    begun = threading.Event()

    def fetch(mine: int) -> None:
        while not over.is_set():
            with one.fetching():
                turn[mine].acquire(timeout=QUICK)
                begun.set()
                turn[1 - mine].release()
                # Until the other is inside as well, if it gets in.
                time.sleep(0.002)

    threads = [threading.Thread(target=fetch, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    begun.wait()
    got = is_alone(one)
    over.set()
    for thread in threads:
        thread.join()
    assert got


def test_a_fetcher_that_is_killed_holds_nobody_up(tmp_path: Path) -> None:
    one = Holdings(tmp_path, QUICK)
    other = Other(fetches(one))
    assert other.heard() == b"f"
    assert other.killed() == -signal.SIGKILL
    assert is_alone(one)


def test_who_is_killed_while_it_is_alone_holds_nobody_up(tmp_path: Path) -> None:
    one = Holdings(tmp_path, QUICK)

    def close(other: Other) -> None:
        with one.closing():
            other.says(b"c")
            other.waits()

    other = Other(close)
    assert other.heard() == b"c"
    assert not is_alone(one)
    assert other.killed() == -signal.SIGKILL
    assert is_alone(one)


def test_a_process_forked_in_the_midst_of_a_fetch_does_not_keep_the_lock(tmp_path: Path) -> None:
    one = Holdings(tmp_path, QUICK)

    def idle(other: Other) -> None:
        other.says(b"i")
        other.waits()

    with a_thread_fetching(one):
        other = Other(idle)
        assert other.heard() == b"i"
    assert is_alone(one)
    assert other.ends() == 0


@pytest.fixture
def _restless_threads() -> Iterator[None]:
    """Let threads take turns at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless_threads")
def test_no_fork_at_whatever_moment_of_a_fetch_keeps_the_lock(tmp_path: Path) -> None:
    one, over = Holdings(tmp_path, 1.0), threading.Event()

    def fetch() -> None:
        while not over.is_set():
            with one.fetching():
                pass

    thread = threading.Thread(target=fetch)
    thread.start()
    others = [Other(Other.waits) for _ in range(16)]
    over.set()
    thread.join()
    assert is_alone(one)
    assert [other.ends() for other in others] == [0] * 16


def test_a_child_that_was_forked_in_the_midst_of_its_parents_fetch_can_fetch_and_be_alone(tmp_path: Path) -> None:
    one = Holdings(tmp_path, QUICK)

    def work(_other: Other) -> None:
        with one.fetching():
            assert not is_alone(one)
        assert not is_alone(one)  # its parent still fetches

    with one.fetching():
        assert Other(work).ends() == 0
    assert is_alone(one)


# --- who may fetch


def test_those_that_are_alive_when_their_tree_is_given_up_are_doomed_for_ever(tmp_path: Path) -> None:
    one = Holdings(tmp_path)

    def work(other: Other) -> None:
        assert not one.is_doomed()
        other.says(b"w")
        other.waits()
        assert one.is_doomed()
        one.begin_pass()
        assert one.is_doomed()

    other = Other(work)
    assert other.heard() == b"w"
    one.doom(whole_tree=True)
    assert other.ends() == 0
    assert not Holdings(tmp_path).is_doomed()  # as of a new life whose tree has the same name


def test_a_job_that_was_given_up_dooms_its_loaders_and_not_those_of_the_next_job(tmp_path: Path) -> None:
    main = os.getpid()
    one = Holdings(tmp_path, main=lambda: main)

    def work(other: Other) -> None:
        other.says(b"w")
        other.waits()
        assert one.is_doomed()

    old = Other(work)
    assert old.heard() == b"w"
    one.doom(whole_tree=False)
    one.begin_pass()
    assert not one.is_doomed()

    def later(_other: Other) -> None:
        assert not one.is_doomed()

    assert Other(later).ends() == 0
    assert old.ends() == 0


def test_a_loader_that_is_forked_for_a_job_that_was_given_up_already_is_doomed(tmp_path: Path) -> None:
    """Its parent had not noticed: a loader dies while the others are still being started."""
    main = os.getpid()
    one = Holdings(tmp_path, main=lambda: main)
    assert Other(lambda _: one.doom(whole_tree=False)).ends() == 0

    def late(_other: Other) -> None:
        assert one.is_doomed()

    assert Other(late).ends() == 0


def test_a_job_that_one_main_process_gave_up_is_nobody_elses(tmp_path: Path) -> None:
    one, sibling = (Holdings(tmp_path, main=lambda pid=pid: pid) for pid in (1, 2))  # type: ignore[misc]
    one.doom(whole_tree=False)

    assert (one.is_doomed(), sibling.is_doomed()) == (True, False)


def test_who_asks_for_jobs_again_holds_nothing_and_siblings_keep_what_they_have(tmp_path: Path) -> None:
    one, sibling = (Holdings(tmp_path, main=lambda pid=pid: pid) for pid in (1, 2))  # type: ignore[misc]
    one.received([delivery(1)], 1)
    sibling.received([delivery(2)], 1)
    one.forget()

    assert one.last(1) == sibling.last(1) == ["job_1 task 2"]


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = Holdings(tmp_path / "file" / "held")
    attempts: list[Callable[[], object]] = [
        lambda: one.received([delivery(1)], 1),
        lambda: one.doom(whole_tree=True),
        lambda: is_alone(one),
    ]
    for work in attempts:
        with pytest.raises(OSError, match="Not a directory"):
            work()
