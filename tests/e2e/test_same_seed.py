"""The promise of the seed: the same decisions for 1 and 8 threads, 1 and 4 processes, with and without restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ami_fault_site.faults import Layer
from ami_fault_site.ledger import Event, Reader
from ami_fault_site.plan import draw
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import GIF, PUBLISHED, clean_environment, eventually

pytestmark = pytest.mark.untraced

SEED, BATCHES, SIZE, PATIENCE = 5, 120, 4, 60
NUMBERS = range(1, 2000)
"""More calls of one kind without identity than a run can have."""

# The sample worker's own polling, loaders, downloads, loop and posts; it ends once all is answered.
WORKER = """
import os
import urllib.request
from pathlib import Path

from ami_fault_site.sandbox.worker.client import get_jobs
from ami_fault_site.sandbox.worker.loop import process_job
from ami_fault_site.sandbox.worker.settings import read_settings

settings = read_settings(os.environ, Path.cwd())
while urllib.request.urlopen(f"{settings.base_url}/is-over").read() != b"yes":
    for job in get_jobs(settings, ["moth_binary"]):
        try:
            process_job(job.pipeline, job.id, settings)
        except Exception as error:
            print(error)
"""


class Service(ThreadingHTTPServer):
    """Hands out tasks in the same batches whoever asks; what was not answered comes back after the next poll."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.lock = threading.Lock()
        self.due = list(range(BATCHES))
        self.deliveries = [0] * BATCHES
        self.answered: set[int] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v2"

    def hand_out(self) -> list[dict[str, str]]:
        with self.lock:
            if not self.due:
                return []
            batch = self.due.pop(0)
            self.deliveries[batch] += 1
            return [self._task(number, self.deliveries[batch]) for number in range(batch * SIZE, (batch + 1) * SIZE)]

    def _task(self, number: int, delivery: int) -> dict[str, str]:
        subject = f"$JS.ACK.job_1.job-1-consumer.{delivery}.{number}.{number}.{PUBLISHED + number}.0"
        url = f"http://127.0.0.1:{self.server_port}/images/{number}.gif"
        return {"id": str(number), "image_id": str(number), "image_url": url, "reply_subject": subject}

    def poll(self) -> None:
        with self.lock:
            self.due = [batch for batch in range(BATCHES) if batch not in self.answered]

    def take(self, answers: list[dict[str, str]]) -> None:
        with self.lock:
            self.answered.update(int(one["reply_subject"].split(".")[5]) // SIZE for one in answers)

    def handle_error(self, request: object, client_address: object) -> None:
        """A worker that was killed hangs up in the middle of an answer."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Service

    def do_GET(self) -> None:
        if self.path.endswith("/is-over"):
            self._say(b"yes" if len(self.server.answered) == BATCHES else b"no")
        elif "/images/" in self.path:
            self._say(GIF)
        else:
            self.server.poll()
            self._say(b'{"results":[{"id":1,"pipeline_slug":"moth_binary"}]}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/tasks/"):
            self._say(json.dumps({"tasks": self.server.hand_out()}).encode())
        else:
            self.server.take(asked["results"])
            self._say(b'{"status":"accepted","results_queued":4}')

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that it has there
        """Be quiet."""


@dataclass(frozen=True)
class Shape:
    """How a worker runs: loaders, download threads of each, and whether it is killed half-way and started again."""

    processes: int
    threads: int
    is_killed: bool = False


SHAPES = (Shape(1, 1), Shape(1, 8), Shape(4, 8), Shape(4, 8, is_killed=True))


def run(python: Path, folder: Path, shape: Shape, layer: Layer) -> Run:
    """Run the sample worker to the end of its tasks, and return what was decided."""
    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        try:
            _work(python, folder, shape, layer, service)
        finally:
            service.shutdown()
            thread.join()
    reader = Reader(RunFolder(folder / "run").ledger)
    found = Run()
    for event in sorted(reader.new(), key=lambda event: event.mono):
        found.add(event)
    assert reader.damage == []
    return found


def _work(python: Path, folder: Path, shape: Shape, layer: Layer, service: Service) -> None:
    environ = clean_environment(
        AMI_ANTENNA_API_BASE_URL=service.url,
        AMI_ANTENNA_API_AUTH_TOKEN="token",
        AMI_NUM_WORKERS=str(shape.processes),
        AMI_SAMPLE_THREADS=str(shape.threads),
        AMI_SAMPLE_PREFETCH="1",
        AMI_TEST_FAULT_INJECTION_ENABLED="true",
        AMI_TEST_RUN_DIR=str(folder / "run"),
        AMI_TEST_SEED=str(SEED),
        AMI_TEST_MAX_DELIVER="0",
        AMI_TEST_NETWORK_LAYER=layer.value,
        AMI_TEST_NETWORK_ERROR_RATE="0.05",
        AMI_TEST_NETWORK_KINDS="reset,status(503),closed@after,refused",
        AMI_TEST_IMAGE_404_RATE="0.1",
        AMI_TEST_CORRUPT_IMAGE_RATE="0.1",
        AMI_TEST_TRANSIENT_ERROR_RATE="0.01",
    )
    with (folder / "said").open("wb") as said:

        def start() -> subprocess.Popen[bytes]:
            command = [str(python), "-W", "error", str(folder / "worker.py")]
            return subprocess.Popen(command, env=environ, stdout=said, stderr=said, start_new_session=True)

        worker = start()
        try:
            if shape.is_killed:
                eventually(lambda: len(service.answered) > BATCHES // 2, "half of the answers")
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
                worker = start()
            assert worker.wait(PATIENCE) == 0, (folder / "said").read_text()
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


Key = tuple[object, ...]


@dataclass
class Run:
    """What was decided about each call of a run, by what the call is about."""

    decisions: dict[Key, tuple[object, ...]] = field(default_factory=dict)
    _tasks: dict[tuple[int, int | None], str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take an event that says of a decision what was drawn, or what came of it."""
        call = (event.pid, event.number("call"))
        if event.kind == "call":
            self._tasks[call] = str([row[:2] for row in event.rows("tasks")] or "")
        if event.kind == "fault":
            told = [event.data[key] for key in ("site", "subject", "attempt", "try")]
            self._decided(("fault", *told), *(event.data[key] for key in ("effect", "kind", "phase", "draw")))
        elif event.data.get("draw") is not None:
            self._decided((event.kind, *self._about(event, call)), event.data["draw"], event.data["eligible"])

    def _about(self, event: Event, call: tuple[int, int | None]) -> Iterator[object]:
        yield event.text("site")
        yield event.text("image")
        task = event.data.get("task")
        rows = event.rows("tasks") or ([task] if isinstance(task, list) else [])
        tasks = str([row[:2] for row in rows]) if rows else self._tasks.get(call, "")
        yield tasks
        yield event.number("number")
        if not tasks and not event.text("image"):
            yield _NUMBERED[event.text("site"), event.data["draw"]]

    def _decided(self, key: Key, *decision: object) -> None:
        assert self.decisions.setdefault(key, decision) == decision, key


def _numbered() -> Iterator[tuple[tuple[str, object], str]]:
    """Yield what is drawn for the calls that carry no identity, and their numbers, at both layers."""
    for site in ("jobs", "tasks"):
        for number in NUMBERS:
            for attempt in (str(number), *(f"{number}.{one}" for one in range(1, 5))):
                yield (site, draw(SEED, site, "", attempt)), attempt


_NUMBERED = dict(_numbered())


@pytest.mark.timeout(200)
@pytest.mark.parametrize("layer", Layer)
def test_the_same_seed_decides_the_same_whatever_runs_beside_each_other(
    wheel_python: Path, tmp_path: Path, layer: Layer
) -> None:
    with ThreadPoolExecutor(2) as pool:
        places = [tmp_path / str(number) for number in range(len(SHAPES))]
        runs = list(pool.map(lambda place, shape: run(wheel_python, place, shape, layer), places, SHAPES))
    first = runs[0].decisions
    assert {"fault", "image", "open", "batch"} <= {str(key[0]) for key in first}
    assert sum(key[0] == "fault" for key in first) > 100
    for shape, other in zip(SHAPES[1:], runs[1:], strict=True):
        both = first.keys() & other.decisions.keys()
        differing = [key for key in both if first[key] != other.decisions[key]]
        print(f"{layer.value}, {shape}: {len(both)} of {len(first)} and {len(other.decisions)}")
        assert differing == []
        assert len(both) >= 0.9 * max(len(first), len(other.decisions)), shape
