"""Write a modelled history to run folders on disk, as the real thing would have left them."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path

from ami_fault_site import runfolder
from ami_fault_site.sandbox import jobs as sandbox_jobs
from ami_fault_site.sandbox import shapes
from ami_fault_site.settings import Settings
from tests.model.booking import EPOCH, DiskShelf, as_line
from tests.model.play import Modelled, Stage
from tests.model.scenario import Scenario
from tests.model.supervisor import Look

_BASE_URL = "http://127.0.0.1:9000/api/v2"
_CUT_LOG = 30  # lines that are left of a log that does not reach back to the job's start


def write(modelled: Modelled, folder: Path) -> dict[str, Path]:
    """Write each run to a folder of its own under `folder`, and return where they are, by name."""
    found = {}
    for name, settings in modelled.runs.items():
        run = _make(settings, folder / (name or "run"))
        for (owner, file), events in modelled.events.items():
            if owner == name:
                (run.ledger / file).write_text("".join(as_line(event) for event in events))
        for number, look in enumerate(modelled.looks[name], 1):
            _write_snapshot(modelled, run, look, number)
        found[name] = run.path
    return found


def _make(settings: Settings, path: Path) -> runfolder.RunFolder:
    return runfolder.join(settings._replace(run_dir=str(path)), path.parent).run


def _write_snapshot(modelled: Modelled, run: runfolder.RunFolder, look: Look, number: int) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(modelled.wall + look.at))
    detail = job_json(modelled, look)
    name = f"{look.detail.job}-{stamp}-{number:04d}-{look.why}.json"
    (run.jobs / name).write_text(json.dumps(detail, indent=1))


def job_json(modelled: Modelled, look: Look) -> shapes.JsonObject:
    """Return what the service answers when it is asked about a job, in the sandbox's own shape."""
    told, scenario = look.detail, modelled.scenario
    job = sandbox_jobs.Job(told.job, f"model job {told.job}", "moth_binary", EPOCH)
    if told.status != "CREATED":
        job.start(EPOCH, frozenset(str(n) for n in range(1, scenario.images + 1)), scenario.images)
    job.status = sandbox_jobs.JobState(told.status)
    job.errors = list(told.errors)
    if told.processed is not None:
        counts = {"Processed": told.processed, "Remaining": told.remaining or 0, "Failed": told.failed or 0}
        job.process.values = dict(counts)
    lines = [sandbox_jobs.LogLine(EPOCH + at, level, text) for at, level, text in modelled.log[told.job]]
    lines = lines[: look.lines]
    if not scenario.knows_log:
        lines = lines[3:][-_CUT_LOG:]
    elif not scenario.knows_parameters:
        lines = [line for line in lines if "Created NATS consumer" not in line.message]
    pipeline = shapes.Pipeline(1, "moth_binary", "Moth / Non-Moth Classifier", EPOCH)
    newest_first = lines[::-1][: sandbox_jobs.LOGS_MOST]
    return shapes.job_detail(job, pipeline, shapes.Reader(_BASE_URL, has_token=True), newest_first)


@dataclass(frozen=True)
class BigRun:
    """A run folder with very many events."""

    path: Path
    events: int
    images: int
    status: str


def write_big(path: Path, images: int, settings: Settings, seed: int = 1, batch: int = 24) -> BigRun:
    """Play a run of one job with so many images, and write it as it goes.

    With batches of 24 an image takes 2.4 events without faults, and about 5 with the medium profile.
    """
    scenario = Scenario(
        seed=seed,
        images=images,
        batch=batch,
        loaders=4,
        prefetch=4,
        ack_wait=60.0,
        max_deliver=25,
        settings=settings,
        timeout=1e9,
        max_restarts=10**9,
        watch_every=3.0,
        model_time=0.01,
        load_time=0.01,
        knows_log=False,  # the log keeps its newest lines only
    )
    run = _make(settings._replace(seed=seed), path)
    shelf = DiskShelf({"": run.ledger})
    stage = Stage(scenario, shelf)
    gc.disable()  # nothing of the model is garbage before its end
    try:
        stage.play()
    finally:
        gc.enable()
        shelf.close_all()
    job = stage.service.jobs[1]
    looks = tuple(stage.last_looks(stage.runs[0]))
    empty = Modelled(scenario, {}, stage.facts(), stage.no_truth(), {}, {}, {1: tuple(job.lines)}, stage.hosts[0].wall)
    for number, look in enumerate(looks, 1):
        _write_snapshot(empty, run, look, number)
    return BigRun(run.path, shelf.events, images, job.status)
