"""Count what a report tells in numbers: lives, faults, tasks, recoveries, ours beside the service's."""

from __future__ import annotations

from collections import Counter
from statistics import median

from ami_fault_site.endings import exit_text
from ami_fault_site.faults import Effect, Mode
from ami_fault_site.forecast import RATE_FIELDS
from ami_fault_site.history import Injection, Life
from ami_fault_site.report.contents import (
    AttemptRow,
    FaultRow,
    JobRow,
    OrganicExit,
    ParameterRow,
    Recovery,
    TaskFigures,
    WorkerFigures,
)
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.accounts import Account
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.facts import JobWitness
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.lives import HowEnded

_OFTEN_OUTLIVED = (Mode.SYSEXIT.value, Mode.HANG.value)


def worker_figures(case: Case) -> WorkerFigures:
    """Count the worker's lives and how they ended."""
    lives = [life for _, life in sorted(case.history.lives.items()) if life.number > 0]
    holders = case.lives.all()
    alone = [holder for holder in holders if holder.key[2] < 0]
    followed = {(one.key[0], one.key[2]) for one in holders if one.how is HowEnded.FOLLOWED}
    others = [one for one in case.struck(Effect.CRASH) if not _ended_its_life(case, one)]
    return WorkerFigures(
        incarnations=len(lives),
        injected_exits=sum(life.kind == "injected" for life in lives),
        organic_exits=tuple(
            _organic(life, (life.run, life.number) in followed) for life in lives if life.kind == "organic"
        ),
        unsupervised=len(alone),
        unsupervised_crashes=sum(holder.how is HowEnded.CRASHED for holder in alone),
        loader_crashes=sum(one.is_of_loader for one in others),
        outlived_crashes=sum(not one.is_of_loader for one in others),
    )


def _ended_its_life(case: Case, crash: Injection) -> bool:
    """Say whether a crash is why a life ended, or struck one that another crash ended at the same time."""
    holder = case.lives.holder(crash.process)
    if holder.ref == crash.ref and holder.how is not HowEnded.FOLLOWED:
        return True
    return holder.how is HowEnded.CRASHED and not crash.is_of_loader and crash.kind not in _OFTEN_OUTLIVED


def _organic(life: Life, is_after_loader: bool) -> OrganicExit:
    text = "nobody knows how" if life.code is None else exit_text(life.code)
    return OrganicExit(life.run, life.number, text, tuple(life.last_words), is_after_loader)


def _rate(settings: Settings, effect: Effect) -> float:
    return float(getattr(settings, RATE_FIELDS[effect])) if effect in RATE_FIELDS else 0.0


def fault_rows(case: Case) -> tuple[FaultRow, ...]:
    """Say of each kind of fault that was set or struck how often it did."""
    rows = []
    for effect in Effect:
        rates = {_rate(settings, effect) for settings in case.facts.settings} or {0.0}
        injected = case.history.injected[effect.value]
        if max(rates) or injected or case.is_set(effect):
            eligible, observed = case.history.eligible[effect.value], case.history.observed_rate(effect)
            rows.append(FaultRow(effect.value, tuple(sorted(rates)), eligible, injected, observed))
    return tuple(rows)


def attempt_rows(case: Case) -> tuple[AttemptRow, ...]:
    """Count the calls by their attempts, site by site; none where faults strike whole calls."""
    rows = sorted(case.history.attempts.sites.items())
    return tuple(
        AttemptRow(site, row.calls, row.absorbed, row.failed, row.tries, row.struck) for site, row in rows if row.tries
    )


def deaths(case: Case) -> dict[str, int]:
    """Count crashes and hangs by how and where they struck; older ledgers do not say where."""
    counts: Counter[str] = Counter()
    for one in case.struck(Effect.CRASH):
        if one.point:
            counts[f"{one.kind} at {one.point}{' in a loader' if one.is_of_loader else ''}"] += 1
    return dict(sorted(counts.items()))


def withheld(case: Case) -> dict[str, int]:
    """Count the faults that were held back, by reason; of the many that each name a task, one stands for all."""
    history = case.history
    told = {}
    for why, times in sorted(history.withheld.items()):
        example = history.withheld_as.get(why, "")
        text = f"{why.removesuffix(': ')}, as {example.removeprefix(why)}" if example else why
        if why == "budget: " and history.budget is not None:
            most, source = history.budget
            text = f"by the budget of {most} deliveries ({source}), as {example.removeprefix(why)}"
        told[text] = times
    return told


_COUNTED = (
    "total", "handed_out", "answered", "answered_with_error", "came_back", "unheard", "still_out", "taken_by_others",
    "lost_answers", "lost_leases", "kept_back",
)  # fmt: skip


def task_figures(case: Case) -> TaskFigures:
    """Count what became of the tasks."""
    counts: Counter[str] = Counter()
    fates, marks, exhausted = Counter[Fate](), Counter[str](), Counter[str]()
    for task in case.tasks():
        fated, leases = case.fates.of(task), task.leases
        fates[fated.fate] += 1
        if fated.marks:
            marks.update(mark.value for mark in fated.marks)
        if fated.fate is Fate.EXHAUSTED:
            exhausted[fated.whose.value] += 1
        counts["total"] += 1
        counts["handed_out"] += any(lease.is_seen for lease in leases)
        counts["came_back"] += any(lease.delivery > 1 and lease.is_known for lease in leases)
        accepted = task.accepted()
        if accepted:
            counts["answered"] += 1
            counts["answered_with_error"] += any(task.key[1] in post.errors for _, post in accepted)
            counts["lost_answers"] += all(post.lost for _, post in accepted)
        else:
            is_out = not task.is_unheard
            counts["still_out" if is_out else "unheard"] += 1
            counts["taken_by_others"] += is_out and fated.fate is Fate.TAKEN_ELSEWHERE
        for lease in leases:
            if lease.lost:
                counts["kept_back" if case.ends.is_withheld(task, lease) else "lost_leases"] += 1
    fates[Fate.NEVER_DELIVERED] += sum(case.fates.never_delivered(stream) for stream in case.streams.all)
    return TaskFigures(
        **{name: counts[name] for name in _COUNTED},
        fates={fate.value: fates[fate] for fate in Fate if fates[fate]},
        marks=dict(sorted(marks.items())),
        exhausted_by={name: number for name, number in sorted(exhausted.items()) if number},
    )


def seconds_to_come_back(case: Case) -> list[float]:
    """Return how long tasks without an accepted answer took to come back, where one clock saw both receipts.

    When in between the service gave an answer up is on no clock of ours.
    """
    seconds = []
    for task in case.tasks():
        for lease in task.leases if len(task.leases) > 1 else ():
            after = task.lease(lease.delivery + 1)
            if (
                after is None
                or not (lease.is_known and after.is_known)
                or any(post.is_accepted for post in lease.posts)
            ):
                continue
            if case.ends.clock(lease) == case.ends.clock(after):
                seconds.append(after.received - lease.received)
    return seconds


def recovery(case: Case) -> Recovery:
    """Measure how long tasks took to come back."""
    seconds = seconds_to_come_back(case)
    if not seconds:
        return Recovery(0, None, None)
    return Recovery(len(seconds), median(seconds), max(seconds))


def job_rows(case: Case) -> tuple[JobRow, ...]:
    """Set ours beside the service's, job by job; one that handed nothing out is told if the service was asked of it."""
    fillings: Counter[int] = Counter()
    rows = []
    for account in case.fates.accounts:
        fillings[account.stream.job] += 1
        rows.append(_job_row(case, account, fillings[account.stream.job]))
    for job, witness in sorted(case.facts.witnesses.items()):
        if job not in fillings:
            rows.append(JobRow(job, 1, True, 0, 0, 0, 0, 0, *_service_counts(witness), "", witness.detail.errors))
    return tuple(sorted(rows, key=lambda row: (row.job, row.filling)))


def _job_row(case: Case, account: Account, filling: int) -> JobRow:
    stream = account.stream
    witness = stream.witness if stream.is_last else None
    ours = (account.tasks, account.accepted, account.failed, account.open, stream.elsewhere)
    missing = ""
    errors: tuple[str, ...] = ()
    if witness is not None:
        errors = witness.detail.errors
    elif stream.is_last:
        why = case.history.unwitnessed.get(stream.job, "")
        missing = why or case.facts.witness_missing or "the service was not asked"
    return JobRow(stream.job, filling, stream.is_last, *ours, *_service_counts(witness), missing, errors)


def _service_counts(witness: JobWitness | None) -> tuple[str, int | None, int | None, int | None, int]:
    if witness is None:
        return "", None, None, None, 0
    detail = witness.detail
    return detail.status, detail.processed, detail.failed, detail.remaining, witness.given_up


def parameter_rows(case: Case) -> tuple[ParameterRow, ...]:
    """Say how the service is set, and how we know."""
    known = case.facts.parameters
    values = (("ack_wait", known.ack_wait, "s"), ("max_deliver", known.max_deliver, ""))
    return tuple(ParameterRow(name, value, unit, known.sources.get(name, "")) for name, value, unit in values)
