"""A stage for the hooks: a small HTTP service with Antenna's shapes, and a run folder to book into."""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from ami_fault_site import runfolder
from ami_fault_site.injector import Injector
from ami_fault_site.ledger import Event, Ledger, Reader
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.settings import Settings

PUBLISHED = 1795438299585001495


def reply_subject(sequence: int, delivery: int = 1, job: int = 1, consumer_sequence: int | None = None) -> str:
    """Return a reply subject as JetStream makes it."""
    number = sequence if consumer_sequence is None else consumer_sequence
    return f"$JS.ACK.job_{job}.job-{job}-consumer.{delivery}.{sequence}.{number}.{PUBLISHED + sequence}.0"


def jpeg(size: tuple[int, int] = (32, 24)) -> bytes:
    """Return a small real JPEG."""
    stream = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


def result_body(*subjects: str, error: str = "") -> bytes:
    """Return a result body with one item for each reply subject."""
    good = {"pipeline": "moth_binary", "algorithms": {}, "total_time": 0.1, "source_images": [], "detections": []}
    outcome = {"error": error, "image_id": "1"} if error else good
    return json.dumps({"results": [{"reply_subject": s, "result": outcome} for s in subjects]}).encode()


def job_detail(status: str) -> dict[str, Any]:
    """Return what the service says of job 1."""
    params = [{"key": "processed", "value": 2}, {"key": "remaining", "value": 0}, {"key": "failed", "value": 0}]
    line = "[2026-11-23 08:37:20] INFO Created NATS consumer job-1-consumer (max_deliver=2, ack_wait=8.0s, x=y)"
    stages = [{"key": "process", "params": params}]
    return {"id": 1, "status": status, "progress": {"stages": stages, "errors": []}, "logs": {"stdout": [line]}}


@dataclass
class Service:
    """What the service on the stage was asked, and where it is."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    tasks: list[dict[str, str]] = field(default_factory=list)
    picture: bytes = field(default_factory=jpeg)
    result_status: int = 200
    retry_status: int = 200
    status: str = "STARTED"
    token: str = ""
    redirect: str = ""

    def paths(self, part: str) -> list[str]:
        """Return the paths asked for that contain `part`."""
        return [path for _, path in self.asked if part in path]


@contextmanager
def service(tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Serve on a port of the kernel's choice until the block ends."""
    stage = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stage.asked.append(("GET", self.path))
            if stage.token and self.headers.get("Authorization") not in (None, f"Token {stage.token}"):
                self._send(401, b'{"detail":"Invalid token."}')
                return
            path, _, query = self.path.partition("?")
            if path.endswith("/jobs"):
                self._send(301, b"", {"Location": stage.redirect or f"{path}/?{query}"})
            elif path.endswith("/jobs/"):
                self._send(200, b'{"count":1,"results":[{"id":1,"pipeline_slug":"moth_binary"}]}')
            elif path.endswith("/jobs/1/"):
                self._send(200, json.dumps(job_detail(stage.status)).encode())
            elif "/captures/" in path:
                self._send(200, stage.picture, {"Content-Type": "image/jpeg"})
            else:
                self._send(404, b'{"detail":"Not found."}')

        def do_POST(self) -> None:
            stage.asked.append(("POST", self.path))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/tasks/"):
                self._send(200, json.dumps({"tasks": stage.tasks}).encode())
            elif self.path.endswith("/result/"):
                self._send(stage.result_status, b'{"status":"accepted","job_id":1,"results_queued":1,"tasks":[]}')
            elif self.path.endswith("/retry/"):
                self._send(stage.retry_status, b'{"detail":"You do not have permission."}')
            else:
                self._send(201, b"{}")

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        # The handshake is its thread's, which may fail alone.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    stage.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    try:
        yield stage
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hand_out(stage: Service, *sequences: int, delivery: int = 1) -> None:
    """Let the next tasks call hand out these tasks."""
    stage.tasks = [
        {
            "id": str(n),
            "image_id": str(n),
            "image_url": f"{stage.url}/captures/{n:04d}.jpg?X-Signature=secret{n}",
            "reply_subject": reply_subject(n, delivery),
        }
        for n in sequences
    ]


def injector(folder: Path, **values: Any) -> Injector:
    """Return an injector with a run folder of its own."""
    settings = Settings(enabled=True, **{"seed": 1, **values})
    joined = runfolder.join(settings, folder)
    return Injector(joined.settings, joined.run, Ledger(joined.run.ledger, settings.incarnation))


def events(run: RunFolder, *kinds: str) -> list[Event]:
    """Return what has been booked, of these kinds or all."""
    reader = Reader(run.ledger)
    found = [event for event in reader.new() if not kinds or event.kind in kinds]
    assert reader.damage == []
    return found
