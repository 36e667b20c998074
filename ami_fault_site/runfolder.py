"""The run folder: make or join it, and what its processes share: counters, claims, the stop file."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import NamedTuple

from ami_fault_site.counters import Counters
from ami_fault_site.redaction import without_queries
from ami_fault_site.settings import Settings, SettingsError, as_text, fingerprint

HOME = "ami-fault-runs"
LATEST = "latest"
SETTINGS = "settings.json"
MAX_DELIVER = "max-deliver"
TREE = "_AMI_FAULT_SITE_TREE"
"""Names the tree of processes that one start of a worker makes; inherited, and set by the first that arms."""
SEEDS = 2**32  # a drawn seed stays short enough to be typed


class RunFolder:
    """A run: `ledger/`, `jobs/`, `output/`, `shared/` (counters and claims), `settings.json`, and perhaps `STOP`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = path / "ledger"
        self.jobs = path / "jobs"
        self.output = path / "output"
        self._shared = path / "shared"
        self._counters = Counters(os.fspath(self._shared))
        self._stop_file = os.fspath(self.stop_file)

    @property
    def stop_file(self) -> Path:
        """The file whose presence ends injection, in every process, at its next decision."""
        return self.path / "STOP"

    def is_stopped(self) -> bool:
        """Whether somebody has asked for no more faults."""
        return os.path.exists(self._stop_file)

    def claim(self, name: str) -> bool:
        """Take a name that only one process of the run can have; raises OSError if the folder cannot be written."""
        try:
            os.close(os.open(self._shared / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        return True

    def count(self, name: str, more: int = 1) -> int:
        """Count on, 1, 2, 3... over all processes of the run, and return the number reached."""
        return self._counters.count(name, more)

    def take(self, name: str, most: int) -> bool:
        """Take one of so many places; False once all are taken. Exact across processes."""
        return self._counters.take(name, most)

    def counted(self, name: str) -> int:
        """Return the number that has been reached, 0 if nothing has been counted."""
        return self._counters.counted(name)

    def age(self) -> float:
        """Return how many seconds ago the run began."""
        return time.time() - os.stat(self.path / SETTINGS).st_mtime

    def held(self, tree: str) -> Path:
        """Return where a tree of processes writes down what it holds on its last delivery."""
        return self._shared / f"held-{tree}"

    def tell_max_deliver(self, most: int) -> None:
        """Let every process know how often the service hands a task out, once somebody has found out."""
        _write_once(self._shared / MAX_DELIVER, b"%d" % most)

    def max_deliver(self) -> int | None:
        """Return how often the service hands a task out, None if nobody has found out yet."""
        try:
            return int((self._shared / MAX_DELIVER).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def take_charge(self) -> str:
        """Become the one supervisor of this run, as long as this process lives; return "" or who is it already.

        Raises SettingsError if the folder cannot be written.
        """
        try:
            return self._take_charge()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _take_charge(self) -> str:
        # Never closed: whoever closes a file gives up all locks that its process has on it.
        descriptor = os.open(self._shared / "supervisor", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            named = os.read(descriptor, 400).decode(errors="replace").strip()
            os.close(descriptor)
            return named or "another process"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return ""

    def mark_incomplete(self) -> None:
        """Leave a sign, as far as that still works, that some process could not book everything."""
        with contextlib.suppress(OSError):
            self.claim(f"incomplete-{os.getpid()}")

    def is_incomplete(self) -> bool:
        """Whether some process has left the sign that it could not book everything."""
        return any(self._shared.glob("incomplete-*"))

    def holds_a_run(self) -> bool:
        """Whether anything has been booked here before."""
        return any(self.ledger.glob("*.jsonl"))


class Joined(NamedTuple):
    """A run that this process takes part in; `made` says whether it made the folder."""

    run: RunFolder
    settings: Settings
    made: bool


def join(settings: Settings, home: Path) -> Joined:
    """Make the run folder, or join one that was made with the same settings.

    Without AMI_TEST_RUN_DIR it is `<home>/<UTC>-<seed>`, with `latest` beside it pointing at it. Without a seed one is
    drawn, or taken over from the folder. Raises SettingsError if the folder cannot be written or belongs to other
    settings.
    """
    chosen = settings if settings.has_seed else settings.with_seed(secrets.randbelow(SEEDS))
    path = Path(settings.run_dir or home)
    try:
        if not settings.run_dir:
            path = _new_path(home.absolute(), chosen.seed)
        run = RunFolder(path.absolute())  # of which a working directory that was removed has none
        for folder in (run.ledger, run.jobs, run.output, run._shared):
            folder.mkdir(parents=True, exist_ok=True)
        made = _write_once(run.path / SETTINGS, _record(chosen))
        if made and not settings.run_dir:
            _point_latest(home, run.path)
        if not made:
            chosen = _agree(settings, run)
        return Joined(run, chosen, made)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError([f"AMI_TEST_RUN_DIR={str(path)!r}: cannot be written: {error.strerror}"])


def find(name: str, home: Path) -> Path:
    """Return the folder of a run named by path, by its name under `home`, or as `latest`; raises FileNotFoundError."""
    for path in (Path(name), home / name):
        if (path / SETTINGS).is_file():
            return path.resolve()
    known = ", ".join(sorted(p.parent.name for p in home.glob("*/settings.json"))) or "none yet"
    raise FileNotFoundError(f"RUN={name!r}: not a run folder; under {home} there are: {known}")


def _new_path(home: Path, seed: int) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = home / f"{stamp}-{seed}"
    return next(p for p in (path, *(Path(f"{path}-{n}") for n in range(2, 1000))) if not p.exists())


def _record(settings: Settings) -> bytes:
    """Return what is kept of the settings; a command may hold a token, and a URL's query a signature."""
    kept = as_text(settings)
    kept.pop("AMI_TEST_WORKER_COMMAND", None)
    recorded = {"settings": _hidden(kept), "fingerprint": _hidden(fingerprint(settings))}
    return json.dumps(recorded, indent=1, sort_keys=True).encode()


_NAMING_IMAGES = ("AMI_TEST_PERMANENT_ERROR_IMAGES", "AMI_TEST_EXHAUST")
_QUERY = re.compile(r"\?([^,]*)")


def _hidden(texts: dict[str, str]) -> dict[str, str]:
    """Replace the queries of named images by a digest, which still tells two of them apart."""

    def digest(query: str) -> str:
        return hashlib.blake2b(f"?{query}".encode(errors="surrogatepass"), digest_size=6).hexdigest()

    def hide(name: str, text: str) -> str:
        if name in _NAMING_IMAGES:
            text = _QUERY.sub(lambda query: f"?{digest(query[1])}", text)
        elif name != "AMI_TEST_RULES":
            return text
        return without_queries(text, digest)

    return {name: hide(name, text) for name, text in texts.items()}


def _write_once(path: Path, content: bytes) -> bool:
    """Write a file that appears whole or not at all; False if it is there already."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _agree(settings: Settings, run: RunFolder) -> Settings:
    try:
        recorded = json.loads((run.path / SETTINGS).read_bytes())["fingerprint"]
        seed = int(recorded["AMI_TEST_SEED"])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            [f"AMI_TEST_RUN_DIR={str(run.path)!r}: its settings.json cannot be read: {error}"]
        ) from error
    if not settings.has_seed:
        settings = settings.with_seed(seed)
    problems = [
        f"AMI_TEST_RUN_DIR={str(run.path)!r}: made with {name}={recorded.get(name, '')!r}, not {text!r}"
        for name, text in _hidden(fingerprint(settings)).items()
        if recorded.get(name, "") != text
    ]
    if problems:
        raise SettingsError(problems)
    return settings


def _point_latest(home: Path, path: Path) -> None:
    draft = home / f".latest-{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(path.name)
    os.replace(draft, home / LATEST)
