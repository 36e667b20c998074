"""Say whether a task has had its time to come back, and its worker the time to answer it."""

from __future__ import annotations

from ami_fault_site.history import History, Lease, Task
from ami_fault_site.verdict.ends import End, Ends
from ami_fault_site.verdict.facts import Parameters
from ami_fault_site.verdict.lives import Lives
from ami_fault_site.verdict.streams import Stream, Streams

_SILENT = 5.0  # seconds that a worker may be silent however short ack_wait is


class Due:
    """What was due by when: redeliveries by ack_wait, and signs of life."""

    def __init__(self, history: History, lives: Lives, streams: Streams, ends: Ends, parameters: Parameters) -> None:
        self._history = history
        self._lives = lives
        self._streams = streams
        self._ends = ends
        self._parameters = parameters

    def outlasts(self, task: Task, stream: Stream, last: Lease) -> bool:
        """Say whether a task must have come back even if every delivery that we did not see was one of it.

        Each of those can have kept it for one more ack_wait, and each costs one of its deliveries.
        """
        most = self._parameters.max_deliver
        unseen = stream.most_missed
        return (
            most is not None
            and last.delivery + unseen < most
            and self.asked_when_due(task, last, 1 + unseen) is not None
        )

    def asked_when_due(self, task: Task, lease: Lease, times: int = 1) -> float | None:
        """Return when somebody of ours asked in vain after so many ack_waits, while the job went on; None if never."""
        clock = self._ends.clock(lease)
        since = lease.received + times * (self._parameters.longest + self._parameters.slack)
        until = self._streams.served_until(self._streams.of(task), clock)
        return self._streams.asked_in_vain(task.job, clock, since, until)

    def is_at_work(self, lease: Lease) -> bool:
        """Say whether a life of which no end is known was heard of to the last: nothing of it is over yet."""
        clock = self._ends.clock(lease)
        on = (one for one in self._history.processes if one.clock == clock and not one.is_bystander)
        heard = max(one.last for one in on)
        silent = heard - self._lives.silent_since(self._lives.holder(lease.process))
        return silent <= max(_SILENT, self._parameters.longest)

    def is_stuck(self, lease: Lease, end: End) -> bool:
        """Say whether a live worker had a lease to the end and was not at work on it: silent, or long done with it.

        Both for longer than ack_wait, which no worker may take for a batch.
        """
        holder = self._lives.holder(lease.process)
        until = end.at if end.at is not None else self._history.processes[lease.process].last
        since = self._lives.silent_since(holder)
        if lease.batch is not None and lease.batch.ended is not None:
            since = min(since, lease.batch.ended)
        return until - max(since, lease.received) > max(_SILENT, self._parameters.longest)
