"""What our own faults did, and what they would have done: injections, attempts, answers that were lost."""

from __future__ import annotations

import sys

from ami_fault_site.faults import KILLING, Effect, Mode, Point, Role, Site, Trigger
from ami_fault_site.history.attempts import Try
from ami_fault_site.history.kept import Kept
from ami_fault_site.history.records import Injection, Lease, LostLease, Post, Process, Task
from ami_fault_site.ledger import Event

_DYING = frozenset(mode.value for mode in KILLING) | {Mode.SYSEXIT.value}
_ALIKE = ("budget: ", "window: ")  # reasons of which each may name a task of its own


class Struck(Kept):
    """Takes in what was booked of our own doing."""

    def _lease(self, stream: str, row: list[object], job: int) -> tuple[Task, Lease]:
        """Find the delivery that a row [sequence, delivery, consumer sequence, published, ...] names."""
        sequence, delivery, consumer_sequence, published = row[:4]
        if not (type(sequence) is type(delivery) is type(consumer_sequence) is type(published) is int):
            raise ValueError(f"{row[:4]} are not all whole numbers")
        key = (stream, sequence, published)
        task = self.tasks.get(key)
        if task is None:
            task = self.tasks[key] = Task(key, job)
        for lease in task.leases:
            if lease.delivery == delivery:
                return task, lease
        lease = Lease(delivery, consumer_sequence)
        task.leases = (*task.leases, lease) if not task.leases else _in_order(task.leases, lease)
        return task, lease

    def _on_fault(self, event: Event, process: Process) -> None:
        name = event.text("effect")
        if event.text("trigger") == Trigger.GUARD.value:
            self._guard(Effect(name), event, process)
            return
        self.injected[name] += 1
        self.kinds[f"{name}: {event.text('kind')}"] += 1
        if event.data.get("counted"):
            self.injected_by_rate[name] += 1
        try:
            effect = Effect(name)
        except ValueError:
            return  # of a later version: it is counted, and nothing is judged by it
        injection = _injection(effect, event, process)
        self.injections.append(injection)
        if injection.call:
            self._faults.setdefault((process.number, injection.call), []).append(injection)
        if effect is Effect.SLOW:
            process.slowed.append((injection.at, injection.at + injection.seconds))
        elif effect is Effect.CRASH:
            self._crash(injection, event, process)

    def _guard(self, effect: Effect, event: Event, process: Process) -> None:
        """Count a refusal that is no fault of anybody's settings; that its call failed is our doing all the same."""
        self.guarded += 1
        refusal = _injection(effect, event, process)
        if refusal.call:
            self._faults.setdefault((process.number, refusal.call), []).append(refusal)

    def _crash(self, injection: Injection, event: Event, process: Process) -> None:
        """Note who dies of it, or waits for ever; what was about to be posted is not."""
        if injection.point == Point.POSTING_UNSENT.value:
            self._unsent(injection, event, process)
        life = self.life(event.incarnation, event.run)
        if injection.kind == Mode.HANG.value:
            process.hung, life.hung = injection, True
        elif injection.is_of_loader:
            process.lost_loader = injection
        elif injection.kind in _DYING or not injection.kind:
            process.struck_dead, life.crashed = injection, True

    def _unsent(self, injection: Injection, event: Event, process: Process) -> None:
        begun = self._pending.get((process.number, injection.call)) if injection.call else None
        post = begun.post if begun is not None else None
        if post is None:
            post = Post(process.number, event.mono, injection.ref)
            for row in event.rows("tasks"):
                lease = self._lease(stream_of(event), row, injection.job or 0)[1]
                lease.posts = (*lease.posts, post)
        post.outcome, post.struck, post.cut = "not-sent", True, injection

    def _lives_on(self, event: Event, process: Process) -> None:
        """Take back that a process died: much code swallows a SystemExit, and goes on."""
        died = process.struck_dead
        if died is not None and died.kind == Mode.SYSEXIT.value:
            process.struck_dead = None
            self.life(event.incarnation, event.run).crashed = False

    def _on_dry(self, event: Event, _process: Process) -> None:
        self.dry[event.text("effect")] += 1

    def _on_withheld(self, event: Event, _process: Process) -> None:
        why = event.text("why")
        kind = next((one for one in _ALIKE if why.startswith(one)), "")
        if kind:
            self.withheld_as[kind] = min(why, self.withheld_as.get(kind, why))
        self.withheld[kind or why] += 1

    def _on_budget(self, event: Event, _process: Process) -> None:
        told = (event.number("max_deliver") or 0, event.text("source"))
        known = (told, *([self.budget] if self.budget is not None else ()))
        self.budget = min(known, key=lambda one: (one[1] == "assumed", one))

    def _on_try(self, event: Event, process: Process) -> None:
        data = event.data
        wait = data.get("retry_after")
        one = Try(
            event.mono - seconds_of(event),
            event.mono,
            event.number("status") or 0,
            event.text("error"),
            event.text("kind"),
            bool(data.get("struck")),
            float(wait) if isinstance(wait, (int, float)) else None,
            (process.number, event.line),
            sys.intern(event.text("site")),
            event.text("image"),
            event.number("job") or 0,
        )
        self._tries.setdefault((process.number, event.number("call") or 0), []).append(one)

    def _on_lost(self, event: Event, process: Process) -> None:
        site = event.text("site")
        if site == Site.TASKS.value:
            self._lost_leases(event, process)
        elif site == Site.RESULT.value:
            self._lost_answer(event, process)

    def _lost_leases(self, event: Event, process: Process) -> None:
        """Take in what was handed out to nobody: it is known, so it explains itself, and it is to come back."""
        begun = self._pending.get((process.number, event.number("call") or 0))
        sent = begun.at if begun is not None else event.mono
        if begun is not None:
            begun.is_told = True
        stream, job = sys.intern(event.text("stream")), event.number("job") or 0
        for row in event.rows("leases"):
            task, lease = self._lease(stream, row, job)
            task.image_id, task.image = str(row[5]), str(row[6] or row[5])
            if not lease.is_known:
                about = (process.number, sent, event.mono, (process.number, event.line))
                lost = LostLease(lease.delivery, lease.consumer_sequence, *about)
                task.leases = tuple(lost if one is lease else one for one in task.leases)

    def _lost_answer(self, event: Event, process: Process) -> None:
        """Take in what the service made of an answer; the worker is never told."""
        begun = self._pending.get((process.number, event.number("call") or 0))
        post = begun.post if begun is not None else None
        if post is None:
            return
        post.lost, post.struck = True, True
        post.outcome = "accepted" if event.data.get("accepted") else "refused"
        post.heard, post.heard_ref = event.mono, (process.number, event.line)
        post.status = event.number("status") or 0
        if post.is_accepted:
            self.last_traffic = max(self.last_traffic, event.mono)


def _injection(effect: Effect, event: Event, process: Process) -> Injection:
    stream, text = stream_of(event), event.text
    tasks = (((stream, int(str(r[0])), int(str(r[3]))), int(str(r[1]))) for r in event.rows("tasks"))
    return Injection(
        effect,
        sys.intern(text("kind")),
        sys.intern(text("site")),
        sys.intern(text("phase")),
        process.number,
        event.mono,
        (process.number, event.line),
        event.number("job"),
        text("image"),
        text("subject"),
        tuple(tasks),
        point=sys.intern(text("point")),
        role=sys.intern(text("role") or Role.MAIN.value),
        call=event.number("call") or 0,
        trigger=sys.intern(text("trigger")),
        rule=sys.intern(text("rule")),
        seconds=float_of(event, "seconds", 0.0),
    )


def _in_order(leases: tuple[Lease, ...], lease: Lease) -> tuple[Lease, ...]:
    return tuple(sorted((*leases, lease), key=lambda one: one.delivery))


def seconds_of(event: Event) -> float:
    """Return how long a call took, in seconds."""
    return float_of(event, "seconds", 0.0)


def float_of(event: Event, key: str, default: float) -> float:
    """Return a field as a number, the default if it is missing or something else."""
    value = event.data.get(key)
    return float(value) if isinstance(value, (int, float)) else default


def stream_of(event: Event) -> str:
    """Return the stream of the tasks in a batch; ledgers of the first days name the job only."""
    return sys.intern(event.text("stream") or f"job_{event.number('job') or 0}")
