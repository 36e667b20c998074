"""The promises of deaths: a process dies at once, of the cause that was asked for, as of a real one."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ami_fault_site.deaths import die
from ami_fault_site.faults import CRASH_EXIT_CODE, KILLING, Mode

ROOT = Path(__file__).parent.parent
STATUS = {Mode.EXIT: 86, Mode.KILL: -signal.SIGKILL, Mode.SEGV: -signal.SIGSEGV, Mode.ABORT: -signal.SIGABRT}
WAYS = [
    (mode, where) for mode in STATUS for where in ("die(MODE)", "threading.Thread(target=die, args=(MODE,)).start()")
]
BEGINNING = """
import atexit, os, signal, sys, threading
from ami_fault_site.deaths import die
from ami_fault_site.faults import Mode
MODE = Mode(sys.argv[1])
atexit.register(lambda: os.write(1, b"took its leave "))
sys.stdout.write("and flushed")
"""


def start(code: str, mode: Mode) -> subprocess.Popen[bytes]:
    """Run code in a process of its own, after the imports."""
    source = BEGINNING + textwrap.dedent(code)
    command = [sys.executable, "-c", source, mode.value]
    environ = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    return subprocess.Popen(
        command, env={**environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(code: str, mode: Mode) -> tuple[int, bytes, bytes]:
    """Return the exit status (a signal is negative), and what was said on either stream."""
    process = start(code, mode)
    said, complained = process.communicate(timeout=60)
    return process.returncode, said, complained


def test_the_modes_that_kill_are_those_that_have_a_status() -> None:
    assert set(STATUS) == KILLING
    assert STATUS[Mode.EXIT] == CRASH_EXIT_CODE


@pytest.mark.parametrize(
    ("mode", "where"), WAYS, ids=[f"{m.value}-{'thread' if 'Th' in w else 'main'}" for m, w in WAYS]
)
def test_a_killing_mode_ends_the_process_by_its_cause_with_nothing_caught_flushed_or_left(
    mode: Mode, where: str
) -> None:
    code = f"""
        try:
            {where}
            threading.Event().wait()
        except BaseException:
            os.write(1, b"caught")
        finally:
            os.write(1, b"cleaned up")
    """
    assert run(code, mode) == (STATUS[mode], b"", b"")


@pytest.mark.parametrize("mode", [Mode.SEGV, Mode.ABORT])
def test_no_core_is_written_where_a_real_death_writes_one(mode: Mode, tmp_path: Path) -> None:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if most == 0:
        pytest.skip("cores are forbidden here")

    def dumps_core(kill: str) -> bool:
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (most, most))
            os.chdir(tmp_path)
            signal.signal(STATUS[mode] * -1, signal.SIG_DFL)
            if kill == "ours":
                die(mode)
            os.kill(os.getpid(), -STATUS[mode])
        status = os.waitpid(child, 0)[1]
        assert os.WTERMSIG(status) == -STATUS[mode]
        return os.WCOREDUMP(status)

    if not dumps_core("real"):
        pytest.skip("no death writes a core here")
    for core in tmp_path.iterdir():
        core.unlink()
    assert not dumps_core("ours")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", STATUS)
def test_a_worker_that_has_replaced_what_ends_processes_dies_all_the_same(mode: Mode) -> None:
    code = """
        os._exit = os.kill = os.abort = lambda *_: print("not today", flush=True)
        die(MODE)
    """
    assert run(code, mode) == (STATUS[mode], b"", b"")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_has_its_faults_written_down_dies_of_the_same_cause(number: signal.Signals) -> None:
    mode = Mode.SEGV if number is signal.SIGSEGV else Mode.ABORT
    status, said, complained = run("import faulthandler; faulthandler.enable(); die(MODE)", mode)
    assert (status, said) == (-number, b"")
    assert complained.startswith(b"Fatal Python error: ")


def test_a_worker_that_ignores_the_signal_of_a_crash_dies_too_a_second_later() -> None:
    assert run("signal.signal(signal.SIGSEGV, signal.SIG_IGN); die(MODE)", Mode.SEGV) == (-signal.SIGKILL, b"", b"")


def test_a_worker_that_ignores_an_abort_dies_of_it_as_of_any() -> None:
    assert run("signal.signal(signal.SIGABRT, signal.SIG_IGN); die(MODE)", Mode.ABORT) == (-signal.SIGABRT, b"", b"")


def test_a_thread_that_hangs_says_nothing_more_and_the_others_go_on() -> None:
    code = """
        def hang():
            die(MODE)
            os.write(1, b"came back")
        one = threading.Thread(target=hang, daemon=True)
        one.start()
        one.join(0.2)
        os.write(1, b"alive" if one.is_alive() else b"dead")
        os._exit(3)
    """
    assert run(code, Mode.HANG) == (3, b"alive", b"")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, -2)]
)
def test_a_process_that_hangs_can_be_ended_by_any_signal_that_ends_others(number: signal.Signals, status: int) -> None:
    with start('os.write(2, b"hanging"); die(MODE)', Mode.HANG) as process:
        assert process.stderr is not None
        assert process.stderr.read(7) == b"hanging"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=30) == status


def test_a_system_exit_of_the_main_thread_takes_its_leave_with_86() -> None:
    assert run("die(MODE)", Mode.SYSEXIT) == (86, b"took its leave and flushed", b"")


def test_a_system_exit_of_another_thread_ends_that_thread_without_a_word() -> None:
    code = """
        def leave():
            die(MODE)
            os.write(1, b"came back")
        one = threading.Thread(target=leave)
        one.start()
        one.join()
        os.write(1, b"goes on ")
    """
    assert run(code, Mode.SYSEXIT) == (0, b"goes on took its leave and flushed", b"")


def test_a_system_exit_can_be_swallowed() -> None:
    with pytest.raises(SystemExit) as left:
        die(Mode.SYSEXIT)
    assert left.value.args == (86,)
