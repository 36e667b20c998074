"""The promise of caps and counts: never exceeded, by sixteen racing processes of three threads, restarts and all."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ami_fault_site.faults import Call, Draw, Site
from ami_fault_site.grammar import parse_rules
from ami_fault_site.injector import Injector
from ami_fault_site.ledger import Event, Reader
from ami_fault_site.runfolder import RunFolder
from tests.stage import injector

pytestmark = pytest.mark.untraced  # in sixteen processes at once a tracer would be nine tenths of the work

PROCESSES, THREADS, CALLS = 16, 3, 12
IN_ALL = PROCESSES * THREADS * CALLS

Work = Callable[[Injector, int], object]


def ask(one: Injector, number: int, **more: Any) -> bool:
    call = Call(Site.RESULT, (Draw(str(number), "1"),), job=1)
    return one.grant(call, one.decide(call), **more)


def race(one: Injector, work: Work, first: int = 0, killed: int = 0) -> None:
    """Let all begin at once, each with calls of its own; the first `killed` processes are killed at half their way."""
    hear, tell = os.pipe()
    children = [os.fork() or _race(one, work, first + number, (hear, tell), number < killed) for number in range(16)]
    os.close(hear)
    os.close(tell)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [-signal.SIGKILL] * killed + [0] * (PROCESSES - killed)


def _race(one: Injector, work: Work, number: int, start: tuple[int, int], is_killed: bool) -> int:
    done: list[int] = []

    def run(thread: int) -> None:
        for at in range(CALLS):
            if is_killed and len(done) >= THREADS * CALLS // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            work(one, (number * THREADS + thread) * CALLS + at)
            done.append(at)

    os.close(start[1])
    os.read(start[0], 1)  # ends when the parent has forked the last of them
    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0 if len(done) == THREADS * CALLS else 1)


def booked(run: RunFolder, *kinds: str) -> list[Event]:
    reader = Reader(run.ledger)
    found = [event for event in reader.new() if event.kind in kinds]
    assert reader.damage == []
    return found


def struck(run: RunFolder) -> Counter[str]:
    return Counter(event.text("kind") for event in booked(run, "fault"))


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({"network_error_rate": 1.0, "max_faults": 37}, {"": 37}),
        ({"rules": parse_rules("result: 41*reset")}, {"reset": 41}),
        ({"rules": parse_rules("result: 20*reset -> 30*closed -> garbage")}, {"reset": 20, "closed": 30}),
        ({"rules": parse_rules("result: 50%40*reset -> 10*off -> 1*closed")}, {"reset": 40, "closed": 1}),
        ({"rules": parse_rules("result: after 100 reset")}, {"reset": IN_ALL - 100}),
        ({"rules": parse_rules("result: every 7 reset")}, {"reset": IN_ALL // 7}),
        ({"rules": parse_rules("result: after 100 every 7 30*reset")}, {"reset": 30}),
    ],
)
def test_racing_processes_strike_exactly_as_often_as_they_may(
    tmp_path: Path, values: dict[str, Any], most: dict[str, int]
) -> None:
    one = injector(tmp_path, **values)
    race(one, ask)
    found = struck(one.run)
    assert {kind: found[kind] if kind else found.total() for kind in most} == most


def test_of_two_caps_none_is_exceeded_and_the_wider_one_is_met(tmp_path: Path) -> None:
    """Who has taken a place in a term may find the cap of all faults used up by those that were quicker."""
    one = injector(tmp_path, rules=parse_rules("result: 20*reset -> 30*closed -> garbage"), max_faults=90)
    race(one, ask)
    found = struck(one.run)
    assert found.total() == 90
    assert found["reset"] <= 20
    assert found["closed"] <= 30


def test_a_cap_holds_over_processes_that_are_killed_in_the_middle_and_over_a_restart(tmp_path: Path) -> None:
    killed, most, cap = 6, 300, 420
    values = {"rules": parse_rules(f"result: {most}*reset -> closed"), "max_faults": cap}
    one = injector(tmp_path, **values)
    race(one, ask, killed=killed)
    again = injector(tmp_path, run_dir=str(one.run.path), **values)
    race(again, ask, first=PROCESSES)
    found = struck(one.run)
    # Who is killed between taking its place and booking has not struck: that place is lost, and no other one.
    lost = killed * THREADS
    assert most - lost <= found["reset"] <= most
    assert cap - lost <= found.total() <= cap
    assert (one.run.counted("rule-0-term-0"), one.run.counted("faults")) == (most, cap)


def test_calls_go_on_being_counted_over_a_restart(tmp_path: Path) -> None:
    values = {"rules": parse_rules(f"result: after {IN_ALL + 50} reset")}
    one = injector(tmp_path, **values)
    race(one, ask)
    assert struck(one.run) == {}
    race(injector(tmp_path, run_dir=str(one.run.path), **values), ask, first=PROCESSES)
    assert struck(one.run) == {"reset": IN_ALL - 50}


def test_a_miss_of_its_probability_takes_no_place(tmp_path: Path) -> None:
    one = injector(tmp_path, rules=parse_rules("result: 10%20*reset"))
    race(one, ask)
    assert struck(one.run) == {"reset": 20}
    why = {event.text("why").partition(" by rule: ")[0] for event in booked(one.run, "withheld")}
    assert why <= {"20 of 20 struck already"}  # there was room when it was decided, and none when it was to strike


def test_what_is_withheld_takes_no_place(tmp_path: Path) -> None:
    one = injector(tmp_path, rules=parse_rules("result: 20*reset"), max_faults=20)
    race(one, lambda mine, number: ask(mine, number, unable="not here"))
    assert (struck(one.run), len(booked(one.run, "withheld"))) == ({}, IN_ALL)
    assert (one.run.counted("rule-0-term-0"), one.run.counted("faults")) == (0, 0)
    race(one, ask, first=PROCESSES)
    assert struck(one.run) == {"reset": 20}


def test_calls_without_identity_get_every_number_once(tmp_path: Path) -> None:
    one = injector(tmp_path, network_error_rate=1e-9)
    race(one, lambda mine, _number: mine.book("number", number=int(mine.attempt(Site.JOBS))))
    assert sorted(event.number("number") or 0 for event in booked(one.run, "number")) == list(range(1, IN_ALL + 1))
