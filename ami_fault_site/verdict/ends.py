"""Say how a lease ended, and through whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ami_fault_site.faults import Effect, Mode
from ami_fault_site.history import History, Injection, Lease, Post, Ref, Task
from ami_fault_site.verdict.facts import Parameters
from ami_fault_site.verdict.lives import Holder, HowEnded, Lives
from ami_fault_site.verdict.terms import Whose


class How(Enum):
    """The ways in which a lease ends."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    INDETERMINATE = "indeterminate"  # a crash or no answer while posting
    DROPPED = "dropped"  # a crash while holding: of the process, of a thread or a loader of it, or a hang
    EXPIRED = "expired"  # ack_wait passed while held
    ABANDONED = "abandoned"  # a live worker gave it up
    UNSEEN = "unseen"  # reserved by an answer that got lost
    STOPPED = "stopped"  # the operator ended the worker
    HELD = "held"  # to the end of what is known


@dataclass(frozen=True)
class End:
    """How a lease ended. `at` is in monotonic seconds of its process's clock, None if only the order is known."""

    how: How
    whose: Whose
    cause: str
    at: float | None = None
    refs: tuple[Ref, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether a fault that we injected ended it."""
        return self.whose is Whose.BUDGET


_ACCEPTED = End(How.ACCEPTED, Whose.SERVICE, "its answer was accepted")
_REFUSED_FROM, _SERVICE_FROM = 400, 500
_POST_BEGINS = 1.0  # seconds after its batch by which a post has begun, if a later batch's has
_SETUP_STATUSES = (401, 403)


class Ends:
    """How each lease in a history ended."""

    def __init__(self, history: History, lives: Lives, parameters: Parameters) -> None:
        self._history = history
        self._lives = lives
        self._parameters = parameters
        self._last_posted = self._find_last_posted()
        self._withheld = {pair for one in history.injections if one.effect is Effect.WITHHOLD for pair in one.tasks}
        self._made: dict[tuple[object, ...], End] = {}  # what ended many leases at once is one thing

    def of(self, task: Task, lease: Lease) -> End:
        """Return how a lease ended, and by whose doing."""
        for post in lease.posts:
            if post.outcome == "accepted":
                return _ACCEPTED
        if lease.posts:
            return self._of_post(max(lease.posts, key=lambda post: (post.is_open, post.sent)))
        if lease.lost:
            on_purpose = self.is_withheld(task, lease)
            why = "it was kept from the worker on purpose" if on_purpose else "the answer that brought it was lost"
            return self._end(How.UNSEEN, Whose.BUDGET, why, lease.received, (lease.ref,))
        if not lease.is_seen:
            return End(How.UNSEEN, Whose.SERVICE, "no worker of ours has booked its receipt")
        return self._if_expired(task, lease, self._unanswered(task, lease))

    def _end(self, how: How, whose: Whose, cause: str, at: float | None = None, refs: tuple[Ref, ...] = ()) -> End:
        key = (how, whose, cause, at, refs)
        return self._made.setdefault(key, End(how, whose, cause, at, refs))

    def came_back(self, task: Task, lease: Lease) -> Lease | None:
        """Return the next delivery of the task of which we know when it was made, None if there is none."""
        if lease is task.leases[-1]:  # they stand in their order, and most are the last
            return None
        return next((one for one in task.leases if one.delivery > lease.delivery and one.is_known), None)

    def is_withheld(self, task: Task, lease: Lease) -> bool:
        """Say whether a delivery was kept from the worker on purpose, to exhaust its task."""
        return (task.key, lease.delivery) in self._withheld

    def clock(self, lease: Lease) -> int:
        """Return the clock that a lease's times are read on."""
        return self._history.processes[lease.process].clock

    def expired_while_held(self, task: Task, lease: Lease) -> bool:
        """Say whether the task was handed out again while this lease was still held."""
        after = None if lease is task.leases[-1] else self.came_back(task, lease)
        if after is None or not lease.is_seen or self.clock(after) != self.clock(lease):
            return False
        until = self._held_until(task, lease)
        return until is not None and after.received < until

    def is_slowed(self, task: Task, lease: Lease) -> bool:
        """Say whether a lease that was held for too long would not have been if no fault of ours had slowed us."""
        until = self._held_until(task, lease)
        return until is not None and self._is_slowed(task, lease, until)

    def _held_until(self, task: Task, lease: Lease) -> float | None:
        """Return when a worker was done with a lease; of whose end nothing is known, when it was last heard of."""
        if lease.posts:
            return max(post.sent for post in lease.posts)
        held = self._unanswered(task, lease)
        if held.at is None and held.how is How.HELD:
            return self._lives.silent_since(self._lives.holder(lease.process))
        return held.at

    def _is_slowed(self, task: Task, lease: Lease, until: float) -> bool:
        wait, after = self._parameters.ack_wait, self.came_back(task, lease)
        if wait is None and after is not None:  # it was no longer than that
            wait = after.received - lease.received
        slowed = self._lives.slowed(self._lives.holder(lease.process), lease.received, until)
        return slowed > 0 and until - lease.received - slowed <= (
            wait if wait is not None else self._parameters.longest
        )

    def _of_post(self, post: Post) -> End:
        refs = (post.ref,) if post.heard_ref is None else (post.ref, post.heard_ref)
        if post.is_open:
            return self._of_open(post, refs)
        if post.cut is not None:
            return self._of_cut(post, post.cut)
        if post.outcome == "not-sent" or (post.struck and not post.lost):
            what = post.error or f"HTTP {post.status}"
            return self._end(How.ABANDONED, Whose.BUDGET, f"an injected failure of its post ({what})", post.sent, refs)
        if post.status in _SETUP_STATUSES:
            whose = Whose.SETUP
        else:
            whose = Whose.SERVICE if post.status >= _SERVICE_FROM or post.status < _REFUSED_FROM else Whose.WORKER
        return self._end(How.REFUSED, whose, f"the service refused its answer (HTTP {post.status})", post.heard, refs)

    def _of_open(self, post: Post, refs: tuple[Ref, ...]) -> End:
        if post.outcome == "unheard":
            whose = Whose.BUDGET if post.struck else Whose.SERVICE
            return self._end(How.INDETERMINATE, whose, f"no reply to its answer ({post.error})", post.heard, refs)
        holder = self._lives.holder(post.process)
        whose = Whose.WORKER if holder.how is HowEnded.DIED else Whose.SETUP
        whose = Whose.BUDGET if holder.how.is_ours else whose
        if holder.ref is not None:
            refs = (*refs, holder.ref)
        return self._end(How.INDETERMINATE, whose, f"{holder.how.value} while posting", holder.end, refs)

    def _of_cut(self, post: Post, cut: Injection) -> End:
        """Say how a lease ended whose answer a fault kept from being sent, with the process or the thread."""
        refs = (post.ref, cut.ref) if cut.ref != post.ref else (cut.ref,)
        words = {Mode.HANG.value: "an injected hang", Mode.SYSEXIT.value: "an injected SystemExit"}
        why = f"{words.get(cut.kind, 'an injected crash')} before its answer was sent"
        return self._end(How.DROPPED, Whose.BUDGET, why, cut.at, refs)

    def _unanswered(self, task: Task, lease: Lease) -> End:
        """Say how a lease ended for which nothing was ever posted."""
        holder = self._lives.holder(lease.process)
        before, after = self._lives.passage(lease.process, lease.sent)
        abort = self._lives.abort(holder, task.job, before, after)
        hangs = abort is not None and abort.is_hang  # wherever the answer was by then
        if lease.batch is not None and lease.batch.ended is not None and not lease.batch.error and not hangs:
            posted = self._last_posted.get(lease.batch.process)
            if posted is not None and posted > lease.batch.ended + _POST_BEGINS:
                why = "the worker finished its batch and never posted it"
                return self._end(How.ABANDONED, Whose.WORKER, why, lease.batch.ended, (lease.batch.ref,))
        died = self._history.processes[lease.process].lost_loader
        if died is not None:
            return self._end(How.DROPPED, Whose.BUDGET, "an injected death of its loader", died.at, (died.ref,))
        if abort is not None:  # what a loader had asked for already may arrive a moment later
            whose = Whose.BUDGET if abort.injection is not None else Whose.WORKER
            how = How.DROPPED if abort.is_by_crash else How.ABANDONED
            return self._end(how, whose, abort.cause, abort.at, (abort.ref,))
        if after is not None:
            return self._end(How.ABANDONED, Whose.WORKER, "the worker went on to its next poll without answering")
        return self._with(holder)

    def _if_expired(self, task: Task, lease: Lease, end: End) -> End:
        """Call it expired if its time was up before it ended."""
        if end.how not in (How.DROPPED, How.ABANDONED, How.HELD) or end.at is None:
            return end
        if end.how is How.ABANDONED and end.whose is Whose.WORKER:
            return end
        after = self.came_back(task, lease)
        again = after is not None and self.clock(after) == self.clock(lease) and after.received < end.at
        wait = self._parameters.ack_wait
        if not again and (wait is None or end.at - lease.received <= wait):
            return end
        if end.how is How.HELD and not again:
            return end
        if self._is_slowed(task, lease, end.at):
            why = "it expired while faults of ours slowed its worker"
            return self._end(How.EXPIRED, Whose.BUDGET, why, end.at, end.refs)
        why = "it expired while a live worker held it"
        return self._end(How.EXPIRED, Whose.SETUP, why, end.at, end.refs)

    def _find_last_posted(self) -> dict[int, float]:
        """Find when each process began its last batch that was posted: posts leave in the order of their batches."""
        found: dict[int, float] = {}
        for task in self._history.tasks.values():
            for lease in task.leases:
                if lease.batch is not None and lease.posts:
                    process = lease.batch.process
                    found[process] = max(found.get(process, 0.0), lease.batch.began)
        return found

    def _with(self, holder: Holder) -> End:
        """Say how a lease ends that its holder takes along. One that died by itself did so after its last event."""
        refs = () if holder.ref is None else (holder.ref,)
        if holder.how in (HowEnded.CRASHED, HowEnded.HUNG):
            return self._end(How.DROPPED, Whose.BUDGET, holder.how.value, holder.end, refs)
        if holder.how is HowEnded.FOLLOWED:
            return self._end(How.DROPPED, Whose.BUDGET, holder.how.value, self._lives.silent_since(holder), refs)
        if holder.how is HowEnded.DIED:
            return self._end(How.DROPPED, Whose.WORKER, holder.how.value, self._lives.silent_since(holder), refs)
        if holder.how is HowEnded.STOPPED:
            return self._end(How.STOPPED, Whose.SETUP, holder.how.value, holder.end, refs)
        return self._end(How.HELD, Whose.WORKER, holder.how.value, holder.end, refs)
