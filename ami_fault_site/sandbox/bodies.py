"""Read what workers send, or say in the service's own form what is wrong with it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ami_fault_site.sandbox.jobs import Answer
from ami_fault_site.sandbox.shapes import COLLECTION_ID, PROJECT_ID, JsonObject

REQUIRED = "This field is required."


class BadBody(Exception):  # noqa: N818 - the answer 400, not a mistake of ours
    """A body that the service refuses as a whole; `answer` is what it answers."""

    def __init__(self, answer: JsonObject) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True)
class WantedJob:
    """A job that somebody asks for."""

    name: str
    pipeline: int
    limit: int | None


@dataclass(frozen=True)
class Declared:
    """A pipeline that a worker registers, and the algorithms (key to name) that it declares for it."""

    slug: str
    name: str
    algorithms: Mapping[str, str]


def read_batch_size(body: bytes) -> int:
    """Return how many tasks are asked for; raise BadBody unless it is a whole number of 1 or more."""
    return _whole(_object(body), "batch_size", 1)


def read_answers(body: bytes) -> list[Answer]:
    """Return the answers of a result body; raise BadBody if a single item is malformed."""
    items = _object(body).get("results")
    if items is None:
        raise BadBody({"results": [REQUIRED]})
    if not isinstance(items, list):
        raise BadBody({"results": ["value is not a valid list"]})
    problems: list[str] = []
    answers = [_answer(item, f"{index}", problems) for index, item in enumerate(items)]
    if problems:
        raise BadBody({"results": list(problems)})
    return [answer for answer in answers if answer is not None]


def _answer(item: object, where: str, problems: list[str]) -> Answer | None:
    fields = item if isinstance(item, dict) else {}
    reply, result = fields.get("reply_subject"), fields.get("result")
    if not isinstance(reply, str):
        problems.append(f"{where}.reply_subject: str type expected")
    if not isinstance(result, dict):
        problems.append(f"{where}.result: value is not a valid dict")
    if not isinstance(reply, str) or not isinstance(result, dict):
        return None
    success = _success(reply, result)
    if success is not None:
        return success
    if not isinstance(result.get("error"), str):
        problems.append(f"{where}.result: neither pipeline, total_time, source_images and detections nor an error text")
        return None
    image = result.get("image_id")
    images = frozenset() if image is None or image == "" else frozenset({str(image)})
    return Answer(reply, images, error=result["error"])


def _success(reply: str, result: Mapping[str, object]) -> Answer | None:
    """Count what a success holds and keep none of it: a body may be 140 MB."""
    images, detections = _objects(result.get("source_images")), _objects(result.get("detections"))
    has_head = isinstance(result.get("pipeline"), str) and _is_number(result.get("total_time"))
    if not has_head or images is None or detections is None:
        return None
    if not all(_is_id(image.get("id")) and isinstance(image.get("url"), str) for image in images):
        return None
    if not all(_is_id(detection.get("source_image_id")) for detection in detections):
        return None
    classifications = [found for detection in detections for found in _objects(detection.get("classifications")) or []]
    keys = {_algorithm_key(found) for found in [*detections, *classifications]}
    return Answer(
        reply,
        frozenset(str(image["id"]) for image in images),
        detections=len(detections),
        classifications=len(classifications),
        algorithms=frozenset(key for key in keys if key is not None),
    )


def _algorithm_key(found: Mapping[str, object]) -> str | None:
    algorithm = found.get("algorithm")
    key = algorithm.get("key") if isinstance(algorithm, dict) else None
    return key if isinstance(key, str) else None


def read_job(body: bytes, pipelines: Sequence[int]) -> WantedJob:
    """Return the job that is asked for; raise BadBody with everything that is wrong with it."""
    fields = _object(body)
    problems: JsonObject = {}
    required = {"name": str, "delay": int}
    problems |= {key: [REQUIRED] for key, kind in required.items() if not isinstance(fields.get(key), kind)}
    known = {"project_id": [PROJECT_ID], "source_image_collection_id": [COLLECTION_ID], "pipeline_id": list(pipelines)}
    for key, numbers in known.items():
        value = fields.get(key)
        if value is None and key == "source_image_collection_id":
            continue
        if value is None:
            problems[key] = [REQUIRED]
        elif value not in numbers:
            problems[key] = [f'Invalid pk "{value}" - object does not exist.']
    limit = fields.get("limit")
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        problems["limit"] = ["A valid integer is required."]
    if problems:
        raise BadBody(problems)
    return WantedJob(str(fields["name"]), int(str(fields["pipeline_id"])), limit if isinstance(limit, int) else None)


def read_registration(body: bytes) -> list[Declared]:
    """Return the pipelines that a worker registers; raise BadBody if they cannot be read."""
    fields = _object(body)
    if not isinstance(fields.get("processing_service_name"), str):
        raise BadBody({"processing_service_name": [REQUIRED]})
    pipelines = _objects(fields.get("pipelines", []))
    if pipelines is None or not all(isinstance(pipeline.get("slug"), str) for pipeline in pipelines):
        raise BadBody({"pipelines": ["value is not a valid list of pipelines, each with a slug"]})
    return [_declared(pipeline) for pipeline in pipelines]


def _declared(pipeline: Mapping[str, object]) -> Declared:
    slug = str(pipeline["slug"])
    algorithms = _objects(pipeline.get("algorithms", [])) or []
    keys = {str(entry["key"]): str(entry.get("name", entry["key"])) for entry in algorithms if "key" in entry}
    return Declared(slug, str(pipeline.get("name", slug)), keys)


def read_logs_limit(text: str | None, default: int, most: int) -> int:
    """Return how many log lines are asked for; raise BadBody unless it is from 1 to `most`."""
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise BadBody({"logs_limit": ["A valid integer is required."]})
    if not 1 <= int(text) <= most:
        bound = "greater than or equal to 1" if int(text) < 1 else f"less than or equal to {most}"
        raise BadBody({"logs_limit": [f"Ensure this value is {bound}."]})
    return int(text)


def _whole(fields: Mapping[str, object], key: str, least: int) -> int:
    value = fields.get(key)
    if value is None:
        raise BadBody({key: [REQUIRED]})
    text = str(value)
    if isinstance(value, bool) or not text.lstrip("-").isdigit():
        raise BadBody({key: ["A valid integer is required."]})
    if int(text) < least:
        raise BadBody({key: [f"Ensure this value is greater than or equal to {least}."]})
    return int(text)


def _object(body: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadBody({"detail": f"JSON parse error - {error}"}) from error
    if not isinstance(parsed, dict):
        kind = type(parsed).__name__
        raise BadBody({"non_field_errors": [f"Invalid data. Expected a dictionary, but got {kind}."]})
    return parsed


def _objects(value: object) -> list[dict[str, object]] | None:
    """Return a list of objects as it is, and None for everything else."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    return value


def _is_id(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
