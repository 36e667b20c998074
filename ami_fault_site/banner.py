"""Say in a few lines what is armed, for whoever reads the worker's output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ami_fault_site.faults import Layer, Seam
from ami_fault_site.settings import Settings, plain


def banner(settings: Settings, seams: Mapping[Seam, str], host: str, run: Path, budget: str) -> list[str]:
    """Return the lines; `budget` says how often a task is handed out and how that is known."""
    lines = [
        f"incarnation {settings.incarnation} armed at {', '.join(f'{s.value} ({t})' for s, t in seams.items())}",
        f"rates: {_rates(settings)}; seed {settings.seed}",
        *(f"rule: {rule}" for rule in settings.rules),
        *_places(settings),
        f"target {host}; {budget}; run folder {run}",
    ]
    deadly = settings.worker_crash_rate or settings.transient_error_rate
    if Seam.TASK not in seams and deadly:
        lines.append(
            "crash and transient faults cannot strike yet: no known task loop is loaded (AMI_TEST_TASK_LOOP names one)"
        )
    if settings.jobs:
        jobs = ", ".join(map(str, sorted(settings.jobs)))
        lines.append(f"only job {jobs} is worked on: all others are kept from the worker (AMI_TEST_JOBS)")
    if settings.dry_run:
        lines.append("dry run: what would strike is booked, nothing is touched (AMI_TEST_DRY_RUN)")
    return lines


def _rates(settings: Settings) -> str:
    rates = {
        "crash": settings.worker_crash_rate,
        "network": settings.network_error_rate,
        "corrupt": settings.corrupt_image_rate,
        "404": settings.image_404_rate,
        "transient": settings.transient_error_rate,
    }
    named = [
        (len(settings.permanent_error_images), "permanent images"),
        (len(settings.exhaust), "images kept from the worker"),
    ]
    told = [f"{name} {rate:g}" for name, rate in rates.items() if rate] or ["none"]
    return ", ".join([*told, *(f"{number} {what}" for number, what in named if number)])


def _places(settings: Settings) -> list[str]:
    """Tell where and how, as far as that is not as ever."""
    default = Settings()
    told = []
    if settings.network_layer is Layer.ATTEMPT:
        told.append("network faults strike each attempt, below the worker's retries")
    if settings.worker_crash_rate and (settings.crash_mode, settings.crash_points) != (
        default.crash_mode,
        default.crash_points,
    ):
        told.append(f"crashes by {settings.crash_mode.value} at {plain(settings.crash_points)}")
    return ["; ".join(told)] if told else []
