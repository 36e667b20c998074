"""Name the worker's pipelines, and the two algorithms that its answers point to."""

from __future__ import annotations

from dataclasses import dataclass

PIPELINES = ("moth_binary", "panama_moths_2024", "quebec_vermont_moths_2023")
"""What the worker asks for if it is told nothing."""

LABELS = ("nonmoth", "moth")
"""The classifier's categories, in the order of its scores."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm under the key that the service knows it by.

    The service throws away a result that names a key which the pipeline does not declare, after having accepted it.
    These two are declared by each of the real worker's pipelines of the same names.
    """

    name: str
    key: str
    task_type: str
    labels: tuple[str, ...] = ()

    def reference(self) -> dict[str, str]:
        """Return what a result says of the algorithm."""
        return {"name": self.name, "key": self.key}

    def description(self) -> dict[str, object]:
        """Return what a registration says of the algorithm."""
        categories = [{"index": index, "label": label} for index, label in enumerate(self.labels)]
        labels = {"data": categories, "labels": list(self.labels), "version": "sample"} if self.labels else None
        version = {"version": 1, "version_name": "sample"}
        return {**self.reference(), "task_type": self.task_type, **version, "category_map": labels}


DETECTOR = Algorithm("FasterRCNN for AMI Moth Traps 2023", "fasterrcnn_for_ami_moth_traps_2023", "localization")
CLASSIFIER = Algorithm("Moth / Non-Moth Classifier", "moth_nonmoth_classifier", "classification", LABELS)


def description(slug: str) -> dict[str, object]:
    """Return what a registration says of a pipeline."""
    algorithms = [algorithm.description() for algorithm in (DETECTOR, CLASSIFIER)]
    name = slug.replace("_", " ").capitalize()
    what = "Statistics of the picture, in the shape of a detection."
    return {"name": name, "slug": slug, "version": 1, "description": what, "algorithms": algorithms}
