"""The promise of the rates, through the installed hooks: in forked loaders and threads, counted from the ledger."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import History
from ami_fault_site.ledger import Reader
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import clean_environment
from tests.thorough import IS_THOROUGH, times

pytestmark = pytest.mark.untraced

CALLS, PROCESSES, THREADS = times(2_000, 20_000), 2, 4

# Nothing goes over the wire: the adapter answers at once, so that so many calls take seconds.
WORKER = """
import io, json, multiprocessing, sys, threading

import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from requests.models import Response

URL, PUBLISHED = "http://127.0.0.1:1/api/v2", 1795438299585001495
calls, processes, threads, what = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
stream = io.BytesIO()
Image.new("RGB", (8, 8)).save(stream, "JPEG")
PICTURE = stream.getvalue()


def subject(n):
    return f"$JS.ACK.job_1.job-1-consumer.1.{n}.{n}.{PUBLISHED + n}.0"


class NoOp(HTTPAdapter):
    def send(self, request, **kwargs):
        response = Response()
        response.status_code, response.url, response.request = 200, request.url, request
        if request.url.endswith("/tasks/"):
            numbers = json.loads(request.body)["numbers"]
            tasks = [
                {"id": str(n), "image_id": str(n), "image_url": f"{URL}/c/{n}.jpg", "reply_subject": subject(n)}
                for n in numbers
            ]
            response.raw = io.BytesIO(json.dumps({"tasks": tasks}).encode())
        else:
            response.raw = io.BytesIO(PICTURE if request.url.endswith(".jpg") else b'{"status":"accepted"}')
        return response


def loop(batch):
    return None


def post(session, n):
    result = {"reply_subject": subject(n), "result": {"detections": []}}
    session.post(f"{URL}/jobs/1/result/", json={"results": [result]})


def look(session, n):
    response = session.get(f"{URL}/c/{n}.jpg")
    response.raise_for_status()
    Image.open(io.BytesIO(response.content))


def batch(session, n):
    loop([subject(8 * n + i) for i in range(8)])


def work(numbers):
    session = requests.Session()
    session.mount("http://", NoOp())
    for at, n in enumerate(numbers):
        try:
            if what == "look" and at % 100 == 0:
                session.post(f"{URL}/jobs/1/tasks/", json={"numbers": list(numbers[at : at + 100])})
            {"post": post, "look": look, "batch": batch}[what](session, n)
        except (OSError, RuntimeError):
            pass


def loader(number):
    mine = range(number, calls, processes)
    parts = [threading.Thread(target=work, args=(mine[t::threads],)) for t in range(threads)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()


if __name__ == "__main__":
    if what == "batch":
        session = requests.Session()
        session.mount("http://", NoOp())
        session.post(f"{URL}/jobs/1/tasks/", json={"numbers": []})
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=loader, args=(number,)) for number in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(max(child.exitcode for child in children))
"""

CASES = {
    "post": {Effect.NETWORK: "AMI_TEST_NETWORK_ERROR_RATE"},
    "look": {Effect.IMAGE_404: "AMI_TEST_IMAGE_404_RATE", Effect.CORRUPT: "AMI_TEST_CORRUPT_IMAGE_RATE"},
    "batch": {Effect.TRANSIENT: "AMI_TEST_TRANSIENT_ERROR_RATE"},
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 1.0] if IS_THOROUGH else [0.0, 0.1, 1.0])
def test_the_set_rate_is_met_within_4_sigma_through_the_hooks(
    wheel_python: Path, tmp_path: Path, what: str, rate: float
) -> None:
    # What never and what always happens need not be tried so often; an image that is missing is not opened.
    calls = CALLS // 10 if rate in (0, 1) else round(CALLS / (1 - rate)) if what == "look" else CALLS
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environ = clean_environment(
        AMI_TEST_FAULT_INJECTION_ENABLED="true",
        AMI_TEST_RUN_DIR=str(tmp_path / "run"),
        AMI_TEST_SEED="1",
        AMI_TEST_TASK_LOOP="__main__:loop",
        AMI_TEST_MAX_DELIVER="0",
        **dict.fromkeys(CASES[what].values(), str(rate)),
    )
    command: list[str | Path] = [wheel_python, script, str(calls), str(PROCESSES), str(THREADS), what]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    history, reader = History(), Reader(RunFolder(tmp_path / "run").ledger)
    history.add(reader.new())
    assert (reader.damage, RunFolder(tmp_path / "run").is_incomplete()) == ([], False), done.stderr
    tried = calls
    for effect in CASES[what]:
        # Each call was rolled for, and booked, exactly once.
        assert history.eligible[effect.value] == (tried if rate else 0), done.stderr
        injected = history.injected[effect.value]
        assert abs(injected - tried * rate) <= 4 * (tried * rate * (1 - rate)) ** 0.5
        tried -= injected
