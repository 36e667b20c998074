"""Answer a poll: which jobs match, in what order, and how many at a time. Pure: chance is passed in."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ami_fault_site.sandbox.bodies import BadBody
from ami_fault_site.sandbox.jobs import Job, JobState

PAGE_SIZE = 10
_TRUE_WORDS = ("1", "true", "yes", "on")
_DISPATCH_MODES = ("internal", "sync_api", "async_api")


@dataclass(frozen=True)
class Page:
    """One page of jobs, of so many that match, and the addresses of the pages beside it."""

    jobs: Sequence[Job]
    count: int
    after: str | None
    before: str | None


def wants_ids_only(query: Mapping[str, str]) -> bool:
    """Say whether a poll asks for ids and pipelines only, which is how workers ask for their next job."""
    return _is_true(query, "ids_only")


def page(jobs: Iterable[Job], query: Mapping[str, str], url: str, chance: random.Random) -> Page:
    """Return the page that a poll asks for; raise BadBody for a filter that cannot be.

    With `ids_only` the order is random and one job a page is the rule, so that workers spread over the jobs.
    """
    matching = [job for job in sorted(jobs, key=lambda job: -job.number) if _matches(job, query)]
    ids_only = wants_ids_only(query)
    if ids_only:
        chance.shuffle(matching)
    limit = _number(query, "limit", least=1, default=1 if ids_only else PAGE_SIZE)
    offset = _number(query, "offset", least=0, default=0)
    count = len(matching)
    after = _with(url, limit=limit, offset=offset + limit) if offset + limit < count else None
    before = None
    if offset > 0:
        before = _with(url, limit=limit, offset=offset - limit if offset > limit else None)
    return Page(matching[offset : offset + limit], count, after, before)


def _matches(job: Job, query: Mapping[str, str]) -> bool:
    slugs = [slug.strip() for slug in query.get("pipeline__slug__in", "").split(",") if slug.strip()]
    return (
        (not slugs or job.pipeline in slugs)
        and query.get("pipeline__slug", job.pipeline) in ("", job.pipeline)
        and _choice(query, "dispatch_mode", _DISPATCH_MODES) in ("", "async_api")
        and _choice(query, "status", [state.value for state in JobState]) in ("", job.status.value)
        and (job.is_listed_incomplete or not _is_true(query, "incomplete_only"))
    )


def _choice(query: Mapping[str, str], key: str, allowed: Sequence[str]) -> str:
    value = query.get(key, "")
    if value and value not in allowed:
        raise BadBody({key: [f"Select a valid choice. {value} is not one of the available choices."]})
    return value


def _is_true(query: Mapping[str, str], key: str) -> bool:
    return query.get(key, "").lower() in _TRUE_WORDS


def _number(query: Mapping[str, str], key: str, least: int, default: int) -> int:
    text = query.get(key, "")
    is_number = text.isascii() and text.isdigit() and int(text) >= least
    return int(text) if is_number else default


def _with(url: str, **numbers: int | None) -> str:
    """Set these query parameters of an address, or take them out; sorted, as the service does."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key, value in numbers.items():
        query.pop(key, None)
        if value is not None:
            query[key] = str(value)
    return urlunsplit(parts._replace(query=urlencode(sorted(query.items()))))
