"""The promise of the crash points: a worker dies at each, in each mode, in each kind of process, once and as booked."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from ami_fault_site.faults import CRASH_EXIT_CODE, KILLING, Effect, Mode, Point, Role
from ami_fault_site.ledger import Event, Reader
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import clean_environment

pytestmark = pytest.mark.untraced

IMAGES = 24
POSTING = (Point.POSTING_UNSENT, Point.POSTING_UNHEARD, Point.AFTER_POST)
LOADING = (Point.AFTER_FETCH, Point.DOWNLOADING)
CODES = {
    Mode.EXIT: CRASH_EXIT_CODE,
    Mode.KILL: -signal.SIGKILL,
    Mode.SEGV: -signal.SIGSEGV,
    Mode.ABORT: -signal.SIGABRT,
    Mode.HANG: -signal.SIGKILL,  # by us: until then it was there
    Mode.SYSEXIT: CRASH_EXIT_CODE,
}


@dataclass(frozen=True)
class Cell:
    """One way to die: where, how, and in which kind of process."""

    point: Point
    mode: Mode
    role: Role

    def __str__(self) -> str:
        return f"{self.point.value} {self.mode.value} {self.role.value}"


def cells(points: tuple[Point, ...], role: Role) -> tuple[Cell, ...]:
    """Return the cells of these points, in the order of the rules that strike there."""
    return tuple(Cell(point, mode, role) for point in points for mode in Mode)


def hangs_while_posting(cell: Cell) -> bool:
    """Whether a thread hangs beside which another goes on to post: where it is to be found so, each life posts once."""
    return cell.point in POSTING and cell.mode is Mode.HANG


# A worker without loaders does all of it itself: each of its lives ends at the first point that has a mode left.
ALONE = tuple(cell for cell in cells(tuple(Point), Role.MAIN) if not hangs_while_posting(cell))
# With a loader, all tasks of a job are one batch: many threads are about to die at once, and one answer is posted.
WITH_A_LOADER = (*cells(LOADING, Role.LOADER), *filter(hangs_while_posting, cells(POSTING, Role.MAIN)))
IMPOSSIBLE = {
    **dict.fromkeys(cells((Point.IDLE,), Role.LOADER), "a loader never asks for jobs"),
    **dict.fromkeys(
        cells((Point.BEFORE_BATCH, Point.IN_BATCH, Point.AFTER_BATCH), Role.LOADER), "batches are worked off in main"
    ),
    **dict.fromkeys(cells(POSTING, Role.LOADER), "answers are posted by threads of main"),
}


def rules(wanted: tuple[Cell, ...]) -> str:
    """Write the rules that hit each of these cells once."""
    modes: dict[str, list[str]] = {}
    for cell in wanted:
        place = f"crash[point={cell.point.value}, process={cell.role.value}]"
        modes.setdefault(place, []).append(f"1*{cell.mode.value}")
    return "; ".join(f"{place}: {' -> '.join(terms)}" for place, terms in modes.items())


@dataclass
class Trial:
    """One run of the sample worker on a sandbox of its own, until its job has ended."""

    folder: Path
    process: subprocess.Popen[bytes]
    reader: Reader
    events: list[Event] = field(default_factory=list)
    hanging: set[int] = field(default_factory=set)
    killed: set[int] = field(default_factory=set)

    def watch(self) -> None:
        """Follow the run to its end, and kill each process that hangs, a while after it began to."""
        while self.process.poll() is None:
            for pid in filter(is_alive, self.hanging - self.killed):
                os.kill(pid, signal.SIGKILL)
                self.killed.add(pid)
            self.hanging |= {one.pid for one in self._read() if one.text("kind") == Mode.HANG.value}
            time.sleep(0.1)
        self._read()

    def _read(self) -> list[Event]:
        new = list(self.reader.new())
        self.events += new
        return [event for event in new if event.kind == "fault"]

    @property
    def deaths(self) -> dict[Cell, Event]:
        """The crashes that were booked, by the cells that they hit; each once."""
        faults = [one for one in self.events if one.kind == "fault" and one.text("effect") == Effect.CRASH.value]
        hit = [Cell(Point(one.text("point")), Mode(one.text("kind")), Role(one.text("role"))) for one in faults]
        assert [str(cell) for cell, times in Counter(hit).items() if times > 1] == []
        return dict(zip(hit, faults, strict=True))

    def after(self, fault: Event) -> list[Event]:
        """Return what the struck process has booked since."""
        return [event for event in self.events if event.file == fault.file and event.sequence > fault.sequence]

    @property
    def said(self) -> str:
        """What the run said."""
        return (self.folder / "said").read_text()


def is_alive(pid: int) -> bool:
    """Whether a process is there, and is more than an exit status that nobody has asked for."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def run(
    python: Path, pictures: Path, folder: Path, wanted: tuple[Cell, ...], loaders: int, batch: int, jobs: int
) -> Trial:
    """Let a worker die in each of these cells; the system may write cores, the service hands out again what is lost."""
    environ = clean_environment(
        AMI_TEST_RULES=rules(wanted),
        AMI_NUM_WORKERS=str(loaders),
        AMI_ANTENNA_API_BATCH_SIZE=str(batch),
        AMI_SAMPLE_IDLE_SLEEP="0.05",
        AMI_SAMPLE_MODEL_DELAY="0",
    )
    command: list[str | Path] = [python.with_name("ami-fault"), "run", "--sandbox", "--jobs", str(jobs)]
    command += ["--images", str(pictures), "--ack-wait", "1", "--max-deliver", "50", "--max-restarts", "60"]
    command += ["--restart-delay", "0.01", "--timeout", "150", "--seed", "1", "--run-dir", folder / "run"]
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
        )  # fmt: skip
    trial = Trial(folder, process, Reader(RunFolder(folder / "run").ledger))
    try:
        trial.watch()
    finally:
        process.kill()
        process.wait()
    return trial


def assert_all_is_well(trial: Trial, wanted: tuple[Cell, ...]) -> None:
    """What holds whoever dies: each cell was hit once, the last word is the fault, nothing is lost or left behind."""
    assert trial.process.returncode == 0, trial.said
    deaths = trial.deaths
    assert set(map(str, deaths)) == set(map(str, wanted))
    for cell, fault in deaths.items():
        after = trial.after(fault)
        if cell.mode in KILLING:
            assert (str(cell), [event.kind for event in after]) == (str(cell), [])
        if cell.mode is Mode.HANG:
            assert (str(cell), [event.kind for event in after if event.thread == fault.thread]) == (str(cell), [])
            assert (str(cell), fault.pid in trial.killed) == (str(cell), True)
    assert [str(path) for path in trial.folder.rglob("core*")] == []
    groups = {str(event.number("child")) for event in trial.events if event.kind == "spawn"}
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    assert [row for row in rows if row[0] in groups and not row[1].startswith("Z")] == []
    assert trial.reader.damage == []


def test_every_point_and_mode_in_every_process_is_either_tried_or_impossible_with_a_reason() -> None:
    told = Counter([*ALONE, *WITH_A_LOADER, *IMPOSSIBLE])
    assert told == Counter(Cell(*one) for one in product(Point, Mode, Role))
    assert all(IMPOSSIBLE.values())


@pytest.mark.timeout(240)
def test_a_worker_dies_at_every_point_in_every_mode_once_and_finishes_its_job(
    wheel_python: Path, pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    trial = run(wheel_python, pictures(IMAGES), tmp_path, ALONE, loaders=0, batch=1, jobs=1)
    assert_all_is_well(trial, ALONE)
    codes = {event.number("incarnation"): event.number("code") for event in trial.events if event.kind == "exit"}
    for cell, fault in trial.deaths.items():
        after = [event.kind for event in trial.after(fault)]
        if cell.mode is Mode.SYSEXIT and cell.point in POSTING:
            # A thread pool keeps the exception to itself: that post is over, the worker goes on.
            assert (str(cell), fault.thread.startswith("result_poster"), "call" in after) == (str(cell), True, True)
            continue
        assert (str(cell), codes[fault.incarnation]) == (str(cell), CODES[cell.mode])
        if cell.mode is Mode.SYSEXIT:
            assert (str(cell), after[-1]) == (str(cell), "end")  # it takes its leave


@pytest.mark.timeout(240)
def test_a_loader_dies_at_every_point_that_it_passes_in_every_mode_once_and_its_worker_goes_on(
    wheel_python: Path, pictures: Callable[[int], Path], tmp_path: Path
) -> None:
    trial = run(wheel_python, pictures(IMAGES), tmp_path, WITH_A_LOADER, loaders=1, batch=IMAGES, jobs=3)
    assert_all_is_well(trial, WITH_A_LOADER)
    for cell, fault in trial.deaths.items():
        if cell.role is Role.LOADER:
            noticed = f"RuntimeError: loader worker (pid {fault.pid}) exited unexpectedly" in trial.said
            assert (str(cell), noticed) == (str(cell), True)
    # Only a main process that dies is a life; before it is killed, another of its threads may come to hang as well.
    hung = {fault.incarnation for cell, fault in trial.deaths.items() if cell.role is Role.MAIN}
    codes = [event.number("code") for event in trial.events if event.kind == "exit"]
    assert codes == [-signal.SIGKILL] * len(hung) + [-signal.SIGTERM]
