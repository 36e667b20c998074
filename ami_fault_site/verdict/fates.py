"""Say what became of each task: its one fate, its marks, and through whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ami_fault_site.antenna import parse_reply_subject
from ami_fault_site.faults import Effect
from ami_fault_site.history import History, Injection, Lease, Post, Ref, Task, TaskKey
from ami_fault_site.verdict.accounts import Account, account, unrecorded_by_name
from ami_fault_site.verdict.due import Due
from ami_fault_site.verdict.ends import End, Ends, How
from ami_fault_site.verdict.facts import Facts
from ami_fault_site.verdict.lives import Lives
from ami_fault_site.verdict.spoilt import SpoiltImages
from ami_fault_site.verdict.streams import Stream, Streams
from ami_fault_site.verdict.terms import Whose


class Fate(Enum):
    """What became of a task."""

    DONE = "done"
    RECOVERED = "recovered"
    FAILED_EXPECTED = "failed-expected"
    FAILED_TRANSIENT = "failed-transient"
    FAILED_ORGANIC = "failed-organic"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"
    EXHAUSTED_ON_PURPOSE = "exhausted-on-purpose"
    TAKEN_ELSEWHERE = "taken-elsewhere"
    LOST = "lost"
    STUCK = "stuck"
    UNRECORDED = "unrecorded"
    NEVER_DELIVERED = "never-delivered"
    UNEXPECTED = "unexpected"
    PENDING = "pending"


class Mark(Enum):
    """What is worth saying of a task besides its fate."""

    DUPLICATED = "duplicated"
    DELIVERED_EARLY = "delivered-early"
    EXPIRED_WHILE_HELD = "expired-while-held"


@dataclass(frozen=True)
class Fated:
    """A task's fate: whose doing it is if that is a failure, the cause in words, and the lines that prove it."""

    fate: Fate
    whose: Whose = Whose.SERVICE
    cause: str = ""
    marks: frozenset[Mark] = frozenset()
    refs: tuple[Ref, ...] = ()


_DONE = Fated(Fate.DONE)
_RECOVERED = Fated(Fate.RECOVERED)
_NOTICED = 1.0  # seconds within which a worker notices that a loader has died
_CUT_OFF = "its last delivery was reserved by a tasks call that an injected crash cut off"
_DAMAGED = "the ledger is not complete"


class Fates:
    """The fates of all tasks in a history. Those of tasks that were never delivered are counted by stream."""

    def __init__(self, history: History, lives: Lives, streams: Streams, ends: Ends, facts: Facts) -> None:
        self._history = history
        self._lives = lives
        self._streams = streams
        self._ends = ends
        self._facts = facts
        self._due = Due(history, lives, streams, ends, facts.parameters)
        self.accounts: list[Account] = [self._account(stream) for stream in streams.all]
        self._drained = {id(one.stream): streams.drained(one.stream) for one in self.accounts}
        self._accounts = {id(one.stream): one for one in self.accounts}
        self.spoilt = SpoiltImages(history)
        self.passing: set[tuple[TaskKey, int]] = set()
        for injection in history.injections:
            if injection.effect is Effect.TRANSIENT:
                self.passing.update(injection.tasks)
        self.unrecorded = {id(one.stream): one.unrecorded(self.drained(one.stream)) for one in self.accounts}
        self._unrecorded_keys = self._name_unrecorded()
        self.undeclared = self._find_undeclared()
        # Nearly all are done or recovered, and have no more to be said of them than that.
        self.notable: list[tuple[Task, Fated]] = []
        self._notable: dict[TaskKey, Fated] = {}
        self._recovered: set[TaskKey] = set()
        for stream in streams.all:
            for task in stream.tasks:
                fated = self._decide(task, stream)
                if fated is _RECOVERED:
                    self._recovered.add(task.key)
                elif fated is not _DONE:
                    self._notable[task.key] = fated
                    self.notable.append((task, fated))

    def of(self, task: Task) -> Fated:
        """Return what became of a task."""
        if task.key in self._recovered:
            return _RECOVERED
        return self._notable.get(task.key, _DONE)

    def _account(self, stream: Stream) -> Account:
        if stream.witness is None or not stream.witness.given_up:
            return account(stream)
        clocks = {process.clock for process in self._history.processes}
        until = {clock: self._streams.served_until(stream, clock) for clock in clocks}

        def is_in_time(post: Post) -> bool:
            return post.heard is not None and post.heard <= until[self._history.processes[post.process].clock]

        return account(stream, is_in_time)

    def account(self, stream: Stream) -> Account:
        """Return our counts of a stream's answers."""
        return self._accounts[id(stream)]

    def drained(self, stream: Stream) -> bool:
        """Say whether everything that was due again had been asked for, in vain, before the end."""
        return self._drained[id(stream)]

    def never_delivered(self, stream: Stream) -> int:
        """Return how many of a job's tasks were never handed out to anybody; 0 where others may have had them.

        A task that waits is handed out to whoever asks: one vain call shows that none waits. If the job's counts still
        wait for it then, it was stranded.
        """
        witness = stream.witness
        if self._facts.damage or stream.size is None or stream.elsewhere or witness is None or not stream.is_counted:
            return 0
        if stream.status == "REVOKED":
            return 0
        ended_by_itself = stream.is_final and not witness.given_up
        if not ended_by_itself and not self.drained(stream):
            return 0
        waiting = (witness.detail.remaining or 0) + witness.given_up
        return max(0, min(stream.size - len(stream.tasks), waiting))

    def surely_lost(self, stream: Stream) -> int:
        """Return how many tasks of a stream must be lost although deliveries of it went elsewhere.

        Each delivery that we did not see can account for one task that did not come back, not for more. Only where the
        job's log counts them all.
        """
        witness = stream.witness
        if witness is None or self._facts.damage or not stream.is_counted:
            return 0
        fates = [self.of(task) for task in stream.tasks if not task.is_answered and not task.is_unheard]
        gone = sum(1 for one in fates if one.fate is Fate.TAKEN_ELSEWHERE or one.cause == _CUT_OFF)
        return max(0, min(gone, witness.detail.remaining or 0) - stream.elsewhere)

    # --- one task

    def _decide(self, task: Task, stream: Stream) -> Fated:
        is_of_the_job = stream.size is None or task.key[1] <= stream.size
        is_saved = task.key not in self._unrecorded_keys and task.key not in self.undeclared
        if is_of_the_job and _is_plain(task) and is_saved:
            return _DONE
        marks = self._marks(task)
        fated = self._fate(task, stream)
        if not marks:
            return fated
        return Fated(fated.fate, fated.whose, fated.cause, marks, fated.refs)

    def _marks(self, task: Task) -> frozenset[Mark]:
        if len(task.leases) == 1 and not task.leases[0].copies and len(task.leases[0].posts) < 2:
            return frozenset()
        marks = set()
        if sum(1 for lease, post in task.accepted() if task.key[1] not in post.errors) > 1:
            marks.add(Mark.DUPLICATED)
        if self.early(task):
            marks.add(Mark.DELIVERED_EARLY)
        elif any(self._ends.expired_while_held(task, lease) for lease in task.leases):
            marks.add(Mark.EXPIRED_WHILE_HELD)
        return frozenset(marks)

    def early(self, task: Task) -> tuple[Lease, Lease, float] | None:
        """Return a lease, the one after it, and the seconds between them, if that is less than ack_wait allows.

        Measured from the sending of the earlier request to the receipt of the later answer, on one monotonic clock: the
        true interval is never longer. The very same delivery received twice counts as 0 s after itself.
        """
        for lease in task.leases:
            if lease.copies:
                return lease, lease, 0.0
        wait = self._facts.parameters.ack_wait
        if wait is None:
            return None
        for lease in task.leases:
            after = task.lease(lease.delivery + 1)
            if after is None or not (lease.is_known and after.is_known):
                continue
            seconds = after.received - lease.sent
            if self._ends.clock(after) == self._ends.clock(lease) and seconds < wait - self._facts.parameters.haste:
                return lease, after, seconds
        return None

    def _fate(self, task: Task, stream: Stream) -> Fated:
        accepted = task.accepted()
        if accepted:
            return self._answered(task, stream)
        if stream.size is not None and task.key[1] > stream.size:
            return Fated(Fate.UNEXPECTED, cause=f"the job has {stream.size} tasks", refs=_refs(task))
        if task.is_unheard:
            return self._unheard(task, stream)
        return self._unanswered(task, stream)

    def _answered(self, task: Task, stream: Stream) -> Fated:
        sequence = task.key[1]
        good = [lease for lease, post in task.accepted() if sequence not in post.errors]
        bad = [lease for lease, post in task.accepted() if sequence in post.errors]
        passed = [lease for lease in bad if self.spoilt.is_spoilt(task, lease) or self.loader_death(task, lease)]
        if good and bad and len(passed) == len(bad):
            return self._failed(task, bad)  # what failed at one delivery by our doing went well at another
        if good and bad:
            whose = Whose.SERVICE if self.early(task) else Whose.WORKER
            return Fated(Fate.CONFLICT, whose, "a success and an error were both accepted", refs=_refs(task))
        if stream.size is not None and sequence > stream.size:
            return Fated(Fate.UNEXPECTED, cause=f"the job has {stream.size} tasks", refs=_refs(task))
        if task.key in self.undeclared:
            why = f"not saved: its pipeline declares no algorithm {self.undeclared[task.key]}; register the worker's"
            return Fated(Fate.UNRECORDED, Whose.SETUP, why, refs=_refs(task))
        if task.key in self._unrecorded_keys:
            return Fated(Fate.UNRECORDED, cause="its answer was accepted and is not in the counts", refs=_refs(task))
        if good:
            return _DONE if any(lease.delivery == 1 for lease in good) else _RECOVERED
        return self._failed(task, bad)

    def _failed(self, task: Task, bad: list[Lease]) -> Fated:
        if self.spoilt.explains(task, bad):
            return Fated(Fate.FAILED_EXPECTED)
        if any((task.key, lease.delivery) in self.passing for lease in bad):
            why = "a passing error was answered as a final one"
            return Fated(Fate.FAILED_TRANSIENT, Whose.WORKER, why, refs=_refs(task))
        deaths = [death for lease in bad if (death := self.loader_death(task, lease)) is not None]
        if deaths:
            why, refs = "an injected death of a loader was answered as a final error", (deaths[0].ref, *_refs(task))
            return Fated(Fate.FAILED_TRANSIENT, Whose.WORKER, why, refs=refs)
        return Fated(Fate.FAILED_ORGANIC, Whose.WORKER, "an error that we did not inject", refs=_refs(task))

    def loader_death(self, task: Task, lease: Lease) -> Injection | None:
        """Return a loader's death by our doing while this batch was worked on: that of another's is no reason."""
        if lease.batch is None or task.image_id in self._history.failed_images:
            return None
        ended = lease.batch.ended if lease.batch.ended is not None else float("inf")
        return self._lives.loader_death(self._lives.holder(lease.batch.process), lease.batch.began - _NOTICED, ended)

    def _unheard(self, task: Task, stream: Stream) -> Fated:
        arrived = self._accounts[id(stream)].arrived()
        if arrived:
            first = any(post.is_open for lease in task.leases if lease.delivery == 1 for post in lease.posts)
            sent = [post for lease in task.leases for post in lease.posts if post.is_open]
            if all(task.key[1] in post.errors for post in sent):
                return self._failed(task, [lease for lease in task.leases if any(p.is_open for p in lease.posts)])
            return _DONE if first else _RECOVERED
        if arrived is None:
            return Fated(Fate.PENDING, cause="nobody heard whether its answer arrived", refs=_refs(task))
        return self._unanswered(task, stream)

    def _unanswered(self, task: Task, stream: Stream) -> Fated:
        known = [lease for lease in task.leases if lease.is_known]
        if not known:
            return Fated(Fate.PENDING, cause="only an answer tells of it", refs=_refs(task))
        last = max(known, key=lambda lease: lease.delivery)
        end = self._ends.of(task, last)
        refs = (*_refs(task), *end.refs)
        if stream.status == "REVOKED":
            return Fated(Fate.PENDING, cause="the job was revoked", refs=refs)
        most = self._facts.parameters.max_deliver
        highest = max(lease.delivery for lease in task.leases)
        lasts = end.how in (How.HELD, How.STOPPED)
        over = not lasts or stream.is_final or self._due.asked_when_due(task, last) is not None
        if most is not None and highest >= most and over:
            if end.how is How.HELD and end.at is None and self._due.is_at_work(last):
                return Fated(Fate.PENDING, cause=_why_pending(end), refs=refs)
            if highest > len(task.leases):  # who had the others may yet answer
                return self._elsewhere(task, stream, refs)
            return self._exhausted(task, end, refs)
        if end.how is How.STOPPED:
            return Fated(Fate.PENDING, cause="the operator stopped the worker that held it", refs=refs)
        return self._not_back(task, stream, last, end, refs)

    def _exhausted(self, task: Task, end: End, refs: tuple[Ref, ...]) -> Fated:
        """Name the cause: how each of its leases ended; the first that was nobody's fault but ours makes it ours."""
        ends = [self._ends.of(task, lease) for lease in sorted(task.leases, key=lambda one: one.delivery)]
        if self._facts.damage:
            return Fated(Fate.PENDING, cause=_DAMAGED, refs=refs)
        if end.how is How.HELD and self._due.is_stuck(max(task.leases, key=lambda one: one.delivery), end):
            return Fated(Fate.STUCK, Whose.WORKER, "a live worker held its last delivery and never answered", refs=refs)
        if all(one.is_ours for one in ends) and any(self._ends.is_withheld(task, lease) for lease in task.leases):
            return Fated(Fate.EXHAUSTED_ON_PURPOSE, Whose.BUDGET, "it was kept from the worker on purpose", refs=refs)
        causes = "; ".join(f"delivery {number}: {one.cause}" for number, one in enumerate(ends, 1))
        order = (Whose.BUDGET, Whose.SETUP, Whose.WORKER, Whose.SERVICE)
        # What was still worked on when the run ended, long after ack_wait, had too little time: that is the setup's.
        owners = [Whose.SETUP if one.how is How.HELD else one.whose for one in ends]
        return Fated(Fate.EXHAUSTED, min(owners, key=order.index), causes, refs=refs)

    def _not_back(self, task: Task, stream: Stream, last: Lease, end: End, refs: tuple[Ref, ...]) -> Fated:
        """Judge a task with deliveries left that did not come back."""
        asked = self._due.asked_when_due(task, last)
        ended = stream.is_final and not (stream.witness is not None and stream.witness.given_up)
        if asked is None and not ended:
            if end.how is How.HELD and not self._facts.damage and self._due.is_stuck(last, end):
                return Fated(Fate.STUCK, Whose.WORKER, "a live worker held it to the end and never answered", refs=refs)
            return Fated(Fate.PENDING, cause=_why_pending(end), refs=refs)
        most = self._facts.parameters.max_deliver
        if ended and not self._counts_wait(stream):
            why = "the service counts it as processed: another worker must have got it"
            return Fated(Fate.TAKEN_ELSEWHERE, cause=why, refs=refs)
        if stream.witness is None:
            return Fated(Fate.PENDING, cause=f"second witness missing: {stream.missing}", refs=refs)
        if not stream.is_counted or (stream.elsewhere and not self._due.outlasts(task, stream, last)):
            return self._elsewhere(task, stream, refs)
        if self._facts.damage:
            return Fated(Fate.PENDING, cause=_DAMAGED, refs=refs)
        if asked is None:
            return Fated(Fate.LOST, cause=f"the job became {stream.status} while it was out", refs=refs)
        if most is None:
            return Fated(Fate.PENDING, cause="max_deliver is not known: it may have been its last delivery", refs=refs)
        return Fated(Fate.LOST, cause=f"{end.cause}; asked for again in vain after its ack_wait", refs=refs)

    def _elsewhere(self, task: Task, stream: Stream, refs: tuple[Ref, ...]) -> Fated:
        """Judge a task that a delivery which we did not see may have taken."""
        most = self._facts.parameters.max_deliver
        can_be_over = most is not None and len(task.leases) + stream.unseen >= most
        ours = stream.unseen_ours and stream.is_counted and stream.is_explained and not self._facts.damage
        if ours and can_be_over and self._counts_wait(stream):
            return Fated(Fate.EXHAUSTED, Whose.BUDGET, _CUT_OFF, refs=(*refs, *stream.unseen_refs[:3]))
        if stream.unseen:
            why = "a delivery of it may have got lost on its way"
        elif stream.elsewhere:
            why = f"{stream.elsewhere} deliveries of this job went to another worker"
        else:
            why = "the job's log does not reach back to its start, so another worker may have had it"
        return Fated(Fate.TAKEN_ELSEWHERE, cause=why, refs=refs)

    def _counts_wait(self, stream: Stream) -> bool:
        """Say whether the service itself still waits for tasks of this job."""
        witness = stream.witness
        return witness is not None and bool(witness.detail.remaining)

    def _find_undeclared(self) -> dict[TaskKey, str]:
        """Find the tasks of which no answer was saved, since each named an algorithm that the pipeline lacks."""
        found: dict[TaskKey, str] = {}
        for one in self.accounts:
            witness = one.stream.witness
            lacking = {} if witness is None else {_identity(reply): key for reply, key in witness.undeclared.items()}
            for task in one.stream.tasks if lacking else ():
                keys = [lacking.get((task.key, lease.delivery)) for lease, _ in task.accepted()]
                if keys and all(keys):
                    found[task.key] = str(keys[0])
        return found

    def _name_unrecorded(self) -> frozenset[TaskKey]:
        """Name the tasks that are missing from the counts, where a whole log gives names; else only their number."""
        named: set[TaskKey] = set()
        for one in self.accounts:
            witness = one.stream.witness
            if self.unrecorded[id(one.stream)] and witness is not None and witness.recorded is not None:
                named |= unrecorded_by_name(one.stream, witness.recorded - witness.unsaved)
        return frozenset(named)


def _identity(reply_subject: str) -> tuple[TaskKey, int] | None:
    """Return the task and the delivery that a reply subject names."""
    one = parse_reply_subject(reply_subject)
    return None if one is None else ((one.stream, one.sequence, one.published), one.delivery)


def _is_plain(task: Task) -> bool:
    """Say whether a task was handed out once and answered once, with a success: most are, and no more is to be said."""
    lease = task.leases[0]
    if len(task.leases) > 1 or lease.delivery != 1 or lease.copies or len(lease.posts) != 1:
        return False
    post = lease.posts[0]
    return post.outcome == "accepted" and task.key[1] not in post.errors


def _refs(task: Task) -> tuple[Ref, ...]:
    return tuple(lease.ref for lease in task.leases if lease.is_known)


def _why_pending(end: End) -> str:
    if end.how is How.HELD:
        return "a worker still held it"
    return f"{end.cause}; nobody asked again after its ack_wait"
