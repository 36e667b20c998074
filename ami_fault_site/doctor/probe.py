"""Start an interpreter as a worker would be started, and bring back what it saw."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ami_fault_site.arming import BASE_URL
from ami_fault_site.doctor import inside
from ami_fault_site.settings import ENABLED, PREFIX

OLDEST = (3, 10)
PATIENCE = 60.0
"""Seconds that one probe may take; what a worker's models import is not imported here."""

_ASK_VERSION = "import sys; sys.stdout.write('<%d.%d.%d>' % sys.version_info[:3])"


class ProbeError(Exception):
    """Why nothing can be learned from an interpreter, and the cure."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


@dataclass(frozen=True)
class Start:
    """What was there before the worker had imported anything; names as `inside.at_start` gives them."""

    flags: Sequence[str]
    finders: Sequence[str]
    started: bool
    package: str
    own_version: str
    before: Sequence[str]
    after: Sequence[str]
    customizers: Sequence[tuple[str, str, bool]]
    user_site: str
    lines: Sequence[str]
    loops: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Libraries:
    """What became of the worker's libraries; `layers` holds (module, file) of each function, from the outside in."""

    failed: Mapping[str, str]
    seams: Mapping[str, str]
    layers: Mapping[str, Sequence[tuple[str, str]]]
    versions: Mapping[str, str]
    compiled: bool


@dataclass(frozen=True)
class Probed:
    """All that one interpreter told. Without `libraries`, `ending` says how the probe died on importing them.

    `brought` is the file that was being run during the start when a library or a finder appeared.
    """

    python: str
    version: str
    start: Start
    libraries: Libraries | None
    ending: str
    brought: Mapping[str, str]


def probe(
    python: str, environ: Mapping[str, str], loops: Mapping[str, Sequence[str]], patience: float = PATIENCE
) -> Probed:
    """Start this interpreter and bring back what it saw; raises ProbeError if it tells nothing.

    `patience` is how many seconds each of its three processes may take.
    """
    path = _locate(python, environ)
    off = {name: text for name, text in environ.items() if not name.startswith(PREFIX)}
    version = _version(path, off, patience)
    try:
        with tempfile.TemporaryDirectory(prefix="ami-fault-doctor-") as folder:
            # A protected host would stop the probe, and has a line of its own.
            on = {name: text for name, text in off.items() if name != BASE_URL}
            on |= {ENABLED: "true", "AMI_TEST_RUN_DIR": os.path.join(folder, "run")}
            return _look(path, version, _Trial(on, Path(folder), patience), json.dumps(loops))
    except OSError as error:
        cure = "give it a folder for temporary files that can be written: TMPDIR=..., or mount a tmpfs at /tmp"
        raise ProbeError(f"could not be started from a temporary folder: {error}", cure) from error


def _locate(python: str, environ: Mapping[str, str]) -> str:
    found = shutil.which(python, path=environ.get("PATH"))
    if found:
        return os.path.abspath(found)  # not resolved: an environment's python is a link, and its place says which it is
    problem = "is a folder" if os.path.isdir(python) else "there is no such program, or it cannot be executed"
    cure = "give the worker's interpreter: --python /path/to/environment/bin/python"
    raise ProbeError(f"{python}: {problem}", cure)


def _version(path: str, environ: Mapping[str, str], patience: float) -> str:
    """Ask for the version in words that any Python understands."""
    cure = "give the worker's interpreter, Python 3.10 or newer: --python /path/to/environment/bin/python"
    try:
        done = subprocess.run(
            [path, "-c", _ASK_VERSION], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=patience, check=False,
        )  # fmt: skip
    except OSError as error:
        raise ProbeError(f"{path}: cannot be started: {error.strerror}", cure) from error
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"{path}: had not told its version after {patience:g} s", cure) from error
    told = re.search(rb"<(\d+)\.(\d+)\.(\d+)>", done.stdout)
    if told is None:
        raise ProbeError(f"{path}: is not a Python, or one that cannot start ({_left(done.returncode)})", cure)
    numbers = tuple(int(part) for part in told.groups())
    version = ".".join(map(str, numbers))
    if numbers < OLDEST:
        raise ProbeError(f"{path}: is Python {version}, too old: 3.10 is the oldest that can be tested", cure)
    return version


@dataclass(frozen=True)
class _Trial:
    """Where and how the probe's processes run."""

    environ: Mapping[str, str]
    folder: Path
    patience: float


def _look(path: str, version: str, trial: _Trial, loops: str) -> Probed:
    script = trial.folder / "ami_fault_probe.py"
    shutil.copyfile(inside.__file__, script)
    said, ending = _run([path, str(script), loops], trial)
    if not said:
        raise ProbeError(f"{path}: {ending or 'the probe printed nothing'}", f"see what `{path} -c pass` says")
    start = Start(**json.loads(said[0]))
    libraries = Libraries(**json.loads(said[1])) if len(said) > 1 else None
    return Probed(path, version, start, libraries, ending, _brought(path, script, trial))


def _run(command: list[str], trial: _Trial) -> tuple[list[str], str]:
    """Run it to its end and return what it printed between the marks, and how it died, "" if it did not.

    Files and not pipes: a pipe that a library's helper process keeps open would never end.
    """
    with (trial.folder / "out").open("w+b") as out, (trial.folder / "err").open("w+b") as err:
        try:
            code = subprocess.run(
                command, env=trial.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                timeout=trial.patience, check=False,
            ).returncode  # fmt: skip
            ending = _left(code) if code else ""
        except subprocess.TimeoutExpired:
            ending = f"had not ended after {trial.patience:g} s"
        out.seek(0)
        err.seek(0)
        last = [line for line in err.read().decode(errors="replace").splitlines() if _tells(line)]
        marked = rf"{inside.BEGIN}(.*?){inside.END}"
        said = re.findall(marked, out.read().decode(errors="replace"))
    return said, f"{ending}: {last[-1]}" if ending and last else ending


def _tells(line: str) -> bool:
    """Whether a line on stderr may say why the probe died: not where it keeps its run."""
    return bool(line.strip()) and not line.startswith("ami-fault-site: run folder ")


def _left(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _brought(path: str, script: Path, trial: _Trial) -> dict[str, str]:
    """Tell by which file of the start each library and finder came; nothing if the start cannot be followed."""
    said, _ = _run([path, "-S", str(script), "order"], trial)
    steps: list[tuple[str, list[str]]] = json.loads(said[0]) if said else []
    return dict(_first_files(steps))


def _first_files(steps: list[tuple[str, list[str]]]) -> Iterator[tuple[str, str]]:
    known: set[str] = set()
    for file, names in steps:
        for name in names:
            if name not in known:
                known.add(name)
                yield name, file
