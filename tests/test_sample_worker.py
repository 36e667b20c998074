"""The sample worker, in real processes against a small HTTP service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image, ImageDraw

from ami_fault_site.sandbox.worker.batches import Batch, Picture
from ami_fault_site.sandbox.worker.client import get_jobs, register_pipelines
from ami_fault_site.sandbox.worker.interrupts import lasting_interrupts
from ami_fault_site.sandbox.worker.loop import process_batch, process_job
from ami_fault_site.sandbox.worker.main import main
from ami_fault_site.sandbox.worker.posting import MAX_PENDING, ResultPoster
from ami_fault_site.sandbox.worker.settings import Settings, SettingsError, read_settings

RECORDINGS = Path(__file__).parent.parent.parent / "shared" / "recordings"
JOB = 2
TOKEN = "0123456789abcdef"
PATIENCE = 10.0  # seconds until a test gives up waiting; a healthy one needs a fraction


def a_jpeg(width: int = 320, height: int = 240) -> bytes:
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill="black")
    stream = BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


JPEG = a_jpeg()


@dataclass
class Seen:
    """A request as it reached the service."""

    method: str
    url: str
    token: str | None
    body: Any


@dataclass
class Service:
    """Queue and images of one test, and what it was asked.

    Until `released`, it holds back images whose names begin with 9 and answers to results of tasks with 8.
    """

    url: str = ""
    queue: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    answered: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)
    posting: int = 0
    most_posting: int = 0

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/v2"

    def has(self, *names: str) -> None:
        self.queue.extend(names)

    def next_tasks(self, size: int) -> list[dict[str, str]]:
        taken, self.queue[:] = self.queue[:size], self.queue[size:]
        reply = "$JS.ACK.job_2.job-2-consumer.1.{0}.{0}.1795438299585001495.0"
        return [
            {
                "id": name,
                "image_id": name,
                "image_url": f"{self.url}/images/{name}.jpg?signature=x",
                "reply_subject": reply.format(name),
            }
            for name in taken
        ]

    def requests(self, method: str, ending: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and urlsplit(seen.url).path.endswith(ending)]

    def posts(self) -> list[list[dict[str, Any]]]:
        return [seen.body["results"] for seen in self.requests("POST", "/result/")]

    def answers(self) -> dict[str, dict[str, Any]]:
        return {item["reply_subject"].split(".")[5]: item["result"] for post in self.posts() for item in post}

    def errors(self) -> dict[str, str]:
        return {name: result["error"] for name, result in self.answers().items() if "error" in result}

    def wait_until(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), "nothing like it happened in time"

    def note(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    """Answer as the real service does, redirect and all."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    service: Service

    def do_GET(self) -> None:
        self.note(None)
        path = urlsplit(self.path).path
        if path == "/api/v2/jobs":
            self.answer(301, b"", {"Location": self.path.replace("/jobs?", "/jobs/?")})
        elif path == "/api/v2/jobs/":
            jobs = [{"id": JOB, "pipeline_slug": "moth_binary"}]
            self.reply("jobs", {"count": 1, "next": None, "previous": None, "results": jobs})
        else:
            name = path.rpartition("/")[2].partition(".")[0]
            if name.startswith("9"):
                self.service.released.wait(PATIENCE)
            image = self.service.images.get(name, JPEG)
            status, body = self.service.answered.get(path, (200 if image else 404, image))
            self.answer(status, body, {"Content-Type": "image/jpeg"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service, what = self.service, self.path.rstrip("/").rpartition("/")[2]
        if what == "result":
            service.note(self.begin_posting)
            if any(item["reply_subject"].split(".")[5].startswith("8") for item in body["results"]):
                service.released.wait(PATIENCE)
            self.note(body)
            service.posting -= 1
            self.reply(what, {"status": "accepted", "job_id": JOB, "results_queued": len(body["results"])})
            return
        self.note(body)
        with service.changed:
            answer = {"tasks": service.next_tasks(body["batch_size"])} if what == "tasks" else {}
        self.reply(what, answer)

    def begin_posting(self) -> None:
        self.service.posting += 1
        self.service.most_posting = max(self.service.most_posting, self.service.posting)

    def note(self, body: object) -> None:
        seen = Seen(self.command, self.path, self.headers.get("Authorization"), body)
        self.service.note(lambda: self.service.seen.append(seen))

    def reply(self, what: str, answer: object) -> None:
        status, body = self.service.answered.get(what, (200, json.dumps(answer).encode()))
        self.answer(status, body, {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
        pass


class Server(ThreadingHTTPServer):
    """Silent about workers that were killed while they were being answered."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Service]:
    service = Service()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"service": service}))
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@dataclass
class Worker:
    """A running worker and what it has logged so far."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text()

    def loaders(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"loader-\d+\[(\d+)\] INFO Loader subprocess", self.output())]

    def wait_for(self, text: str, times: int = 1) -> None:
        eventually(lambda: self.output().count(text) >= times, lambda: f"{text!r} not in\n{self.output()}")

    def interrupt(self) -> int:
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE)


def eventually(condition: Callable[[], object], otherwise: Callable[[], str] = lambda: "not in time") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


Start = Callable[..., Worker]


@contextlib.contextmanager
def starting(service: Service, folder: Path) -> Iterator[Start]:
    workers: list[Worker] = []

    def start(*arguments: str, **settings: object) -> Worker:
        environ = {name: value for name, value in os.environ.items() if not name.upper().startswith("AMI_")}
        environ |= {
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "AMI_ANTENNA_API_BASE_URL": service.base_url,
            "AMI_ANTENNA_API_AUTH_TOKEN": TOKEN,
            "AMI_SAMPLE_IDLE_SLEEP": "0.05",
            **{f"AMI_{name.upper()}": str(value) for name, value in settings.items()},
        }
        command = [sys.executable, "-W", "error", "-m", "ami_fault_site.sandbox.worker.main", *arguments]
        log = folder / "worker.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, cwd=folder, env=environ, stderr=stream, start_new_session=True)
        workers.append(Worker(process, log))
        return workers[-1]

    try:
        yield start
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)  # loaders that a failed test left behind, too
            worker.process.wait()


@pytest.fixture
def start(service: Service, tmp_path: Path) -> Iterator[Start]:
    with starting(service, tmp_path) as start:
        yield start


def settings_for(service: Service, **changed: object) -> Settings:
    values = {f"AMI_{name.upper()}": str(value) for name, value in changed.items()}
    environ = {"AMI_ANTENNA_API_BASE_URL": service.base_url, "AMI_ANTENNA_API_AUTH_TOKEN": TOKEN, **values}
    return read_settings(environ, Path("/nowhere"))


def a_batch(*pictures: Picture) -> Batch:
    return {
        "images": list(pictures),
        "image_ids": [str(number) for number, _ in enumerate(pictures)],
        "reply_subjects": [f"reply-{number}" for number, _ in enumerate(pictures)],
        "image_urls": [f"http://images/{number}.jpg" for number, _ in enumerate(pictures)],
        "failed_items": [
            {
                "reply_subject": "reply-x",
                "image_id": "x",
                "image_url": "http://images/x",
                "error": "failed to load image",
            }
        ],
    }


def an_answerable(name: str) -> Batch:
    """Return a batch of one image whose reply subject the service can read."""
    batch = a_batch(GREY)
    batch["reply_subjects"] = [f"$JS.ACK.job_2.job-2-consumer.1.{name}.{name}.1.0"]
    return {**batch, "failed_items": []}


GREY = Picture(width=400, height=200, small_size=(2, 1), rgb=b"\x80" * 6)


# Polls


def test_a_poll_asks_without_a_slash_and_follows_the_redirect(service: Service, start: Start) -> None:
    service.has("1")
    start("--pipeline", "moth_binary", "--pipeline", "panama_moths_2024")
    service.wait_until(service.posts)
    first, second = [seen for seen in service.seen if "ids_only" in seen.url][:2]
    assert urlsplit(first.url).path == "/api/v2/jobs"
    assert urlsplit(second.url).path == "/api/v2/jobs/"
    assert first.token == second.token == f"Token {TOKEN}"
    assert parse_qs(urlsplit(second.url).query) == {
        "pipeline__slug__in": ["moth_binary,panama_moths_2024"],
        "ids_only": ["1"],
        "incomplete_only": ["1"],
        "dispatch_mode": ["async_api"],
    }


def test_a_poll_without_pipelines_asks_for_all_of_them(service: Service, start: Start) -> None:
    worker = start()
    worker.wait_for("No jobs found, sleeping for 0.05 seconds")
    assert "Checking for jobs for pipelines: moth_binary, panama_moths_2024, quebec_vermont_moths" in worker.output()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b"", "Failed to fetch jobs from"),
        (200, b"<html>", "Failed to fetch jobs from"),
        (200, b"[1]", "Failed to parse jobs response"),
    ],
)
def test_a_poll_that_fails_finds_no_jobs(
    service: Service, caplog: pytest.LogCaptureFixture, status: int, body: bytes, message: str
) -> None:
    service.answered["jobs"] = (status, body)
    assert get_jobs(settings_for(service), ["moth_binary"]) == []
    assert message in caplog.text


def test_pipelines_are_registered_if_asked_for(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(service, antenna_service_name="Test bench")
    assert register_pipelines(settings, 7, ["moth_binary"])
    [seen] = service.requests("POST", "/projects/7/pipelines/")
    assert seen.body["processing_service_name"].startswith("Test bench (")
    [pipeline] = seen.body["pipelines"]
    assert pipeline["slug"] == "moth_binary"
    keys = [algorithm["key"] for algorithm in pipeline["algorithms"]]
    assert keys == ["fasterrcnn_for_ami_moth_traps_2023", "moth_nonmoth_classifier"]
    service.answered["pipelines"] = (400, b"{}")
    assert not register_pipelines(settings, 7, ["moth_binary"])
    assert "Failed to register pipelines for project 7" in caplog.text


def test_to_register_is_to_tell_each_project_and_to_leave(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AMI_ANTENNA_API_BASE_URL", service.base_url)
    monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", TOKEN)
    assert main(["register", "--project", "7", "--project", "8", "--pipeline", "moth_binary"]) == 0
    for project in (7, 8):
        [seen] = service.requests("POST", f"/projects/{project}/pipelines/")
        assert [one["slug"] for one in seen.body["pipelines"]] == ["moth_binary"]
        assert seen.token == f"Token {TOKEN}"
    service.answered["pipelines"] = (404, b"{}")
    assert main(["register", "--project", "9"]) == 2
    assert "Failed to register pipelines for project 9: 404" in caplog.text


def keys_of(value: object) -> object:
    """Return what there is in a body, without the values: of a list the first item stands for all."""
    if isinstance(value, dict):
        return {key: keys_of(item) for key, item in value.items()}
    return [keys_of(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else "a value"


def calls_of(rows: Iterable[tuple[str, str, object]]) -> dict[tuple[str, str], object]:
    """Return each kind of API call, by method and path with its query, and the keys of its first body."""
    found: dict[tuple[str, str], object] = {}
    for method, url, body in rows:
        parts = urlsplit(url)
        if "/api/v2/" in parts.path:
            path = re.sub(r"/jobs/\d+/", "/jobs/N/", parts.path) + (f"?{parts.query}" if parts.query else "")
            found.setdefault((method, path), None if body is None else keys_of(body))
    return found


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings of the real worker are not here")
def test_the_api_is_called_as_the_real_worker_calls_it(service: Service) -> None:
    service.has("1", "2")
    settings = settings_for(service, num_workers=0)
    assert [job.id for job in get_jobs(settings, ["moth_binary"])] == [JOB]
    assert process_job("moth_binary", JOB, settings)
    recorded = [json.loads(line) for line in (RECORDINGS / "worker-healthy.jsonl").read_text().splitlines()]
    real = calls_of((r["method"], r["url"], json.loads(r["request_body"] or "null")) for r in recorded)

    assert calls_of((seen.method, seen.url, seen.body) for seen in service.seen) == real


# Batches


def test_every_task_is_answered_once_whatever_the_number_of_loaders(service: Service, start: Start) -> None:
    names = [str(number) for number in range(101, 161)]
    service.has(*names)
    worker = start(antenna_api_batch_size=8)
    service.wait_until(lambda: len(service.answers()) == len(names))
    worker.wait_for("Done, images: 60")
    assert sorted(len(post) for post in service.posts()) == [4, 8, 8, 8, 8, 8, 8, 8]
    assert not service.errors()
    assert {seen.body["batch_size"] for seen in service.requests("POST", "/tasks/")} == {8}
    assert {seen.token for seen in service.seen if "/images/" in seen.url} == {None}
    assert {seen.token for seen in service.seen if "/api/" in seen.url} == {f"Token {TOKEN}"}
    assert "Warning" not in worker.output()


def test_an_answer_has_the_shape_that_the_service_stores(service: Service) -> None:
    service.has("1")
    assert process_job("moth_binary", JOB, settings_for(service, num_workers=0))
    result = service.answers()["1"]
    assert result["pipeline"] == "moth_binary"
    assert result["source_images"] == [{"id": "1", "url": f"{service.url}/images/1.jpg?signature=x"}]
    [detection] = result["detections"]
    assert detection["source_image_id"] == "1"
    assert detection["bbox"] == {"x1": 80.0, "y1": 60.0, "x2": 240.0, "y2": 180.0}
    assert detection["algorithm"]["key"] == "fasterrcnn_for_ami_moth_traps_2023"
    [classification] = detection["classifications"]
    assert classification["algorithm"]["key"] == "moth_nonmoth_classifier"
    assert classification["classification"] in ("moth", "nonmoth")
    assert sum(classification["scores"]) == pytest.approx(1)


def test_an_image_that_fails_is_an_error_and_does_not_take_its_batch_along(service: Service, start: Start) -> None:
    service.images |= {"2": b"", "3": b"<html>no picture</html>", "4": JPEG[: len(JPEG) // 2], "5": a_jpeg(3000, 2000)}
    service.has("1", "2", "3", "4", "5")
    start()
    service.wait_until(service.posts)
    assert service.errors() == {"2": "failed to load image", "3": "failed to load image"}
    assert service.answers()["2"]["image_id"] == "2"
    assert service.answers()["5"]["detections"][0]["bbox"]["x2"] == 2250.0


def test_an_exception_inside_a_batch_becomes_an_error_answer_for_each_image() -> None:
    torn = Picture(width=4, height=4, small_size=(4, 4), rgb=b"")
    first, second, third = process_batch(a_batch(GREY, torn), 0, "moth_binary", 0.0)
    assert first["reply_subject"] == "reply-0"
    assert second["result"] == {"error": "Batch processing error: not enough image data", "image_id": "1"}
    assert third["result"] == {"error": "failed to load image", "image_id": "x"}


def test_the_model_takes_as_long_as_it_is_told_for_each_image() -> None:
    took, told = [], []
    for _ in range(4):
        began = time.monotonic()
        answers = process_batch(a_batch(GREY, GREY), 0, "moth_binary", 0.05)
        took.append(time.monotonic() - began)
        told.append(float(str(answers[0]["result"]["total_time"])))
    assert 0.1 <= min(took) < 1  # the quickest is not that in which the machine did something else
    assert 0.05 <= min(told) < 0.5


# Posts


def test_a_failed_post_is_logged_and_never_repeated(service: Service, start: Start) -> None:
    service.answered["result"] = (500, b"{}")
    service.has("1", "2", "3")
    worker = start(antenna_api_batch_size=2, num_workers=1)
    worker.wait_for("Done, images: 3")
    worker.wait_for("No jobs found")
    assert sorted(len(post) for post in service.posts()) == [1, 2]
    assert worker.output().count("Failed to post results to") == 2
    assert worker.output().count("Result post failed for job 2 after") == 2
    assert "result posts: 2 (success: 0, failed: 2)" in worker.output()


def test_an_odd_answer_to_a_post_counts_as_a_failure(service: Service) -> None:
    service.answered["result"] = (200, b"[]")
    with ResultPoster(settings_for(service), JOB) as poster:
        poster.post(process_batch(an_answerable("1"), 0, "moth_binary", 0.0))
        poster.wait_for_all()
        assert (poster.posted, poster.failed) == (0, 1)


def test_two_threads_post_and_more_than_five_posts_block_the_loop(service: Service) -> None:
    handed_over: list[int] = []

    def hand_over() -> None:
        for number in range(MAX_PENDING + 1):
            poster.post(process_batch(an_answerable(f"8{number}"), 0, "moth_binary", 0.0))
            service.note(partial(handed_over.append, number))
        poster.wait_for_all()

    with ResultPoster(settings_for(service), JOB) as poster:
        thread = threading.Thread(target=hand_over)
        thread.start()
        service.wait_until(lambda: len(handed_over) == MAX_PENDING and service.posting == 2)
        thread.join(0.1)
        assert len(handed_over) == MAX_PENDING
        service.released.set()
        thread.join(PATIENCE)
    assert len(handed_over) == poster.posted == MAX_PENDING + 1
    assert service.most_posting == 2


# Loaders


def test_loaders_are_started_anew_at_every_poll(service: Service, start: Start) -> None:
    worker = start(num_workers=2)
    worker.wait_for("No jobs found", times=2)
    pids = worker.loaders()
    assert len(set(pids[:4])) == 4
    assert worker.process.pid not in pids


def test_a_loader_that_dies_is_noticed_within_a_second_and_the_next_poll_goes_on(
    service: Service, start: Start
) -> None:
    service.has("9")
    worker = start(num_workers=2)
    service.wait_until(lambda: service.requests("GET", "/9.jpg"))
    worker.wait_for("Loader subprocess", times=2)
    pids = worker.loaders()
    began = time.monotonic()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # the death of the first may have ended the second already
            os.kill(pid, signal.SIGKILL)
    worker.wait_for("exited unexpectedly")
    assert time.monotonic() - began < 1
    assert re.search(rf"RuntimeError: loader worker \(pid ({'|'.join(map(str, pids))})\) exited", worker.output())
    worker.wait_for("Loader subprocess", times=4)  # of the next poll: what the dead had asked for is answered by now
    service.has("1")
    service.wait_until(service.posts)
    assert list(service.answers()) == ["1"]


def test_a_loader_that_dies_in_the_middle_of_a_batch_turns_the_batch_into_errors(
    service: Service, start: Start
) -> None:
    service.has("1", "9")
    worker = start(num_workers=1, antenna_api_batch_size=1, sample_model_delay=5)
    service.wait_until(lambda: service.requests("GET", "/9.jpg"))
    worker.wait_for("Batch 1: 1 images")  # the main process has begun its five seconds with the first image
    [pid] = worker.loaders()
    os.kill(pid, signal.SIGKILL)
    service.wait_until(service.posts)
    assert service.errors() == {"1": f"Batch processing error: loader worker (pid {pid}) exited unexpectedly"}
    worker.wait_for("Failed to process job 2 with pipeline moth_binary: loader worker")


def test_a_fetch_that_fails_ends_the_loop_and_the_next_poll_resumes(service: Service, start: Start) -> None:
    service.answered["tasks"] = (503, b"")
    worker = start(num_workers=1)
    worker.wait_for("Worker 0: Fetch failed after retries (503 Server Error")
    worker.wait_for("No jobs found")
    del service.answered["tasks"]
    service.has("1")
    service.wait_until(service.posts)
    assert list(service.answers()) == ["1"]
    assert "Traceback" not in worker.output()


def test_an_odd_answer_to_a_fetch_aborts_the_job_for_this_poll(service: Service, start: Start) -> None:
    service.answered["tasks"] = (200, b'{"tasks": [{"id": "1"}]}')
    worker = start(num_workers=1)
    worker.wait_for("ValueError: not a list of tasks: KeyError: 'image_id'")
    del service.answered["tasks"]
    service.has("1")
    service.wait_until(service.posts)
    assert list(service.answers()) == ["1"]


@pytest.mark.parametrize("blocked", [False, True], ids=["at work", "in the middle of a download"])
def test_the_loaders_end_soon_after_the_main_process_died_and_fetch_nothing_more(
    service: Service, start: Start, blocked: bool
) -> None:
    service.has(*(f"9{number}" for number in range(10)))
    worker = start(num_workers=2, antenna_api_batch_size=1)
    service.wait_until(lambda: len(service.requests("POST", "/tasks/")) == 2)
    worker.wait_for("Loader subprocess", times=2)
    pids = worker.loaders()
    worker.process.kill()
    worker.process.wait()
    if not blocked:
        service.released.set()
    began = time.monotonic()
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert time.monotonic() - began < 4
    assert len(service.requests("POST", "/tasks/")) == 2


def test_a_loader_prefetches_no_more_than_it_is_told(service: Service, start: Start) -> None:
    service.has(*(str(number) for number in range(10, 20)))
    start(num_workers=1, antenna_api_batch_size=1, sample_prefetch=2, sample_model_delay=5)
    service.wait_until(lambda: len(service.requests("POST", "/tasks/")) == 3)
    time.sleep(0.3)  # a fourth would have been asked for by now
    assert len(service.requests("POST", "/tasks/")) == 3


def test_without_loaders_everything_happens_in_the_main_process(service: Service, start: Start) -> None:
    service.has("1", "2", "3")
    worker = start(num_workers=0)
    service.wait_until(service.posts)
    assert not service.errors()
    assert "loader-" not in worker.output()
    assert worker.interrupt() == 130


# Ends


def test_an_interrupted_worker_ends_in_order(service: Service, start: Start) -> None:
    service.has("9")
    worker = start(num_workers=2)
    service.wait_until(lambda: service.requests("GET", "/9.jpg"))
    worker.wait_for("Loader subprocess", times=2)
    service.released.set()
    assert worker.interrupt() == 130
    assert "Traceback" not in worker.output()
    assert not any(is_alive(pid) for pid in worker.loaders())


def test_an_interrupt_that_a_finalizer_drops_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()

    @lasting_interrupts()
    def interrupt_a_finalizer() -> None:
        weakref.finalize(Seen("", "", None, None), signal.raise_signal, signal.SIGINT)
        time.sleep(PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        interrupt_a_finalizer()
    assert time.monotonic() - began < 1
    assert capsys.readouterr().err == ""


def test_a_terminated_worker_ends(service: Service, start: Start) -> None:
    worker = start(num_workers=1)
    worker.wait_for("No jobs found")
    worker.process.terminate()
    assert worker.process.wait(PATIENCE) == -signal.SIGTERM


# Settings


def test_the_defaults_are_the_real_workers() -> None:
    assert read_settings({"AMI_ANTENNA_API_AUTH_TOKEN": "t"}, Path("/nowhere")) == Settings(
        "http://localhost:8000/api/v2", "t", "AMI sample worker", 24, 4, 0.0, 5.0, 4, 8
    )


def test_the_environment_comes_before_the_file_and_names_come_in_any_case(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ami_num_workers=1\nAMI_ANTENNA_API_AUTH_TOKEN='in file'\nAMI_SAMPLE_THREADS=2\n")
    settings = read_settings({"Ami_Antenna_Api_Auth_Token": "in-environ", "AMI_NUM_WORKERS": "3"}, tmp_path)
    assert (settings.token, settings.num_workers, settings.threads) == ("in-environ", 3, 2)
    assert "in-environ" not in repr(settings)


def test_the_file_in_the_working_directory_is_used(service: Service, start: Start, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AMI_ANTENNA_API_BATCH_SIZE=3\n")
    service.has("1")
    start(num_workers=1)
    service.wait_until(service.posts)
    assert service.requests("POST", "/tasks/")[0].body == {"batch_size": 3}


def test_what_stands_in_the_file_never_reaches_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AMI_ANTENNA_API_AUTH_TOKEN=t\nAMI_SAMPLE_PREFETCH=3\n")
    before = dict(os.environ)
    assert read_settings(os.environ, tmp_path).prefetch == 3
    assert dict(os.environ) == before


def test_everything_that_is_wrong_is_said_at_once_and_no_secret_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("AMI_ANTENNA_API_BASE_URL=localhost\nAMI_ANTENNA_API_AUTH_TOKEN='my secret'\n")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("AMI_")]:
        monkeypatch.delenv(name)
    wrong = {
        "AMI_ANTENNA_SERVICE_NAME": "  ",
        "AMI_ANTENNA_API_BATCH_SIZE": "0",
        "AMI_NUM_WORKERS": "-1",
        "AMI_SAMPLE_MODEL_DELAY": "nan",
        "AMI_SAMPLE_IDLE_SLEEP": "soon",
        "AMI_SAMPLE_PREFETCH": "1.5",
        "AMI_SAMPLE_THREADS": "",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "AMI_ANTENNA_API_BASE_URL='localhost': is a URL such as http://localhost:8000/api/v2",
        "AMI_ANTENNA_API_AUTH_TOKEN: is printable ASCII without blanks",
        "AMI_ANTENNA_SERVICE_NAME='': is a name that is not blank",
        "AMI_ANTENNA_API_BATCH_SIZE='0': is a whole number from 1 to 10000",
        "AMI_NUM_WORKERS='-1': is a whole number from 0 to 64",
        "AMI_SAMPLE_MODEL_DELAY='nan': is a number of seconds from 0 to 3600",
        "AMI_SAMPLE_IDLE_SLEEP='soon': is a number of seconds from 0 to 3600",
        "AMI_SAMPLE_PREFETCH='1.5': is a whole number from 1 to 100",
        "AMI_SAMPLE_THREADS='': is a whole number from 1 to 64",
    ]


def test_a_missing_token_is_named() -> None:
    expected = "AMI_ANTENNA_API_AUTH_TOKEN: must be set, in the environment or in .env in the working directory"
    with pytest.raises(SettingsError, match=re.escape(expected)):
        read_settings({}, Path("/nowhere"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"AMI_NUM_WORKERS=\xff\n")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read: not UTF-8 text"):
        read_settings({}, tmp_path)


def test_an_unknown_pipeline_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--pipeline", "butterflies"])
    assert "invalid choice: 'butterflies'" in capsys.readouterr().err
