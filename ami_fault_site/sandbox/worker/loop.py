"""Poll for jobs for ever, and work each off: batch by batch, in the main process and thread."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from PIL import Image, ImageStat

from ami_fault_site.sandbox.worker.answers import Answer, error_answer
from ami_fault_site.sandbox.worker.batches import Batch, Picture
from ami_fault_site.sandbox.worker.client import full_service_name, get_jobs
from ami_fault_site.sandbox.worker.loader import loaded_batches
from ami_fault_site.sandbox.worker.misbehaviour import Conduct, conduct_of
from ami_fault_site.sandbox.worker.pipelines import CLASSIFIER, DETECTOR, LABELS
from ami_fault_site.sandbox.worker.posting import ResultPoster
from ami_fault_site.sandbox.worker.settings import Settings

logger = logging.getLogger(__name__)


def run_worker(settings: Settings, pipelines: Sequence[str]) -> None:
    """Work off whatever jobs these pipelines have; never returns."""
    logger.info("Running worker as: %s", full_service_name(settings))
    conduct = conduct_of(settings.misbehave)
    while True:
        if not _poll_once(settings, pipelines, conduct):
            logger.info("No jobs found, sleeping for %g seconds", settings.idle_sleep)
            time.sleep(settings.idle_sleep)


def _poll_once(settings: Settings, pipelines: Sequence[str], conduct: Conduct) -> bool:
    logger.info("Checking for jobs for pipelines: %s", ", ".join(pipelines))
    worked = False
    for job in get_jobs(settings, pipelines):
        logger.info("Processing job %d with pipeline %s", job.id, job.pipeline)
        try:
            worked = process_job(job.pipeline, job.id, settings, conduct) or worked
        except Exception as error:
            logger.exception("Failed to process job %d with pipeline %s: %s", job.id, job.pipeline, error)
    return worked


def process_job(pipeline: str, job_id: int, settings: Settings, conduct: Conduct | None = None) -> bool:
    """Work a job off until its queue looks drained, and say whether there was anything to do.

    `conduct` is how batches are treated: well, by default. Raises RuntimeError when a loader died. What was loaded by
    then and not processed stays unanswered.
    """
    items = 0
    conduct = conduct or Conduct()
    began = time.monotonic()
    with ResultPoster(settings, job_id) as poster:
        with loaded_batches(settings, job_id) as source:
            since = began
            batch_num = -1
            for batch_num, batch in enumerate(source):
                loaded = time.monotonic()
                work = partial(process_batch, batch, batch_num, pipeline, settings.model_delay)
                answers = conduct.work_off(batch, pipeline, work)
                if answers is not None:
                    poster.post(answers)
                conduct.rest()
                items += len(batch["images"])
                seconds = (time.monotonic() - loaded) / max(len(batch["images"]), 1)
                logger.info("Batch %d: %.2fs/image, Load time: %.2fs", batch_num + 1, seconds, loaded - since)
                since = time.monotonic()
        if batch_num < 0:
            return False
        logger.info("Waiting for all pending result posts to complete...")
        poster.wait_for_all()
        text = "Done, images: %d in %.2fs, result posts: %d (success: %d, failed: %d)"
        posts = poster.posted + poster.failed
        logger.info(text, items, time.monotonic() - began, posts, poster.posted, poster.failed)
    return True


def process_batch(batch: Batch, batch_num: int, pipeline: str, model_delay: float) -> list[Answer]:
    """Return an answer for each task of the batch; `model_delay` is in seconds an image."""
    try:
        logger.info("Batch %d: %d images", batch_num + 1, len(batch["images"]))
        answers = _answers(batch, pipeline, model_delay)
    except Exception as error:
        logger.exception("Batch %d failed during processing: %s", batch_num + 1, error)
        # The tasks are answered all the same: unanswered, they would be handed out again.
        text = f"Batch processing error: {error}"
        whose = zip(batch["reply_subjects"], batch["image_ids"], strict=True)
        answers = [error_answer(reply_subject, image_id, text) for reply_subject, image_id in whose]
    failed = batch["failed_items"]
    return [*answers, *(error_answer(item["reply_subject"], item["image_id"], item["error"]) for item in failed)]


def _answers(batch: Batch, pipeline: str, model_delay: float) -> list[Answer]:
    began = time.monotonic()
    ids = batch["image_ids"]
    pictures = zip(ids, batch["images"], strict=True)
    detections = [_detection(image_id, picture, pipeline) for image_id, picture in pictures]
    time.sleep(model_delay * len(ids))
    seconds = (time.monotonic() - began) / max(len(ids), 1)
    whose = zip(batch["reply_subjects"], ids, batch["image_urls"], detections, strict=True)
    return [
        {
            "reply_subject": reply_subject,
            "result": {
                "pipeline": pipeline,
                "algorithms": {},
                "total_time": seconds,
                "source_images": [{"id": image_id, "url": url}],
                "detections": [detection],
                "config": {"example_config_param": None},  # so does the real worker
            },
        }
        for reply_subject, image_id, url, detection in whose
    ]


def _detection(image_id: str, picture: Picture, pipeline: str) -> dict[str, object]:
    """Stand in for the models: the middle of the picture, the surer to be a moth the more contrast there is."""
    small = Image.frombytes("RGB", picture.small_size, picture.rgb)
    statistic = ImageStat.Stat(small)
    contrast = min(1.0, statistics.fmean(statistic.stddev) / 127.5)
    brightness = statistics.fmean(statistic.mean) / 255
    scores = [1 - contrast, contrast]
    now = datetime.now().isoformat()
    width, height = picture.width, picture.height
    classification = {
        "classification": LABELS[scores.index(max(scores))],
        "labels": None,
        "scores": scores,
        "logits": [brightness, contrast],
        "inference_time": 0.0,
        "algorithm": CLASSIFIER.reference(),
        "terminal": pipeline == "moth_binary",
        "timestamp": now,
    }
    return {
        "source_image_id": image_id,
        "bbox": {"x1": width * 0.25, "y1": height * 0.25, "x2": width * 0.75, "y2": height * 0.75},
        "inference_time": 0.0,
        "algorithm": DETECTOR.reference(),
        "timestamp": now,
        "crop_image_url": None,
        "classifications": [classification],
    }
