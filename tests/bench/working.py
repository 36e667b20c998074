"""What the hooks cost a worker that has its hands full, and how much faster than it the sandbox is."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
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
from tests.bench.pairs import Contender, ContenderError
from tests.bench.rows import Goal, Row, paired, spread

WORK = "on, all rates 0: the sample worker on {images:,} images, 2 loaders, {processors} processors"
BYTES = "ledger"
QUEUE = "sandbox: tasks handed out and answered through JetStream"
_PATIENCE, _TOGETHER = 900.0, 60.0  # seconds for a job, and until the other worker can begin as well
_SETTLED = 1.0  # seconds after its job until a worker has nothing but polls to do
_TASKS, _CLIENTS, _BATCH = 10_000, 4, 64
_AS_FAST = Goal("at least 0.99 of off: at most 1.01 times its processor time", "ratio", most=1 / 0.99)
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
    """Let sample workers do jobs with the hook off and on, and ask the sandbox for all that it can give.

    The two work at the same time, each for a service of its own. They have the processors to share, so that whatever
    else the machine does slows both, and who needs more processor time for an image gets fewer done: in turns, the
    speed of the machine differs from one turn to the next by many times what is looked for.
    """
    python = environments.ours
    alone = [_worked(python, images, {}).a_second for _ in range(min(3, rounds))]
    pairs = [_side_by_side(python, images, scratch / "work" / str(number)) for number in range(rounds)]
    off, on = ([one.processor for one in side] for side in zip(*pairs, strict=True))
    promise = WORK.format(images=images, processors=os.cpu_count())
    yield Row(promise, "off, alone, images a second", "", spread(alone))
    yield Row(promise, "off, beside one with it on, processor time an image", "ms", spread(off))
    yield paired(promise, "on, beside one with it off, processor time an image", "ms", on, ("off", off), _AS_FAST)
    lines = [line for path in sorted((scratch / "work").glob("*/ledger/*.jsonl")) for line in path.open("rb")]
    mean = sum(map(len, lines)) / len(lines)
    yield Row(BYTES, f"bytes an event, in the mean of {len(lines):,}", "", spread([mean]), goal=_SHORT)
    rates = [_queued(tasks) for _ in range(min(3, rounds))]
    against = ("the sample worker, off", alone)
    yield paired(QUEUE, f"tasks a second, {_CLIENTS} clients in batches of {_BATCH}", "", rates, against, _FASTER)


@dataclass(frozen=True)
class _Work:
    """What a worker did in a job: images a second from its start, and processor milliseconds an image."""

    a_second: float
    processor: float


def _side_by_side(python: Path, images: int, folder: Path) -> tuple[_Work, _Work]:
    """Let two workers work at the same time, the hook off and on."""
    both = threading.Barrier(2, timeout=_TOGETHER)
    environs: tuple[dict[str, str], ...] = ({}, {**ON, "AMI_TEST_RUN_DIR": str(folder)})
    with ThreadPoolExecutor(2) as pool:
        off, on = [pool.submit(_worked, python, images, environ, both) for environ in environs]
        return off.result(), on.result()


def _worked(python: Path, images: int, environ: Mapping[str, str], start: threading.Barrier | None = None) -> _Work:
    """Let a worker do a job, once all are there who shall start with it."""
    with running(SandboxOptions(images=images, ack_wait=120.0, max_deliver=5)) as info, requests.Session():
        client = _client(info)
        worker = {
            "AMI_ANTENNA_API_BASE_URL": info.base_url, "AMI_ANTENNA_API_AUTH_TOKEN": info.token,
            "AMI_ANTENNA_SERVICE_NAME": "bench", "AMI_NUM_WORKERS": "2", "AMI_SAMPLE_IDLE_SLEEP": "0.2",
        }  # fmt: skip
        one = Contender(
            "worker", [python.with_name("ami-sample-worker"), "--pipeline", "moth_binary"], {**worker, **environ}
        )
        if start is not None:
            start.wait()
        began = time.monotonic()
        process = subprocess.Popen(
            [os.fspath(part) for part in one.command], env=one.environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            took = _until_done(client, began, process)
            time.sleep(_SETTLED)  # what its loaders used is its own once they have gone
        finally:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has left by itself: that is raised
                os.killpg(process.pid, signal.SIGTERM)
                usage = _awaited(process)
        return _Work(images / took, (usage.ru_utime + usage.ru_stime) / images * 1000)


def _awaited(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for a worker's end, and return what it and the loaders before it have used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


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
