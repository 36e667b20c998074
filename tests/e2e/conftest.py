"""The built wheel in virtual environments of its own, workers that run there, and a service for them to talk to."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest

from ami_fault_site.ledger import Damage, Event, Reader
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.sandbox.photographs import write_small

ROOT = Path(__file__).parent.parent.parent
ON = {"AMI_TEST_FAULT_INJECTION_ENABLED": "true"}
PATIENCE = 30.0  # seconds after which an event that should have come will not come
PUBLISHED = 1795438299585001495
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
# What coverage warns of in children of multiprocessing, where it measures these tests; every other warning is an error.
MEASURED = "ignore:Module ami_fault_site was previously imported"
LIST_MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"

# What the real worker does, in the fewest words; SERVICE is where.
CLIENT = """
import io
import os

import requests

SERVICE = os.environ.get("SERVICE", "")


def poll():
    query = {"pipeline__slug__in": "moths", "ids_only": 1}
    return [job["id"] for job in requests.get(f"{SERVICE}/jobs", params=query, timeout=10).json()["results"]]


def lease(count=1):
    return requests.post(f"{SERVICE}/jobs/1/tasks/", json={"batch_size": count}, timeout=10).json()["tasks"]


def download(task):
    return requests.get(task["image_url"], timeout=10)


def look(task):
    from PIL import Image

    return Image.open(io.BytesIO(download(task).content)).size


def answer(task):
    result = {"pipeline": "moths", "source_images": [], "detections": []}
    body = {"results": [{"reply_subject": task["reply_subject"], "result": result}]}
    return requests.post(f"{SERVICE}/jobs/1/result/", json=body, timeout=10).json()["status"]


def survives(call, *args):
    try:
        call(*args)
    except (OSError, ValueError, KeyError):
        return False
    return True
"""


def eventually(happened: Callable[[], bool], what: str) -> None:
    """Wait until it has happened; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


class MakeVenv(Protocol):
    """Make a virtual environment with these requirements, once for all test processes, and return its interpreter."""

    def __call__(self, name: str, *requirements: str | Path) -> Path: ...


def _once(place: Path, make: Callable[[Path], None]) -> Path:
    """Let one of the test processes make what is at `place`; the others wait for it."""
    done = place.with_name(f"{place.name}.done")
    try:
        os.mkdir(place.with_name(f"{place.name}.lock"))
    except FileExistsError:
        deadline = time.monotonic() + 300
        while not done.exists():
            assert time.monotonic() < deadline, f"{place.name} was never made"
            time.sleep(0.05)
        assert done.read_text() == "made", f"{place.name} could not be made, see the test process that tried"
        return place
    outcome = "failed"
    try:
        make(place)
        outcome = "made"
    finally:
        draft = done.with_name(f"{done.name}.draft")
        draft.write_text(outcome)
        draft.rename(done)
    return place


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this environment without what would change what a new interpreter does."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("AMI_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, **variables}


def python_of(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / "bin" / "python"


def site_packages(python: Path) -> Path:
    """Return the folder that a virtual environment's packages are in."""
    return next((python.parent.parent / "lib").glob("python3*/site-packages"))


def call(folder: Path, /, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end and return what it said."""
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=clean_environment(**variables), text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
    )  # fmt: skip


def must(*command: str | Path, **variables: str) -> str:
    """Run a command that has to succeed, where no module lies about, and return its stdout."""
    ended = call(Path("/"), *command, **variables)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def pip(python: Path, /, *arguments: str | Path, **variables: str) -> str:
    """Run an environment's pip, which has to succeed, and return its stdout."""
    return must(python, "-m", "pip", *arguments, **variables)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all test processes of this session have in common, and of others if TEST_ENVIRONMENTS says so."""
    if os.environ.get("TEST_ENVIRONMENTS"):
        return Path(os.environ["TEST_ENVIRONMENTS"])
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@dataclass(frozen=True)
class Groundwork:
    """What all environments are made of: the folder with sdist and wheel, and an environment with nothing but pip."""

    distributions: Path
    empty: Path


@pytest.fixture(scope="session")
def groundwork(shared: Path) -> Groundwork:
    """Build the sdist, and the wheel out of the sdist as for a release, while the empty environment is made."""

    def build(folder: Path) -> None:
        must(sys.executable, "-m", "build", "--outdir", folder, ROOT)

    def empty(folder: Path) -> None:
        must(sys.executable, "-m", "venv", folder)

    with ThreadPoolExecutor() as pool:
        made = [pool.submit(_once, shared / name, make) for name, make in (("dist", build), ("empty", empty))]
    return Groundwork(*(one.result() for one in made))


@pytest.fixture(scope="session")
def wheel(groundwork: Groundwork) -> Path:
    return next(groundwork.distributions.glob("*.whl"))


@pytest.fixture(scope="session")
def make_venv(shared: Path, groundwork: Groundwork) -> MakeVenv:
    """Environments are copies of the empty one, which takes long to make; in a copy `python -m` works, scripts not."""

    def make(name: str, *requirements: str | Path) -> Path:
        def fill(folder: Path) -> None:
            shutil.copytree(groundwork.empty, folder, symlinks=True)
            pip(python_of(folder), "install", "--no-compile", *requirements)

        return python_of(_once(shared / name, fill))

    return make


@pytest.fixture(scope="session")
def wheel_python(make_venv: MakeVenv, wheel: Path) -> Path:
    """The interpreter of an environment with the wheel, its dependencies and extras, coverage and uv."""
    return make_venv("wheel-env", f"{wheel}[report,sandbox]", "coverage", "uv")


@dataclass(frozen=True)
class Pinned:
    """An environment of a worker that pins old versions, with what was in it before (`pip freeze`)."""

    python: Path
    frozen: tuple[str, ...]


@pytest.fixture(scope="session")
def pinned(make_venv: MakeVenv) -> Pinned:
    """A worker's environment without us."""
    python = make_venv("pinned-env", "requests==2.28.*", "urllib3<2", "pillow==10.*")
    return Pinned(python, tuple(pip(python, "freeze").splitlines()))


@pytest.fixture(scope="session")
def installed_beside(shared: Path, groundwork: Groundwork, wheel: Path) -> Path:
    """A folder that belongs to no environment, with the wheel and what a worker does not have (`pip --target`)."""

    def install(folder: Path) -> None:
        python = python_of(groundwork.empty)
        pip(python, "install", "--no-compile", "--no-deps", "--target", folder, wheel, "wrapt", "python-dotenv")

    return _once(shared / "target", install)


@pytest.fixture(scope="session")
def wheels(shared: Path, groundwork: Groundwork, wheel: Path) -> dict[str, str]:
    """The settings with which pip and uv find the wheels of all that the package, or building it, needs."""

    def download(folder: Path) -> None:
        pip(python_of(groundwork.empty), "download", "--quiet", "-d", folder, wheel, "hatchling", "editables")

    folder = str(_once(shared / "wheels", download))
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder, "UV_NO_INDEX": "1", "UV_FIND_LINKS": folder}
    return {**offline, "PIP_NO_COMPILE": "1"}


@pytest.fixture(scope="session")
def libraries_python(shared: Path, groundwork: Groundwork, wheel_python: Path, wheels: dict[str, str]) -> Path:
    """The interpreter of an environment with the libraries that we need in a worker, and nothing of ours."""

    def fill(folder: Path) -> None:
        shutil.copytree(groundwork.empty, folder, symlinks=True)
        install = (wheel_python.with_name("uv"), "pip", "install", "--python", python_of(folder))
        must(*install, "requests", "pillow", "wrapt", "python-dotenv", UV_NO_CACHE="1", **wheels)

    return python_of(_once(shared / "libraries-env", fill))


@pytest.fixture(scope="session")
def pictures(shared: Path) -> Callable[[int], Path]:
    """Make a folder of so many small photographs: drawing and reading large ones would take most of a test's time."""

    def make(count: int) -> Path:
        def fill(folder: Path) -> None:
            folder.mkdir()
            write_small(folder, count)

        return _once(shared / f"pictures-{count}", fill)

    return make


@pytest.fixture
def copied_python(wheel_python: Path, tmp_path: Path) -> Path:
    """The interpreter of a copy of the environment with the wheel, for a test to change."""
    shutil.copytree(wheel_python.parent.parent, tmp_path / "copied-env", symlinks=True)
    return python_of(tmp_path / "copied-env")


@dataclass
class Workers:
    """Runs Python code in the environment with the wheel, in a folder of its own, with -W error."""

    python: Path
    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def command(self, code: str, python: Path | None = None, options: tuple[str, ...] = ()) -> list[str]:
        """Return the command that runs this code from a file, as spawned children need it."""
        script = self.folder / f"worker_{next(self.numbers)}.py"
        script.write_text(textwrap.dedent(code))
        return [str(python or self.python), "-W", "error", "-W", MEASURED, *options, str(script)]

    def run(
        self, code: str, python: Path | None = None, options: tuple[str, ...] = (), /, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run code to its end."""
        process = self._start(self.command(code, python, options), variables)
        said, complained = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, said, complained)

    def start(self, code: str, /, **variables: str) -> subprocess.Popen[str]:
        """Start code; what still runs of it after the test is killed then."""
        return self._start(self.command(code), variables)

    def _start(self, command: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=self.folder, env=clean_environment(**variables), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.running.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs, with all that was forked from it."""
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def on(self, **variables: str) -> dict[str, str]:
        """Return the settings of an enabled worker whose run folder is `self.run_folder`."""
        # A protected service's URL may stand in a .env, so the tests' service is not named in AMI_ANTENNA_API_BASE_URL.
        return {**ON, "AMI_TEST_RUN_DIR": str(self.run_folder.path), "AMI_TEST_SEED": "7", **variables}

    @property
    def run_folder(self) -> RunFolder:
        """Where `on` lets workers book."""
        return RunFolder(self.folder / "run")

    def ledgers(self) -> dict[int, list[Event]]:
        """Return what each process has booked, by its id; there must not be any damage."""
        events, damage = self.read()
        assert damage == []
        return events

    def read(self) -> tuple[dict[int, list[Event]], list[Damage]]:
        """Return what each process has booked, by its id, and the damage."""
        reader = Reader(self.run_folder.ledger)
        found: dict[int, list[Event]] = {}
        for event in reader.new():
            found.setdefault(event.pid, []).append(event)
        return found, reader.damage

    def kinds(self) -> list[str]:
        """Return the kinds of all events, sorted."""
        return sorted(event.kind for events in self.ledgers().values() for event in events)


@pytest.fixture
def workers(wheel_python: Path, tmp_path: Path) -> Iterator[Workers]:
    (tmp_path / "client.py").write_text(CLIENT)
    made = Workers(wheel_python, tmp_path)
    yield made
    made.end()


def is_complete(events: list[Event]) -> bool:
    """Whether a process booked its start, its orderly end, and all that it says it has booked."""
    return (
        [events[0].kind, events[-1].kind] == ["start", "end"]
        and [event.sequence for event in events] == list(range(1, len(events) + 1))
        and events[-1].number("events") == len(events)
    )


class Antenna(ThreadingHTTPServer):
    """The service as a worker sees it: one job that never runs out of tasks."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[str] = []
        self.numbers = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v2"

    def handle_error(self, request: object, client_address: object) -> None:
        """A worker that was killed hangs up in the middle of an answer."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece, or each answer waits for the kernel's delayed ACK
    server: Antenna

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        path, _, query = self.path.partition("?")
        if path == "/api/v2/jobs":
            self._say(301, b"", Location=f"/api/v2/jobs/?{query}")
        elif path == "/api/v2/jobs/":
            self._tell({"count": 1, "next": None, "previous": None, "results": [{"id": 1, "pipeline_slug": "moths"}]})
        else:
            self._say(200, GIF)

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/tasks/"):
            self._tell({"tasks": [self._task(next(self.server.numbers)) for _ in range(asked["batch_size"])]})
        else:
            queued = [{"reply_subject": item["reply_subject"], "status": "queued"} for item in asked["results"]]
            self._tell({"status": "accepted", "job_id": 1, "results_queued": len(queued), "tasks": queued})

    def _task(self, number: int) -> dict[str, str]:
        return {
            "id": str(number),
            "image_id": str(number),
            "image_url": f"http://127.0.0.1:{self.server.server_port}/images/{number}.gif",
            "reply_subject": f"$JS.ACK.job_1.job-1-consumer.1.{number}.{number}.{PUBLISHED + number}.11",
        }

    def _tell(self, value: object) -> None:
        self._say(200, json.dumps(value).encode())

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that it has there
        """Be quiet."""


@pytest.fixture
def antenna() -> Iterator[Antenna]:
    with Antenna() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()
