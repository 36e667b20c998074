"""Try whether a run folder can be kept where it would be made: files, links and locks; nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ami_fault_site.doctor.terms import Examined, bad, note, ok

SMALL = 200 * 2**20
"""Bytes; a long run's ledger and output may need as much."""

_PATIENCE = 10.0
_ELSEWHERE = "keep it somewhere else: AMI_TEST_RUN_DIR=/path/on/a/local/disk"
_MOUNT = "mount a volume or a tmpfs there, or name a place that can be written: AMI_TEST_RUN_DIR=/path"
# Another process that takes the lock, says so, and keeps it until it is told to end.
HOLDER = (
    "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); "
    "print('held', flush=True); sys.stdin.read()"
)


def examine_place(path: Path, holder: Sequence[str] = (sys.executable, "-I", "-S", "-c", HOLDER)) -> Examined:
    """Try all that a run does with its folder, in a folder beside what is there already.

    `holder` is a command that locks the file that is its last argument.
    """
    name, base = "run folder", _nearest(path.absolute())
    try:
        trial = Path(tempfile.mkdtemp(prefix=".ami-fault-doctor-", dir=base))
    except OSError as error:
        return bad(name, f"{path}: {base} cannot be written: {error.strerror}", _MOUNT)
    try:
        problem = _exclusive(trial) or _links(trial) or _locks(trial, holder)
        if problem:
            return bad(name, f"{path}: {problem}", _ELSEWHERE)
        free = shutil.disk_usage(trial).free
    except OSError as error:
        return bad(name, f"{path}: {_tried(error)} does not work there: {error.strerror}", _ELSEWHERE)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    if free < SMALL:
        return note(name, f"{path}: only {free // 2**20} MiB are free", f"make room, or {_ELSEWHERE}")
    return ok(name, f"{path}: files, links and locks work there, {free / 2**30:.1f} GiB are free")


def _nearest(path: Path) -> Path:
    """Return what there is already of a path: itself, or the nearest folder (or file) above it."""
    return next(one for one in (path, *path.parents) if os.path.lexists(one))


def _tried(error: OSError) -> str:
    """Tell from the file what was tried: a lock has none."""
    names = {"claim": "making a file", "draft": "writing and linking a file", "count": "writing a file"}
    return names.get(os.path.basename(str(error.filename or "")), "a lock (lockf)")


def _exclusive(folder: Path) -> str:
    """Claim a name twice, as faults are counted."""
    path = folder / "claim"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(path, flags, 0o666))
    try:
        os.close(os.open(path, flags, 0o666))
    except FileExistsError:
        return ""
    return "a file that is there can be made anew (O_EXCL does not hold), so faults cannot be counted"


def _links(folder: Path) -> str:
    """Link a file to a second name and point at a folder, as settings.json and `latest` are made."""
    (folder / "draft").write_bytes(b"whole")
    os.link(folder / "draft", folder / "linked")
    os.symlink("draft", folder / "latest")
    same = (folder / "linked").read_bytes() == (folder / "latest").read_bytes() == b"whole"
    return "" if same else "a linked file does not hold what was written"


def _locks(folder: Path, holder: Sequence[str]) -> str:
    """Let another process hold a lock, which must keep us out until it ends."""
    path = folder / "count"
    path.write_bytes(b"")
    other = subprocess.Popen(
        [*holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        if other.stdout is None or not select.select([other.stdout], [], [], _PATIENCE)[0]:
            return f"no lock was granted within {_PATIENCE:g} s"
        if other.stdout.readline() != b"held\n":
            return "a process could not lock a file (lockf)"
        if _can_lock(path):
            return "a lock that one process holds does not keep out another (lockf), so calls cannot be counted"
    finally:
        other.kill()
        other.communicate()
    return "" if _can_lock(path) else "a lock stays behind when its process has ended"


def _can_lock(path: Path) -> bool:
    with path.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX lets a system say either
            return False
    return True
