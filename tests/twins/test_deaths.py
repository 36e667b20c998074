"""The promise of the deaths: who looks on, a parent or the service, sees what a real death of that kind shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ami_fault_site.faults import Effect, Mode
from ami_fault_site.ledger import Reader
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import eventually
from tests.stage import Service, hand_out, service
from tests.twins import table
from tests.twins.server import behaving
from tests.twins.table import Compared

ROOT = Path(__file__).parent.parent.parent
SIGNALS = {Mode.KILL: signal.SIGKILL, Mode.SEGV: signal.SIGSEGV, Mode.ABORT: signal.SIGABRT}
STRUCK = "import sys; from ami_fault_site.deaths import die; from ami_fault_site.faults import Mode; M = Mode({!r})\n"
# What a process does that dies so without us; it says when it is about to.
REAL = {
    Mode.EXIT: "import os; os.write(1, b'.'); os._exit(86)",
    Mode.KILL: "import os, signal; os.write(1, b'.'); signal.pause()",
    Mode.SEGV: "import os, signal; os.write(1, b'.'); signal.pause()",
    Mode.ABORT: "import os, signal; os.write(1, b'.'); signal.pause()",
    Mode.HANG: "import os, threading; one = threading.Lock(); one.acquire(); os.write(1, b'.'); one.acquire()",
    Mode.SYSEXIT: "import os, sys; os.write(1, b'.'); sys.exit(86)",
}
IN_A_THREAD = """
import threading
def work():
    {}
    print("came back")
one = threading.Thread(target=work)
one.start()
one.join()
print("goes on")
"""


def clean() -> dict[str, str]:
    """Return an environment with nothing of ours, in which this checkout is found."""
    kept = {name: t for name, t in os.environ.items() if not name.startswith(("AMI_", "PYTHON", "COVERAGE"))}
    return {**kept, "PYTHONPATH": str(ROOT)}


def start(code: str) -> subprocess.Popen[bytes]:
    """Run code in a process of its own, until it says that it is about to die."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=clean(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"."
    return process


def end(process: subprocess.Popen[bytes], number: int = 0) -> tuple[int, bytes, bytes]:
    """Send a signal, and return the status that is left and what was said."""
    if number:
        process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    return process.returncode, said, complained


def struck(mode: Mode) -> str:
    """Return what a process does that is struck so."""
    return f"{STRUCK.format(mode.value)}import os; os.write(1, b'.'); die(M)"


def test_every_mode_has_its_twin() -> None:
    faults = [row.fault.split(" ") for row in table.rows(Compared.DEATH)]
    assert [(Effect(effect), Mode(mode)) for effect, mode, _ in faults] == [(Effect.CRASH, mode) for mode in Mode]
    assert set(REAL) == set(Mode)


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.HANG], ids=lambda mode: mode.value)
def test_a_process_that_is_struck_leaves_the_status_of_a_real_death_and_as_many_words(mode: Mode) -> None:
    real = end(start(REAL[mode]), SIGNALS.get(mode, 0))
    assert end(start(struck(mode))) == real
    assert real == (-SIGNALS[mode] if mode in SIGNALS else 86, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_process_that_hangs_is_there_until_it_is_ended_as_one_in_a_real_deadlock(number: signal.Signals) -> None:
    ended = []
    for code in (REAL[Mode.HANG], struck(Mode.HANG)):
        process = start(code)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        status, said, complained = end(process, number)
        ended.append((status, said, complained.splitlines()[-1:]))
    assert ended[0] == ended[1]


def test_a_thread_that_leaves_by_system_exit_goes_as_one_that_calls_sys_exit() -> None:
    told = [
        end(start("import os, sys; os.write(1, b'.')\n" + before + IN_A_THREAD.format(leave)))
        for before, leave in (("", "sys.exit(86)"), (STRUCK.format("sysexit"), "die(M)"))
    ]
    assert told[0] == told[1] == (0, b"goes on\n", b"")


# --- a loader, seen by its worker and the service

WORKER = """
import logging, os, sys
if os.environ.get("AMI_TEST_FAULT_INJECTION_ENABLED"):
    from ami_fault_site import startup
    startup.activate()
from ami_fault_site.sandbox.worker import loop
from ami_fault_site.sandbox.worker.misbehaviour import Conduct
from ami_fault_site.sandbox.worker.settings import Settings
logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s", stream=sys.stderr)
settings = Settings(sys.argv[1] + "/api/v2", "token", "twin", 2, 1, 0.0, 0.0, 1, 1)
for line in sys.stdin:
    print("worked" if loop._poll_once(settings, ["moth_binary"], Conduct()) else "no work", flush=True)
"""


class Worker:
    """A sample worker with one loader, which polls when it is told to."""

    def __init__(self, stage: Service, **environ: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(WORKER), stage.url]
        self._process = subprocess.Popen(
            command, env={**clean(), **environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def begin(self) -> None:
        """Let it poll."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"poll\n")
        self._process.stdin.flush()

    def done(self) -> str:
        """Return what has become of the poll."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def children(self) -> list[int]:
        """Return the processes that it has started."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
        rows = [line.split() for line in listed if line]
        return [int(pid) for pid, parent in rows if parent == str(self._process.pid)]

    def end(self) -> list[str]:
        """Let it leave, and return what it has logged, without the numbers of processes."""
        _, logged = self._process.communicate(timeout=60)
        text = re.sub(r"\bpid \d+", "pid N", logged.decode())
        return [line.partition(" ")[2] for line in text.splitlines() if re.match(r"\d+ (WARNING|ERROR) ", line)]


def look_on(number: int, **environ: str) -> list[object]:
    """Let a loader die while it downloads, by a signal from outside or by a fault; return all that its worker shows."""
    with service() as stage, behaving("never answers") as silent:
        hand_out(stage, 1, 2)
        stage.tasks = [{**task, "image_url": f"{silent.url}/captures/1.jpg"} for task in stage.tasks]
        worker = Worker(stage, **environ)
        worker.begin()
        if number:
            eventually(lambda: bool(silent.asked), "a download")
            (loader,) = worker.children()
            os.kill(loader, number)
        first, answered = worker.done(), stage.paths("/result/")
        hand_out(stage, 1, 2)
        worker.begin()
        eventually(lambda: bool(stage.paths("/result/")), "an answer after the second poll")
        stage.tasks = []
        return [first, answered, worker.done(), worker.end()]


@pytest.mark.parametrize("mode", SIGNALS, ids=lambda mode: mode.value)
def test_a_worker_notices_the_death_of_its_loader_as_it_does_a_real_one(mode: Mode, tmp_path: Path) -> None:
    real = look_on(SIGNALS[mode])
    run = RunFolder(tmp_path / "run")
    rule = f"crash[point=downloading, process=loader]: 1*{mode.value}"
    injected = look_on(
        0,
        AMI_TEST_FAULT_INJECTION_ENABLED="true",
        AMI_TEST_RUN_DIR=str(run.path),
        AMI_TEST_RULES=rule,
        AMI_TEST_SEED="1",
    )
    assert injected == real
    lost = "ERROR Failed to process job 1 with pipeline moth_binary: loader worker (pid N) exited unexpectedly"
    assert real == ["no work", [], "worked", [lost]]
    faults = [event for event in Reader(run.ledger).new() if event.kind == "fault"]
    assert [(event.text("kind"), event.text("role")) for event in faults] == [(mode.value, "loader")]
