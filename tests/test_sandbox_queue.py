"""The queue is a real JetStream, and what is never answered comes back exactly as its settings say."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator

import nats
import pytest

from ami_fault_site.antenna import Delivery, parse_reply_subject
from ami_fault_site.sandbox.nats_server import NatsServer, running_server
from ami_fault_site.sandbox.options import SandboxError
from ami_fault_site.sandbox.queue import FETCH_TIMEOUT, Delivered, QueueSettings, QueueUnavailable, TaskQueue, connected

SETTINGS = QueueSettings(ack_wait=1.2, max_deliver=2, max_ack_pending=1000, patience=1.0)
Story = Callable[[TaskQueue], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with running_server() as started:
        yield started


def play(server: NatsServer, story: Story, settings: QueueSettings = SETTINGS) -> None:
    async def whole() -> None:
        async with connected(server.url, settings) as queue:
            await story(queue)

    asyncio.run(whole())


async def filled(queue: TaskQueue, job: int, count: int) -> str:
    line = await queue.open(job)
    await queue.publish(job, [b"%d" % number for number in range(1, count + 1)])
    return line


async def fetched(queue: TaskQueue, job: int, count: int, within: float = 3.0) -> list[Delivered]:
    """Fetch until so many have come: JetStream may hand them out in several portions."""
    deadline = time.monotonic() + within
    found: list[Delivered] = []
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        found += await queue.fetch(job, count - len(found))
    return found


async def one_by_one(queue: TaskQueue, job: int, count: int) -> None:
    for _ in range(count):
        await queue.fetch(job, 1)


def said(delivered: Delivered) -> Delivery:
    parsed = parse_reply_subject(delivered.reply)
    assert parsed is not None
    return parsed


def test_tasks_come_in_order_with_reply_subjects_that_count_them(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 5)
        first, second = await queue.fetch(1, 3), await queue.fetch(1, 3)
        every = [said(one) for one in [*first, *second]]
        assert [one.data for one in [*first, *second]] == [b"1", b"2", b"3", b"4", b"5"]
        assert [one.sequence for one in every] == [1, 2, 3, 4, 5]
        assert [one.consumer_sequence for one in every] == [1, 2, 3, 4, 5]
        assert [one.left for one in every] == [4, 3, 2, 1, 0]
        assert {(one.stream, one.consumer, one.delivery) for one in every} == {("job_1", "job-1-consumer", 1)}

    play(server, story)


def test_the_consumer_says_what_it_is_set_to(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        assert await queue.open(1) == (
            "max_deliver=2, ack_wait=1.2s, max_ack_pending=1000, deliver_policy=all, ack_policy=explicit"
        )

    play(server, story)


def test_what_is_never_answered_comes_back_exactly_after_ack_wait_as_delivery_two_without_a_gap(
    server: NatsServer,
) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 4)
        before = time.monotonic()
        first = [said(one) for one in await queue.fetch(1, 4)]
        got = time.monotonic()
        again = [said(one) for one in await fetched(queue, 1, 4)]
        assert SETTINGS.ack_wait <= time.monotonic() - before
        assert time.monotonic() - got < SETTINGS.ack_wait + 0.8
        assert [one.delivery for one in again] == [2] * 4
        assert [one.sequence for one in again] == [1, 2, 3, 4]
        assert [one.consumer_sequence for one in again] == [5, 6, 7, 8]
        assert [one.published for one in again] == [one.published for one in first]

    play(server, story)


def test_after_the_last_delivery_nothing_comes_back(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 2)
        await queue.fetch(1, 2)
        await fetched(queue, 1, 2)
        last = time.monotonic()
        while time.monotonic() - last < 1.4:
            assert await queue.fetch(1, 2) == []

    play(server, story, QueueSettings(ack_wait=0.7, max_deliver=2, max_ack_pending=1000))


def test_what_comes_back_just_as_an_empty_fetch_ends_is_handed_to_somebody(server: NatsServer) -> None:
    jobs, rounds, ack_wait = range(1, 51), 4, FETCH_TIMEOUT + 0.02

    async def fetch_around_the_end(queue: TaskQueue, job: int) -> tuple[int, int]:
        received = len(await fetched(queue, job, 1))
        for number in range(rounds):
            # What is out comes back between 5 ms before this fetch ends and 5 ms after it.
            await asyncio.sleep(ack_wait - FETCH_TIMEOUT + (job % 10 - 5) * 0.001 + number * 0.0002)
            received += len(await fetched(queue, job, 1))
        counts = await queue.counts(job)
        assert counts is not None
        assert counts.delivered is not None
        return received, counts.delivered

    async def story(queue: TaskQueue) -> None:
        for job in jobs:
            await filled(queue, job, 1)
        found = await asyncio.gather(*(fetch_around_the_end(queue, job) for job in jobs))
        assert found == [(1 + rounds, 1 + rounds)] * len(jobs)

    play(server, story, QueueSettings(ack_wait, max_deliver=100, max_ack_pending=1000))


def test_what_was_acknowledged_does_not_come_back(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 2)
        first, _ = await queue.fetch(1, 2)
        assert await queue.acknowledge(first.reply)
        assert [one.data for one in await fetched(queue, 1, 1)] == [b"2"]

    play(server, story)


def test_an_acknowledgement_of_an_earlier_delivery_still_counts(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 1)
        (first,) = await queue.fetch(1, 2)
        await fetched(queue, 1, 1)
        assert await queue.acknowledge(first.reply)
        deadline = time.monotonic() + 3.0
        while (counts := await queue.counts(1)) is None or counts.ack_pending:  # the server has it, and is at it
            assert time.monotonic() < deadline, counts
        assert counts.delivered == 2

    play(server, story)


def test_no_more_tasks_are_out_at_once_than_allowed(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 9)
        assert len(await queue.fetch(1, 9)) == 3
        assert await queue.fetch(1, 9) == []

    play(server, story, QueueSettings(ack_wait=30.0, max_deliver=2, max_ack_pending=3))


def test_an_empty_fetch_waits_half_a_second_and_one_without_a_stream_does_not(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await queue.open(1)
        took: dict[int, list[float]] = {1: [], 77: []}
        for job in [*took] * 4:
            began = time.monotonic()
            assert await queue.fetch(job, 5) == []
            took[job].append(time.monotonic() - began)
        assert 0.4 < min(took[1]) < 0.9  # the quickest is not that in which the machine did something else
        assert min(took[77]) < 0.3

    play(server, story)


def test_a_fetch_that_nobody_answers_because_its_job_has_just_ended_finds_nothing(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 1)
        client = await nats.connect(server.url)
        await client.jetstream().delete_consumer("job_1", "job-1-consumer")
        await client.subscribe("$JS.API.CONSUMER.MSG.NEXT.job_1.job-1-consumer")  # hears the request, says nothing
        await client.flush()
        began = time.monotonic()
        assert await queue.fetch(1, 5) == []
        assert FETCH_TIMEOUT < time.monotonic() - began < 2
        await client.close()

    play(server, story)


def test_a_stream_opened_again_counts_from_one(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 2)
        (before, _) = await queue.fetch(1, 2)
        await filled(queue, 1, 2)
        (after, _) = await queue.fetch(1, 2)
        assert (said(after).sequence, said(after).consumer_sequence, said(after).delivery) == (1, 1, 1)
        assert said(after).published != said(before).published

    play(server, story)


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_stream_is_empty_though_the_server_has_kept_the_files_of_one_that_was_deleted(
    server: NatsServer, is_removed: bool
) -> None:
    streams = server.folder / "store" / "jetstream" / "$G" / "streams"
    removed = streams / ".job_1" / "msgs"  # what the server still removes of an earlier deletion

    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 2)
        removed.mkdir(parents=True)
        await queue.remove(1)
        assert (streams / "job_1" / "msgs").exists()
        if is_removed:
            shutil.rmtree(removed.parent)
            await filled(queue, 1, 1)
            (one,) = await queue.fetch(1, 5)
            assert (one.data, said(one).sequence) == (b"1", 1)
        else:
            with pytest.raises(QueueUnavailable, match="does not let go of the tasks of an older stream job_1"):
                await queue.open(1)

    try:
        play(server, story)
    finally:
        shutil.rmtree(removed.parent, ignore_errors=True)
        shutil.rmtree(streams / "job_1", ignore_errors=True)


@pytest.mark.parametrize("reply", ["", "job.1.tasks", "$JS.ACK.a b", "$JS.ACK.\r\nPUB x", "$JS.ACK.*", "$JS.ACK.ä"])
def test_what_is_no_reply_subject_is_not_published(server: NatsServer, reply: str) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 1)
        assert not await queue.acknowledge(reply)
        assert [one.data for one in await queue.fetch(1, 5)] == [b"1"]

    play(server, story)


def test_an_invented_reply_subject_does_no_harm(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 1)
        assert await queue.acknowledge("$JS.ACK.job_9.job-9-consumer.1.1.1.1.0")
        assert len(await queue.fetch(1, 5)) == 1

    play(server, story)


def test_a_queue_that_does_not_answer_is_unavailable_and_one_that_answers_again_is_not(server: NatsServer) -> None:
    async def story(queue: TaskQueue) -> None:
        await filled(queue, 1, 100)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(QueueUnavailable):
                await one_by_one(queue, 1, 50)  # a process with threads does not stop at once
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert len(await fetched(queue, 1, 1)) == 1

    play(server, story)


def test_our_streams_are_deleted_at_the_end_and_nobody_elses(server: NatsServer) -> None:
    async def whole() -> None:
        client = await nats.connect(server.url)
        try:
            await client.jetstream().add_stream(name="somebody", subjects=["somebody.>"])
            async with connected(server.url, SETTINGS) as queue:
                await filled(queue, 1, 1)
                await filled(queue, 2, 1)
            assert [one.config.name for one in await client.jetstream().streams_info()] == ["somebody"]
        finally:
            await client.jetstream().delete_stream("somebody")
            await client.close()

    asyncio.run(whole())


def test_a_stream_of_the_same_name_that_is_not_ours_is_left_alone(server: NatsServer) -> None:
    async def whole() -> None:
        client = await nats.connect(server.url)
        try:
            await client.jetstream().add_stream(name="job_5", subjects=["job.5.tasks"])
            async with connected(server.url, SETTINGS) as queue:
                with pytest.raises(SandboxError, match="has a stream job_5 that is not a sandbox's: use another"):
                    await queue.open(5)
            assert await client.jetstream().stream_info("job_5")
        finally:
            await client.jetstream().delete_stream("job_5")
            await client.close()

    asyncio.run(whole())


def test_a_server_that_is_not_there_is_named() -> None:
    async def whole() -> None:
        async with connected("nats://127.0.0.1:1", SETTINGS):
            pass

    with pytest.raises(SandboxError, match=r"no NATS server answers at nats://127\.0\.0\.1:1"):
        asyncio.run(whole())
