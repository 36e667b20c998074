"""What the hooks cost a worker that has its hands full, and how much faster than it the sandbox is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxInfo, SandboxOptions
from tests.bench.environments import ON, Environments
from tests.bench.pairs import Contender, ContenderError, turns
from tests.bench.rows import Goal, Row, paired, spread

WORK = "on, all rates 0: the sample worker on {images:,} images, 2 loaders, {processors} processors"
BYTES = "ledger"
QUEUE = "sandbox: tasks handed out and answered through JetStream"
_PATIENCE = 900.0  # seconds
_TASKS, _CLIENTS, _BATCH = 10_000, 4, 64
_AS_FAST = Goal("at least 0.99 of off", "ratio", least=0.99)
_SHORT = Goal("at most 350", "median", most=350.0)
_FASTER = Goal("at least 5 times what the sample worker takes", "ratio", least=5.0)


@dataclass(frozen=True)
class _Client:
    """What a worker does over HTTP, and nothing else."""

    info: SandboxInfo
    session: requests.Session

    def ask(self, method: str, path: str, body: object = None) -> Any:
        answer = self.session.request(method, f"{self.info.base_url}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def counts(self, job: int) -> dict[str, Any]:
        """Return what the service says of a job."""
        return dict(self.ask("GET", f"/jobs/{job}/"))


def _client(info: SandboxInfo) -> _Client:
    session = requests.Session()
    session.headers["Authorization"] = f"Token {info.token}"
    return _Client(info, session)


def rows(environments: Environments, scratch: Path, images: int, rounds: int, tasks: int = _TASKS) -> Iterator[Row]:
    """Let the sample worker do jobs with the hook off and on, and ask the sandbox for all that it can give."""
    python, numbers = environments.ours, iter(range(1, 10_000))

    def per_second(name: str) -> float:
        folder = scratch / "work" / str(next(numbers))
        return _worked(python, images, {**ON, "AMI_TEST_RUN_DIR": str(folder)} if name == "on" else {})

    found = turns(["off", "on"], rounds, per_second)
    promise = WORK.format(images=images, processors=os.cpu_count())
    yield Row(promise, "off, images a second", "", spread(found["off"]))
    yield paired(promise, "on, images a second", "", found["on"], ("off", found["off"]), _AS_FAST)
    lines = [line for path in sorted((scratch / "work").glob("*/ledger/*.jsonl")) for line in path.open("rb")]
    mean = sum(map(len, lines)) / len(lines)
    yield Row(BYTES, f"bytes an event, in the mean of {len(lines):,}", "", spread([mean]), goal=_SHORT)
    rates = [_queued(tasks) for _ in range(min(3, rounds))]
    against = ("the sample worker, off", found["off"][: len(rates)])
    yield paired(QUEUE, f"tasks a second, {_CLIENTS} clients in batches of {_BATCH}", "", rates, against, _FASTER)


def _worked(python: Path, images: int, environ: Mapping[str, str]) -> float:
    """Return the images a second of a worker, from its start to the end of its job."""
    with running(SandboxOptions(images=images, ack_wait=120.0, max_deliver=5)) as info, requests.Session():
        client = _client(info)
        worker = {
            "AMI_ANTENNA_API_BASE_URL": info.base_url, "AMI_ANTENNA_API_AUTH_TOKEN": info.token,
            "AMI_ANTENNA_SERVICE_NAME": "bench", "AMI_NUM_WORKERS": "2", "AMI_SAMPLE_IDLE_SLEEP": "0.2",
        }  # fmt: skip
        one = Contender(
            "worker", [python.with_name("ami-sample-worker"), "--pipeline", "moth_binary"], {**worker, **environ}
        )
        began = time.monotonic()
        process = subprocess.Popen(
            [os.fspath(part) for part in one.command], env=one.environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            took = _until_done(client, began, process)
        finally:
            os.killpg(process.pid, 15)
            process.wait()
        return images / took


def _until_done(client: _Client, began: float, process: subprocess.Popen[bytes]) -> float:
    while (took := time.monotonic() - began) < _PATIENCE:
        if client.counts(1)["status"] == "SUCCESS":
            return took
        if process.poll() is not None:
            raise ContenderError(f"the sample worker ended with {process.returncode}")
        time.sleep(0.1)
    raise ContenderError(f"the sample worker was not done after {_PATIENCE:g} s")


def _queued(tasks: int) -> float:
    """Return the tasks a second that clients get and answer who do nothing else."""
    with running(SandboxOptions(images=tasks, ack_wait=120.0, max_deliver=5, max_ack_pending=tasks)) as info:
        began = time.monotonic()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            done = sum(pool.map(lambda _: _drain(_client(info)), range(_CLIENTS)))
        took = time.monotonic() - began
    if done != tasks:
        raise ContenderError(f"{done} of {tasks} tasks were handed out")
    return tasks / took


def _drain(client: _Client) -> int:
    """Get and answer tasks until there are no more."""
    done = 0
    while tasks := client.ask("POST", "/jobs/1/tasks/", {"batch_size": _BATCH})["tasks"]:
        results = [{"reply_subject": one["reply_subject"], "result": _result(one["image_id"])} for one in tasks]
        client.ask("POST", "/jobs/1/result/", {"results": results})
        done += len(tasks)
    return done


def _result(image: str) -> dict[str, object]:
    """Return what a trivial model finds: nothing."""
    source = [{"id": image, "url": "http://127.0.0.1/"}]
    return {"pipeline": "moth_binary", "algorithms": {}, "total_time": 0.0, "source_images": source, "detections": []}
