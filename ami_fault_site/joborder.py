"""Order a job from the service: find its pipeline, make it, start it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ami_fault_site.nearest import did_you_mean
from ami_fault_site.redaction import redact
from ami_fault_site.service import ServiceError
from ami_fault_site.target import BASE_URL, TOKEN, Target

if TYPE_CHECKING:
    import requests

ASYNC = "async_api"
"""How a job must be dispatched for a worker to see it when it polls."""

_TIMEOUT = 30.0
_MOST_PAGES = 100
_SHOWN = 400  # characters of an answer that is none
_UNAUTHORIZED = (401, 403)


@dataclass(frozen=True)
class Wanted:
    """What a job is to be: of which project and collection, by which pipeline, of how many images at most."""

    project: int
    collection: int
    pipeline: str
    images: int
    name: str


@dataclass(frozen=True)
class Ordered:
    """A job that was made and started. `dispatch_mode` is "" where the service does not tell."""

    number: int
    status: str
    dispatch_mode: str


def order(target: Target, wanted: Wanted) -> Ordered:
    """Make a job and start it; raises ServiceError that says what the service refuses, or what it has instead."""
    import requests  # not above: most commands ask nobody, and would load it all the same

    with requests.Session() as session:
        session.headers["Authorization"] = f"Token {target.token}"
        pipeline = _pipeline(session, target, wanted)
        body = {
            "name": wanted.name,
            "delay": 0,
            "limit": wanted.images,
            "shuffle": False,
            "project_id": wanted.project,
            "source_image_collection_id": wanted.collection,
            "pipeline_id": pipeline,
            "job_type_key": "ml",
        }
        job = _asked(session, target, "POST", f"{target.base_url}/jobs/", {"start_now": 1}, body)
    number = job.get("id")
    if not isinstance(number, int):
        raise ServiceError(f"{target.host} made a job without a number: {_brief(job)}")
    return Ordered(number, str(job.get("status", "")), str(job.get("dispatch_mode") or ""))


def _pipeline(session: requests.Session, target: Target, wanted: Wanted) -> int:
    found = {str(one.get("slug")): one.get("id") for one in _pipelines(session, target, wanted.project)}
    number = found.get(wanted.pipeline)
    if isinstance(number, int):
        return number
    hint = did_you_mean(wanted.pipeline, found)
    there = f"it has {', '.join(sorted(found))}" if found else "it has none: a worker registers its pipelines"
    raise ServiceError(f"--pipeline={wanted.pipeline!r}: is no pipeline of project {wanted.project}{hint}; {there}")


def _pipelines(session: requests.Session, target: Target, project: int) -> Iterator[Mapping[str, object]]:
    url: object = f"{target.base_url}/ml/pipelines/"
    query: dict[str, int] = {"project_id": project}
    for _ in range(_MOST_PAGES):
        page = _asked(session, target, "GET", str(url), query)
        listed = page.get("results")
        if not isinstance(listed, list):
            raise ServiceError(f"{target.host} does not list pipelines: {_brief(page)}")
        yield from (one for one in listed if isinstance(one, dict))
        url, query = page.get("next"), {}
        if not url:
            return


def _asked(
    session: requests.Session, target: Target, method: str, url: str, query: Mapping[str, int], body: object = None
) -> dict[str, object]:
    """Ask the service and return the object that it answers; raises ServiceError otherwise."""
    import requests

    if not url.startswith(f"{target.base_url}/"):
        raise ServiceError(f"{target.host} goes on at {redact(url)!r}, which is another service")
    try:
        answer = session.request(method, url, params=query, json=body, timeout=_TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        where = f"{BASE_URL}={target.base_url!r} ({target.sources[BASE_URL]})"
        raise ServiceError(f"{where}: nothing answers there ({type(error).__name__}); is the service up?") from error
    if answer.status_code in _UNAUTHORIZED:
        source = target.sources[TOKEN]
        raise ServiceError(f"{TOKEN} ({source}): {target.host} refuses it ({answer.status_code}); is it a superuser's?")
    try:
        parsed = answer.json()
    except ValueError:
        parsed = None
    if answer.ok and isinstance(parsed, dict):
        return parsed
    path = url.removeprefix(target.base_url)
    raise ServiceError(f"{target.host} refuses {method} {path} ({answer.status_code}): {_brief(parsed or answer.text)}")


def _brief(said: object) -> str:
    text = said if isinstance(said, str) else json.dumps(said)
    line = redact(" ".join(text.split()))
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
