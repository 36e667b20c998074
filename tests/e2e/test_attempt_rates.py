"""The promise of the attempt layer: the worker's own retries meet the faults, really pause, and absorb most of them."""

from __future__ import annotations

import math
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from ami_fault_site.ledger import Event, Reader
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import Antenna, clean_environment
from tests.thorough import times

pytestmark = pytest.mark.untraced

RATE, THREADS = 0.3, 150
PAUSES = (0.0, 1.0, 2.0)
"""Seconds before the second, third and fourth attempt at a GET, as the worker's Retry has them."""

# The sessions are the sample worker's own, with its Retry; tasks calls are left alone, so that there is enough to do.
WORKER = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from ami_fault_site.sandbox.worker.client import http_session

url, downloads, posts, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
here = threading.local()


def session():
    if not hasattr(here, "session"):
        here.session = http_session("token")
    return here.session


def download(task):
    try:
        session().get(task["image_url"], timeout=60)
    except OSError:
        pass


def post(task):
    item = {"reply_subject": task["reply_subject"], "result": {"source_images": [], "detections": []}}
    try:
        session().post(f"{url}/jobs/1/result/", json={"results": [item]}, timeout=60)
    except OSError:
        pass


tasks = session().post(f"{url}/jobs/1/tasks/", json={"batch_size": max(downloads, posts)}, timeout=60).json()["tasks"]
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(download, tasks[:downloads]))
    list(pool.map(post, tasks[:posts]))
"""


@dataclass(frozen=True)
class Seen:
    """What a run has booked of its downloads, its posts, and the attempts at them, each call's in their order."""

    images: list[Event]
    answers: list[Event]
    attempts: list[list[Event]]

    @property
    def failed_images(self) -> int:
        return sum(bool(e.text("error")) or (e.number("status") or 0) >= 400 for e in self.images)

    @property
    def failed_posts(self) -> int:
        return sum(e.text("outcome") != "accepted" for e in self.answers)

    def gaps(self, number: int) -> list[float]:
        """Return how long each call paused between an attempt and that with this number, in seconds."""
        pairs = [(tries[number - 2], tries[number - 1]) for tries in self.attempts if len(tries) >= number]
        return [after.mono - float(str(after.data["seconds"])) - before.mono for before, after in pairs]


def seen(
    python: Path,
    antenna: Antenna,
    folder: Path,
    layer: str,
    downloads: int,
    posts: int,
    kinds: str = "reset,status(503)",
) -> Seen:
    (folder / "worker.py").write_text(WORKER)
    environ = clean_environment(
        AMI_TEST_FAULT_INJECTION_ENABLED="true",
        AMI_TEST_RUN_DIR=str(folder / "run"),
        AMI_TEST_SEED="1",
        AMI_TEST_MAX_DELIVER="0",
        AMI_TEST_NETWORK_LAYER=layer,
        AMI_TEST_NETWORK_ERROR_RATE=str(RATE),
        AMI_TEST_NETWORK_KINDS=kinds,
        AMI_TEST_RULES="tasks: off; image.get: 30%status(503)",
    )
    command = [str(python), "-W", "error", str(folder / "worker.py"), antenna.url, str(downloads), str(posts)]
    done = subprocess.run([*command, str(THREADS)], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reader = Reader(RunFolder(folder / "run").ledger)
    events = list(reader.new())
    assert reader.damage == []
    calls: dict[int | None, list[Event]] = defaultdict(list)
    for event in events:
        if event.kind == "try" and event.text("site") != "tasks":
            calls[event.number("call")].append(event)
    found = {kind: [event for event in events if event.kind == kind] for kind in ("image", "answer")}
    assert (len(found["image"]), len(found["answer"])) == (downloads, posts)
    return Seen(found["image"], found["answer"], list(calls.values()))


def is_near(count: int, calls: int, rate: float) -> bool:
    """Whether so many of so many calls are within 4 sigma of a rate."""
    return abs(count - calls * rate) <= 4 * math.sqrt(calls * rate * (1 - rate))


def test_retries_absorb_nearly_all_faults_of_the_attempts_at_a_download_and_none_of_those_at_a_post(
    wheel_python: Path, antenna: Antenna, tmp_path: Path
) -> None:
    found = seen(wheel_python, antenna, tmp_path, "attempt", downloads := times(300, 2500), posts := times(200, 2000))
    assert is_near(found.failed_images, downloads, RATE**4)
    assert found.failed_images > 0
    assert is_near(found.failed_posts, posts, RATE)

    # Every attempt was rolled for by itself, and the next one came for no other reason than that it failed.
    attempts = [one for tries in found.attempts for one in tries]
    assert is_near(sum(bool(one.data["struck"]) for one in attempts), len(attempts), RATE)
    assert all(one.data["struck"] for tries in found.attempts for one in tries[:-1])
    assert {len(tries) for tries in found.attempts} == {1, 2, 3, 4}

    # The pauses between them are those of the worker's Retry. How much longer they get is the machine's affair.
    for number, pause in enumerate(PAUSES, start=2):
        gaps = sorted(found.gaps(number))
        print(f"attempt {number}: {len(gaps)} pauses, {gaps[0]:.3f} s, median {gaps[len(gaps) // 2]:.3f} s")
        assert gaps[0] >= pause - 0.01
    print(f"failed: {found.failed_images} of {downloads} downloads, {found.failed_posts} of {posts} posts")


def test_faults_of_whole_calls_fail_both_at_their_rate(wheel_python: Path, antenna: Antenna, tmp_path: Path) -> None:
    found = seen(wheel_python, antenna, tmp_path, "call", downloads := times(200, 2000), posts := times(200, 2000))
    assert is_near(found.failed_images, downloads, RATE)
    assert is_near(found.failed_posts, posts, RATE)
    assert found.attempts == []
    print(f"failed: {found.failed_images} of {downloads} downloads, {found.failed_posts} of {posts} posts")


def test_a_post_whose_connection_is_refused_is_repeated_since_nothing_was_sent(
    wheel_python: Path, antenna: Antenna, tmp_path: Path
) -> None:
    found = seen(wheel_python, antenna, tmp_path, "attempt", 0, posts := times(300, 600), kinds="refused")
    assert is_near(found.failed_posts, posts, RATE**4)
    assert max(len(tries) for tries in found.attempts) == 4
    print(f"failed: {found.failed_posts} of {posts} posts")
