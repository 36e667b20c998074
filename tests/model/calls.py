"""The modelled worker's calls, each booked as the hooks book it: polls, fetches, posts, downloads, openings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ami_fault_site.faults import Call, Decision, Draw, Phase, Role, Site
from tests.model.lives import MAIN, Process, Request
from tests.model.queue import Answer, Handed, Post, Task
from tests.model.timeline import NEVER, Steps

TARGET = "127.0.0.1:9000"
FAILED_TO_LOAD = "failed to load image"
_PATIENCE = 5.0  # seconds until a caller gives up waiting for an answer


@dataclass(frozen=True)
class _Passage:
    """A call that has begun. `failure` is how it shall fail: (status, error), None if it goes through.

    `loses` is a fault that shall keep from the worker what the service answers.
    """

    process: Process
    thread: str
    number: int
    began: float
    job: int | None
    struck: bool
    failure: tuple[int, str] | None
    loses: tuple[Call, Decision] | None = None

    def is_lost(self, status: int, **answered: object) -> bool:
        """Say whether a fault keeps an answer of the service from the worker, and book what that was."""
        process = self.process
        if self.loses is None or not process.run.grant(process, self.thread, *self.loses, call=self.number):
            return False
        told = {"call": self.number, "site": self.loses[0].site.value, "job": self.job, "status": status}
        nothing: dict[str, object] = {"stream": "", "leases": [], "accepted": False, "tasks": []}
        process.put("lost", self.thread, {**told, **nothing, **answered})
        return True

    def unheard(self, kind: str, data: dict[str, object]) -> None:
        """Book the end of a call whose answer got lost."""
        replace(self, struck=True).done(kind, 0, {"error": "ReadTimeout", **data})

    def done(self, kind: str, status: int, data: dict[str, object]) -> None:
        """Book what came of it."""
        seconds = round(self.process.run.timeline.now - self.began, 4)
        told = {"call": self.number, "job": self.job, "status": status, "seconds": seconds, "struck": self.struck}
        self.process.put(kind, self.thread, {**told, **data})


def _decided(decision: Decision) -> dict[str, object]:
    return {"draw": decision.draw, "eligible": [effect.value for effect in decision.eligible]}


def _begin(
    process: Process, thread: str, call: Call, stream: str = "", rows: Sequence[object] = (), failed: Sequence[int] = ()
) -> _Passage:
    run = process.run
    decision = run.decide(call)
    number = process.next_call()
    if not process.life.has_met_host:
        process.life.has_met_host = True
        process.put("target", thread, {"target": TARGET})
    told = {"call": number, "site": call.site.value, "job": call.job, "stream": stream}
    about = {"tasks": list(rows), "failed": list(failed)}
    process.put("call", thread, {**told, **about, **_decided(decision)})
    about_it = (process, thread, number, run.timeline.now, call.job)
    if decision.phase is Phase.AFTER:
        return _Passage(*about_it, struck=False, failure=None, loses=(call, decision))
    struck = run.grant(process, thread, call, decision, call=number)
    failure = _failure(decision.kind, is_get=call.site is Site.JOBS) if struck else None
    return _Passage(*about_it, struck, failure)


def _failure(kind: str, is_get: bool) -> tuple[int, str]:
    """Say what a struck call becomes in a worker whose sessions repeat GETs."""
    if kind.startswith("http-"):
        return int(kind.removeprefix("http-")), ""
    read = "ConnectionError" if is_get else "ReadTimeout"
    return 0, {"refused": "ConnectionError", "connect-timeout": "ConnectTimeout"}.get(kind, read)


def _trouble(process: Process) -> str:
    """Say what goes wrong by itself with a call, mostly nothing."""
    run = process.run
    if not run.scenario.trouble or run.rng.random() >= run.scenario.trouble:
        return ""
    return run.rng.choice(("503", "refused", "unheard"))


def _travel(process: Process) -> float:
    """Draw how long a message is under way, in seconds; now and then one is slow."""
    rng, longest = process.run.rng, process.run.scenario.latency
    return rng.random() * longest * (20.0 if rng.random() < 0.05 else 1.0)


def poll(process: Process) -> Steps[list[int]]:
    """Ask for jobs; nothing is heard if the call fails."""
    run = process.run
    passage = _begin(process, MAIN, Call(Site.JOBS, (Draw("", run.attempt(Site.JOBS)),)))
    failure, trouble = passage.failure, _trouble(process)
    yield _travel(process)
    if failure is None and trouble:
        failure = (503, "") if trouble == "503" else (0, "ConnectionError")
    if failure is None:
        listed = run.service.listed()
        yield _travel(process)
        if passage.is_lost(200):
            passage.unheard("no-answer", {})
            return []
        passage.done("jobs", 200, {"jobs": list(listed)})
        return listed
    if failure[0]:
        passage.done("jobs", failure[0], {"jobs": []})
    else:
        passage.done("no-answer", 0, {"error": failure[1]})
    return []


def fetch(process: Process, thread: str, job: int, count: int) -> Steps[list[Handed] | None]:
    """Ask for tasks; None if the call failed."""
    run, life = process.run, process.life
    call = Call(Site.TASKS, (Draw("", run.attempt(Site.TASKS)),), job)
    passage = _begin(process, thread, call)
    failure, trouble = passage.failure, _trouble(process)
    if failure is None and trouble in ("503", "refused"):
        failure = (503, "") if trouble == "503" else (0, "ConnectionError")
    if failure is not None:
        yield _travel(process)
        if failure[0]:
            passage.done("leases", failure[0], {"stream": "", "leases": []})
        else:
            passage.done("no-answer", 0, {"error": failure[1]})
        return None
    request = Request(job)
    began = run.timeline.now

    def make(task: Task, consumer: int, left: int) -> Handed:
        one = Handed(task, len(task.handed) + 1, consumer, run.timeline.now, left, True, run.host_number, began)
        life.hold(one)
        return one

    def act() -> None:
        run.service.pull(job, count, make, request.reply)

    run.timeline.after(_travel(process), lambda: request.arrive(act))
    process.outgoing[request] = None
    while not request.is_answered:
        yield request.signal
    if trouble:
        yield _PATIENCE
        passage.done("no-answer", 0, {"error": "ReadTimeout"})
        process.outgoing.pop(request, None)
        run.service.jobs[job].has_lost_fetch = True
        for handed in request.answer:
            life.free(handed, "abandoned")
        return None
    yield _travel(process)
    rows = [one.lease_row for one in request.answer]
    stream = f"job_{job}" if rows else ""
    if passage.is_lost(200, stream=stream, leases=rows):
        passage.unheard("no-answer", {})
        process.outgoing.pop(request, None)
        for handed in request.answer:
            handed.is_lost = True
            life.free(handed, "lost")
        return None
    _book_leases(passage, job, request.answer)
    process.outgoing.pop(request, None)
    if request.answer:
        yield from _survive(process, thread, passage.number, request.answer)
    return request.answer


def _survive(process: Process, thread: str, number: int, handed: list[Handed]) -> Steps[None]:
    """Die with what was fetched, if that is drawn."""
    role = Role.MAIN if process is process.life.main else Role.LOADER
    draws = tuple(Draw(str(one.task.sequence), str(one.number)) for one in handed)
    call = Call(Site.FETCHED, draws, handed[0].task.job, role=role)
    decision = process.run.decide(call)
    if decision.eligible:
        process.put("passage", thread, {"site": call.site.value, "job": call.job, **_decided(decision)})
    about = {"tasks": [one.row for one in handed], "stream": f"job_{handed[0].task.job}", "call": number}
    if process.run.grant(process, thread, call, decision, **about):
        process.die()
        yield NEVER


def _book_leases(passage: _Passage, job: int, handed: list[Handed]) -> None:
    run = passage.process.run
    now = run.timeline.now
    for one in handed:
        one.received = now
    rows, process = [one.lease_row for one in handed], passage.process
    if rows and not process.knows_budget:
        process.knows_budget = True
        process.put("budget", passage.thread, {"max_deliver": 0, "source": "off"})
    passage.done("leases", 200, {"stream": f"job_{job}" if rows else "", "leases": rows})
    run.asked_jobs.add(job)
    if handed:
        run.handed_jobs.add(job)
        run.last_traffic = now
    else:
        run.service.jobs[job].vain.append((passage.began, run.host_number))


def picture(process: Process, thread: str, handed: Handed) -> Steps[str]:
    """Download an image and open it; returns why it cannot be had: expected, organic, or "" if it can."""
    run, task = process.run, handed.task
    decision, opening = run.decide_image(handed)
    call = Call(Site.IMAGE, (Draw(task.image_id, ""),), task.job, task.names)
    number, began = process.next_call(), run.timeline.now
    struck = run.grant(process, thread, call, decision, call=number)
    yield run.scenario.load_time * (0.5 + run.rng.random())
    status = 404 if struck or task.broken == "404" else 200
    passage = _Passage(process, thread, number, began, task.job, struck, None)
    about = {"error": "", "image": task.image_id, "name": task.image_name, "task": handed.row}
    passage.done("image", status, {**about, **_decided(decision)})
    if status != 200:
        return "expected" if struck else "organic"
    struck = run.grant(process, thread, Call(Site.OPEN, call.draws, task.job, task.names), opening)
    error = "UnidentifiedImageError" if struck or task.broken == "open" else ""
    told = {"image": task.names[0], "error": error, "struck": struck, **_decided(opening)}
    process.put("open", thread, told)
    if not error:
        return ""
    return "expected" if struck else "organic"


def post(process: Process, thread: str, job: int, answers: Post) -> Steps[None]:
    """Post results, once; if that fails their tasks stay unanswered."""
    run, life = process.run, process.life
    items = answers.items
    rows = [one.handed.row for one in items]
    least = min((one.handed.task.sequence, one.handed.number) for one in items)
    call = Call(Site.RESULT, (Draw(str(least[0]), str(least[1])),), job)
    answers.sent, answers.host = run.timeline.now, run.host_number
    for one in items:
        one.handed.answers.append(one)
    errors = [[one.handed.task.sequence, one.error] for one in items if one.error is not None]
    failed = [one.handed.task.sequence for one in items if one.error is not None]
    passage = _begin(process, thread, call, f"job_{job}", rows, failed)
    outcome, status, error = yield from _deliver(process, job, answers, passage)
    images = [one.handed.task.image_id for one in items]
    said = {"outcome": outcome, "tasks": rows, "images": images, "errors": errors, "stream": f"job_{job}"}
    if outcome != "unheard" and passage.is_lost(status, stream=f"job_{job}", tasks=rows, accepted=status == 200):
        passage.unheard("answer", {**said, "outcome": "unheard"})
    else:
        passage.done("answer", status, {**said, "error": error})
    answers.outcome = outcome  # of a lost answer too: it is booked what the service made of it
    if outcome == "accepted":
        run.last_traffic = run.timeline.now
    for one in items:
        life.free(one.handed, "answered" if outcome == "accepted" else "failed-post")


def _deliver(process: Process, job: int, answers: Post, passage: _Passage) -> Steps[tuple[str, int, str]]:
    """Send the answers, and return the outcome with status and error."""
    run, failure = process.run, passage.failure
    if failure is not None:
        yield _travel(process)
        return ("refused", failure[0], "") if failure[0] else ("not-sent", 0, failure[1])
    trouble = _trouble(process)
    if trouble in ("503", "refused"):
        yield _travel(process)
        return ("refused", 503, "") if trouble == "503" else ("unheard", 0, "ConnectionError")
    request, status = Request(), 0

    def act() -> None:
        nonlocal status
        status = run.service.receive(job, answers)
        request.reply([])

    run.timeline.after(_travel(process), lambda: request.arrive(act))
    process.outgoing[request] = None
    while not request.is_answered:
        yield request.signal
    process.outgoing.pop(request, None)
    if trouble:
        yield _PATIENCE
        return "unheard", 0, "ReadTimeout"
    yield _travel(process)
    return ("accepted" if status == 200 else "refused"), status, ""


def answer(handed: Handed, error: str | None, cause: str, answers: Post) -> None:
    """Put an answer into a post."""
    handed.stage = "posting"
    answers.items.append(Answer(handed, error, cause, answers))
