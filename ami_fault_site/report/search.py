"""Find the tasks that somebody means by a word: job/sequence, sequence, image id or image file name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from ami_fault_site.history import Task
from ami_fault_site.report.refusals import NoSuchTaskError
from ami_fault_site.verdict.case import Case

_FORMS = "TASK is job/sequence, a sequence that only one job has, an image id or the name of an image file"
_NEAR, _COMPARED = 3, 20_000  # names that are offered; names that are compared, which takes its time


def find(case: Case, text: str) -> list[Task]:
    """Return the tasks of this name, in the order of job and sequence.

    Several are those of a retried job, or of jobs that have the same image. A number is taken for a sequence before it
    is taken for an image id. Raises NoSuchTaskError, with near matches, if there are none, and if several jobs have
    the sequence.
    """
    wanted = text.strip()
    pair = re.fullmatch(r"(\d+)/(\d+)", wanted)
    if pair:
        return _of_job(case, wanted, int(pair[1]), int(pair[2]))
    if wanted.isascii() and wanted.isdigit():
        found = [task for task in case.tasks() if task.key[1] == int(wanted)]
        jobs = sorted({task.job for task in found})
        if len(jobs) > 1:
            choices = ", ".join(f"{job}/{int(wanted)}" for job in jobs)
            raise NoSuchTaskError(f"TASK={text!r}: several jobs have such a task; say which: {choices}")
        if found:
            return _in_order(found)
    found = [task for task in case.tasks() if wanted and wanted in (task.image_id, task.image)]
    if not found:
        raise NoSuchTaskError(f"TASK={text!r}: nothing is known of such a task{_nearest(case, wanted)}; {_FORMS}")
    return _in_order(found)


def _of_job(case: Case, text: str, job: int, sequence: int) -> list[Task]:
    of_job = [task for task in case.tasks() if task.job == job]
    found = [task for task in of_job if task.key[1] == sequence]
    if found:
        return _in_order(found)
    jobs = sorted({task.job for task in case.tasks()})
    if not of_job:
        known = f"of jobs {', '.join(map(str, jobs))}" if jobs else "of no job at all"
        raise NoSuchTaskError(f"TASK={text!r}: nothing is known of tasks of job {job}, only {known}")
    numbers = sorted({task.key[1] for task in of_job})
    near = sorted(numbers, key=lambda number: abs(number - sequence))[:_NEAR]
    offered = ", ".join(f"{job}/{number}" for number in sorted(near))
    raise NoSuchTaskError(
        f"TASK={text!r}: nothing is known of such a task; of job {job} {len(numbers)} tasks are known, "
        f"{numbers[0]} to {numbers[-1]} (near it {offered})"
    )


def _in_order(tasks: Iterable[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: (task.job, task.key[2], task.key[1]))


def _nearest(case: Case, wanted: str) -> str:
    known = {name for task in case.tasks() for name in (task.image, task.image_id) if name}
    if len(known) > _COMPARED:
        known = {name for name in known if name[:1].lower() == wanted[:1].lower()}
    close = difflib.get_close_matches(wanted, sorted(known)[:_COMPARED], n=_NEAR)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
