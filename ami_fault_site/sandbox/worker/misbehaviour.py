"""Treat batches and requests well, or in one of the ways in which real workers have treated them badly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ami_fault_site.sandbox.worker.answers import Answer, error_answer

if TYPE_CHECKING:
    from ami_fault_site.sandbox.worker.batches import Batch

Work: TypeAlias = "Callable[[], list[Answer]]"

logger = logging.getLogger(__name__)


class Conduct:
    """How a worker treats its batches: well, that is. One lives as long as the worker."""

    def work_off(self, _batch: Batch, _pipeline: str, work: Work) -> list[Answer] | None:
        """Return what is posted for a batch, None if nothing is; raises whatever the work raises."""
        return work()

    def rest(self) -> None:
        """Do what is to be done between a batch and the next."""


class _Counting(Conduct):
    """Counts the batches that this process has finished."""

    number = 0

    def work_off(self, batch: Batch, pipeline: str, work: Work) -> list[Answer] | None:
        answers = super().work_off(batch, pipeline, work)
        self.number += 1
        return answers


class _DropsPosts(_Counting):
    def work_off(self, batch: Batch, pipeline: str, work: Work) -> list[Answer] | None:
        answers = super().work_off(batch, pipeline, work)
        return None if self.number % 3 == 2 else answers


class _KeepsABatch(_Counting):
    def work_off(self, batch: Batch, pipeline: str, work: Work) -> list[Answer] | None:
        answers = super().work_off(batch, pipeline, work)
        return None if self.number == 2 else answers


class _Hangs(_Counting):
    def rest(self) -> None:
        if self.number == 2:
            logger.warning("Hanging on purpose")
            threading.Event().wait()  # the loaders keep what they have loaded; signals end the worker as ever


class _NamesTheWrongImage(Conduct):
    eligible = 0

    def work_off(self, batch: Batch, _pipeline: str, work: Work) -> list[Answer] | None:
        answers = work()
        if len(answers) < 2:
            return answers
        self.eligible += 1
        return _rotated(answers, batch) if self.eligible % 3 == 1 else answers


class _TakesTransientForFinal(Conduct):
    def work_off(self, batch: Batch, _pipeline: str, work: Work) -> list[Answer] | None:
        try:
            return work()
        except Exception as error:
            logger.exception("Giving up a batch for good")
            return _errors(batch, f"{type(error).__name__}: {error}")


class _FailsTheBatch(Conduct):
    def work_off(self, batch: Batch, _pipeline: str, work: Work) -> list[Answer] | None:
        answers = work()
        return _errors(batch, batch["failed_items"][0]["error"]) if batch["failed_items"] else answers


class _SwallowsErrors(Conduct):
    def work_off(self, batch: Batch, pipeline: str, work: Work) -> list[Answer] | None:
        failed = {item["reply_subject"]: item for item in batch["failed_items"]}
        return [
            _empty_success(answer, item["image_id"], item["image_url"], pipeline)
            if (item := failed.get(answer["reply_subject"])) is not None
            else answer
            for answer in work()
        ]


class _NamesAnUndeclaredAlgorithm(Conduct):
    def work_off(self, _batch: Batch, _pipeline: str, work: Work) -> list[Answer] | None:
        return [_by(answer, {"name": "Undeclared detector", "key": "undeclared_detector"}) for answer in work()]


@dataclass(frozen=True)
class Misbehaviour:
    """What a worker does wrong, in one sentence: the conduct that it is, and how it repeats requests otherwise.

    `retry` are arguments of urllib3's Retry that take the place of a good worker's.
    """

    meaning: str
    kind: type[Conduct] = Conduct
    retry: Mapping[str, object] = field(default_factory=dict)


MISBEHAVIOURS: Mapping[str, Misbehaviour] = {
    "drops-posts": Misbehaviour("Every 3rd finished batch, from the 2nd on, is never posted.", _DropsPosts),
    "wrong-image": Misbehaviour(
        "The answers of every 3rd batch of 2 or more, from the 1st on, name their neighbours' images.",
        _NamesTheWrongImage,
    ),
    "keeps-a-batch": Misbehaviour("The 2nd batch is worked off and kept; all else goes on.", _KeepsABatch),
    "hangs": Misbehaviour("After the 2nd batch the worker does nothing any more.", _Hangs),
    "transient-as-final": Misbehaviour(
        "A batch that fails in passing is answered with errors instead of being left for another try.",
        _TakesTransientForFinal,
    ),
    "fails-the-batch": Misbehaviour("One image that cannot be loaded fails its whole batch.", _FailsTheBatch),
    "swallows-errors": Misbehaviour(
        "An image that cannot be loaded is answered as one without detections.", _SwallowsErrors
    ),
    "undeclared-algorithm": Misbehaviour(
        "Its detections name an algorithm that nobody has registered.", _NamesAnUndeclaredAlgorithm
    ),
    "never-retries": Misbehaviour("A download or a poll that fails is not tried again.", retry={"total": 0}),
    "retries-at-once": Misbehaviour(
        "What fails is tried again at once, however often it has failed.", retry={"backoff_factor": 0.0}
    ),
    "ignores-retry-after": Misbehaviour(
        "What the service asks to repeat later is repeated when the worker likes.",
        retry={"respect_retry_after_header": False, "status_forcelist": (429, 500, 502, 503, 504)},
    ),
}
"""Every misbehaviour by its name."""


def conduct_of(name: str) -> Conduct:
    """Return how a worker that misbehaves so treats its batches, or a good one for "". Raises KeyError otherwise."""
    return MISBEHAVIOURS[name].kind() if name else Conduct()


def retry_of(name: str) -> Mapping[str, object]:
    """Return what a worker that misbehaves so does otherwise when it repeats a request. Raises KeyError likewise."""
    return MISBEHAVIOURS[name].retry if name else {}


def _errors(batch: Batch, text: str) -> list[Answer]:
    return [error_answer(reply_subject, image_id, text) for reply_subject, image_id, _ in _tasks(batch)]


def _tasks(batch: Batch) -> Iterator[tuple[str | None, str, str]]:
    """Yield reply subject, image id and URL of each task of the batch."""
    yield from zip(batch["reply_subjects"], batch["image_ids"], batch["image_urls"], strict=True)
    for item in batch["failed_items"]:
        yield item["reply_subject"], item["image_id"], item["image_url"]


def _rotated(answers: list[Answer], batch: Batch) -> list[Answer]:
    """Return the answers, each naming the image of the next, and the last that of the first."""
    images = {reply_subject: (image_id, url) for reply_subject, image_id, url in _tasks(batch)}
    neighbours = [*answers[1:], answers[0]]
    return [
        _about(answer, *images[neighbour["reply_subject"]])
        for answer, neighbour in zip(answers, neighbours, strict=True)
    ]


def _by(answer: Answer, algorithm: Mapping[str, str]) -> Answer:
    """Return an answer whose detections name this algorithm."""
    result = answer["result"]
    detections = result.get("detections")
    if not isinstance(detections, list):
        return answer
    return {**answer, "result": {**result, "detections": [{**one, "algorithm": algorithm} for one in detections]}}


def _about(answer: Answer, image_id: str, url: str) -> Answer:
    result = answer["result"]
    if "error" in result:
        return {**answer, "result": {**result, "image_id": image_id}}
    detections = result["detections"]
    found = detections if isinstance(detections, list) else []
    changed = {
        "source_images": [{"id": image_id, "url": url}],
        "detections": [{**one, "source_image_id": image_id} for one in found],
    }
    return {**answer, "result": {**result, **changed}}


def _empty_success(answer: Answer, image_id: str, url: str, pipeline: str) -> Answer:
    images = [{"id": image_id, "url": url}]
    nothing: dict[str, object] = {"pipeline": pipeline, "algorithms": {}, "total_time": 0.0}
    return {**answer, "result": {**nothing, "source_images": images, "detections": []}}
