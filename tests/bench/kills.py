"""Kill workers at random moments, and hold what they have booked against what the service has seen."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ami_fault_site.ledger import Reader
from ami_fault_site.runfolder import RunFolder
from tests.bench.environments import ON
from tests.bench.pairs import Contender
from tests.bench.rows import Goal, Row, spread

KILLS = "killed at random moments"
MODES = {"exit": 0, "SIGKILL": signal.SIGKILL, "SIGSEGV": signal.SIGSEGV, "SIGABRT": signal.SIGABRT}
_AT_ONCE = 4
_LONGEST = 0.4  # seconds that one posts
_FAULTS = {"AMI_TEST_RULES": "result: 30%reset", "AMI_TEST_MAX_DELIVER": "0"}
_POSTING = Path(__file__).parent / "probes" / "posting.py"
_A_THREAD = 1_000_000  # numbers that each thread of each worker has for itself
_NONE = Goal("none", "median", most=0.0)


class _Seen(ThreadingHTTPServer):
    """Takes results in, and knows which have come."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sequences: set[int] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """A worker that was killed hangs up in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Seen

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        subject = str(json.loads(body)["results"][0]["reply_subject"])
        self.server.sequences.add(int(subject.split(".")[5]))
        answer = json.dumps({"status": "accepted", "tasks": [{"reply_subject": subject, "status": "queued"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that it has there
        """Be quiet."""


@contextmanager
def _seeing() -> Iterator[_Seen]:
    with _Seen() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@dataclass(frozen=True)
class Killed:
    """What was left of some workers: `posts` were begun, `faults` booked; the others are what there must be none of.

    The last post of a thread counts as neither: it was killed between the booking and the blow, or before both.
    """

    posts: int
    faults: int
    not_booked: int
    not_struck: int
    damaged: int


def kill(python: Path, folder: Path, mode: str, workers: int, seed: int) -> Killed:
    """Start so many workers that post, kill each of them this way, and compare what is booked with what came."""
    chance = random.Random(seed)
    moments = [chance.uniform(0.0, _LONGEST) for _ in range(workers)]
    with _seeing() as service, ThreadPoolExecutor(_AT_ONCE) as pool:
        url = f"http://127.0.0.1:{service.server_port}/api/v2/jobs/1/result/"
        environ = {**ON, **_FAULTS, "AMI_TEST_RUN_DIR": str(folder)}

        def one(number: int) -> None:
            seconds = moments[number]
            leaves = f"{max(seconds, 0.001):.4f}" if mode == "exit" else "0"
            contender = Contender(mode, [python, _POSTING, url, str(number), leaves], environ)
            _end(contender, MODES[mode], seconds)

        list(pool.map(one, range(workers)))
    return _compare(folder, service.sequences)


def _end(one: Contender, number: int, seconds: float) -> None:
    command = [os.fspath(part) for part in one.command]
    with subprocess.Popen(command, env=one.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if number:
            time.sleep(seconds)
            process.send_signal(number)
        code = process.wait(60)
    if code != (-number or 9):
        raise AssertionError(f"{one.name}: a worker ended with {code}")


def _compare(folder: Path, seen: set[int]) -> Killed:
    reader = Reader(RunFolder(folder).ledger)
    begun, booked = set(seen), set()
    for event in reader.new():
        if event.kind == "call":
            begun |= {row[0] for row in event.rows("tasks") if isinstance(row[0], int)}
        elif event.kind == "fault":
            booked.add(int(event.text("subject")))
    threads: dict[int, int] = defaultdict(int)
    for number in begun | booked:
        threads[number // _A_THREAD] = max(threads[number // _A_THREAD], number)
    not_booked = not_struck = 0
    for last in threads.values():
        for number in range(last // _A_THREAD * _A_THREAD + 1, last):
            not_booked += number not in seen and number not in booked
            not_struck += number in seen and number in booked
    return Killed(len(begun), len(booked), not_booked, not_struck, len(reader.damage))


def rows(python: Path, folder: Path, workers: int, modes: Sequence[str] = tuple(MODES)) -> Iterator[Row]:
    """Kill so many workers in each way."""
    for mode in modes:
        found = kill(python, folder / mode, mode, workers, seed=1)
        about = f"{workers} workers by {mode}, {found.posts:,} posts, {found.faults:,} faults"
        for what, number in (
            ("struck and not booked", found.not_booked),
            ("booked and not struck", found.not_struck),
            ("damaged lines", found.damaged),
        ):
            yield Row(KILLS, f"{about}: {what}", "", spread([float(number)]), goal=_NONE)
