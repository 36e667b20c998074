"""Hand out tasks and take acknowledgements, on a real NATS JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from ami_fault_site.sandbox.options import SandboxError

FETCH_TIMEOUT = 0.5
"""How long (s) an empty fetch waits for a task to come back."""

PATIENCE = 3.0
"""How long (s) to wait for an answer of JetStream before calling the queue unavailable."""

_OURS = "made by the sandbox of ami-fault-site"  # on each stream: nothing else is ever deleted
_PUBLISH_AT_ONCE = 200
_RETENTION = 86400.0
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
            await self._stream.add_stream(
                name=_stream_name(job), subjects=[_subject(job)], max_age=_RETENTION, description=_OURS
            )
            self._opened.add(job)
            made = await self._stream.add_consumer(_stream_name(job), self._consumer(job))
        return _settings_line(made)

    async def publish(self, job: int, tasks: Sequence[bytes]) -> None:
        """Put tasks into the job's stream, in order; they can be fetched while this goes on."""
        with _unavailable():
            for start in range(0, len(tasks), _PUBLISH_AT_ONCE):
                some = tasks[start : start + _PUBLISH_AT_ONCE]
                await asyncio.gather(*(self._stream.publish(_subject(job), data) for data in some))

    def _consumer(self, job: int) -> ConsumerConfig:
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

    async def fetch(self, job: int, count: int) -> list[Delivered]:
        """Take up to `count` tasks; none at once if the job has no stream, none after 0.5 s if there is nothing.

        JetStream may hand out fewer than asked for although more are waiting: 4 and then 26 of 30.
        """
        if not await self._has_stream(job):
            return []
        with _unavailable():
            # Bound anew for every fetch and dropped after it, so that nothing is delivered to nobody in between.
            pulled = await self._stream.pull_subscribe_bind(consumer_name(job), _stream_name(job))
            try:
                messages = await pulled.fetch(count, timeout=FETCH_TIMEOUT)
            except (asyncio.TimeoutError, APIError):  # nothing came, or the job ended while we waited
                return []
            finally:
                await pulled.unsubscribe()
        return [Delivered(message.data, message.reply) for message in messages]

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
        # Anything else would be a message to a stream, and a space in a subject makes the server hang up.
        if not reply.startswith("$JS.ACK.") or not reply.isascii() or any(c.isspace() or c in "*>" for c in reply):
            return False
        try:
            await self._client.publish(reply, b"+ACK")
            await self._client.flush(timeout=max(1, round(self._settings.patience)))
        except (NatsError, OSError, asyncio.TimeoutError) as error:
            _log.warning("acknowledging %s: %r", reply, error)
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
async def connected(url: str, settings: QueueSettings) -> AsyncIterator[TaskQueue]:
    """Connect to a NATS server; at the end delete our streams on it, which may be somebody else's server."""
    outage = _Outage(url)
    try:
        client = await asyncio.wait_for(_connect(url, outage), settings.patience)
    except (NatsError, OSError, asyncio.TimeoutError) as error:
        raise SandboxError(f"no NATS server answers at {url}: {error!r}") from error
    queue = TaskQueue(client, settings)
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


def consumer_name(job: int) -> str:
    """Return the name of a job's consumer, which is part of every reply subject."""
    return f"job-{job}-consumer"


def _stream_name(job: int) -> str:
    return f"job_{job}"


def _subject(job: int) -> str:
    return f"job.{job}.tasks"


def _settings_line(made: ConsumerInfo) -> str:
    """Write what the server accepted, which need not be what it was asked for."""
    names = ("max_deliver", "ack_wait", "max_ack_pending", "deliver_policy", "ack_policy")
    values = {name: getattr(made.config, name) for name in names}
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    plain["ack_wait"] = f"{plain['ack_wait']}s"
    return ", ".join(f"{name}={plain[name]}" for name in names)
