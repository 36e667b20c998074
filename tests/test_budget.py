"""The promises of the budget: how often a task is handed out, how that is known, and what is withheld for it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from ami_fault_site.antenna import Lease, parse_reply_subject
from ami_fault_site.budget import Budget
from ami_fault_site.faults import Call, Draw, InjectedTransientError, Role, Site
from ami_fault_site.injector import Injector
from ami_fault_site.runfolder import RunFolder, join
from ami_fault_site.settings import Settings
from tests.stage import events, injector, reply_subject

BATCH = Call(Site.BATCH, (Draw("1", "1"),), job=1)
NEWS = "budget"


def leased(sequence: int, number: int = 1) -> Lease:
    delivery = parse_reply_subject(reply_subject(sequence, number))
    assert delivery is not None
    return Lease(delivery, str(sequence), f"http://h/{sequence}.jpg")


def dying(one: Injector, call: Call = BATCH) -> bool:
    """Say whether the transient fault that was asked for strikes."""
    try:
        one.strike(call, one.decide(call))
    except InjectedTransientError:
        return True
    return False


def why(run: RunFolder) -> list[str]:
    return [event.text("why") for event in events(run, "withheld")]


def news(run: RunFolder) -> list[tuple[int | None, str]]:
    return [(event.number("max_deliver"), event.text("source")) for event in events(run, NEWS)]


def ending(work: Callable[[], object]) -> int:
    """Do something in a child, and return how that ended; 0 if it went on."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- how often a task is handed out, and how that is known


@pytest.mark.parametrize(
    ("setting", "log", "most", "source", "said"),
    [
        (3, None, 3, "setting", "max_deliver 3, no fault takes the last"),
        (3, 5, 3, "setting", "max_deliver 3, no fault takes the last"),
        (None, 5, 5, "job log", "max_deliver 5, no fault takes the last"),
        (
            None, None, 2, "assumed",
            "max_deliver 2 (assumed: AMI_TEST_MAX_DELIVER tells), no fault takes the last",
        ),
        (0, 5, 0, "off", "faults may take a task's last delivery"),
    ],
)  # fmt: skip
def test_the_setting_counts_then_the_jobs_log_and_else_2_is_assumed_and_said(
    tmp_path: Path, setting: int | None, log: int | None, most: int, source: str, said: str
) -> None:
    run = join(Settings(seed=1), tmp_path).run
    if log is not None:
        run.tell_max_deliver(log)
    budget = Budget(setting, run, "1")
    assert (budget.most, budget.source, str(budget)) == (most, source, said)


@pytest.mark.parametrize(("setting", "source"), [(3, "setting"), (None, "assumed")])
def test_how_it_is_known_is_booked_with_the_first_tasks_and_said_in_the_banner(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], setting: int | None, source: str
) -> None:
    one = injector(tmp_path, max_deliver=setting)
    one.meet_host("127.0.0.1:80")
    one.received([])
    assert news(one.run) == []
    one.received([leased(1)])
    one.received([leased(2)])
    assert news(one.run) == [(one.budget.most, source)]
    assert f"; {one.budget}; " in capfd.readouterr().err


def test_what_the_jobs_log_says_is_taken_over_while_the_worker_runs_and_booked(tmp_path: Path) -> None:
    one = injector(tmp_path, transient_error_rate=1.0)
    one.received([leased(1, 2)])
    assert not dying(one)
    one.run.tell_max_deliver(3)
    assert dying(one)  # the second is not the last
    one.received([leased(2, 3)])
    assert not dying(one)
    assert news(one.run) == [(2, "assumed"), (3, "job log")]
    assert why(one.run) == [
        "budget: job_1 task 1 is out on its last delivery of 2",
        "budget: job_1 task 2 is out on its last delivery of 3",
    ]


def test_a_log_that_says_less_than_was_assumed_protects_what_is_out_already(tmp_path: Path) -> None:
    one = injector(tmp_path, transient_error_rate=1.0)
    one.received([leased(1)])
    one.run.tell_max_deliver(1)
    assert not dying(one)
    assert why(one.run) == ["budget: job_1 task 1 is out on its last delivery of 1"]


def test_who_told_first_is_believed(tmp_path: Path) -> None:
    run = join(Settings(seed=1), tmp_path).run
    run.tell_max_deliver(4)
    run.tell_max_deliver(2)
    assert run.max_deliver() == 4


# --- what is withheld


def test_a_fault_is_withheld_while_any_process_of_the_tree_holds_a_last_delivery(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=2, transient_error_rate=1.0)
    assert ending(lambda: one.received([leased(7, 1), leased(9, 2)])) == 0
    assert not dying(one)
    assert ending(lambda: one.answered([leased(9, 2).delivery])) == 0
    assert dying(one)
    assert why(one.run) == ["budget: job_1 task 9 is out on its last delivery of 2"]


def test_what_another_tree_holds_withholds_nothing(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=2, transient_error_rate=1.0, incarnation=1)
    other = injector(tmp_path, max_deliver=2, transient_error_rate=1.0, incarnation=2, run_dir=str(one.run.path))
    one.received([leased(7, 2)])
    assert dying(other)
    assert not dying(one)


def test_with_0_nothing_is_withheld_and_nothing_kept(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=0, transient_error_rate=1.0)
    one.received([leased(7, 9)])
    with one.fetching():
        assert dying(one)
    assert not one.run.held("group").parent.joinpath(f"held-group-{os.getpgrp()}").exists()


def test_a_fetch_that_does_not_end_withholds_the_fault_once_patience_is_over(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=2, transient_error_rate=1.0)
    one.budget.holdings.patience = 0.02
    with one.fetching():
        assert not dying(one)
    assert dying(one)
    assert why(one.run) == ["budget: a tasks call is still under way"]


def test_a_worker_that_fetches_itself_goes_on_after_a_transient_fault(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=2, transient_error_rate=1.0)
    assert dying(one)
    assert not one.budget.is_doomed()


def test_a_dead_loader_dooms_all_those_of_its_job_and_not_the_main_process(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=2, worker_crash_rate=1.0, crash_process=(Role.LOADER,))
    batch = BATCH._replace(role=Role.LOADER)
    loader = get_context("fork").Process(target=lambda: one.strike(batch, one.decide(batch)), daemon=True)
    loader.start()
    loader.join()
    assert loader.exitcode == 86
    assert one.budget.is_doomed()
    one.budget.begin_pass()
    assert not one.budget.is_doomed()


def test_a_dead_main_process_dooms_its_tree_for_ever(tmp_path: Path) -> None:
    one = injector(tmp_path, max_deliver=2, worker_crash_rate=1.0)
    assert ending(lambda: one.strike(BATCH, one.decide(BATCH))) == 86
    one.budget.begin_pass()
    assert one.budget.is_doomed()


# --- a run folder that is lost in the middle


def without_room(one: Injector) -> None:
    """Let no file grow any more."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def without_folder(one: Injector) -> None:
    """Take away what the processes share."""
    shutil.rmtree(one.run.path / "shared")


@pytest.mark.parametrize("lose", [without_room, without_folder])
@pytest.mark.parametrize("what", ["receives", "fetches", "dies", "kills"])
def test_a_run_folder_that_is_lost_in_the_middle_is_said_once_and_the_worker_goes_on(
    tmp_path: Path, lose: Callable[[Injector], None], what: str
) -> None:
    rate = {"worker_crash_rate": 1.0} if what == "kills" else {"transient_error_rate": 1.0}
    one = injector(tmp_path, max_deliver=2, max_faults=5, **rate)
    one.received([leased(1)])
    held, (hear, tell) = one.run.held(f"group-{os.getpgrp()}"), os.pipe()

    def work() -> None:
        os.dup2(tell, 2)  # a pipe, for which there is room
        lose(one)
        if lose is without_folder:
            held.parent.write_text("in the way of a new one")
        if what == "receives":
            one.received([leased(2, 2)])
        elif what == "fetches" and lose is without_folder:
            with one.fetching():
                pass
        for _ in range(3):
            assert not dying(one)
            with one.fetching():
                one.received([leased(3, 2)])

    assert ending(work) == 0
    assert os.read(hear, 1000).count(b"the worker goes on\n") == 1
    os.close(hear)
    os.close(tell)
    assert events(one.run, "fault") == []
