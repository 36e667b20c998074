"""Throw-away environments: a worker's libraries alone, with this package, and with what people use in its place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.bench.pairs import Contender

ROOT = Path(__file__).parent.parent.parent
WORKER = ("requests", "pillow")
ON = {"AMI_TEST_FAULT_INJECTION_ENABLED": "true", "AMI_TEST_SEED": "1"}

_OPENTELEMETRY = ("opentelemetry-distro", "opentelemetry-instrumentation-requests")
_QUIET_OPENTELEMETRY = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
_QUIET_DDTRACE = {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}


class InstallError(Exception):
    """An environment that could not be made; the text says why."""


@dataclass(frozen=True)
class Peer:
    """Something that people install to the same end: what to install, and how an interpreter is started under it.

    `program` is put before the interpreter, by its name in the environment; `start_file` is the text of a file whose
    path goes into the variable that names it.
    """

    name: str
    packages: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    start_file: tuple[str, str] = ("", "")


PEERS = (
    Peer("autowrapt", ("autowrapt",), {"AUTOWRAPT_BOOTSTRAP": "bench_nothing"}),
    Peer(
        "coverage, started by its file", ("coverage",), start_file=("COVERAGE_PROCESS_START", "[run]\nparallel=true\n")
    ),
    Peer("opentelemetry-instrument", _OPENTELEMETRY, _QUIET_OPENTELEMETRY, "opentelemetry-instrument"),
    Peer("ddtrace-run", ("ddtrace",), _QUIET_DDTRACE, "ddtrace-run"),
)


@dataclass(frozen=True)
class Environments:
    """Where the environments are made, each once. `wheel` is the package as it is installed by its users."""

    folder: Path
    wheel: Path

    def python(self, name: str, *packages: str | Path) -> Path:
        """Return the interpreter of an environment with these packages; raises InstallError."""
        return _make(self.folder / name, (*WORKER, *packages))

    @property
    def bare(self) -> Path:
        """The interpreter of a worker that has nothing of ours."""
        return self.python("bare")

    @property
    def ours(self) -> Path:
        """The interpreter of a worker into whose environment this package was installed."""
        return self.python("ours", self.wheel)

    def peer(self, peer: Peer, *arguments: str) -> Contender:
        """Return an interpreter that is started under a peer; raises InstallError."""
        python = self.python(peer.name.partition(",")[0], *peer.packages)
        program = [python.with_name(peer.program)] if peer.program else []
        environ = dict(peer.environ)
        variable, text = peer.start_file
        if variable:
            path = python.parent.parent / "start-file"
            path.write_text(f"{text}data_file={path}.data\n")
            environ[variable] = str(path)
        return Contender(peer.name, [*program, python, *arguments], environ)


@cache
def _make(folder: Path, packages: tuple[str | Path, ...]) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making an environment with {', '.join(str(Path(one).name) for one in packages)}", file=sys.stderr)
        _must(sys.executable, "-m", "venv", "--without-pip", folder)
        _must(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *packages)
    return python


def build(folder: Path) -> Path:
    """Build the wheel of this checkout and return it; raises InstallError."""
    _must(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    return next(folder.glob("ami_fault_site-*.whl"))


def _must(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InstallError((said or ["nothing was said"])[-1])
