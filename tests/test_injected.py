"""The promises of injected: what was injected is told again, by identity, and nothing else is."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable

import pytest
import requests
from PIL import UnidentifiedImageError

from ami_fault_site.faults import Effect, InjectedTransientError
from ami_fault_site.injected import Injected


def raised(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def in_a_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    "thing",
    [requests.ConnectionError("x"), requests.Response(), UnidentifiedImageError("x"), InjectedTransientError("x")],
    ids=lambda thing: type(thing).__name__,
)
def test_what_was_marked_is_told_with_its_effect_and_its_like_is_not(thing: object) -> None:
    injected = Injected()
    injected.mark(thing, Effect.NETWORK)
    assert injected.tells(thing) is Effect.NETWORK
    assert injected.tells(type(thing)()) is None


def test_what_is_marked_again_has_its_last_effect() -> None:
    injected, error = Injected(), requests.ConnectionError("x")
    injected.mark(error, Effect.SLOW)
    injected.mark(error, Effect.NETWORK)
    gc.collect()
    assert injected.tells(error) is Effect.NETWORK


def test_a_thing_is_told_by_its_identity_even_where_it_equals_another_and_has_no_hash() -> None:
    class AlikeError(Exception):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    injected, one, other = Injected(), AlikeError(), AlikeError()
    injected.mark(one, Effect.CORRUPT)
    assert injected.tells(one) is Effect.CORRUPT
    assert injected.tells(other) is None


def test_a_mark_keeps_nothing_alive_and_leaves_nothing_behind_for_what_gets_the_same_id() -> None:
    injected = Injected()
    for _ in range(1000):
        error = requests.ConnectionError("x")
        assert injected.tells(error) is None
        injected.mark(error, Effect.NETWORK)
        gone = weakref.ref(error)
        del error
        assert gone() is None


def test_a_mark_writes_nothing_on_what_it_marks() -> None:
    injected, error = Injected(), requests.ConnectionError("x")
    before = dict(vars(error))
    injected.mark(error, Effect.NETWORK)
    assert vars(error) == before


def test_an_error_is_told_by_what_it_was_raised_from_or_during_even_from_none() -> None:
    injected, first = Injected(), requests.ConnectionError("x")
    injected.mark(first, Effect.NETWORK)

    def from_it() -> None:
        raise RuntimeError("cannot post") from first

    def during(other: Callable[[], None]) -> None:
        try:
            other()
        except RuntimeError:
            raise KeyError("results")  # noqa: B904

    def from_none() -> None:
        try:
            raise first
        except requests.ConnectionError:
            raise RuntimeError("cannot post") from None

    assert injected.tells(raised(from_it)) is Effect.NETWORK
    assert injected.tells(raised(lambda: during(from_it))) is Effect.NETWORK
    assert injected.tells(raised(from_none)) is Effect.NETWORK


def test_the_error_that_a_bad_status_becomes_is_told_by_its_response() -> None:
    injected, response = Injected(), requests.Response()
    response.status_code = 503
    injected.mark(response, Effect.NETWORK)
    assert injected.tells(raised(response.raise_for_status)) is Effect.NETWORK


def test_a_chain_that_runs_in_a_circle_comes_to_an_end() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert Injected().tells(one) is None


def test_a_builtin_error_cannot_be_marked_and_is_told_only_by_the_thread_that_met_it() -> None:
    injected, error = Injected(), ConnectionResetError("reset")
    injected.struck(Effect.NETWORK, error)
    assert injected.tells(error) is None
    assert injected.behind(error) is Effect.NETWORK
    assert in_a_thread(lambda: injected.behind(error)) is None


def test_a_marked_error_is_told_in_every_thread() -> None:
    injected, error = Injected(), requests.ConnectionError("x")
    injected.struck(Effect.NETWORK, error)
    assert in_a_thread(lambda: injected.behind(error)) is Effect.NETWORK


def test_words_belong_to_the_last_call_of_their_thread_until_a_call_is_not_made_to_fail() -> None:
    injected = Injected()
    assert injected.behind(None) is None
    injected.struck(Effect.IMAGE_404)
    assert injected.behind(None) is injected.last is Effect.IMAGE_404
    assert in_a_thread(lambda: injected.behind(None)) is None
    injected.passed()
    assert injected.behind(None) is None


def test_an_answer_that_fails_in_the_callers_hands_is_put_down_to_its_call() -> None:
    injected, response = Injected(), requests.Response()
    response._content = b'{"results": ['
    no_json = raised(response.json)
    assert injected.behind(no_json) is None
    injected.struck(Effect.NETWORK)
    assert injected.behind(no_json) is Effect.NETWORK
    assert injected.behind(requests.exceptions.ChunkedEncodingError("cut short")) is Effect.NETWORK


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), KeyError("results"), TypeError("None")])
def test_an_error_of_the_workers_own_is_not_put_down_to_the_call_before_it(error: Exception) -> None:
    injected = Injected()
    injected.struck(Effect.NETWORK)
    assert injected.behind(error) is None


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.untraced  # a tracer's own lock does not survive such a fork
def test_a_child_that_is_forked_while_others_mark_can_mark_and_tell() -> None:
    injected, ended, kept = Injected(), threading.Event(), requests.ConnectionError("kept")
    injected.mark(kept, Effect.NETWORK)
    injected.struck(Effect.NETWORK)

    def mark_on() -> None:
        while not ended.is_set():
            injected.mark(requests.ConnectionError("x"), Effect.NETWORK)

    threads = [threading.Thread(target=mark_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                error = requests.ConnectionError("new")
                injected.mark(error, Effect.CORRUPT)
                told = (injected.tells(kept), injected.tells(error), injected.last)
                os._exit(0 if told == (Effect.NETWORK, Effect.CORRUPT, Effect.NETWORK) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        ended.set()
        for thread in threads:
            thread.join()
