"""Hand out tasks and take acknowledgements, on a real NATS JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import nats
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from ami_fault_site.sandbox.options import SandboxError

FETCH_TIMEOUT = 0.5
"""How long (s) an empty fetch waits for a task to come back."""

PATIENCE = 3.0
"""How long (s) to wait for an answer of JetStream before calling the queue unavailable."""

_CLOSED_WITHIN = 0.25  # seconds that the server may take to close a request after its time
_OURS = "made by the sandbox of ami-fault-site"  # on each stream: nothing else is ever deleted
_PUBLISH_AT_ONCE = 200
_RETENTION = 86400.0
_UNTIL_EMPTY = (0.0, 0.01, 0.1, 0.4, 1.6)  # seconds to wait before each try to make a stream that is empty
_log = logging.getLogger(__name__)


class QueueUnavailable(Exception):  # noqa: N818 - a state that callers answer to, not a mistake
    """JetStream did not answer in time, or refused."""


@dataclass(frozen=True)
class QueueSettings:
    """How often and when an unanswered task comes back. `ack_wait` is in seconds."""

    ack_wait: float
    max_deliver: int
    max_ack_pending: int
    patience: float = PATIENCE


@dataclass(frozen=True)
class Delivered:
    """One delivery: what was published, and the subject to acknowledge it at."""

    data: bytes
    reply: str


@dataclass(frozen=True)
class ConsumerCounts:
    """What a job's consumer has done so far; None where the server does not say."""

    delivered: int | None
    ack_floor: int | None
    pending: int | None
    ack_pending: int | None
    redelivered: int | None


class TaskQueue:
    """One stream and one durable pull consumer a job. Lives on the event loop that it was connected in."""

    def __init__(self, client: Client, settings: QueueSettings) -> None:
        self._client = client
        self._stream: JetStreamContext = client.jetstream(timeout=settings.patience)
        self._settings = settings
        self._opened: set[int] = set()

    async def open(self, job: int) -> str:
        """Make the job's stream and consumer anew, and return the settings of the consumer.

        Raises SandboxError if the stream exists and is not a sandbox's, QueueUnavailable if JetStream does not answer.
        """
        with _unavailable():
            await self._remove_older(job)
            await self._add_empty(job)
            self._opened.add(job)
            made = await self._stream.add_consumer(_stream_name(job), self.consumer(job))
        return settings_line(made.config)  # what the server accepted need not be what it was asked for

    async def publish(self, job: int, tasks: Sequence[bytes]) -> None:
        """Put tasks into the job's stream, in order; they can be fetched while this goes on."""
        with _unavailable():
            for start in range(0, len(tasks), _PUBLISH_AT_ONCE):
                some = tasks[start : start + _PUBLISH_AT_ONCE]
                await asyncio.gather(*(self._stream.publish(_subject(job), data) for data in some))

    def consumer(self, job: int) -> ConsumerConfig:
        """Return what the server is asked for: when and how often an unanswered task of the job comes back."""
        return ConsumerConfig(
            durable_name=consumer_name(job),
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=self._settings.ack_wait,
            max_deliver=self._settings.max_deliver,
            max_ack_pending=self._settings.max_ack_pending,
            filter_subject=_subject(job),
        )

    async def _remove_older(self, job: int) -> None:
        try:
            found = await self._stream.stream_info(_stream_name(job))
        except NotFoundError:
            return
        if found.config.description != _OURS:
            raise SandboxError(f"the NATS server has a stream {_stream_name(job)} that is not a sandbox's: use another")
        await self._stream.delete_stream(_stream_name(job))

    async def _add_empty(self, job: int) -> None:
        """Make the job's stream, and see that it is empty.

        The server removes a deleted stream's files after it has answered. A second deletion meanwhile leaves its own
        files where they are, and the stream that is made next has their tasks (nats-server 2.15.1).
        """
        for pause in _UNTIL_EMPTY:
            await asyncio.sleep(pause)
            made = await self._stream.add_stream(
                name=_stream_name(job), subjects=[_subject(job)], max_age=_RETENTION, description=_OURS
            )
            if not made.state.last_seq:
                return
            await self._stream.delete_stream(_stream_name(job))
        raise QueueUnavailable(f"the server does not let go of the tasks of an older stream {_stream_name(job)}")

    async def fetch(self, job: int, count: int) -> list[Delivered]:
        """Take up to `count` tasks; none at once if the job has no stream, none after 0.5 s if there is nothing.

        JetStream may hand out fewer than asked for although more are waiting: 4 and then 26 of 30.
        """
        if not await self._has_stream(job):
            return []
        with _unavailable():
            # An inbox for every fetch, so that nothing is delivered to nobody between two of them.
            inbox = await self._client.subscribe(self._client.new_inbox())
            try:
                await self._client.publish(_next_subject(job), _request(count), reply=inbox.subject)
                found, is_closed = await _collect(inbox, count, FETCH_TIMEOUT + _CLOSED_WITHIN)
                if not is_closed:
                    # The job ended just as we asked, and our request with it; or the server is gone, and this says so.
                    await self._has_stream(job)
                    found += (await _collect(inbox, count - len(found), 0.001))[0]
            finally:
                await inbox.unsubscribe()
        return found

    async def _has_stream(self, job: int) -> bool:
        """Ask for the stream first: an empty fetch and a dead server both look like a timeout."""
        with _unavailable():
            try:
                await self._stream.stream_info(_stream_name(job))
            except NotFoundError:
                return False
        return True

    async def acknowledge(self, reply: str) -> bool:
        """Acknowledge at a reply subject; False if it is none, or the server cannot be reached."""
        return await self.say(reply, b"+ACK")

    async def say(self, reply: str, word: bytes) -> bool:
        """Say one of JetStream's words for a delivered task, such as +ACK; False as `acknowledge` does."""
        # Anything else would be a message to a stream, and a space in a subject makes the server hang up.
        if not reply.startswith("$JS.ACK.") or not reply.isascii() or any(c.isspace() or c in "*>" for c in reply):
            return False
        try:
            await self._client.publish(reply, word)
            await self._client.flush(timeout=max(1, round(self._settings.patience)))
        except (NatsError, OSError, asyncio.TimeoutError) as error:
            _log.warning("%s to %s: %r", word.decode(), reply, error)
            return False
        return True

    async def counts(self, job: int) -> ConsumerCounts | None:
        """Return what the job's consumer has done, or None if it has none."""
        with _unavailable():
            try:
                info = await self._stream.consumer_info(_stream_name(job), consumer_name(job))
            except NotFoundError:
                return None
        return ConsumerCounts(
            info.delivered.consumer_seq if info.delivered else None,
            info.ack_floor.consumer_seq if info.ack_floor else None,
            info.num_pending,
            info.num_ack_pending,
            info.num_redelivered,
        )

    async def remove(self, job: int) -> None:
        """Delete the job's consumer, then its stream, if they are there."""
        with _unavailable():
            with contextlib.suppress(NotFoundError):
                await self._stream.delete_consumer(_stream_name(job), consumer_name(job))
            with contextlib.suppress(NotFoundError):
                await self._stream.delete_stream(_stream_name(job))
        self._opened.discard(job)

    async def remove_all(self) -> None:
        """Delete every stream that this queue has opened and that is still there."""
        for job in sorted(self._opened):
            await self.remove(job)


@contextlib.asynccontextmanager
async def connected(url: str, settings: QueueSettings, kind: type[TaskQueue] = TaskQueue) -> AsyncIterator[TaskQueue]:
    """Connect to a NATS server; at the end delete our streams on it, which may be somebody else's server."""
    outage = _Outage(url)
    try:
        client = await asyncio.wait_for(_connect(url, outage), settings.patience)
    except (NatsError, OSError, asyncio.TimeoutError) as error:
        raise SandboxError(f"no NATS server answers at {url}: {error!r}") from error
    queue = kind(client, settings)
    try:
        yield queue
    finally:
        outage.ended_by_us = True
        if client.is_connected:
            with contextlib.suppress(QueueUnavailable):
                await queue.remove_all()
        # Closing a connection that is lost already fails in ways that vary, a TypeError of asyncio's among them.
        with contextlib.suppress(Exception):
            await client.close()


async def _connect(url: str, outage: _Outage) -> Client:
    return await nats.connect(
        url,
        connect_timeout=2,
        max_reconnect_attempts=-1,  # a server that comes back is used again
        reconnect_time_wait=0.5,
        error_cb=outage.errored,
        disconnected_cb=outage.began,
        reconnected_cb=outage.ended,
    )


class _Outage:
    """Says once that the server went away and once that it is back; the library says it twice a second."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.ended_by_us = False

    async def began(self) -> None:
        if not self.ended_by_us:
            _log.warning("lost the NATS server at %s", self._url)

    async def ended(self) -> None:
        _log.warning("the NATS server at %s is back", self._url)

    async def errored(self, error: Exception) -> None:
        _log.debug("%r", error)


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (NatsError, OSError, asyncio.TimeoutError) as error:
        raise QueueUnavailable(repr(error)) from error


async def _collect(inbox: Subscription, count: int, within: float) -> tuple[list[Delivered], bool]:
    """Return what comes until the server itself closes a request, and whether it has.

    Who leaves by their own clock at the expiry, as the library's fetch does, loses what is under way.
    """
    found: list[Delivered] = []
    deadline = time.monotonic() + within
    while len(found) < count:
        try:
            message = await inbox.next_msg(max(0.001, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            return found, False
        if "Status" in (message.headers or {}):  # nothing more, nothing came, or the job ended while we waited
            break
        found.append(Delivered(message.data, message.reply))
    return found, True


def consumer_name(job: int) -> str:
    """Return the name of a job's consumer, which is part of every reply subject."""
    return f"job-{job}-consumer"


def _stream_name(job: int) -> str:
    return f"job_{job}"


def _subject(job: int) -> str:
    return f"job.{job}.tasks"


def _next_subject(job: int) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.{_stream_name(job)}.{consumer_name(job)}"


def _request(count: int) -> bytes:
    """Ask for what is there, or else to wait for the first that comes."""
    return json.dumps({"batch": count, "expires": int(FETCH_TIMEOUT * 1e9), "no_wait": True}).encode()


def settings_line(config: ConsumerConfig) -> str:
    """Write a consumer's settings as a job's log has them."""
    names = ("max_deliver", "ack_wait", "max_ack_pending", "deliver_policy", "ack_policy")
    values = {name: getattr(config, name) for name in names}
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    plain["ack_wait"] = f"{plain['ack_wait']}s"
    return ", ".join(f"{name}={plain[name]}" for name in names)
