"""Set our counts of a job's answers beside the service's own, by number, and by name where its log gives names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ami_fault_site.history import Post, TaskKey
from ami_fault_site.verdict.streams import Stream


@dataclass(frozen=True)
class Account:
    """Our counts of a stream's tasks. An error that was ever accepted counts as failed for ever, as at the service.

    `contested` are those of the failed for which a success was accepted too: what comes after the end is not counted.
    `open_errors` and `open_successes` are answers of which nobody heard whether they arrived. `misnamed` is how many
    accepted answers were about another image than their task's. `in_time` are the accepted that the service took while
    it was known to count, None if that is not asked: once the reaper has given a job's images up, an answer is taken
    and not counted.
    """

    stream: Stream
    tasks: int
    accepted: int
    failed: int
    contested: int
    open_successes: int
    open_errors: int
    misnamed: int
    in_time: int | None = None

    @property
    def open(self) -> int:
        """How many tasks have only answers of which nobody heard."""
        return self.open_successes + self.open_errors

    @property
    def can_compare(self) -> bool:
        """Whether the service's counts have come to rest, so that ours may be held against them."""
        witness = self.stream.witness
        return self.stream.is_last and witness is not None and witness.settled and witness.detail.processed is not None

    @property
    def processed(self) -> int:
        """How many tasks the service has processed by an answer; what the reaper gave up is not among them."""
        witness = self.stream.witness
        if witness is None or witness.detail.processed is None:
            return 0
        return max(0, witness.detail.processed - witness.given_up)

    def unrecorded(self, drained: bool) -> int:
        """Return how many accepted answers are missing from the service's counts.

        Only where it can be said: the job has ended, or what was not saved would have come back by now (`drained`).
        """
        if self.stream.status == "REVOKED" or not self.can_compare or self.misnamed:
            return 0
        if not (self.stream.is_final or drained):
            return 0
        witness = self.stream.witness
        reaped = witness is not None and witness.given_up > 0
        taken = self.in_time if reaped and self.in_time is not None else self.accepted
        return max(0, taken - self.processed)

    def in_doubt(self, drained: bool) -> int:
        """Return how many accepted answers the service has not counted, where it may yet do so."""
        witness = self.stream.witness
        if self.stream.status == "REVOKED" or self.misnamed or witness is None or witness.detail.processed is None:
            return 0
        if not self.stream.is_last:
            return 0
        if witness.given_up:
            return 0
        return max(0, self.accepted - self.processed) - self.unrecorded(drained)

    def arrived(self) -> bool | None:
        """Say whether all answers of whose fate nobody heard reached the service; None if that cannot be told."""
        if not self.open:
            return True
        witness, size = self.stream.witness, self.stream.size
        if not self.can_compare or self.misnamed or witness is None:
            return None
        if self.stream.elsewhere:
            # Others may have answered; but if the whole job is counted, so is whatever became of these.
            whole = self.stream.is_final and not witness.given_up and size is not None and self.processed >= size
            return True if whole else None
        if self.processed >= self.accepted + self.open:
            return True
        return False if self.processed <= self.accepted else None


def account(stream: Stream, is_in_time: Callable[[Post], bool] = lambda _post: True) -> Account:
    """Count a stream's answers; `is_in_time` says whether the service still counted when it took one."""
    accepted = in_time = failed = contested = good = bad = misnamed = 0
    for task in stream.tasks:
        sequence, taken, erred, early = task.key[1], 0, 0, False
        for lease in task.leases:
            for post in lease.posts:
                if post.outcome == "accepted":
                    taken += 1
                    early = early or is_in_time(post)
                    erred += sequence in post.errors
                    misnamed += bool(lease.named)
        if taken:
            accepted += 1
            in_time += early
            failed += erred > 0
            contested += 0 < erred < taken
        elif task.is_unheard:
            is_error = any(sequence in post.errors for lease in task.leases for post in lease.posts if post.is_open)
            bad += is_error
            good += not is_error
    return Account(stream, len(stream.tasks), accepted, failed, contested, good, bad, misnamed, in_time)


def unrecorded_by_name(stream: Stream, names: Iterable[str]) -> frozenset[TaskKey]:
    """Return the tasks with an accepted answer whose reply subjects the job's log does not tell as processed."""
    recorded = {_identity(name) for name in names}
    missing = set()
    for task in stream.tasks:
        taken = task.accepted()
        if taken and not any((task.key[1], lease.delivery) in recorded for lease, _ in taken):
            missing.add(task.key)
    return frozenset(missing)


def _identity(reply_subject: str) -> tuple[int, int]:
    parts = reply_subject.split(".")
    try:
        return int(parts[5]), int(parts[4])
    except (IndexError, ValueError):
        return (-1, -1)
