"""Say which images our faults had spoilt, for good or for one delivery, and for which leases they were loaded."""

from __future__ import annotations

from collections.abc import Iterable

from ami_fault_site.faults import SUBTLE_DAMAGE_KINDS, Effect, Trigger
from ami_fault_site.history import History, Injection, Lease, Task, TaskKey

_ON_IMAGES = (Effect.IMAGE_404, Effect.CORRUPT)


class SpoiltImages:
    """The images that could not be had by our doing. Those drawn by image or named are bad for the whole run."""

    def __init__(self, history: History) -> None:
        self._lasting: set[str] = set()
        by_image: dict[str, list[Injection]] = {}
        for one in history.injections:
            if one.effect in _ON_IMAGES:
                by_image.setdefault(one.image or one.subject, []).append(one)
                if one.trigger != Trigger.RULE.value:
                    self._lasting.add(one.image or one.subject)
        self.leases = [*_opened(history, by_image), *_downloaded(history)]
        """Every lease whose image was spoilt, with its task and the fault."""

        self._pairs: set[tuple[TaskKey, int]] = {
            (task.key, lease.delivery) for task, lease, _ in self.leases if task.image_id not in self._lasting
        }
        self.images = self._lasting | {task.image_id for task, _, _ in self.leases}
        """The ids of all spoilt images."""

    def is_spoilt(self, task: Task, lease: Lease) -> bool:
        """Say whether an image was spoilt for this delivery, and may well be had for another."""
        return (task.key, lease.delivery) in self._pairs

    def explains(self, task: Task, leases: Iterable[Lease]) -> bool:
        """Say whether a fault of ours is why one of these deliveries of a task was answered with an error."""
        return task.image_id in self._lasting or any((task.key, lease.delivery) in self._pairs for lease in leases)


def shows(injection: Injection) -> bool:
    """Say whether a spoilt image is one that a worker must see: some damage does not show when it is opened."""
    return injection.kind not in SUBTLE_DAMAGE_KINDS


def _opened(history: History, by_image: dict[str, list[Injection]]) -> Iterable[tuple[Task, Lease, Injection]]:
    """Tie each fault to the lease for which the image was loaded: the process's last of that image before it."""
    tasks: dict[str, list[Task]] = {}
    for task in history.tasks.values() if by_image else ():
        if task.image_id in by_image:
            tasks.setdefault(task.image_id, []).append(task)
    for image, injections in by_image.items():
        for one in injections:
            leases = [
                (lease.received, task, lease)
                for task in tasks.get(image, [])
                for lease in task.leases
                if lease.process == one.process and lease.received <= one.at
            ]
            if leases:
                _, task, lease = max(leases, key=lambda row: row[0])
                yield task, lease, one


def _downloaded(history: History) -> Iterable[tuple[Task, Lease, Injection]]:
    """Tie each download that failed for good by our doing to its lease; a 404 is tied above."""
    for (job, sequence, published, delivery), one in history.lost_images.items():
        task = history.tasks.get((f"job_{job}", sequence, published))
        lease = task.lease(delivery) if task is not None else None
        if task is not None and lease is not None and one.effect not in _ON_IMAGES:
            yield task, lease, one
