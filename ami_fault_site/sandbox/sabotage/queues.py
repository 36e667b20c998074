"""Bring tasks back otherwise than the settings say, which the job's log goes on claiming."""

from __future__ import annotations

from dataclasses import replace

from nats.js.api import ConsumerConfig

from ami_fault_site.sandbox.queue import TaskQueue, settings_line

_NEVER = 86400.0  # seconds: longer than any sandbox lives
_UNLIMITED = -1


class ClaimingQueue(TaskQueue):
    """A queue whose consumers are set to one thing and said to be set to another."""

    async def open(self, job: int) -> str:
        """Make the job's stream and consumer anew, and return the settings that it does not have."""
        await super().open(job)
        return settings_line(TaskQueue.consumer(self, job))


class ForgetfulQueue(ClaimingQueue):
    """What was handed out and not answered never comes back."""

    def consumer(self, job: int) -> ConsumerConfig:
        """Wait for ever for an answer."""
        return replace(super().consumer(job), ack_wait=_NEVER)


class LateQueue(ClaimingQueue):
    """What was handed out and not answered comes back far too late."""

    def consumer(self, job: int) -> ConsumerConfig:
        """Wait 3 times as long for an answer, and 3 seconds."""
        return replace(super().consumer(job), ack_wait=3 * self._settings.ack_wait + 3)


class EndlessQueue(ClaimingQueue):
    """What is not acknowledged comes back without end."""

    def consumer(self, job: int) -> ConsumerConfig:
        """Deliver as often as it takes."""
        return replace(super().consumer(job), max_deliver=_UNLIMITED)
