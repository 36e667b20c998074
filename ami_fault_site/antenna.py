"""Say what the wire says: which call is this, which tasks does it hand out, which does it answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ami_fault_site.faults import Site

ASSUMED_MAX_DELIVER = 2
"""How often the service hands a task out by default, taken where nobody says what it is set to."""

_JOB_CALL = re.compile(r"/jobs/(\d+)/(result|tasks)/?$")
_REPLY = re.compile(rb'"reply_subject"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|null)')
_BEFORE_UNDERSCORE = len('"reply')
_MANY, _APART = 1_000, 200  # underscores, and bytes from one to the next on average
_ERROR = re.compile(rb'"error"\s*:\s*"((?:[^"\\]|\\.)*)')
_SUCCESS_KEYS = (b'"detections"', b'"source_images"')
_SOURCE_IMAGE = re.compile(rb'"source_images"\s*:\s*\[\s*\{[^{}]*?"id"\s*:\s*"?((?:[^"\\,}\s]|\\.)*)')
_ERROR_IMAGE = re.compile(rb'"image_id"\s*:\s*"?((?:[^"\\,}\s]|\\.)*)')
_ERROR_ITEM_BYTES = 8192  # an error item is a text and an id; a success item may have megabytes of detections


class Delivery(NamedTuple):
    """What a reply subject says: one delivery of one task.

    A task is (`stream`, `sequence`, `published`): the publish time in nanoseconds is the same on every delivery, so a
    retried job, whose sequences begin anew, does not collide. `delivery` counts from 1; `consumer_sequence` counts
    every delivery of the job to anyone, without gaps; `left` is how many tasks were waiting behind this one.
    """

    stream: str
    consumer: str
    delivery: int
    sequence: int
    consumer_sequence: int
    published: int
    left: int

    @property
    def subject(self) -> str:
        """The reply subject itself."""
        numbers = (self.delivery, self.sequence, self.consumer_sequence, self.published, self.left)
        return ".".join(["$JS", "ACK", self.stream, self.consumer, *map(str, numbers)])

    @property
    def job(self) -> int | None:
        """The job whose stream this is, None if the stream is not named as Antenna names it."""
        number = self.stream.rpartition("_")[2]
        return int(number) if number.isdigit() else None


class Lease(NamedTuple):
    """A task as handed out: its delivery and the image that it is about."""

    delivery: Delivery
    image_id: str
    image_url: str

    @property
    def image_name(self) -> str:
        """The last part of the URL's path, which people know the image by."""
        return file_name(self.image_url)


class Answered(NamedTuple):
    """One item of a result body: the task it is about (None if it names none) and the error text of a failure.

    `image` is the id of the image that the item is about, "" if it could not be found in its first bytes.
    """

    delivery: Delivery | None
    error: str | None
    image: str = ""


class ApiCall(NamedTuple):
    """A request recognized as the worker's: its site, and the job it names, if it names one."""

    site: Site
    job: int | None = None


def parse_reply_subject(text: str) -> Delivery | None:
    """Return what a reply subject says, or None if it is not one of JetStream's nine-field form."""
    parts = text.split(".")
    if len(parts) != 9 or parts[:2] != ["$JS", "ACK"] or not all(p.isascii() and p.isdigit() for p in parts[4:]):
        return None
    delivery, sequence, consumer_sequence, published, left = (int(part) for part in parts[4:])
    return Delivery(parts[2], parts[3], delivery, sequence, consumer_sequence, published, left)


def may_be_api(url: str) -> bool:
    """Say whether a URL may be one that `classify` knows, an image's aside; far quicker than to find out."""
    return "/jobs" in url or "/projects/" in url


def classify(method: str, url: str, is_image: Callable[[str], bool]) -> ApiCall | None:
    """Say which of the worker's calls this is; None for everything else, which is left alone.

    The rule is the one measured on the real worker: the exact URL of an image that was handed out, else the path with
    its query cut off. Model weights, labels and telemetry use requests too and match none.
    """
    if method == "GET" and is_image(url):
        return ApiCall(Site.IMAGE)
    parts = urlsplit(url)
    job_call = _JOB_CALL.search(parts.path)
    if job_call:
        job, what = int(job_call[1]), job_call[2]
        if what == "result":
            return ApiCall(Site.RESULT, job) if method == "POST" else None
        return ApiCall(Site.TASKS, job) if method in ("POST", "GET") else None
    if method == "GET" and parts.path.rstrip("/").endswith("/jobs"):
        polled = "ids_only" in parts.query or "pipeline__slug" in parts.query
        return ApiCall(Site.JOBS) if polled else None
    return ApiCall(Site.REGISTER) if "/projects/" in parts.path else None


def leases_in(body: bytes | str) -> tuple[Lease, ...]:
    """Return the tasks that a tasks response hands out; an answer of any other form hands out none."""
    leases = []
    for item in _items(body, "tasks"):
        delivery = parse_reply_subject(str(item.get("reply_subject", "")))
        if delivery is not None:
            leases.append(Lease(delivery, str(item.get("image_id") or ""), str(item.get("image_url") or "")))
    return tuple(leases)


def jobs_in(body: bytes | str) -> tuple[int, ...]:
    """Return the job ids that a poll's answer lists."""
    ids = (item.get("id") for item in _items(body, "results"))
    return tuple(number for number in ids if isinstance(number, int))


def only_jobs(body: bytes | str, jobs: frozenset[int]) -> tuple[bytes, tuple[int, ...]] | None:
    """Return a poll's answer with no other jobs than these, and which were left out; None if none was."""
    others = tuple(job for job in jobs_in(body) if job not in jobs)
    if not others:
        return None
    kept = [item for item in _items(body, "results") if item.get("id") in jobs]
    return json.dumps({**_object(body), "count": len(kept), "next": None, "results": kept}).encode(), others


def without_tasks(body: bytes | str, subjects: frozenset[str]) -> bytes:
    """Return a tasks response without the tasks that have these reply subjects."""
    kept = [item for item in _items(body, "tasks") if str(item.get("reply_subject", "")) not in subjects]
    return json.dumps({**_object(body), "tasks": kept}).encode()


def is_accepted(status: int, body: bytes | str) -> bool:
    """Say whether an answer to a result post means "queued" (which is not yet "saved")."""
    if status != 200:
        return False
    parsed = _object(body)
    return parsed.get("status", "accepted") == "accepted"


def answers_in(body: bytes | str) -> tuple[Answered, ...]:
    """Scan a result body for its reply subjects and errors.

    Bodies reach 140 MB, so this never parses the whole: it finds the reply subjects and looks for an error in the
    first bytes of the item around each, whichever of the two keys comes first; the image's id stands there too.
    """
    data = body.encode() if isinstance(body, str) else body
    found = list(_replies(data))
    if not found:
        return ()
    result_first = 0 <= data.find(b'"result"') < found[0].start()
    return tuple(
        Answered(_delivery(match), *_outcome(data, *_span(data, found, index, result_first)))
        for index, match in enumerate(found)
    )


def _replies(data: bytes) -> Iterator[re.Match[bytes]]:
    """Find the reply subjects from underscore to underscore: of numbers, most of a body, it has none.

    Looking for one byte goes through memory three times as fast as looking for the key. Where underscores are dense,
    each would cost more than what lies between two of them.
    """
    at, hits = -1, 0
    while (at := data.find(b"_", at + 1)) >= 0:
        hits += 1
        if hits > _MANY and hits * _APART > at:
            yield from _REPLY.finditer(data, max(0, at - _BEFORE_UNDERSCORE))
            return
        match = _REPLY.match(data, at - _BEFORE_UNDERSCORE) if at >= _BEFORE_UNDERSCORE else None
        if match:
            yield match
            at = match.end() - 1


def _span(data: bytes, found: list[re.Match[bytes]], index: int, result_first: bool) -> tuple[int, int]:
    if result_first:
        return (found[index - 1].end() if index else 0), found[index].start()
    return found[index].end(), (found[index + 1].start() if index + 1 < len(found) else len(data))


def _outcome(data: bytes, start: int, end: int) -> tuple[str | None, str]:
    """Return the error text of an item, None for a success, and the image that it names."""
    item = data[start : min(end, start + _ERROR_ITEM_BYTES)]
    if any(key in item for key in _SUCCESS_KEYS):
        return None, _image(_SOURCE_IMAGE.search(item))
    match = _ERROR.search(item)
    return (None if match is None else _unescape(match[1])), _image(_ERROR_IMAGE.search(item))


def _image(match: re.Match[bytes] | None) -> str:
    named = "" if match is None else _unescape(match[1])
    return "" if named == "null" else named


def _delivery(match: re.Match[bytes]) -> Delivery | None:
    return None if match[1] is None else parse_reply_subject(_unescape(match[1]))


def _unescape(raw: bytes) -> str:
    try:
        return str(json.loads(b'"' + raw + b'"'))
    except ValueError:
        return raw.decode("utf-8", "replace")


def deliveries_in(value: object, depth: int = 4) -> Iterator[Delivery]:
    """Find the deliveries in the arguments of a task loop function, wherever a batch keeps its reply subjects.

    Looks into mappings, lists, tuples and attributes named `reply_subject`, to a depth of 4, and never into arrays.
    """
    if isinstance(value, str):
        delivery = parse_reply_subject(value) if value.startswith("$JS.ACK.") else None
        if delivery is not None:
            yield delivery
    elif depth > 0 and isinstance(value, Mapping):
        for item in value.values():
            yield from deliveries_in(item, depth - 1)
    elif depth > 0 and isinstance(value, (list, tuple)):
        for item in value:
            yield from deliveries_in(item, depth - 1)
    elif depth > 0 and isinstance(subject := getattr(value, "reply_subject", None), str):
        yield from deliveries_in(subject, depth - 1)


@lru_cache(maxsize=1024)  # asked for when an image is downloaded, and again when it is opened
def image_names(image_id: str, url: str) -> tuple[str, ...]:
    """Return every way in which a user may name an image: id, file name, URL with and without its query."""
    names = (image_id, file_name(url), url.partition("?")[0], url)
    return tuple(dict.fromkeys(name for name in names if name))


def file_name(url: str) -> str:
    """Return the last part of a URL's or a file's path, without query and percent signs."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return unquote(path.rstrip("/").rpartition("/")[2])


def _object(body: bytes | str) -> Mapping[str, object]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _items(body: bytes | str, key: str) -> list[dict[str, object]]:
    listed = _object(body).get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
