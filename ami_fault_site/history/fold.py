"""The ledger read back: events in any order of files -> tasks, lives, injections; grows with the tasks, not the events.

Each process is one file, whose lines come in their order; which file comes first must make no difference.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ami_fault_site.faults import Effect, Site
from ami_fault_site.history.kept import Pending
from ami_fault_site.history.records import (
    Batch,
    Injection,
    JobRecord,
    Note,
    Pace,
    Post,
    Process,
    Ref,
    Seen,
    Tally,
    Trouble,
)
from ami_fault_site.history.struck import Struck, float_of, seconds_of, stream_of
from ami_fault_site.ledger import Event

PACE_SECONDS = 5
"""Response times are kept for stretches of this length: the history grows with the length of a run, in small steps."""

_FETCHED = 200
_LAST_WALL = 2.0**35  # seconds since 1970 that every calendar knows
_SLOW = 0.2  # seconds from which a call that a fault struck has kept its worker waiting
_POLLS_APART = 0.5  # seconds; so the history grows with the length of a run and not with its polls


class History(Struck):
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

    # --- the worker's side

    def _on_start(self, event: Event, process: Process) -> None:
        process.parent, process.born = event.number("parent") or 0, event.number("born") or 0
        process.parent_born = event.number("parent_born") or 0

    def _on_end(self, event: Event, process: Process) -> None:
        process.ended = event.mono

    def _on_armed(self, event: Event, _process: Process) -> None:
        self.life(event.incarnation, event.run).armed = True
        told = (event.text("program"), f"Python {event.text('python')}", f"ami-fault-site {event.text('version')}")
        self.versions.add(", ".join(part for part in told if part))

    def _on_refused(self, event: Event, _process: Process) -> None:
        self.life(event.incarnation, event.run).refused = True
        self.refused_host = event.text("target")

    def _on_target(self, event: Event, _process: Process) -> None:
        self.targets.setdefault(event.run, set()).add(event.text("target"))

    def _on_call(self, event: Event, process: Process) -> None:
        site, job, ref = event.text("site"), event.number("job") or 0, (process.number, event.line)
        post = None
        if site == Site.JOBS.value:
            self._lives_on(event, process)
            if not process.polls or event.mono - process.polls[-1] > _POLLS_APART:
                process.polls.append(event.mono)
        elif site == Site.TASKS.value:
            process.job = job
            asked, at = self.job(job).asked.setdefault(process.clock, {}), event.mono
            first, last = asked.get(int(at), (at, at))
            asked[int(at)] = (min(first, at), max(last, at))
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

    def _end_of_call(self, event: Event, process: Process) -> tuple[Pending | None, list[Injection]]:
        """Return how a call began, and what struck it; its attempts are taken in, and the time that it cost us."""
        key = (process.number, event.number("call") or 0)
        begun, faults = self._pending.pop(key, None), self._faults.pop(key, [])
        if self._tries:
            tries = self._tries.pop(key, None)
            if tries:
                struck, row = bool(event.data.get("struck")), event.data.get("task")
                lease = (int(row[0]), int(row[3]), int(row[1])) if isinstance(row, list) else (0, 0, 0)
                self.attempts.take(process.number, process.clock, tries, struck, faults, lease)
        if any(one.effect is not Effect.WITHHOLD for one in faults) and seconds_of(event) > _SLOW:
            process.slowed.append((event.mono - seconds_of(event), event.mono))
        return begun, faults

    def _on_jobs(self, event: Event, process: Process) -> None:
        self._end_of_call(event, process)
        if self._is_troubled(Site.JOBS.value, event, process) or event.data.get("struck"):
            return
        for listed in event.words("jobs"):
            if listed.isdigit():
                tally = self.job(int(listed)).listed.setdefault(process.number, Tally())
                tally.add(event.mono, (process.number, event.line))

    def _on_hidden(self, event: Event, _process: Process) -> None:
        self.hidden.update(int(job) for job in event.words("jobs") if job.isdigit())

    def _on_registered(self, event: Event, process: Process) -> None:
        self._end_of_call(event, process)
        self._is_troubled(Site.REGISTER.value, event, process)

    def _on_no_answer(self, event: Event, process: Process) -> None:
        begun, faults = self._end_of_call(event, process)
        site, ref = (begun.site if begun else ""), (process.number, event.line)
        if site == Site.TASKS.value:
            record = self.job(event.number("job") or 0)
            if not event.data.get("struck"):
                record.lost_fetches.add(event.mono, ref)
            elif not any(one.is_guard for one in faults):  # it costs nothing, nor is it anybody's to resume
                self._struck_fetch(record, event, process)
        if not event.data.get("struck"):
            self._trouble(site, event.text("error"), event.mono, ref)

    def _struck_fetch(self, record: JobRecord, event: Event, process: Process) -> None:
        record.struck_fetches.setdefault(process.clock, Tally()).add(event.mono, (process.number, event.line))
        this = (event.mono, (process.number, event.line))
        record.last_struck[process.clock] = max(this, record.last_struck.get(process.clock, this))

    def _on_leases(self, event: Event, process: Process) -> None:
        begun, faults = self._end_of_call(event, process)
        job, ref = event.number("job") or 0, (process.number, event.line)
        seconds, rows = seconds_of(event), event.rows("leases")
        sent = event.mono - seconds
        record = self.job(job)
        if event.data.get("struck") and not rows:  # with whatever status: a body that cannot be read may have 200
            self._struck_fetch(record, event, process)
            return
        if self._is_troubled(Site.TASKS.value, event, process):
            return
        record.fetched.setdefault(process.clock, Tally()).add(event.mono, ref)
        if not rows:
            if begun is not None and begun.is_told:
                return  # it was handed something, all of which was kept from it
            latest = record.empty.setdefault(process.clock, {})
            latest[int(sent)] = max((sent, event.mono), latest.get(int(sent), (sent, event.mono)))
            return
        self.jobs.add(job)
        record.largest = max(record.largest, len(rows))
        self.last_traffic = max(self.last_traffic, event.mono)
        if not faults:
            self._pace(process.clock, event.mono, seconds)
        stream = sys.intern(event.text("stream"))
        for row in rows:
            task, lease = self._lease(stream, row, job)
            task.image_id, task.image = str(row[5]), str(row[6] or row[5])
            if lease.named == task.image_id:
                lease.named = ""
            if lease.is_known:  # the very same delivery, twice; the earlier counts, whichever file is read first
                known = self.processes[lease.process]
                now = self._wall(process, event.mono)
                first = (self._wall(known, lease.received), known.file) <= (now, event.file)
                lease.copies = (*lease.copies, ref if first else lease.ref)
                if first:
                    continue
            lease.process, lease.sent, lease.received = process.number, sent, event.mono
            lease.ref = ref

    def _wall(self, process: Process, mono: float) -> float:
        return self.files.wall_base(process.clock) + mono

    def _on_answer(self, event: Event, process: Process) -> None:
        begun, faults = self._end_of_call(event, process)
        job, ref = event.number("job") or 0, (process.number, event.line)
        post = begun.post if begun is not None else None
        rows = event.rows("tasks")
        if post is None:  # the line before it cannot be read
            post = Post(process.number, event.mono - seconds_of(event), ref)
            self._attach(post, event, job)
        post.struck, post.error = bool(event.data.get("struck")), event.text("error")
        if post.lost and not post.struck:  # what was to keep it from the worker was held back
            post.lost = False
        if not post.lost:
            post.outcome, post.heard, post.heard_ref = event.text("outcome"), event.mono, ref
            post.status = event.number("status") or 0
            if post.struck and post.is_accepted:  # an answer of our making, whatever it says: nothing was sent
                post.outcome = "not-sent"
        post.errors = {int(str(row[0])): sys.intern(str(row[1])) for row in event.rows("errors") if row[0] is not None}
        stream = sys.intern(event.text("stream"))
        for row, image in zip(rows, event.words("images"), strict=False):
            task, lease = self._lease(stream, row, job)
            if image and image != task.image_id:
                lease.named = image
        if post.is_accepted:
            self.last_traffic = max(self.last_traffic, event.mono)
            if not faults:
                self._pace(process.clock, event.mono, seconds_of(event))
        elif not post.struck:
            self._trouble(Site.RESULT.value, post.error or f"http-{post.status}", event.mono, ref)

    def _on_image(self, event: Event, process: Process) -> None:
        self.downloads += 1
        data = event.data  # half of all events are of this kind and the next: they are looked at as briefly as can be
        struck = self._end_of_call(event, process)[1] if self._faults or self._tries else None
        if data["status"] == _FETCHED and not data["error"]:
            if self.lost_images:
                self._lost_image(event, None)
            return
        if data["struck"]:
            self._lost_image(event, struck)
            return
        if data["error"] or (event.number("status") or 0) >= 400:
            self.failed_images.setdefault(event.text("image") or event.text("name"), (process.number, event.line))

    def _lost_image(self, event: Event, struck: list[Injection] | None) -> None:
        """Note that the download for a delivery failed by our doing, or that it has gone well since."""
        row = event.data.get("task")
        if not isinstance(row, list) or len(row) < 4:
            return
        key = (event.number("job") or 0, int(row[0]), int(row[3]), int(row[1]))
        if struck:
            self.lost_images[key] = struck[-1]
        else:
            self.lost_images.pop(key, None)

    def _on_open(self, event: Event, process: Process) -> None:
        if event.data["error"] and not event.data["struck"]:
            self.failed_images.setdefault(event.text("image"), (process.number, event.line))

    def _on_batch(self, event: Event, process: Process) -> None:
        self._lives_on(event, process)
        batch = Batch(process.number, event.mono, (process.number, event.line))
        self._batches[process.number, event.thread] = batch
        stream, job = stream_of(event), event.number("job") or 0
        for row in event.rows("tasks"):
            self._lease(stream, row, job)[1].batch = batch

    def _on_batch_end(self, event: Event, process: Process) -> None:
        batch = self._batches.pop((process.number, event.thread), None)
        if batch is not None:
            batch.ended, batch.error = event.mono, event.text("error")
            if batch.error:
                self.broken_batches.append((event.number("job") or 0, batch))

    # --- the supervisor's side

    def _on_began(self, event: Event, _process: Process) -> None:
        self.invocations[event.run] = event.text("invocation")

    def _on_spawn(self, event: Event, process: Process) -> None:
        life = self.life(event.number("incarnation") or 0, event.run)
        life.worker = event.number("worker") or 1
        life.began, life.clock, life.ref = event.mono, process.clock, (process.number, event.line)
        self.pauses.pop((event.run, life.worker), None)

    def _on_waiting(self, event: Event, process: Process) -> None:
        pause = (process.clock, event.mono + seconds_of(event))
        self.pauses[event.run, event.number("worker") or 1] = pause

    def _on_exit(self, event: Event, process: Process) -> None:
        life = self.life(event.number("incarnation") or 0, event.run)
        life.code = event.number("code")
        life.kind = event.text("kind")
        life.last_words = event.words("last_words")
        life.ended, life.clock, life.ref = event.mono, process.clock, (process.number, event.line)

    def _on_seen(self, event: Event, process: Process) -> None:
        counts = (event.number("processed"), event.number("remaining"), event.number("failed"))
        asked, heard = (float_of(event, key, event.mono) for key in ("asked", "heard"))
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

    # --- the operator's side

    def _on_note(self, event: Event, process: Process) -> None:
        process.is_bystander = True
        ago, ref = float_of(event, "ago", 0.0), (process.number, event.line)
        if not 0.0 <= event.wall - ago < _LAST_WALL:
            raise ValueError("it has no time")
        note = Note(event.wall - ago, event.mono - ago, process.clock, event.text("text"), ref, event.run)
        self.notes.append(note)

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
