from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ami_fault_site.cli import main

TOKEN = "0123456789abcdef"
START = ["job", "start", "--project", "2", "--collection", "3", "--pipeline", "moth_binary", "--images", "24"]


class Antenna(ThreadingHTTPServer):
    """Lists two pages of pipelines, makes any job, and remembers what it was asked; `answers` go before, by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, str, str | None, object]] = []
        self.answers: dict[str, tuple[int, object]] = {}

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v2"


class _Answers(BaseHTTPRequestHandler):
    server: Antenna

    def do_GET(self) -> None:
        page = {"count": 2, "next": f"{self.server.base_url}/ml/pipelines/?limit=1&offset=1&project_id=2"}
        last = {"count": 2, "next": None, "results": [{"id": 10, "slug": "moth_binary"}]}
        self._answer(last if "offset" in self.path else {**page, "results": [{"id": 4, "slug": "panama"}]})

    def do_POST(self) -> None:
        self._answer({"id": 12, "status": "PENDING", "dispatch_mode": "async_api"}, 201)

    def _answer(self, body: object, status: int = 200) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = json.loads(sent) if sent else None
        self.server.asked.append((self.command, self.path, self.headers["Authorization"], said))
        status, body = self.server.answers.get(self.path.split("?")[0], (status, body))
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that it has there
        """Be quiet."""


@pytest.fixture
def antenna(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Antenna]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", TOKEN)
    with Antenna() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AMI_ANTENNA_API_BASE_URL", service.base_url)
        yield service
        service.shutdown()
        thread.join()


def test_a_job_is_made_and_started_as_the_platform_takes_it_and_its_number_is_all_that_is_printed(
    antenna: Antenna, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*START, "--name", "nightly"]) == 0

    told = capsys.readouterr()
    assert told.out == "12\n"
    assert told.err == f"ami-fault: job 12 at 127.0.0.1:{antenna.server_port}: 'nightly', PENDING\n"
    assert antenna.asked[-1] == (
        "POST",
        "/api/v2/jobs/?start_now=1",
        f"Token {TOKEN}",
        {
            "name": "nightly", "delay": 0, "limit": 24, "shuffle": False, "project_id": 2,
            "source_image_collection_id": 3, "pipeline_id": 10, "job_type_key": "ml",
        },
    )  # fmt: skip
    assert [path for _, path, _, _ in antenna.asked[:-1]] == [
        "/api/v2/ml/pipelines/?project_id=2",
        "/api/v2/ml/pipelines/?limit=1&offset=1&project_id=2",
    ]


def test_a_job_that_no_worker_would_see_is_told(antenna: Antenna, capsys: pytest.CaptureFixture[str]) -> None:
    antenna.answers["/api/v2/jobs/"] = (201, {"id": 12, "status": "PENDING", "dispatch_mode": "sync_api"})

    assert main(START) == 0

    told = capsys.readouterr()
    assert told.out == "12\n"
    assert told.err.endswith("job 12 is dispatched as sync_api: no worker that polls will see it\n")


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        (
            "/api/v2/jobs/",
            (400, {"source_image_collection_id": ['Invalid pk "3" - object does not exist.']}),
            'refuses POST /jobs/ (400): {"source_image_collection_id": '
            '["Invalid pk \\"3\\" - object does not exist."]}',
        ),
        ("/api/v2/jobs/", (201, {"status": "PENDING"}), 'made a job without a number: {"status": "PENDING"}'),
        ("/api/v2/jobs/", (403, {"detail": "no"}), "refuses it (403); is it a superuser's?"),
        ("/api/v2/ml/pipelines/", (500, b"<h1>Oh  no</h1>"), "refuses GET /ml/pipelines/ (500): <h1>Oh no</h1>"),
        ("/api/v2/ml/pipelines/", (200, [1]), "refuses GET /ml/pipelines/ (200): [1]"),
        ("/api/v2/ml/pipelines/", (200, {"results": 1}), 'does not list pipelines: {"results": 1}'),
        (
            "/api/v2/ml/pipelines/",
            (200, {"results": [], "next": "http://elsewhere.example/api/v2/ml/pipelines/"}),
            "goes on at 'http://elsewhere.example/api/v2/ml/pipelines/', which is another service",
        ),
    ],
)
def test_what_the_service_refuses_is_told_in_its_own_words(
    antenna: Antenna, capsys: pytest.CaptureFixture[str], path: str, answer: tuple[int, object], expected: str
) -> None:
    antenna.answers[path] = answer

    assert main(START) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith(f"{expected}\n")


def test_a_pipeline_that_the_project_has_not_is_told_with_those_that_it_has(
    antenna: Antenna, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*START[:-4], "--pipeline", "moth_binry", "--images", "1"]) == 2

    assert capsys.readouterr().err == (
        "ami-fault: --pipeline='moth_binry': is no pipeline of project 2 (did you mean moth_binary?); "
        "it has moth_binary, panama\n"
    )


def test_without_a_token_or_a_service_nothing_is_ordered(
    antenna: Antenna, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", "")
    assert main(START) == 2
    assert "AMI_ANTENNA_API_AUTH_TOKEN: is required" in capsys.readouterr().err

    monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("AMI_ANTENNA_API_BASE_URL", "http://127.0.0.1:9/api/v2")
    assert main(START) == 2
    assert "nothing answers there (ConnectionError); is the service up?" in capsys.readouterr().err
    assert antenna.asked == []


def test_a_protected_service_is_not_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("AMI_ANTENNA_API_BASE_URL", "https://antenna.insectai.org/api/v2")

    assert main(START) == 78
    assert "antenna.insectai.org" in capsys.readouterr().err
