"""Checks on repetition: what fails in passing is tried again, ever more slowly, and no sooner than it was asked."""

from __future__ import annotations

from ami_fault_site.faults import Effect, Site
from ami_fault_site.history.attempts import REPEATABLE, Pauses, Try
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

RETRIED = Check(
    "transient-errors-retried",
    Group.NETWORK,
    Whose.WORKER,
    "A download or a poll that failed in passing is tried again, a download before its task is answered.",
)
BACKOFF = Check(
    "backoff-grows",
    Group.NETWORK,
    Whose.WORKER,
    "The pauses between the attempts of one request grow.",
)
HONOURED = Check(
    "retry-after-honoured",
    Group.NETWORK,
    Whose.WORKER,
    "A request is not repeated sooner than an answer's Retry-After asked.",
)

WHOLE_CALLS = "faults strike whole calls here (AMI_TEST_NETWORK_LAYER=call)"
_NO_GET = "no network error was set for a GET"
_NAMES = {Site.IMAGE.value: "image downloads", Site.JOBS.value: "polls"}


def transient_errors_retried(case: Case) -> Finding:
    """Look for images whose download met a passing failure, and whose task was answered without another try."""
    if not case.strikes_attempts:
        return case.say(RETRIED, Status.NOT_APPLICABLE, WHOLE_CALLS)
    attempts = case.history.attempts
    met = sum(attempts.met.values())
    if not met:
        return _nothing_met(case)
    given_up = sorted(
        (one for (_, site, _), one in attempts.unrepeated.items() if site == Site.IMAGE.value and _answered(case, one)),
        key=lambda one: (one.job, one.image, one.what),
    )
    if given_up:
        first = given_up[0]
        text = f"{len(given_up)} of {met} GETs that failed in passing were not tried again, as that of image"
        text += f" {first.image} ({first.what})"
        tasks = (case.history.tasks[key] for one in given_up if (key := _key(one)) in case.history.tasks)
        return case.say(RETRIED, Status.FAIL, text, tasks, (one.ref for one in given_up), judged=met)
    sites = ", ".join(f"{attempts.met[site]} {_NAMES[site]}" for site in REPEATABLE if attempts.met.get(site))
    text = f"{met} GETs failed in passing ({sites}), none was given up without another try"
    return case.say(RETRIED, Status.PASS, text, judged=met)


def _nothing_met(case: Case) -> Finding:
    if case.is_set(Effect.NETWORK, at=(Site.IMAGE, Site.JOBS)):
        return case.say(RETRIED, Status.VACUOUS, "no GET failed in passing")
    return case.say(RETRIED, Status.NOT_APPLICABLE, _NO_GET)


def _key(one: Try) -> tuple[str, int, int]:
    sequence, published, _ = one.lease
    return f"job_{one.job}", sequence, published


def _answered(case: Case, one: Try) -> bool:
    """Say whether a worker has answered for an image: what it left to be handed out again was not given up."""
    task = case.history.tasks.get(_key(one))
    lease = task.lease(one.lease[2]) if task is not None else None
    return lease is not None and bool(lease.posts)


def backoff_grows(case: Case) -> Finding:
    """Look at the pauses of requests that were sent three times or more."""
    if not case.strikes_attempts:
        return case.say(BACKOFF, Status.NOT_APPLICABLE, WHOLE_CALLS)
    growth = case.history.attempts.growth
    if not growth.judged:
        return _nothing_grew(case)
    if growth.bad.count > _by_chance(growth):
        text = f"{growth.bad.count} of {growth.judged} requests that were sent three times or more did not slow down"
        text += f": pauses of {_seconds(growth.worst)}"
        return case.say(BACKOFF, Status.FAIL, text, refs=growth.bad.refs, judged=growth.judged)
    text = f"{growth.judged} requests were sent three times or more, with pauses that grew: {_seconds(growth.best)}"
    return case.say(BACKOFF, Status.PASS, text, judged=growth.judged)


def _nothing_grew(case: Case) -> Finding:
    """Say why no pauses can be compared. What is no GET is sent once, whatever becomes of it."""
    times = case.history.attempts.told_when
    if times:
        text = f"{times} requests were sent three times or more, each told when by a Retry-After: no pause of its own"
        return case.say(BACKOFF, Status.NOT_APPLICABLE, text)
    if case.is_set(Effect.NETWORK, at=(Site.IMAGE, Site.JOBS)):
        return case.say(BACKOFF, Status.VACUOUS, "no request was sent three times")
    return case.say(BACKOFF, Status.NOT_APPLICABLE, _NO_GET)


def _by_chance(growth: Pauses) -> int:
    """Return how many pauses may have been stretched by a busy machine, and so seem not to grow."""
    return growth.judged // 10


def _seconds(pauses: tuple[float, ...]) -> str:
    return ", ".join(f"{pause:.1f}" for pause in pauses) + " s"


def retry_after_honoured(case: Case) -> Finding:
    """Look at the requests that were repeated after an answer which asked to wait."""
    if not case.strikes_attempts:
        return case.say(HONOURED, Status.NOT_APPLICABLE, WHOLE_CALLS)
    waits = case.history.attempts.waits
    told = _new_calls(case)
    if not waits.judged:
        text = f"no request was repeated after an answer that asked to wait{told}"
        return case.say(HONOURED, Status.NOT_APPLICABLE, text)
    if waits.bad.count:
        asked, waited = waits.worst
        text = f"{waits.bad.count} of {waits.judged} requests were repeated too soon: after {waited:.1f} s, where"
        text += f" {asked:g} s were asked for{told}"
        return case.say(HONOURED, Status.FAIL, text, refs=waits.bad.refs, judged=waits.judged)
    asked, waited = waits.best
    text = f"{waits.judged} requests were repeated, none sooner than it was asked ({asked:g} s, after {waited:.1f} s)"
    return case.say(HONOURED, Status.PASS, f"{text}{told}", judged=waits.judged)


def _new_calls(case: Case) -> str:
    """Count the tasks calls after which tasks were asked for anew before the time was up: they are no repetitions."""
    soon = sum(_asked_within(case, *one) for one in case.history.attempts.told_to_wait)
    return f"; {soon} new tasks calls came before the wait of an earlier one was over" if soon else ""


def _asked_within(case: Case, clock: int, job: int, since: float, until: float) -> bool:
    record = case.history.job_records.get(job)
    asked = record.asked.get(clock, {}) if record is not None else {}
    times = (at for second in range(int(since), int(until) + 1) for at in asked.get(second, ()))
    return any(since < at < until for at in times)
