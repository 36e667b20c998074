"""What the doctor says of the place where a run would be kept, on real file systems and with real locks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ami_fault_site.doctor import Level
from ami_fault_site.doctor.place import HOLDER, examine_place

MOUNT = "mount a volume or a tmpfs there, or name a place that can be written: AMI_TEST_RUN_DIR=/path"
ELSEWHERE = "keep it somewhere else: AMI_TEST_RUN_DIR=/path/on/a/local/disk"


def holder(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.mark.parametrize("name", ["", "not/made/yet"], ids=["there", "not there yet"])
def test_a_good_place_is_tried_and_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "kept").write_text("mine")
    found = examine_place(tmp_path / name)
    assert found.level is Level.OK
    assert found.found.startswith(f"{tmp_path / name}: files, links and locks work there, ")
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_a_path_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = examine_place(tmp_path / "file" / "run")
    assert (found.level, found.found, found.cure) == (
        Level.BAD, f"{tmp_path}/file/run: {tmp_path}/file cannot be written: Not a directory", MOUNT,
    )  # fmt: skip


def test_a_kernels_own_file_system_cannot_be_written() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc on this system")
    found = examine_place(Path("/proc/run"))
    assert found.level is Level.BAD
    assert found.found.startswith("/proc/run: /proc cannot be written: ")


Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system in memory with these options."""
    folder = tmp_path / "root"
    folder.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("only root can mount a file system")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mounted
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_root_as_a_container_may_have_it_is_told_to_mount_a_volume(mount: Mount) -> None:
    root = mount("ro")
    found = examine_place(root / "ami-fault-runs")
    assert (found.level, found.found, found.cure) == (
        Level.BAD, f"{root}/ami-fault-runs: {root} cannot be written: Read-only file system", MOUNT,
    )  # fmt: skip


def test_little_room_is_a_remark(mount: Mount) -> None:
    root = mount("size=3m")
    found = examine_place(root)
    assert (found.level, found.found) == (Level.NOTE, f"{root}: only 2 MiB are free")
    assert found.cure == f"make room, or {ELSEWHERE}"


@pytest.mark.parametrize(("files", "tried"), [(2, "making a file"), (3, "writing and linking a file")])
def test_what_fails_on_the_way_is_named_and_nothing_is_left(mount: Mount, files: int, tried: str) -> None:
    """So many files the file system can hold: its root, our folder, and what we try in it."""
    root = mount(f"nr_inodes={files}")
    found = examine_place(root)
    assert (found.level, found.found, found.cure) == (
        Level.BAD, f"{root}: {tried} does not work there: No space left on device", ELSEWHERE,
    )  # fmt: skip
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "print('held', flush=True); import sys; sys.stdin.read()",
            "a lock that one process holds does not keep out another (lockf), so calls cannot be counted",
        ),
        ("raise OSError('No locks available')", "a process could not lock a file (lockf)"),
    ],
    ids=["not seen", "not granted"],
)
def test_locks_that_do_not_work_are_bad(tmp_path: Path, code: str, problem: str) -> None:
    found = examine_place(tmp_path, holder(code))
    assert (found.level, found.found, found.cure) == (Level.BAD, f"{tmp_path}: {problem}", ELSEWHERE)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_outlives_its_process_is_bad(tmp_path: Path) -> None:
    """A process forked from the holder locks the file too and stays, as a server may keep a dead client's lock."""
    (tmp_path / "place").mkdir()
    end = tmp_path / "end"
    os.mkfifo(end)
    stays = (
        "import fcntl, os, sys; up, down = os.pipe()\n"
        "if not os.fork():\n    f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); os.write(down, b'.')\n"
        f"    os.close(0); os.close(1); open({str(end)!r}).read(); os._exit(0)\n"
        "os.read(up, 1); print('held', flush=True); sys.stdin.read()\n"
    )
    found = examine_place(tmp_path / "place", holder(stays))
    end.open("w").close()  # and its process ends
    assert (found.level, found.found) == (
        Level.BAD,
        f"{tmp_path}/place: a lock stays behind when its process has ended",
    )


def test_the_holder_holds_what_it_says(tmp_path: Path) -> None:
    assert "LOCK_EX" in HOLDER
    assert examine_place(tmp_path, holder(HOLDER)).level is Level.OK
