"""Turn a job's tasks into batches of pictures: fetch the tasks, download their images, collate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TypedDict

import requests
from PIL import Image, ImageFile

from ami_fault_site.sandbox.worker.client import GET_TIMEOUT, Task, fetch_tasks, http_session
from ami_fault_site.sandbox.worker.settings import Settings

FAILED_TO_LOAD = "failed to load image"
_EDGE = 64  # pixels: enough for a statistic, and cheap to send to another process

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A downsized image as RGB bytes, and the size that the image had, in pixels."""

    width: int
    height: int
    small_size: tuple[int, int]
    rgb: bytes


class FailedItem(TypedDict):
    """A task whose image could not be loaded."""

    reply_subject: str | None
    image_id: str
    image_url: str
    error: str


class Batch(TypedDict):
    """The pictures of one fetch, parallel lists of whose they are, and what failed."""

    images: list[Picture]
    image_ids: list[str]
    reply_subjects: list[str | None]
    image_urls: list[str]
    failed_items: list[FailedItem]


_Load = Callable[[Task], "Picture | None"]
_Map = Callable[[_Load, Iterable[Task]], "Iterable[Picture | None]"]


def batches(settings: Settings, job_id: int, number: int, threads: int, go_on: Callable[[], bool]) -> Iterator[Batch]:
    """Yield the batches of a job until its queue is drained, the fetch fails, or we are told not to go on.

    `number` is the loader's, for the log; `go_on` is asked before each fetch, for a fetched task is a reserved task.
    """
    # As the real worker: a file that ends early is loaded as far as it goes.
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    # Sessions and threads are made here, in the process that uses them: neither survives a fork.
    with _sessions(settings) as (api, storage), _mapper(threads) as load_all:
        while go_on():
            try:
                tasks = fetch_tasks(api, settings, job_id)
            except requests.RequestException as error:
                logger.error("Worker %d: Fetch failed after retries (%s), stopping", number, error)
                return
            if not tasks:
                logger.debug("Worker %d: No more tasks for job %d", number, job_id)
                return
            pictures = load_all(lambda task: _load(storage, task.image_url), tasks)
            yield _collate(tasks, pictures, number)


@contextmanager
def _sessions(settings: Settings) -> Iterator[tuple[requests.Session, requests.Session]]:
    """Open a session with the service, and one without its token, for wherever the images are."""
    with http_session(settings.token, settings.misbehave) as api, http_session(misbehave=settings.misbehave) as storage:
        yield api, storage


@contextmanager
def _mapper(threads: int) -> Iterator[_Map]:
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="download") as pool:
        yield pool.map


def _load(session: requests.Session, url: str) -> Picture | None:
    try:
        response = session.get(url, timeout=GET_TIMEOUT)
        response.raise_for_status()
        image = Image.open(BytesIO(response.content))
        width, height = image.size
        # Before the conversion: a JPEG is then decoded at a fraction of its size.
        image.thumbnail((_EDGE, _EDGE))
        small = image.convert("RGB")
        return Picture(width, height, small.size, small.tobytes())
    except Exception as error:  # one image that fails, however, must not take its batch along
        logger.error("Failed to load image from %s: %s", url, error)
        return None


def _collate(tasks: Iterable[Task], pictures: Iterable[Picture | None], number: int) -> Batch:
    batch: Batch = {"images": [], "image_ids": [], "reply_subjects": [], "image_urls": [], "failed_items": []}
    for task, picture in zip(tasks, pictures, strict=True):
        if picture is None:
            logger.warning("Worker %d: Errors in task for image '%s': %s", number, task.image_id, FAILED_TO_LOAD)
            batch["failed_items"].append(
                {
                    "reply_subject": task.reply_subject,
                    "image_id": task.image_id,
                    "image_url": task.image_url,
                    "error": FAILED_TO_LOAD,
                }
            )
            continue
        batch["images"].append(picture)
        batch["image_ids"].append(task.image_id)
        batch["reply_subjects"].append(task.reply_subject)
        batch["image_urls"].append(task.image_url)
    return batch
