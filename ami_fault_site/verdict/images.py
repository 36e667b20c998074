"""Checks on image errors: what is bad is reported as failed, alone; what passes is tried again."""

from __future__ import annotations

from ami_fault_site.faults import SUBTLE_DAMAGE_KINDS, Effect, Mode
from ami_fault_site.history import Lease, Post, Ref, Task
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.spoilt import shows
from ami_fault_site.verdict.terms import Check, Finding, Group, Status, Whose

REPORTED = Check(
    "permanent-errors-reported",
    Group.IMAGES,
    Whose.WORKER,
    "A task whose image is missing or damaged is answered with an error.",
)
ONLY_BAD = Check(
    "only-bad-images-fail",
    Group.IMAGES,
    Whose.WORKER,
    "No task is answered with an error whose image was there and could be opened.",
)
SURVIVES = Check(
    "batch-survives-a-bad-image",
    Group.IMAGES,
    Whose.WORKER,
    "A bad image does not take the other tasks of its batch along.",
)
PASSING = Check(
    "transient-errors-requeued",
    Group.IMAGES,
    Whose.WORKER,
    "A passing error is not answered as a final one: the task is left to be handed out again.",
)
NAMED = Check(
    "answers-name-their-image",
    Group.IMAGES,
    Whose.WORKER,
    "Every answer is about the image of its own task.",
)


def permanent_errors_reported(case: Case) -> Finding:
    """Look at the answer that followed each missing or damaged image."""
    struck = [row for row in case.fates.spoilt.leases if shows(row[2])]
    told = [(task, lease, one) for task, lease, one in struck if any(post.is_accepted for post in lease.posts)]
    if not told:
        return _nothing_bad(case, REPORTED)
    swallowed = [
        (task, lease, one)
        for task, lease, one in told
        if not any(task.key[1] in post.errors for post in lease.posts if post.is_accepted)
    ]
    if swallowed:
        refs = [ref for _, lease, one in swallowed for ref in (one.ref, *_heard(lease))]
        text = f"{len(swallowed)} of {len(told)} bad images were answered as a success"
        return case.say(REPORTED, Status.FAIL, text, (task for task, _, _ in swallowed), refs, judged=len(told))
    tasks = {task.key: task for task, _, _ in told}
    text = f"{len(tasks)} tasks with a bad image, all of them reported as failed"
    return case.say(REPORTED, Status.PASS, text, tasks.values(), judged=len(told))


def _heard(lease: Lease) -> list[Ref]:
    return [post.heard_ref for post in lease.posts if post.heard_ref is not None]


def _nothing_bad(case: Case, check: Check) -> Finding:
    opened = {task.key for task, lease, one in case.fates.spoilt.leases if not shows(one) and lease.posts}
    if opened and not _is_visible_set(case):
        text = f"{len(opened)} damaged images could be opened all the same, and were answered as successes"
        return case.say(check, Status.NOT_APPLICABLE, text)
    if case.is_set(Effect.IMAGE_404, Effect.CORRUPT):
        return case.say(check, Status.VACUOUS, "no task with a missing or damaged image was answered")
    return case.say(check, Status.NOT_APPLICABLE, "no missing or damaged image was set")


def _is_visible_set(case: Case) -> bool:
    """Say whether an image was to be missing, or so damaged that opening it shows: rates and names do only that."""
    harms = [term.harm for one in case.facts.settings for rule in one.rules for term in rule.terms]
    by_rule = any(
        harm is not None and harm.effect in (Effect.IMAGE_404, Effect.CORRUPT) and harm.kind not in SUBTLE_DAMAGE_KINDS
        for harm in harms
    )
    rates = any(
        one.image_404_rate or one.corrupt_image_rate or one.permanent_error_images for one in case.facts.settings
    )
    return by_rule or rates


def only_bad_images_fail(case: Case) -> Finding:
    """Look whether the errors that we did not cause have a reason in the image itself."""
    organic = [task for task, _ in case.with_fate(Fate.FAILED_ORGANIC)]
    answered = sum(1 for task in case.tasks() if task.is_answered)
    if not case.history.downloads:
        return case.say(ONLY_BAD, Status.NOT_APPLICABLE, "no image was loaded in a way that we see")
    explained = [task for task in organic if task.image_id in case.history.failed_images]
    warnings = [f"{len(explained)} images failed by themselves, as {case.name(explained[0])}"] if explained else []
    innocent = [task for task in organic if task.image_id not in case.history.failed_images]
    if innocent and case.facts.damage:
        text = f"{len(innocent)} tasks were answered with an error, and what struck them may stand in lost lines"
        return case.say(ONLY_BAD, Status.UNKNOWN, text, innocent, warnings=warnings, judged=answered)
    if innocent:
        refs = [ref for task in innocent for lease in task.leases for ref in _heard(lease)]
        said = _error_text(innocent[0])
        text = f"{len(innocent)} tasks were answered with an error although their image was good: {said!r}"
        return case.say(ONLY_BAD, Status.FAIL, text, innocent, refs, warnings=warnings, judged=answered)
    text = f"{answered} tasks answered, none with an error without a reason"
    return case.say(ONLY_BAD, Status.PASS, text, warnings=warnings, judged=answered)


def _error_text(task: Task) -> str:
    texts = [post.errors[task.key[1]] for _, post in task.accepted() if task.key[1] in post.errors]
    return texts[0] if texts else ""


def batch_survives_a_bad_image(case: Case) -> Finding:
    """Look at what else stood in the posts that reported a bad image."""
    posts: dict[int, tuple[Post, list[Task]]] = {}
    for task in case.tasks():
        for _, post in task.accepted():
            if post.errors:
                posts.setdefault(id(post), (post, []))[1].append(task)
    bad = case.fates.spoilt.images
    with_bad = [(post, tasks) for post, tasks in posts.values() if any(task.image_id in bad for task in tasks)]
    if not with_bad:
        return _nothing_bad(case, SURVIVES)
    dragged = [
        (task, post)
        for post, tasks in with_bad
        for task in tasks
        if task.key[1] in post.errors and case.fates.of(task).fate is Fate.FAILED_ORGANIC
        and task.image_id not in case.history.failed_images
    ]  # fmt: skip
    if dragged and case.facts.damage:
        text = f"{len(dragged)} errors beside a bad image, and what struck them may stand in lost lines"
        tasks = (task for task, _ in dragged)
        return case.say(SURVIVES, Status.UNKNOWN, text, tasks, judged=len(with_bad))
    if dragged:
        refs = [post.heard_ref for _, post in dragged if post.heard_ref is not None]
        text = f"{len(dragged)} good images were answered with an error beside a bad one"
        return case.say(SURVIVES, Status.FAIL, text, (task for task, _ in dragged), refs, judged=len(with_bad))
    good = sum(1 for post, tasks in with_bad for task in tasks if task.key[1] not in post.errors)
    text = f"{len(with_bad)} batches with a bad image, {good} tasks beside them answered as a success"
    return case.say(SURVIVES, Status.PASS, text, judged=len(with_bad))


def transient_errors_requeued(case: Case) -> Finding:
    """Look at the tasks that were in a batch when an exception was let out of the loop, or when a loader died."""
    struck = case.struck(Effect.TRANSIENT)
    deaths = [one for one in case.struck(Effect.CRASH) if one.is_of_loader and one.kind != Mode.HANG.value]
    keys = {key for one in struck for key, _ in one.tasks}
    keys |= {task.key for task, _ in case.with_fate(Fate.FAILED_TRANSIENT)}
    tasks = [task for key in sorted(keys) if (task := case.history.tasks.get(key)) is not None]
    if not tasks and deaths:
        return case.say(PASSING, Status.PASS, f"{len(deaths)} loaders died, and no batch was failed for it")
    if not tasks:
        if case.is_set(Effect.TRANSIENT):
            return case.say(PASSING, Status.VACUOUS, "passing errors were set and none struck a task")
        return case.say(PASSING, Status.NOT_APPLICABLE, "no passing error was set")
    fates = {task.key: case.fates.of(task) for task in tasks}
    final = [task for task in tasks if fates[task.key].fate is Fate.FAILED_TRANSIENT]
    if final:
        refs = [*(one.ref for one in (*struck, *deaths)), *(ref for task in final for ref in fates[task.key].refs)]
        text = f"{len(final)} of {len(tasks)} tasks were failed for good by an error that would have passed"
        return case.say(PASSING, Status.FAIL, text, final, refs, judged=len(tasks))
    lost = [task for task in tasks if fates[task.key].fate is Fate.LOST]
    if lost:
        refs = [ref for task in lost for ref in fates[task.key].refs]
        text = f"{len(lost)} of {len(tasks)} tasks left unanswered by a passing error were never handed out again"
        return case.say(PASSING, Status.FAIL, text, lost, refs, whose=Whose.SERVICE, judged=len(tasks))
    waiting = [task for task in tasks if fates[task.key].fate is Fate.PENDING]
    if waiting:
        text = f"of {len(waiting)} of {len(tasks)} tasks it cannot be told: {fates[waiting[0].key].cause}"
        return case.say(PASSING, Status.UNKNOWN, text, waiting, judged=len(tasks))
    text = f"{len(tasks)} tasks were struck by a passing error, none was failed for it"
    return case.say(PASSING, Status.PASS, text, tasks, judged=len(tasks))


def answers_name_their_image(case: Case) -> Finding:
    """Look for answers about another image than their task's."""
    wrong = [(task, lease) for task in case.tasks() for lease in task.leases if lease.named and lease.is_seen]
    answered = sum(1 for task in case.tasks() if task.is_answered)
    if wrong:
        task, lease = wrong[0]
        refs = [ref for _, lease in wrong for ref in _heard(lease)]
        text = f"{len(wrong)} answers were about another image, as that to {case.name(task)} about image {lease.named}"
        return case.say(NAMED, Status.FAIL, text, (task for task, _ in wrong), refs, judged=answered)
    return case.say(NAMED, Status.PASS, f"{answered} answers, each about the image of its task", judged=answered)
