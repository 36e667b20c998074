"""The check on losses: every task of every job is accounted for."""

from __future__ import annotations

from ami_fault_site.history import Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Fate, Fated
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

NOT_LOST = Check(
    "no-task-lost",
    Group.CRASHES,
    Whose.SERVICE,
    "Every task of a job is handed out, answered, and in the job's counts.",
    is_safety=True,
)
_FAILING = (Fate.LOST, Fate.UNRECORDED, Fate.STUCK, Fate.EXHAUSTED, Fate.CONFLICT)


def no_task_lost(case: Case) -> Finding:
    """Account for every task of every job that handed anything out."""
    failed = case.with_fate(*_FAILING)
    stranded = {s.job: n for s in case.streams.all if (n := case.fates.never_delivered(s))}
    beyond = {s.job: n for s in case.streams.all if (n := case.fates.surely_lost(s))}
    nameless = _nameless_unrecorded(case)
    total = len(case.history.tasks)
    if failed or stranded or nameless or beyond:
        return _lost(case, failed, stranded, beyond, nameless, total)
    waiting = case.with_fate(Fate.PENDING)
    elsewhere = [(t, f) for t, f in case.with_fate(Fate.TAKEN_ELSEWHERE) if case.waits_for(t)]
    if waiting or elsewhere:
        causes = _counted_causes([*waiting, *elsewhere])
        text = f"of {len(waiting) + len(elsewhere)} of {total} tasks it cannot be told: {causes}"
        tasks = [task for task, _ in [*waiting, *elsewhere]]
        refs = [ref for _, fated in [*waiting, *elsewhere] for ref in fated.refs]
        return case.say(NOT_LOST, Status.UNKNOWN, text, tasks, refs, judged=total)
    if not total and not case.facts.damage:
        return case.say(NOT_LOST, Status.NOT_APPLICABLE, "no task was ever handed out")
    doubtful = sum(one.in_doubt(case.fates.drained(one.stream)) for one in case.fates.accounts)
    if doubtful:
        text = f"{total} tasks, none seen lost, but {doubtful} accepted answers were not in the counts yet"
        return case.say(NOT_LOST, Status.UNKNOWN, text, judged=total)
    if case.facts.damage:
        text = f"{total} tasks, none seen lost, but the ledger is not complete: {case.facts.damage[0]}"
        return case.say(NOT_LOST, Status.UNKNOWN, text, judged=total)
    on_purpose = len(case.with_fate(Fate.EXHAUSTED_ON_PURPOSE))
    why = f", {on_purpose} of them exhausted on purpose" if on_purpose else ""
    return case.say(NOT_LOST, Status.PASS, f"{total} of {total} tasks are accounted for{why}", judged=total)


def _nameless_unrecorded(case: Case) -> int:
    """Count the answers that are missing from the counts of jobs whose log does not say which."""
    named = {task.job for task, _ in case.with_fate(Fate.UNRECORDED)}
    accounts = case.fates.accounts
    return sum(case.fates.unrecorded[id(a.stream)] for a in accounts if a.stream.job not in named)


def _lost(
    case: Case,
    failed: list[tuple[Task, Fated]],
    stranded: dict[int, int],
    beyond: dict[int, int],
    nameless: int,
    total: int,
) -> Finding:
    parts = []
    by_kind: dict[tuple[Whose, Fate], list[Fated]] = {}
    for _, fated in failed:
        by_kind.setdefault((fated.whose, fated.fate), []).append(fated)
    for (_, fate), some in sorted(by_kind.items(), key=lambda item: list(Whose).index(item[0][0])):
        parts.append(f"{len(some)} {fate.value} ({_most_common([one.cause for one in some])})")
    parts += [f"{number} of job {job} never handed out" for job, number in stranded.items()]
    parts += [f"at least {n} more of job {job} lost than deliveries went elsewhere" for job, n in beyond.items()]
    if nameless:
        parts.append(f"{nameless} answers accepted and missing from the job's counts")
    owners = {fated.whose for _, fated in failed}
    if stranded or nameless or beyond:
        owners.add(Whose.SERVICE)
    whose = next(one for one in Whose if one in owners)
    tasks = [task for task, _ in failed]
    first = sorted(failed, key=lambda pair: list(Whose).index(pair[1].whose))
    refs = [ref for _, fated in first[:10] for ref in fated.refs]
    return case.say(NOT_LOST, Status.FAIL, "; ".join(parts), tasks, refs, whose=whose, judged=total)


def _counted_causes(some: list[tuple[Task, Fated]]) -> str:
    return _most_common([fated.cause for _, fated in some])


def _most_common(causes: list[str]) -> str:
    """Return the commonest cause, and how many other causes there are."""
    ranked = sorted(set(causes), key=lambda cause: (-causes.count(cause), cause))
    more = "" if len(ranked) < 2 else f", and {len(ranked) - 1} other cause{'s' if len(ranked) > 2 else ''}"
    return f"{ranked[0]}{more}"
