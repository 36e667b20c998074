"""Read from a reply subject which delivery of which task it is, and from a job which run and how large."""

from __future__ import annotations

from dataclasses import dataclass

from ami_fault_site.sandbox.jobs import Job

Run = tuple[int, "float | None"]
_FIELDS = 9


@dataclass(frozen=True)
class Place:
    """One delivery of a task: `sequence` is the task's place in its job, `delivery` counts from 1."""

    sequence: int
    delivery: int


def place_of(reply: str) -> Place | None:
    """Return what a reply subject says, None if it is none of JetStream's."""
    parts = reply.split(".")
    numbers = parts[4:6]
    if len(parts) != _FIELDS or not all(part.isascii() and part.isdigit() for part in numbers):
        return None
    return Place(sequence=int(numbers[1]), delivery=int(numbers[0]))


def run_of(job: Job) -> Run:
    """Return what tells one run of a job from the next: a retry counts sequences from 1 again."""
    return job.number, job.started_at


def size_of(job: Job) -> int:
    """Return how many images a started job has."""
    values = job.collect.values
    return int(values.get("Limit", values["Total Images"]))
