"""A pure model of service and workers: random histories together with the truth, to test the judge."""

from __future__ import annotations

from tests.model.folders import write
from tests.model.play import Modelled, play
from tests.model.scenario import SLUGS, Misbehaviour, Reaper, Sabotage, Scenario
from tests.model.scenarios import healthy, misbehaving, sabotaged, wild
from tests.model.truth import JobTruth, TaskTruth, Truth

__all__ = [
    "SLUGS",
    "JobTruth",
    "Misbehaviour",
    "Modelled",
    "Reaper",
    "Sabotage",
    "Scenario",
    "TaskTruth",
    "Truth",
    "healthy",
    "misbehaving",
    "play",
    "sabotaged",
    "wild",
    "write",
]
