"""The promises of the injector: nothing strikes that is not booked, and its own trouble is not the worker's."""

from __future__ import annotations

import faulthandler
import os
import shutil
import threading
from itertools import count
from pathlib import Path

import pytest

from ami_fault_site.banner import banner
from ami_fault_site.faults import KILLING, Call, Decision, Draw, Effect, Harm, Mode, Point, Seam, Site
from ami_fault_site.injector import Injector
from tests.stage import events, injector

EVERY_CALL = Call(Site.RESULT, (Draw("1", "1"),), job=1)


def ask(one: Injector) -> tuple[Decision, bool]:
    decision = one.decide(EVERY_CALL)
    return decision, one.grant(EVERY_CALL, decision)


def test_a_fault_is_booked_with_all_that_its_decision_can_be_recomputed_from(tmp_path: Path) -> None:
    one = injector(tmp_path, network_error_rate=1.0, seed=4)
    decision, granted = ask(one)
    fault = events(one.run, "fault")[0]
    assert granted
    assert {
        key: fault.data[key] for key in ("site", "effect", "trigger", "subject", "attempt", "rate", "draw", "job")
    } == {
        "site": "result",
        "effect": "network-error",
        "trigger": "rate",
        "subject": "1",
        "attempt": "1",
        "rate": 1.0,
        "draw": decision.draw,
        "job": 1,
    }


def test_the_stop_file_withholds_the_next_fault_and_that_is_booked(tmp_path: Path) -> None:
    one = injector(tmp_path, network_error_rate=1.0)
    assert ask(one)[1]
    one.run.stop_file.touch()
    assert not ask(one)[1]
    assert [event.text("why") for event in events(one.run, "withheld")] == ["the stop file is there"]


def test_the_cap_withholds_what_exceeds_it_and_that_is_booked(tmp_path: Path) -> None:
    one = injector(tmp_path, network_error_rate=1.0, max_faults=2)
    assert [ask(one)[1] for _ in range(4)] == [True, True, False, False]
    why = {event.text("why") for event in events(one.run, "withheld")}
    assert why == {"AMI_TEST_MAX_FAULTS=2 is reached"}


def test_a_ledger_that_cannot_be_written_ends_injection_and_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = injector(tmp_path, network_error_rate=1.0)
    shutil.rmtree(one.run.ledger)
    assert not ask(one)[1]
    assert not ask(one)[1]
    one.book("thing")
    said = "the ledger cannot be written: No such file or directory"
    assert capfd.readouterr().err == (
        f"ami-fault-site: {said}; no more faults from process {os.getpid()}, the worker goes on\n"
    )
    assert one.run.is_incomplete()
    assert one.decide(EVERY_CALL).reason == "the ledger is incomplete"


@pytest.mark.parametrize("what", ["counter", "slot", "banner"])
def test_a_run_folder_that_is_gone_ends_injection_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    one = injector(tmp_path, network_error_rate=1.0, max_faults=1)
    one.book("thing")
    shutil.rmtree(one.run.path / "shared")
    if what == "counter":
        assert one.attempt(Site.JOBS) == ""
        assert one.attempt(Site.JOBS) == ""
    elif what == "slot":
        assert not ask(one)[1]
    else:
        one.meet_host("127.0.0.1:80")
    assert capfd.readouterr().err.count("the worker goes on\n") == 1
    assert not ask(one)[1]


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode in KILLING])
def test_a_death_is_booked_last_and_once_whatever_the_threads_of_a_process_do(tmp_path: Path, mode: Mode) -> None:
    one = injector(tmp_path, max_deliver=0)
    decision = Decision("asked for", Harm(Effect.CRASH, mode.value), point=Point.POSTING_UNSENT)

    def book_for_ever() -> None:
        for number in count():
            one.book("thing", number=number)

    def die() -> None:
        one.strike(EVERY_CALL, decision)

    for _ in range(10):
        child = os.fork()
        if child == 0:
            faulthandler.disable()  # its words would be in nobody's way but the reader's
            for work in (book_for_ever, die, book_for_ever, die):
                threading.Thread(target=work).start()
            threading.Event().wait()
        os.waitpid(child, 0)
        own = [event for event in events(one.run) if event.pid == child]
        assert [event.kind for event in own].count("fault") == 1
        assert own[-1].kind == "fault"


def test_trouble_of_our_own_does_not_become_the_workers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = injector(tmp_path, network_error_rate=1.0)
    assert one.sheltered(lambda: 1 // 0, 7) == 7
    assert "internal error, please report it: ZeroDivisionError; " in capfd.readouterr().err
    assert not ask(one)[1]


def test_the_banner_is_printed_once_for_each_incarnation_over_all_processes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = injector(tmp_path, incarnation=3)
    other = injector(tmp_path, incarnation=3, run_dir=str(one.run.path))
    for each in (one, other, one):
        each.meet_host("127.0.0.1:80")
    assert capfd.readouterr().err.count("incarnation 3 armed at ") == 1


def test_the_banner_tells_what_is_armed(tmp_path: Path) -> None:
    one = injector(tmp_path, network_error_rate=0.3, permanent_error_images=("3", "17"), seed=9)
    seams = {Seam.HTTP: "requests.Session.send"}
    assert banner(one.settings, seams, "h:80", one.run.path, str(one.budget)) == [
        "incarnation 0 armed at http (requests.Session.send)",
        "rates: network 0.3, 2 permanent images; seed 9",
        "target h:80; max_deliver 2 (assumed: AMI_TEST_MAX_DELIVER tells), no fault takes the last; "
        f"run folder {one.run.path}",
    ]


def test_the_banner_says_if_crashes_cannot_strike(tmp_path: Path) -> None:
    one = injector(tmp_path, worker_crash_rate=0.3, max_deliver=2)
    assert banner(one.settings, {}, "h", one.run.path, str(one.budget))[-1] == (
        "crash and transient faults cannot strike yet: no known task loop is loaded (AMI_TEST_TASK_LOOP names one)"
    )


@pytest.mark.parametrize("host", ["antenna.insectai.org", "api.antenna.insectai.org:443", "ANTENNA.insectai.org"])
def test_a_protected_host_met_at_a_call_ends_the_process_with_78(tmp_path: Path, host: str) -> None:
    one = injector(tmp_path)
    child = os.fork()
    if child == 0:
        one.meet_host(host)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 78
    assert [event.text("target") for event in events(one.run, "refused")] == [host]


def test_an_address_of_ipv6_can_be_protected(tmp_path: Path) -> None:
    one = injector(tmp_path, protected_hosts=("::1",))
    child = os.fork()
    if child == 0:
        one.meet_host("[::1]:8000")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 78
