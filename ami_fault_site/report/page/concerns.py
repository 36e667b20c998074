"""Say which deliveries of which tasks each fault struck."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeAlias

from ami_fault_site.faults import Effect, Site
from ami_fault_site.history import Injection, Task
from ami_fault_site.verdict.case import Case

Struck: TypeAlias = tuple[Task, int]
"""A task and the delivery that was struck, 0 where only the task's image is known."""


class Concerns:
    """Finds the tasks of a fault: those that it names, those of its image, or those of the answer that it struck."""

    def __init__(self, case: Case) -> None:
        self._tasks = case.history.tasks
        self._by_image: defaultdict[str, list[Task]] = defaultdict(list)
        self._posts: defaultdict[tuple[int, int], list[tuple[int, Task, int]]] = defaultdict(list)
        for task in case.tasks():
            self._by_image[task.image_id].append(task)
            for lease in task.leases:
                for post in lease.posts:
                    if post.struck or post.lost or post.cut is not None:
                        self._posts[post.process, task.job].append((post.ref[1], task, lease.delivery))

    def of(self, one: Injection) -> list[Struck]:
        """Return what a fault struck; nothing where no task is known, as at a poll."""
        if one.tasks:
            return [(self._tasks[key], delivery) for key, delivery in one.tasks if key in self._tasks]
        if one.site in (Site.IMAGE.value, Site.OPEN.value):
            return [
                (task, 0) for task in self._by_image.get(one.image or one.subject, ()) if one.job in (None, task.job)
            ]
        if one.site == Site.RESULT.value and one.effect is Effect.NETWORK:
            posts = self._posts.get((one.process, one.job or 0), [])
            begun = max((line for line, _, _ in posts if line < one.ref[1]), default=None)
            return [(task, delivery) for line, task, delivery in posts if line == begun]
        return []
