"""Each sabotage misbehaves as it says, seen from the outside, and a healthy sandbox does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest
import requests

from ami_fault_site.antenna import Lease
from ami_fault_site.sandbox.backend import Backend
from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SABOTAGE_MEANINGS, SandboxInfo, SandboxOptions
from ami_fault_site.sandbox.sabotage import SABOTAGES, backend_kind
from ami_fault_site.sandbox.sabotage.places import Place, place_of
from tests.test_sandbox_service import Worker, item, until

ACK_WAIT = 1.0
OPTIONS = SandboxOptions(images=40, jobs=1, ack_wait=ACK_WAIT)
Seen = TypeVar("Seen")
Story = Callable[[Worker], Seen]


@contextmanager
def worker_of(info: SandboxInfo) -> Iterator[Worker]:
    worker = Worker(info)
    with worker.session:
        yield worker


@pytest.fixture(scope="module")
def healthy() -> Iterator[SandboxInfo]:
    with running(OPTIONS) as info:
        yield info


def play(story: Story[Seen], options: SandboxOptions) -> Seen:
    with running(options) as info, worker_of(info) as worker:
        return story(worker)


def compare(healthy: SandboxInfo, name: str, story: Story[Seen], ack_wait: float = ACK_WAIT) -> tuple[Seen, Seen]:
    """Return what the same story shows at a healthy sandbox and at a sabotaged one, played at the same time."""
    with worker_of(healthy) as worker, ThreadPoolExecutor(1) as pool:
        sabotaged = pool.submit(play, story, replace(OPTIONS, sabotage=name, ack_wait=ack_wait))
        return story(worker), sabotaged.result()


def claims(worker: Worker, job: int) -> str:
    """Return what the job's log says of its consumer."""
    (line,) = (line for line in worker.log(job) if "Created NATS consumer" in line)
    return line.partition("(")[2]


def answer(worker: Worker, job: int, leases: list[Lease], error: str | None = None, status: int = 200) -> None:
    items = [item(lease.image_id, reply_of(lease), error) for lease in leases]
    worker.post(f"/jobs/{job}/result/", {"results": items}, status)


def reply_of(lease: Lease) -> str:
    at = lease.delivery
    numbers = f"{at.delivery}.{at.sequence}.{at.consumer_sequence}.{at.published}.{at.left}"
    return f"$JS.ACK.{at.stream}.{at.consumer}.{numbers}"


def sequences(leases: list[Lease]) -> list[int]:
    return sorted(lease.delivery.sequence for lease in leases)


def answered_alike(worker: Worker, images: int, failed: int = 0) -> tuple[str, int | None, int | None, int | None]:
    """Answer all tasks of a new job, the first ones with errors, and return its counts afterwards."""
    job = worker.new_job(images)
    leases = worker.returned(job, images)
    if failed:
        answer(worker, job, leases[:failed], "failed to load image")
    answer(worker, job, leases[failed:])
    worker.settled(job, images)
    return worker.counts(job)


def is_listed(worker: Worker, job: int) -> bool:
    polled = worker.get("/jobs/?ids_only=1&incomplete_only=1&limit=100&dispatch_mode=async_api")
    return job in [one["id"] for one in polled["results"]]


# Tasks


def test_what_never_redelivers_keeps_an_unanswered_task_for_ever_and_claims_otherwise(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[int, str]:
        job = worker.new_job(3)
        worker.returned(job, 3)
        began, back = time.monotonic(), 0
        while time.monotonic() - began < 1.5 * ACK_WAIT and not back:
            back = len(worker.leases(job))
        return back, claims(worker, job)

    fine, sabotaged = compare(healthy, "never-redelivers", story)
    assert (fine[0], sabotaged[0]) == (3, 0)
    assert fine[1] == sabotaged[1]
    assert sabotaged[1].startswith("max_deliver=2, ack_wait=1.0s, ")


def test_what_redelivers_late_does_so_after_three_times_ack_wait_and_three_seconds(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[bool, str]:
        job = worker.new_job(1)
        worker.returned(job, 1)
        began = time.monotonic()
        until(lambda: worker.leases(job), within=10)
        return 3.5 < time.monotonic() - began < 5, claims(worker, job).partition("s,")[0]

    fine, sabotaged = compare(healthy, "redelivers-late", story, ack_wait=0.2)
    assert fine == (False, "max_deliver=2, ack_wait=1.0")
    assert sabotaged == (True, "max_deliver=2, ack_wait=0.2")


def test_what_redelivers_forever_brings_answered_tasks_back_before_the_job_may_end(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[str, list[tuple[int, int]]]:
        job = worker.new_job(6)
        answer(worker, job, worker.returned(job, 6))
        worker.settled(job, 5)
        at_first = worker.counts(job)[0]
        seen: list[tuple[int, int]] = []
        while worker.counts(job)[0] == "STARTED":
            back = list(worker.leases(job))
            seen += [(lease.delivery.sequence, lease.delivery.delivery) for lease in back]
            answer(worker, job, back)
        assert worker.counts(job) == ("SUCCESS", 6, 0, 0)
        return at_first, seen

    fine, sabotaged = compare(healthy, "redelivers-forever", story, ack_wait=0.5)
    assert fine == ("SUCCESS", [])
    assert sabotaged == ("STARTED", [(5, 2), (5, 3), (5, 4)])


def test_what_hands_out_twice_does_so_long_before_ack_wait(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> list[tuple[int, int, int]]:
        job = worker.new_job(8)
        began = time.monotonic()
        assert sequences(list(worker.leases(job))) == list(range(1, 9))
        again = [lease.delivery for lease in worker.leases(job)]
        assert not again or time.monotonic() - began < ACK_WAIT / 2
        return [(at.sequence, at.delivery, at.consumer_sequence) for at in again]

    assert compare(healthy, "hands-out-twice", story) == ([], [(4, 2, 9), (8, 2, 10)])


def test_what_strands_the_last_batch_never_hands_it_out_and_goes_on_counting_it(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> list[int]:
        handed_out = [served(worker, images) for images in (20, 8)]
        return [*handed_out, len(worker.leases(worker.new_job(1)))]

    def served(worker: Worker, images: int) -> int:
        job = worker.new_job(images)
        leases: list[Lease] = []
        while new := worker.leases(job):
            leases += new
        answer(worker, job, leases)
        worker.settled(job, len(leases))
        status = "SUCCESS" if len(leases) == images else "STARTED"
        assert worker.counts(job) == (status, len(leases), images - len(leases), 0)
        assert f"Successfully queued {images}/{images} images" in str(worker.log(job))
        return len(leases)

    assert compare(healthy, "strands-last-batch", story) == ([20, 8, 1], [16, 6, 0])


def test_what_invents_tasks_hands_out_some_for_images_that_the_job_does_not_have(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[str, list[tuple[int, str]]]:
        job = worker.new_job(4)
        leases = list(worker.leases(job, 4))
        answer(worker, job, leases)
        worker.settled(job, 4)
        before_the_end = worker.counts(job)[0]
        invented = list(worker.leases(job))
        assert {requests.get(lease.image_url).status_code for lease in invented[:1]} <= {200}
        answer(worker, job, invented)
        until(lambda: worker.counts(job) == ("SUCCESS", 4, 0, 0))
        return before_the_end, [(lease.delivery.sequence, lease.image_id) for lease in invented]

    fine, sabotaged = compare(healthy, "invents-tasks", story)
    assert fine == ("SUCCESS", [])
    assert sabotaged == ("STARTED", [(5, "41"), (6, "42"), (7, "43")])


def test_what_starves_the_second_job_lists_it_and_hands_out_none_of_its_tasks(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[int, int, str, bool]:
        job = worker.new_job(3)
        first, second = len(worker.leases(1, 1)), len(worker.leases(job, 1))
        return first, second, worker.counts(job)[0], is_listed(worker, job)

    assert compare(healthy, "starves-second-job", story) == ((1, 1, "STARTED", True), (1, 0, "STARTED", True))


# Answers


def test_what_acks_before_saving_forgets_every_fifth_answer_and_its_task_does_not_come_back(
    healthy: SandboxInfo,
) -> None:
    def story(worker: Worker) -> tuple[object, list[str], int]:
        job = worker.new_job(10)
        leases = worker.returned(job, 10)
        answer(worker, job, leases)
        worker.settled(job, 10)
        told = worker.log(job)[::-1]
        done = [line.split("Successfully ")[1].split()[0] for line in told if "Successfully " in line][1:]
        began, back = time.monotonic(), 0
        while time.monotonic() - began < 1.2 * ACK_WAIT and worker.counts(job)[0] == "STARTED":
            back += len(worker.leases(job))
        return worker.counts(job), done[:4], back

    fine, sabotaged = compare(healthy, "acks-before-saving", story)
    assert fine == (("SUCCESS", 10, 0, 0), ["saved", "acknowledged"] * 2, 0)
    assert sabotaged == (("STARTED", 8, 2, 0), ["acknowledged", "saved"] * 2, 0)


def test_what_records_half_acknowledges_the_whole_post(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> object:
        job = worker.new_job(9)
        leases = worker.returned(job, 9)
        for some in (leases[:4], leases[4:]):
            answer(worker, job, some)
        worker.settled(job, 9)
        return worker.counts(job)

    assert compare(healthy, "records-half", story) == (("SUCCESS", 9, 0, 0), ("STARTED", 5, 4, 0))


def test_what_takes_an_error_for_a_success_counts_no_failures(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> object:
        return answered_alike(worker, 4, failed=2)

    assert compare(healthy, "error-as-success", story) == (("SUCCESS", 4, 0, 2), ("SUCCESS", 4, 0, 0))


def test_what_takes_successes_for_failures_does_so_with_every_sixth(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> object:
        return answered_alike(worker, 13)

    assert compare(healthy, "success-as-failure", story) == (("SUCCESS", 13, 0, 0), ("SUCCESS", 13, 0, 2))


@pytest.mark.parametrize("trouble", ["an error answer", "a task that comes back"])
def test_what_collapses_refuses_six_posts_after_the_first_trouble_and_no_more(
    healthy: SandboxInfo, trouble: str
) -> None:
    def story(worker: Worker) -> list[int]:
        job = worker.new_job(5)
        first, *others = worker.leases(job)
        answer(worker, job, [first])
        if trouble == "an error answer":
            answer(worker, job, [others[0]], "failed to load image")
        else:
            assert until(lambda: worker.leases(job))
        body = {"results": [item(others[1].image_id, reply_of(others[1]), "failed to load image")]}
        url = f"{worker.info.base_url}/jobs/{job}/result/"
        return [worker.session.post(url, json=body).status_code for _ in range(9)]

    assert compare(healthy, "collapses-after-fault", story) == ([200] * 9, [500] * 6 + [200] * 3)


def test_what_forgets_exhausted_images_lets_the_reaper_drop_them_from_all_counts() -> None:
    def story(worker: Worker) -> tuple[object, object]:
        leases = list(worker.leases(1))
        answer(worker, 1, leases[:1], "failed to load image")
        answer(worker, 1, leases[1:3])
        until(lambda: worker.counts(1)[0] == "SUCCESS")
        return worker.counts(1), len(worker.get("/jobs/1/")["progress"]["errors"])

    options = replace(OPTIONS, images=4, reaper_interval=0.2, reaper_idle=0.6)
    with ThreadPoolExecutor(2) as pool:
        both = [options, replace(options, sabotage="forgets-exhausted")]
        fine, sabotaged = pool.map(partial(play, story), both)
    assert fine == (("SUCCESS", 4, 0, 2), 1)
    assert sabotaged == (("SUCCESS", 3, 0, 1), 0)


# Ends


def test_what_succeeds_early_ends_the_job_half_way_and_takes_the_other_answers_in_vain(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[object, int, object]:
        job = worker.new_job(8)
        leases = list(worker.leases(job, 6))
        answer(worker, job, leases[:4])
        worker.settled(job, 4)
        half_way = worker.counts(job)
        left = list(worker.leases(job))
        answer(worker, job, leases[4:])
        worker.settled(job, 6)
        return half_way, len(left), worker.counts(job)

    fine, sabotaged = compare(healthy, "early-success", story)
    assert fine == (("STARTED", 4, 4, 0), 2, ("STARTED", 6, 2, 0))
    assert sabotaged == (("SUCCESS", 4, 4, 0), 0, ("SUCCESS", 4, 4, 0))


def test_what_serves_after_the_end_hands_out_answered_tasks_again_and_goes_on_listing_the_job(
    healthy: SandboxInfo,
) -> None:
    def story(worker: Worker) -> tuple[bool, list[int], list[int]]:
        job = worker.new_job(6)
        answer(worker, job, worker.returned(job, 6))
        until(lambda: worker.counts(job) == ("SUCCESS", 6, 0, 0))
        listed = is_listed(worker, job)
        soon = list(worker.leases(job))
        answer(worker, job, soon)
        later = worker.returned(job, 4) if soon else []
        return listed, sequences(soon), sequences(later)

    fine, sabotaged = compare(healthy, "serves-after-end", story)
    assert fine == (False, [], [])
    assert sabotaged == (True, [3, 4, 5], [3, 4, 5, 6])


def test_what_reopens_a_finished_job_leaves_it_running_whatever_comes(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> tuple[str, object]:
        job = worker.new_job(2)
        leases = worker.returned(job, 2)
        answer(worker, job, leases)
        until(lambda: worker.counts(job) == ("SUCCESS", 2, 0, 0))
        ended = time.monotonic()
        while worker.counts(job)[0] == "SUCCESS" and time.monotonic() - ended < 2:
            time.sleep(0.02)
        later = worker.counts(job)[0]
        answer(worker, job, leases)
        worker.settled(job, 4)
        return later, worker.counts(job)

    fine, sabotaged = compare(healthy, "reopens-finished-job", story)
    assert fine == ("SUCCESS", ("SUCCESS", 2, 0, 0))
    assert sabotaged == ("STARTED", ("STARTED", 2, 0, 0))


def test_what_never_ends_counts_everything_and_stays_started(healthy: SandboxInfo) -> None:
    def story(worker: Worker) -> object:
        return answered_alike(worker, 4, failed=3)

    assert compare(healthy, "never-ends", story) == (("FAILURE", 4, 0, 3), ("STARTED", 4, 0, 3))


def test_a_job_that_never_ends_can_still_be_cancelled() -> None:
    def story(worker: Worker) -> str:
        answer(worker, 1, worker.returned(1, 2))
        worker.settled(1, 2)
        worker.post("/jobs/1/cancel/")
        return worker.counts(1)[0]

    assert play(story, replace(OPTIONS, images=2, sabotage="never-ends")) == "REVOKED"


# The table


def test_every_sabotage_is_tried_above() -> None:
    with open(__file__) as stream:
        tried = stream.read()
    assert [name for name in SABOTAGES if f'"{name}"' not in tried] == []


@pytest.mark.parametrize("name", ["", *SABOTAGES])
def test_every_name_leads_to_a_kind_of_backend_of_its_own(name: str) -> None:
    others = {backend_kind(other) for other in ["", *SABOTAGES] if other != name}
    assert issubclass(backend_kind(name), Backend)
    assert backend_kind(name) not in others


def test_every_meaning_is_one_sentence() -> None:
    assert {name for name, text in SABOTAGE_MEANINGS.items() if text[-1] != "." or text.count(". ")} == set()


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("$JS.ACK.job_2.job-2-consumer.1.7.9.1795438299585001495.11", Place(sequence=7, delivery=1)),
        ("$JS.ACK.job_2.job-2-consumer.one.7.9.1795438299585001495.11", None),
        ("$JS.ACK.job_2", None),
        ("", None),
    ],
)
def test_a_reply_subject_says_which_task_and_which_delivery(reply: str, place: Place | None) -> None:
    assert place_of(reply) == place
