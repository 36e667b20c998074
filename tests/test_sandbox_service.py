"""The sandbox answers as the platform does: states, status codes, redirects, and what happens behind a 200."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats
import pytest
import requests
from PIL import Image

from ami_fault_site.antenna import Lease, leases_in
from ami_fault_site.jobdetail import job_detail
from ami_fault_site.joblog import consumer_settings
from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxInfo, SandboxOptions

RECORDINGS = Path(__file__).resolve().parents[1].parent / "shared" / "recordings"
ACK_WAIT = 1.2
T = TypeVar("T")


class Worker:
    """Asks and answers as a worker does, without sleeping."""

    def __init__(self, info: SandboxInfo) -> None:
        self.info = info
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Token {info.token}"

    def post(self, path: str, body: object = None, status: int = 200) -> Any:
        answer = self.session.post(f"{self.info.base_url}{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.session.get(f"{self.info.base_url}{path}")
        assert answer.status_code == status, answer.text
        return answer.json()

    def new_job(self, images: int) -> int:
        body = {"name": "a job", "delay": 0, "limit": images, "shuffle": False, "project_id": 1, "pipeline_id": 1}
        job = int(self.post("/jobs/?start_now=1", {**body, "job_type_key": "ml"}, 201)["id"])
        until(lambda: "Successfully queued" in str(self.log(job)))
        return job

    def leases(self, job: int, count: int = 50) -> tuple[Lease, ...]:
        answer = self.session.post(f"{self.info.base_url}/jobs/{job}/tasks/", json={"batch_size": count})
        assert answer.status_code == 200
        return leases_in(answer.content)

    def returned(self, job: int, count: int) -> list[Lease]:
        """Fetch until so many have come: JetStream may hand them out in several portions."""
        found: list[Lease] = []
        deadline = time.monotonic() + 5
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} came"
            found += self.leases(job, count - len(found))
        return found

    def replies(self, job: int, count: int = 50) -> dict[str, str]:
        tasks = self.post(f"/jobs/{job}/tasks/", {"batch_size": count})["tasks"]
        return {task["image_id"]: task["reply_subject"] for task in tasks}

    def answer(self, job: int, replies: dict[str, str], error: str | None = None) -> Any:
        items = [item(image, reply, error) for image, reply in replies.items()]
        return self.post(f"/jobs/{job}/result/", {"results": items})

    def counts(self, job: int) -> tuple[str, int | None, int | None, int | None]:
        detail = job_detail(self.get(f"/jobs/{job}/"))
        return detail.status, detail.processed, detail.remaining, detail.failed

    def log(self, job: int) -> list[str]:
        return list(self.get(f"/jobs/{job}/?logs_limit=5000")["logs"]["stdout"])

    def settled(self, job: int, answers: int) -> None:
        until(lambda: sum("acknowledge" in line for line in self.log(job)) >= answers)


def item(image: str, reply: str, error: str | None = None) -> dict[str, object]:
    result: dict[str, object] = {
        "pipeline": "moth_binary",
        "algorithms": {},
        "total_time": 0.1,
        "source_images": [{"id": image, "url": "http://127.0.0.1/x.jpg"}],
        "detections": [
            {"source_image_id": image, "algorithm": {"key": "moth_nonmoth_classifier"}, "classifications": []}
        ],
    }
    return {"reply_subject": reply, "result": result if error is None else {"error": error, "image_id": image}}


def until(check: Callable[[], T], within: float = 5.0) -> T:
    deadline = time.monotonic() + within
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def seconds(work: Callable[[], object], expected: object) -> float:
    """Return how long it takes; the quickest of several is not that in which the machine did something else."""
    began = time.monotonic()
    assert work() == expected
    return time.monotonic() - began


@pytest.fixture(scope="module")
def info() -> Iterator[SandboxInfo]:
    with running(SandboxOptions(images=40, jobs=1, pipelines=("moth_binary", "other"), ack_wait=ACK_WAIT)) as started:
        yield started


@pytest.fixture
def worker(info: SandboxInfo) -> Iterator[Worker]:
    made = Worker(info)
    with made.session:
        yield made


def test_a_poll_without_a_slash_is_redirected_with_301_and_shows_one_job(worker: Worker) -> None:
    query = "pipeline__slug__in=moth_binary,other&ids_only=1&incomplete_only=1&dispatch_mode=async_api"
    answer = worker.session.get(f"{worker.info.base_url}/jobs?{query}")
    assert [one.status_code for one in answer.history] == [301]
    assert urlsplit(answer.url).query == query
    (shown,) = answer.json()["results"]
    assert shown["pipeline_slug"] in ("moth_binary", "other")


def test_a_post_without_a_slash_becomes_a_get_and_is_not_allowed(worker: Worker) -> None:
    answer = worker.session.post(f"{worker.info.base_url}/jobs/1/tasks", json={"batch_size": 1})
    assert [one.status_code for one in answer.history] == [301]
    assert (answer.status_code, answer.json()) == (405, {"detail": 'Method "GET" not allowed.'})


def test_without_a_token_reading_is_allowed_and_writing_is_not(info: SandboxInfo) -> None:
    assert requests.get(f"{info.base_url}/jobs/?ids_only=1").status_code == 200
    assert requests.get(f"{info.base_url}/jobs/1/").status_code == 200
    for path in ("/jobs/1/tasks/", "/jobs/1/result/", "/jobs/", "/projects/1/pipelines/", "/jobs/1/cancel/"):
        answer = requests.post(f"{info.base_url}{path}", json={"batch_size": 1})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Token")


@pytest.mark.parametrize("header", ["Token 0000", "Token", "token a b"])
def test_a_bad_token_is_refused_even_for_reading(info: SandboxInfo, header: str) -> None:
    assert requests.get(f"{info.base_url}/jobs/", headers={"Authorization": header}).status_code == 401


def test_a_job_that_does_not_exist_is_not_found(worker: Worker) -> None:
    assert worker.get("/jobs/999/", 404) == {"detail": "Not found."}
    assert worker.post("/jobs/999/tasks/", {"batch_size": 1}, 404) == {"detail": "Not found."}
    assert worker.post("/jobs/999/result/", {"results": []}, 404) == {"detail": "Not found."}
    assert worker.get("/nothing/here/", 404) == {"detail": "Not found."}


def test_malformed_bodies_are_400_and_one_malformed_item_queues_nothing(worker: Worker) -> None:
    job = worker.new_job(2)
    replies = worker.replies(job)
    good = [item(image, reply) for image, reply in replies.items()]
    worker.post(f"/jobs/{job}/result/", {"results": [*good, {"reply_subject": 3}]}, 400)
    worker.post(f"/jobs/{job}/tasks/", {"batch_size": 0}, 400)
    worker.post(f"/jobs/{job}/tasks/", {}, 400)
    worker.get(f"/jobs/{job}/?logs_limit=0", 400)
    assert not any("Queued" in line for line in worker.log(job))


def test_an_answer_is_accepted_then_recorded_and_only_then_acknowledged(worker: Worker) -> None:
    job = worker.new_job(2)
    replies = worker.replies(job)
    accepted = worker.answer(job, replies)
    assert {**accepted, "tasks": None} == {"status": "accepted", "job_id": job, "results_queued": 2, "tasks": None}
    assert [(one["reply_subject"], one["status"]) for one in accepted["tasks"]] == [
        (reply, "queued") for reply in replies.values()
    ]
    worker.settled(job, 2)
    told = [line.split("] INFO ")[1].split()[0] for line in reversed(worker.log(job)) if replies["1"] in line]
    assert told == ["Queued", "Processing", "Successfully"]


def test_a_job_whose_images_are_all_answered_has_succeeded_and_its_stream_is_gone(worker: Worker) -> None:
    job = worker.new_job(3)
    worker.answer(job, worker.replies(job))
    until(lambda: worker.counts(job) == ("SUCCESS", 3, 0, 0))
    assert worker.leases(job) == ()
    until(lambda: any("Cleaned up NATS resources" in line for line in worker.log(job)))
    assert job not in [one["id"] for one in worker.get("/jobs/?ids_only=1&incomplete_only=1&limit=100")["results"]]


def test_an_unanswered_task_comes_back_after_ack_wait_and_then_never_again(worker: Worker) -> None:
    job = worker.new_job(3)
    before = time.monotonic()
    first = worker.leases(job)
    second = worker.returned(job, 3)
    assert ACK_WAIT <= time.monotonic() - before < ACK_WAIT + 0.9
    assert [one.delivery.delivery for one in [*first, *second]] == [1, 1, 1, 2, 2, 2]
    assert [one.delivery.consumer_sequence for one in [*first, *second]] == [1, 2, 3, 4, 5, 6]
    last = time.monotonic()
    while time.monotonic() - last < ACK_WAIT + 0.6:
        assert worker.leases(job) == ()
    assert worker.counts(job)[0] == "STARTED"


def test_an_answer_that_comes_after_the_last_delivery_still_counts(worker: Worker) -> None:
    job = worker.new_job(1)
    replies = worker.replies(job)
    worker.returned(job, 1)
    worker.answer(job, replies)
    until(lambda: worker.counts(job) == ("SUCCESS", 1, 0, 0))
    assert worker.counts(job) == ("SUCCESS", 1, 0, 0)


def test_second_answers_invented_subjects_and_late_answers_are_accepted_and_count_nothing(worker: Worker) -> None:
    job = worker.new_job(2)
    replies = worker.replies(job)
    one = {"1": replies["1"]}
    worker.answer(job, one)
    worker.answer(job, one)
    worker.answer(job, {"1": "$JS.ACK.job_9.invented"})
    worker.settled(job, 3)
    assert worker.counts(job) == ("STARTED", 1, 1, 0)
    worker.answer(job, {"2": replies["2"]})
    until(lambda: worker.counts(job) == ("SUCCESS", 2, 0, 0))
    assert worker.answer(job, replies)["status"] == "accepted"
    worker.settled(job, 6)
    assert worker.counts(job) == ("SUCCESS", 2, 0, 0)


def test_an_error_is_counted_failed_acknowledged_and_never_comes_back(worker: Worker) -> None:
    job = worker.new_job(3)
    replies = worker.replies(job)
    worker.answer(job, {"2": replies["2"]}, error="failed to load image")
    worker.answer(job, {"1": replies["1"]})
    worker.settled(job, 2)
    assert worker.counts(job) == ("STARTED", 2, 1, 1)
    assert [one.image_id for one in worker.returned(job, 1)] == ["3"]
    assert worker.get(f"/jobs/{job}/")["logs"]["stderr"] == [
        f"Pipeline returned error for job {job}, image 2: failed to load image"
    ]


@pytest.mark.parametrize(("failed", "status"), [(2, "SUCCESS"), (3, "FAILURE")])
def test_a_job_fails_when_more_than_half_of_its_images_did(worker: Worker, failed: int, status: str) -> None:
    job = worker.new_job(4)
    replies = list(worker.replies(job).items())
    worker.answer(job, dict(replies[:failed]), error="bad")
    worker.answer(job, dict(replies[failed:]))
    until(lambda: worker.counts(job) == (status, 4, 0, failed))
    assert worker.counts(job) == (status, 4, 0, failed)


def test_a_dropped_connection_reserves_its_tasks_all_the_same(worker: Worker) -> None:
    job = worker.new_job(4)
    parts = urlsplit(worker.info.base_url)
    body = b'{"batch_size": 3}'
    head = (
        f"POST {parts.path}/jobs/{job}/tasks/ HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Token {worker.info.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((str(parts.hostname), int(str(parts.port)))) as connection:
        connection.sendall(head.encode() + body)
    until(lambda: any("requested=3, delivered=3" in line for line in worker.log(job)))
    assert [one.image_id for one in worker.leases(job)] == ["4"]
    again = worker.returned(job, 3)
    assert [(one.image_id, one.delivery.delivery) for one in again] == [("1", 2), ("2", 2), ("3", 2)]


def test_a_retried_job_has_a_new_stream_of_the_same_name_that_counts_from_one(worker: Worker) -> None:
    job = worker.new_job(2)
    (before, _) = worker.leases(job)
    worker.answer(job, dict.fromkeys(("1", "2"), "$JS.ACK.job_9.invented"))
    until(lambda: worker.counts(job)[0] == "SUCCESS")
    assert worker.post(f"/jobs/{job}/retry/")["status"] == "PENDING"
    (after, _) = worker.returned(job, 2)
    assert worker.counts(job)[0] == "STARTED"
    assert (after.delivery.stream, after.delivery.sequence, after.delivery.delivery) == (before.delivery.stream, 1, 1)
    assert after.delivery.published > before.delivery.published


def test_a_cancelled_job_is_revoked_and_hands_out_nothing_at_once(worker: Worker) -> None:
    job = worker.new_job(3)
    assert worker.post(f"/jobs/{job}/cancel/")["status"] == "REVOKED"
    assert min(seconds(lambda: worker.leases(job), ()) for _ in range(5)) < 0.3


def test_a_job_that_nobody_started_is_listed_and_hands_out_nothing(worker: Worker) -> None:
    body = {"name": "later", "delay": 0, "project_id": 1, "pipeline_id": 2}
    job = worker.post("/jobs/", body, 201)
    assert (job["status"], job["progress"]["stages"][1]["params"][0]["value"]) == ("CREATED", "")
    listed = worker.get("/jobs/?ids_only=1&incomplete_only=1&pipeline__slug__in=other&limit=100")["results"]
    assert job["id"] in [one["id"] for one in listed]
    assert worker.leases(job["id"]) == ()
    worker.post(f"/jobs/{job['id']}/run/")
    assert len(worker.returned(job["id"], 40)) == 40


def test_an_answer_with_an_undeclared_algorithm_is_not_saved_and_its_task_comes_back(worker: Worker) -> None:
    declared = {"slug": "third", "name": "Third", "algorithms": [{"key": "namer", "name": "Namer"}]}
    register = {"processing_service_name": "w", "pipelines": [declared]}
    assert worker.post("/projects/1/pipelines/", register, 201)["pipelines_created"] == ["third"]
    assert worker.post("/projects/1/pipelines/", register, 201)["pipelines_created"] == []
    number = next(one["id"] for one in worker.get("/ml/pipelines/?project_id=1")["results"] if one["slug"] == "third")
    body = {"name": "x", "delay": 0, "limit": 1, "project_id": 1, "pipeline_id": number}
    job = worker.post("/jobs/?start_now=1", body, 201)["id"]
    replies = until(lambda: worker.replies(job))
    worker.answer(job, replies)
    (again,) = worker.returned(job, 1)
    assert again.delivery.delivery == 2
    stages = worker.get(f"/jobs/{job}/")["progress"]["stages"]
    assert [stage["progress"] for stage in stages] == [1.0, 1.0, 0.0]


def test_projects_and_pipelines_are_listed(worker: Worker) -> None:
    assert [one["id"] for one in worker.get("/projects/")["results"]] == [1]
    assert [one["slug"] for one in worker.get("/ml/pipelines/?project_id=1")["results"]][:2] == ["moth_binary", "other"]
    worker.get("/ml/pipelines/?project_id=9", 404)
    worker.post("/projects/9/pipelines/", {"processing_service_name": "w", "pipelines": []}, 404)


def test_the_log_says_what_the_queue_is_set_to(worker: Worker) -> None:
    assert consumer_settings(worker.log(worker.new_job(1))) == {"max_deliver": 2.0, "ack_wait": ACK_WAIT}


def test_images_are_served_and_unknown_ones_are_not_found(worker: Worker) -> None:
    (lease,) = worker.leases(worker.new_job(1))
    answer = requests.get(lease.image_url)
    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        picture.load()
    assert requests.get(lease.image_url.replace("0001", "9999")).status_code == 404


def test_a_large_result_is_accepted_and_counted(worker: Worker) -> None:
    job = worker.new_job(1)
    ((image, reply),) = worker.replies(job).items()
    large = item(image, reply)
    assert isinstance(large["result"], dict)
    large["result"]["padding"] = "x" * 30_000_000
    worker.post(f"/jobs/{job}/result/", {"results": [large]})
    until(lambda: worker.counts(job) == ("SUCCESS", 1, 0, 0))


def shape(value: object) -> object:
    """Return what a JSON value looks like: keys and kinds, and of a list its first entry."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def recorded(name: str) -> list[Any]:
    if not RECORDINGS.is_dir():
        pytest.skip("the recordings of the real service are not beside this repository")
    text = (RECORDINGS / name).read_text()
    return [json.loads(line) for line in text.splitlines()] if name.endswith("l") else [json.loads(text)]


def test_the_detail_of_a_finished_job_has_the_shape_of_a_real_one(worker: Worker) -> None:
    (real,) = recorded("job-after-healthy.json")
    job = worker.new_job(24)
    worker.answer(job, worker.replies(job))
    until(lambda: worker.counts(job)[0] == "SUCCESS")
    ours = worker.get(f"/jobs/{job}/")
    assert shape(ours) == shape(real)
    for stage, real_stage in zip(ours["progress"]["stages"], real["progress"]["stages"], strict=True):
        assert shape(stage["params"]) == shape(real_stage["params"])
        assert [one["name"] for one in stage["params"]] == [one["name"] for one in real_stage["params"]]


def test_the_detail_of_an_unfinished_job_has_the_shape_of_a_real_one(worker: Worker) -> None:
    (real,) = recorded("job-after-killed.json")
    job = worker.new_job(40)
    worker.answer(job, dict(list(worker.replies(job).items())[:8]))
    until(lambda: worker.counts(job) == ("STARTED", 8, 32, 0))
    ours = worker.get(f"/jobs/{job}/")
    ours["progress"]["stages"][0]["params"].append({})  # all 40 are all there are here: no limit is shown
    assert shape({**ours, "logs": None}) == shape({**real, "logs": None})
    assert ours["progress"]["summary"] == real["progress"]["summary"]


@pytest.mark.parametrize("end", ["tasks/", "result/", "jobs/"])
def test_answers_have_the_shape_of_real_ones(worker: Worker, end: str) -> None:
    job = worker.new_job(8)
    calls: dict[str, Any] = {"tasks/": worker.post(f"/jobs/{job}/tasks/", {"batch_size": 8})}
    replies = {task["image_id"]: task["reply_subject"] for task in calls["tasks/"]["tasks"]}
    calls["jobs/"] = worker.get("/jobs/?ids_only=1&pipeline__slug__in=moth_binary&limit=100&status=STARTED")
    calls["result/"] = worker.answer(job, replies)
    real = next(one for one in recorded("worker-healthy.jsonl") if urlsplit(one["url"]).path.endswith(end))
    assert shape(calls[end]) == shape(json.loads(real["response_body"]))


async def delete_stream(url: str, name: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().delete_stream(name)
    await client.close()


def test_the_reaper_gives_up_an_idle_jobs_missing_images_and_revokes_a_job_without_a_queue() -> None:
    options = SandboxOptions(images=3, jobs=2, ack_wait=0.2, reaper_interval=0.2, reaper_idle=0.8)
    with running(options) as info:
        worker = Worker(info)
        with worker.session:
            asyncio.run(delete_stream(info.nats_url, "job_2"))
            worker.answer(1, dict(list(worker.replies(1).items())[:2]))
            until(lambda: worker.counts(1) == ("SUCCESS", 3, 0, 1))
            until(lambda: worker.counts(2)[0] == "REVOKED")
            (error,) = worker.get("/jobs/1/")["progress"]["errors"]
            assert error.startswith("jobs_health_check: marked 1 image(s) as failed (job idle past cutoff; NATS")
            assert error.endswith("IDs: ['3']")


def test_an_answer_does_not_wait_for_the_network(worker: Worker) -> None:
    job = worker.new_job(20)
    assert min(seconds(lambda: len(worker.leases(job, 1)), 1) for _ in range(20)) < 0.03
