"""Speak with the service: list jobs, fetch tasks, post results, register pipelines."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from ami_fault_site.sandbox.worker.answers import Answer
from ami_fault_site.sandbox.worker.misbehaviour import retry_of
from ami_fault_site.sandbox.worker.pipelines import description
from ami_fault_site.sandbox.worker.settings import Settings

GET_TIMEOUT = 30
"""Seconds for the list of jobs, for tasks, and for an image."""

POST_TIMEOUT = 60
"""Seconds for results and registrations, which the service answers only after it has queued them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A job with work left, and the pipeline that it wants."""

    id: int
    pipeline: str


@dataclass(frozen=True)
class Task:
    """One image to be processed. An answer names the task by its reply subject."""

    image_id: str
    image_url: str
    reply_subject: str | None


def http_session(token: str | None = None, misbehave: str = "") -> requests.Session:
    """Return a session that repeats GETs after 5xx answers and failed connections; a POST is never repeated.

    `misbehave` names what the worker does wrong, which may be how it repeats them.
    """
    well: dict[str, Any] = {
        "total": 3,
        "backoff_factor": 0.5,
        "status_forcelist": (500, 502, 503, 504),
        "allowed_methods": ["GET"],
        "raise_on_status": False,
    }
    retry = Retry(**{**well, **retry_of(misbehave)})
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    if token:
        session.headers["Authorization"] = f"Token {token}"
    return session


def full_service_name(settings: Settings) -> str:
    """Return the name under which this machine's worker is known to the service."""
    return f"{settings.service_name} ({socket.gethostname()})"


def get_jobs(settings: Settings, pipelines: Sequence[str]) -> list[Job]:
    """Return the jobs with work left for these pipelines; none if the service cannot say."""
    query: dict[str, str | int] = {
        "pipeline__slug__in": ",".join(pipelines),
        "ids_only": 1,
        "incomplete_only": 1,
        "dispatch_mode": "async_api",
    }
    try:
        with http_session(settings.token, settings.misbehave) as session:
            # Without a slash, as the real worker asks: the service redirects, and requests follows.
            response = session.get(f"{settings.base_url}/jobs", params=query, timeout=GET_TIMEOUT)
            response.raise_for_status()
            return [Job(int(item["id"]), str(item["pipeline_slug"])) for item in response.json()["results"]]
    except requests.RequestException as error:
        logger.error("Failed to fetch jobs from %s: %s", settings.base_url, error)
    except Exception as error:  # whatever this list looks like, the next poll may bring a better one
        logger.error("Failed to parse jobs response: %s", error)
    return []


def fetch_tasks(session: requests.Session, settings: Settings, job_id: int) -> list[Task]:
    """Take up to a batch of tasks from the job's queue; raises RequestException, or ValueError for an odd answer."""
    url = f"{settings.base_url}/jobs/{job_id}/tasks/"
    response = session.post(url, json={"batch_size": settings.batch_size}, timeout=GET_TIMEOUT)
    response.raise_for_status()
    try:
        items = response.json()["tasks"]
        return [Task(str(item["image_id"]), str(item["image_url"]), item.get("reply_subject")) for item in items]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a list of tasks: {type(error).__name__}: {error}") from error


def post_results(settings: Settings, job_id: int, answers: Sequence[Answer]) -> bool:
    """Post a batch of answers once, and say whether the service took them."""
    url = f"{settings.base_url}/jobs/{job_id}/result/"
    try:
        with http_session(settings.token, settings.misbehave) as session:
            response = session.post(url, json={"results": answers}, timeout=POST_TIMEOUT)
            response.raise_for_status()
            queued = response.json()["results_queued"]
    except requests.RequestException as error:
        logger.error("Failed to post results to %s: %s", url, error)
        return False
    logger.debug("Posted %d results to job %d: %s queued", len(answers), job_id, queued)
    return True


def register_pipelines(settings: Settings, project_id: int, pipelines: Sequence[str]) -> bool:
    """Tell a project which pipelines this worker has, and say whether the service took it; may be repeated."""
    url = f"{settings.base_url}/projects/{project_id}/pipelines/"
    described = [description(slug) for slug in pipelines]
    body = {"processing_service_name": full_service_name(settings), "pipelines": described}
    try:
        with http_session(settings.token, settings.misbehave) as session:
            session.post(url, json=body, timeout=POST_TIMEOUT).raise_for_status()
    except requests.RequestException as error:
        logger.error("Failed to register pipelines for project %d: %s", project_id, error)
        return False
    logger.info("Registered %d pipelines for project %d", len(pipelines), project_id)
    return True
