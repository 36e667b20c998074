"""Write jobs, pipelines and projects as the JSON that the service answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from ami_fault_site.sandbox.jobs import Job, JobState, LogLine, Stage

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = "dict[str, Json]"

PROJECT_ID = 1
COLLECTION_ID = 1
_STDERR_LEVELS = ("ERROR", "CRITICAL")


@dataclass
class Pipeline:
    """A pipeline that jobs may name. `algorithms` maps keys to names; empty until a worker has declared some."""

    number: int
    slug: str
    name: str
    created_at: float
    algorithms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """Who reads: where they reach the service (".../api/v2"), and whether they showed a token."""

    base_url: str
    has_token: bool

    def may(self, *actions: str) -> list[Json]:
        """Return the permissions that answers list: all with a token, none without."""
        return list(actions) if self.has_token else []


def short_job(job: Job, reader: Reader) -> JsonObject:
    """Write a job as a poll with `ids_only` shows it."""
    return {"id": job.number, "pipeline_slug": job.pipeline, "user_permissions": _job_permissions(reader)}


def listed_job(job: Job, pipeline: Pipeline, reader: Reader, lines: Sequence[LogLine] = ()) -> JsonObject:
    """Write a job as a list without `ids_only` shows it."""
    return {
        "id": job.number,
        "details": f"{reader.base_url}/jobs/{job.number}/",
        "name": job.name,
        "delay": 0,
        "limit": job.limit,
        "shuffle": False,
        "project": project(reader),
        "deployment": None,
        "source_image_collection": _collection(reader),
        "source_image_single": None,
        "pipeline": nested_pipeline(pipeline, reader),
        "status": job.status.value,
        **_times(job),
        "progress": _progress(job),
        "logs": {
            "stdout": [str(line) for line in lines],
            "stderr": [line.message for line in lines if line.level in _STDERR_LEVELS],
        },
        "job_type": {"name": "ML pipeline", "key": "ml"},
        "data_export": None,
        "dispatch_mode": "async_api",
        "user_permissions": _job_permissions(reader),
    }


def job_detail(job: Job, pipeline: Pipeline, reader: Reader, lines: Sequence[LogLine]) -> JsonObject:
    """Write a job as GET /jobs/{id}/ does."""
    return {**listed_job(job, pipeline, reader, lines), "result": None}


def _job_permissions(reader: Reader) -> list[Json]:
    return reader.may("run_single_image", "update", "delete", "run")


def _times(job: Job) -> JsonObject:
    has_ended = job.started_at is not None and job.finished_at is not None
    return {
        "created_at": _time(job.created_at),
        "updated_at": _time(job.updated_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "duration": f"{(job.finished_at or 0.0) - (job.started_at or 0.0):.6f}" if has_ended else None,
    }


def _time(seconds: float | None) -> str | None:
    # Local time without a zone is what the service writes.
    return None if seconds is None else datetime.fromtimestamp(seconds).isoformat(timespec="microseconds")


def _progress(job: Job) -> JsonObject:
    is_done = job.status == JobState.SUCCESS
    return {
        "summary": {"status": job.status.value, "progress": 1.0 if is_done else job.progress},
        "stages": [_stage(stage) for stage in job.stages],
        "errors": list(job.errors),
        "logs": [],
    }


def _stage(stage: Stage) -> JsonObject:
    return {
        "status": stage.status.value,
        "progress": stage.progress,
        "key": stage.key,
        "name": stage.key.capitalize(),
        "params": [
            {"name": name, "key": name.lower().replace(" ", "_"), "category": "default", "value": value}
            for name, value in stage.values.items()
        ],
    }


def project(reader: Reader) -> JsonObject:
    """Write the only project there is."""
    return {
        "id": PROJECT_ID,
        "name": "Sandbox project",
        "details": f"{reader.base_url}/projects/{PROJECT_ID}/",
        "user_permissions": reader.may("update", "add", "delete", "change"),
    }


def _collection(reader: Reader) -> JsonObject:
    return {
        "id": COLLECTION_ID,
        "name": "Sandbox collection",
        "details": f"{reader.base_url}/captures/collections/{COLLECTION_ID}/",
        "method": "full",
        "user_permissions": reader.may("update", "populate", "delete"),
    }


def nested_pipeline(pipeline: Pipeline, reader: Reader) -> JsonObject:
    """Write a pipeline as a job shows it."""
    return {
        "id": pipeline.number,
        "details": f"{reader.base_url}/ml/pipelines/{pipeline.number}/",
        "name": pipeline.name,
        "slug": pipeline.slug,
        "description": "",
        "version": 1,
        "version_name": "",
        "created_at": _time(pipeline.created_at),
        "updated_at": _time(pipeline.created_at),
        "user_permissions": reader.may("update", "delete"),
    }


def listed_pipeline(pipeline: Pipeline, reader: Reader) -> JsonObject:
    """Write a pipeline as GET /ml/pipelines/ lists it."""
    algorithms: list[Json] = [{"key": key, "name": name} for key, name in pipeline.algorithms.items()]
    rest: JsonObject = {"algorithms": algorithms, "stages": [], "processing_services": []}
    return {**nested_pipeline(pipeline, reader), **rest, "project_pipeline_configs": []}
