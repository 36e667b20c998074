"""The ledger read back: events in any order of files -> tasks, lives, injections; grows with the tasks, not the events.

Each process is one file, whose lines come in their order; which file comes first must make no difference.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ami_fault_site.faults import Effect, Site
from ami_fault_site.history.kept import Kept, Pending
from ami_fault_site.history.records import (
    Batch,
    Injection,
    JobRecord,
    Lease,
    Pace,
    Post,
    Process,
    Ref,
    Seen,
    Tally,
    Task,
    Trouble,
)
from ami_fault_site.ledger import Event

PACE_SECONDS = 5
"""Response times are kept for stretches of this length: the history grows with the length of a run, in small steps."""

_FETCHED = 200
_POLLS_APART = 0.5  # seconds; so the history grows with the length of a run and not with its polls


class History(Kept):
    """Everything that was booked, task by task. Feed it with `add`, in any order of files."""

    def add(self, events: Iterable[Event]) -> None:
        """Take in more events."""
        handlers = {name[4:].replace("_", "-"): getattr(self, name) for name in dir(self) if name.startswith("_on_")}
        of, eligible = self.files.of, self.eligible
        for event in events:
            self.events += 1
            process = of(event)
            try:
                counted = event.data.get("eligible")
                if counted and isinstance(counted, list):
                    for effect in counted:
                        eligible[effect] += 1
                handler = handlers.get(event.kind)
                if handler is not None:
                    handler(event, process)
            except (ValueError, TypeError, LookupError) as error:
                self.unreadable.append(((process.number, event.line), f"{event.kind}: {type(error).__name__}: {error}"))

    # --- where an event belongs

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

    # --- the worker's side

    def _on_start(self, event: Event, process: Process) -> None:
        process.parent = event.number("parent") or 0

    def _on_end(self, event: Event, process: Process) -> None:
        process.ended = event.mono

    def _on_armed(self, event: Event, _process: Process) -> None:
        self.life(event.incarnation, event.run).armed = True

    def _on_refused(self, event: Event, _process: Process) -> None:
        self.life(event.incarnation, event.run).refused = True
        self.refused_host = event.text("target")

    def _on_target(self, event: Event, _process: Process) -> None:
        self.targets.setdefault(event.run, set()).add(event.text("target"))

    def _on_call(self, event: Event, process: Process) -> None:
        site, job, ref = event.text("site"), event.number("job") or 0, (process.number, event.line)
        post = None
        if site == Site.JOBS.value and (not process.polls or event.mono - process.polls[-1] > _POLLS_APART):
            process.polls.append(event.mono)
        if site == Site.RESULT.value:
            post = Post(process.number, event.mono, ref)
            post.errors = {int(number): "" for number in event.words("failed") if number.isdigit()}
            self._attach(post, event, job)
        self._pending[process.number, event.number("call") or 0] = Pending(site, job, event.mono, ref, post)

    def _attach(self, post: Post, event: Event, job: int) -> None:
        """Tie a post to the leases that it answers; most have no other, and share one tuple."""
        stream, alone = sys.intern(event.text("stream")), (post,)
        for row in event.rows("tasks"):
            lease = self._lease(stream, row, job)[1]
            lease.posts = (*lease.posts, post) if lease.posts else alone

    def _end_of_call(self, event: Event, process: Process) -> Pending | None:
        return self._pending.pop((process.number, event.number("call") or 0), None)

    def _on_jobs(self, event: Event, process: Process) -> None:
        self._end_of_call(event, process)
        if self._is_troubled(Site.JOBS.value, event, process):
            return
        for listed in event.words("jobs"):
            if listed.isdigit():
                tally = self.job(int(listed)).listed.setdefault(process.number, Tally())
                tally.add(event.mono, (process.number, event.line))

    def _on_registered(self, event: Event, process: Process) -> None:
        self._end_of_call(event, process)
        self._is_troubled(Site.REGISTER.value, event, process)

    def _on_no_answer(self, event: Event, process: Process) -> None:
        begun = self._end_of_call(event, process)
        site, ref = (begun.site if begun else ""), (process.number, event.line)
        if site == Site.TASKS.value:
            record = self.job(event.number("job") or 0)
            if event.data.get("struck"):
                self._struck_fetch(record, event, process)
            else:
                record.lost_fetches.add(event.mono, ref)
        if not event.data.get("struck"):
            self._trouble(site, event.text("error"), event.mono, ref)

    def _struck_fetch(self, record: JobRecord, event: Event, process: Process) -> None:
        record.struck_fetches.setdefault(process.clock, Tally()).add(event.mono, (process.number, event.line))
        this = (event.mono, (process.number, event.line))
        record.last_struck[process.clock] = max(this, record.last_struck.get(process.clock, this))

    def _on_leases(self, event: Event, process: Process) -> None:
        self._end_of_call(event, process)
        job, ref = event.number("job") or 0, (process.number, event.line)
        seconds = _seconds(event)
        sent = event.mono - seconds
        record = self.job(job)
        if (event.number("status") or 0) >= 400:
            if event.data.get("struck"):
                self._struck_fetch(record, event, process)
            self._is_troubled(Site.TASKS.value, event, process)
            return
        rows = event.rows("leases")
        record.fetched.setdefault(process.clock, Tally()).add(event.mono, ref)
        if not rows:
            latest = record.empty.setdefault(process.clock, {})
            latest[int(sent)] = max((sent, event.mono), latest.get(int(sent), (sent, event.mono)))
            return
        self.jobs.add(job)
        record.largest = max(record.largest, len(rows))
        self.last_traffic = max(self.last_traffic, event.mono)
        self._pace(process.clock, event.mono, seconds)
        stream = sys.intern(event.text("stream"))
        for row in rows:
            task, lease = self._lease(stream, row, job)
            task.image_id, task.image = str(row[5]), str(row[6] or row[5])
            if lease.named == task.image_id:
                lease.named = ""
            if lease.is_seen:  # the very same delivery, twice; the earlier counts, whichever file is read first
                known = self.processes[lease.process]
                first = (self._wall(known, lease.received), known.file) <= (event.wall, event.file)
                lease.copies = (*lease.copies, ref if first else lease.ref)
                if first:
                    continue
            lease.process, lease.sent, lease.received = process.number, sent, event.mono
            lease.ref = ref

    def _wall(self, process: Process, mono: float) -> float:
        return self.files.wall_base(process.clock) + mono

    def _on_answer(self, event: Event, process: Process) -> None:
        begun = self._end_of_call(event, process)
        job, ref = event.number("job") or 0, (process.number, event.line)
        post = begun.post if begun is not None else None
        rows = event.rows("tasks")
        if post is None:  # the line before it cannot be read
            post = Post(process.number, event.mono - _seconds(event), ref)
            self._attach(post, event, job)
        post.outcome, post.heard, post.heard_ref = event.text("outcome"), event.mono, ref
        post.status, post.error, post.struck = (
            event.number("status") or 0,
            event.text("error"),
            bool(event.data.get("struck")),
        )
        post.errors = {int(str(row[0])): sys.intern(str(row[1])) for row in event.rows("errors") if row[0] is not None}
        stream = sys.intern(event.text("stream"))
        for row, image in zip(rows, event.words("images"), strict=False):
            task, lease = self._lease(stream, row, job)
            if image and image != task.image_id:
                lease.named = image
        if post.is_accepted:
            self.last_traffic = max(self.last_traffic, event.mono)
            self._pace(process.clock, event.mono, _seconds(event))
        elif not post.struck:
            self._trouble(Site.RESULT.value, post.error or f"http-{post.status}", event.mono, ref)

    def _on_image(self, event: Event, process: Process) -> None:
        self.downloads += 1
        data = event.data  # half of all events are of this kind and the next: they are looked at as briefly as can be
        if (data["status"] == _FETCHED and not data["error"]) or data["struck"]:
            return
        if data["error"] or (event.number("status") or 0) >= 400:
            self.failed_images.setdefault(event.text("image") or event.text("name"), (process.number, event.line))

    def _on_open(self, event: Event, process: Process) -> None:
        if event.data["error"] and not event.data["struck"]:
            self.failed_images.setdefault(event.text("image"), (process.number, event.line))

    def _on_batch(self, event: Event, process: Process) -> None:
        batch = Batch(process.number, event.mono, (process.number, event.line))
        self._batches[process.number, event.thread] = batch
        stream, job = _stream(event), event.number("job") or 0
        for row in event.rows("tasks"):
            self._lease(stream, row, job)[1].batch = batch

    def _on_batch_end(self, event: Event, process: Process) -> None:
        batch = self._batches.pop((process.number, event.thread), None)
        if batch is not None:
            batch.ended, batch.error = event.mono, event.text("error")
            if batch.error:
                self.broken_batches.append((event.number("job") or 0, batch))

    def _on_fault(self, event: Event, process: Process) -> None:
        name = event.text("effect")
        self.injected[name] += 1
        self.kinds[f"{name}: {event.text('kind')}"] += 1
        if event.data.get("counted"):
            self.injected_by_rate[name] += 1
        try:
            effect = Effect(name)
        except ValueError:
            return  # of a later version: it is counted, and nothing is judged by it
        stream, ref = _stream(event), (process.number, event.line)
        tasks = tuple(((stream, int(str(r[0])), int(str(r[3]))), int(str(r[1]))) for r in event.rows("tasks"))
        told = (event.text("kind"), event.text("site"), event.text("phase"))
        about = (event.number("job"), event.text("image"), event.text("subject"))
        injection = Injection(effect, *told, process.number, event.mono, ref, *about, tasks)
        self.injections.append(injection)
        if effect is Effect.CRASH:
            process.struck_dead = injection
            self.life(event.incarnation, event.run).crashed = True

    def _on_withheld(self, event: Event, _process: Process) -> None:
        self.withheld[event.text("why")] += 1

    # --- the supervisor's side

    def _on_began(self, event: Event, _process: Process) -> None:
        self.invocations[event.run] = event.text("invocation")

    def _on_spawn(self, event: Event, process: Process) -> None:
        life = self.life(event.number("incarnation") or 0, event.run)
        life.began, life.clock, life.ref = event.mono, process.clock, (process.number, event.line)

    def _on_exit(self, event: Event, process: Process) -> None:
        life = self.life(event.number("incarnation") or 0, event.run)
        life.code = event.number("code")
        life.kind = event.text("kind")
        life.last_words = event.words("last_words")
        life.ended, life.clock, life.ref = event.mono, process.clock, (process.number, event.line)

    def _on_seen(self, event: Event, process: Process) -> None:
        counts = (event.number("processed"), event.number("remaining"), event.number("failed"))
        asked, heard = (_float(event, key, event.mono) for key in ("asked", "heard"))
        ref = (process.number, event.line)
        seen = Seen(event.text("status"), *counts, process.clock, asked, heard, event.wall, ref)
        self.job(event.number("job") or 0).seen.append(seen)

    def _on_unwitnessed(self, event: Event, _process: Process) -> None:
        self.unwitnessed[event.number("job") or 0] = event.text("why")

    def _on_sealed(self, event: Event, _process: Process) -> None:
        for row in event.rows("files"):
            self.seals[event.run, str(row[0])] = int(str(row[1]))

    def _on_outcome(self, event: Event, _process: Process) -> None:
        self.outcomes[event.run] = event.text("outcome")

    # --- what the service did to us

    def _is_troubled(self, site: str, event: Event, process: Process) -> bool:
        status = event.number("status") or 0
        if status >= 400 and not event.data.get("struck"):
            self._trouble(site, f"http-{status}", event.mono, (process.number, event.line))
        return status >= 400

    def _trouble(self, site: str, what: str, at: float, ref: Ref) -> None:
        self.troubles.setdefault((site, what), Trouble(site, what)).tally.add(at, ref)

    def _pace(self, clock: int, at: float, seconds: float) -> None:
        pace = self.paces.setdefault((clock, int(at // PACE_SECONDS)), Pace())
        pace.calls += 1
        pace.buckets[int(seconds * 1000).bit_length()] += 1


def _in_order(leases: tuple[Lease, ...], lease: Lease) -> tuple[Lease, ...]:
    return tuple(sorted((*leases, lease), key=lambda one: one.delivery))


def _seconds(event: Event) -> float:
    return _float(event, "seconds", 0.0)


def _float(event: Event, key: str, default: float) -> float:
    value = event.data.get(key)
    return float(value) if isinstance(value, (int, float)) else default


def _stream(event: Event) -> str:
    """Return the stream of the tasks in a batch; ledgers of the first days name the job only."""
    return sys.intern(event.text("stream") or f"job_{event.number('job') or 0}")
