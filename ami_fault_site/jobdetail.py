"""Say what the service tells of a job: its state, its counts, its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FINAL_STATES = ("SUCCESS", "FAILURE", "REVOKED")
"""States from which the service takes a job no further."""


class JobDetail(NamedTuple):
    """What the service says of a job: its state, its own counts (None until first set) and its error texts."""

    job: int
    status: str
    processed: int | None
    remaining: int | None
    failed: int | None
    errors: tuple[str, ...]

    @property
    def is_final(self) -> bool:
        """Whether the service takes the job no further."""
        return self.status in FINAL_STATES


def job_detail(parsed: Mapping[str, object]) -> JobDetail:
    """Read the answer of GET /jobs/{id}/, whatever parts of it are missing."""
    progress = parsed.get("progress")
    progress = progress if isinstance(progress, Mapping) else {}
    counts = _process_counts(progress.get("stages"))
    errors = progress.get("errors")
    job = parsed.get("id")
    return JobDetail(
        job=job if isinstance(job, int) else 0,
        status=str(parsed.get("status", "")),
        processed=counts.get("processed"),
        remaining=counts.get("remaining"),
        failed=counts.get("failed"),
        errors=tuple(str(error) for error in errors) if isinstance(errors, list) else (),
    )


def _process_counts(stages: object) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stage in stages if isinstance(stages, list) else []:
        params = stage.get("params") if isinstance(stage, Mapping) and stage.get("key") == "process" else None
        for param in params if isinstance(params, list) else []:
            if isinstance(param, Mapping):
                value = param.get("value")
                if isinstance(value, int):
                    counts[str(param.get("key"))] = value
    return counts
