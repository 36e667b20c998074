"""Name the ways in which a sandbox can be told to misbehave, and find the kind of backend that does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ami_fault_site.sandbox.backend import Backend


@dataclass(frozen=True)
class Sabotage:
    """What goes wrong, in one sentence, and the class that does it wrong (module of this package, and its name).

    The class is named and not imported: who only lists the sabotages has neither FastAPI nor NATS.
    """

    meaning: str
    how: str


SABOTAGES: Mapping[str, Sabotage] = {
    "never-redelivers": Sabotage(
        "A task that was handed out and not answered never comes back.",
        "tasks:NeverRedelivers",
    ),
    "redelivers-late": Sabotage(
        "An unanswered task comes back only after 3 times ack_wait and 3 seconds.",
        "tasks:RedeliversLate",
    ),
    "redelivers-forever": Sabotage(
        "Every 5th task is never acknowledged and comes back again and again, although it was answered.",
        "tasks:RedeliversForever",
    ),
    "hands-out-twice": Sabotage(
        "Every 4th task is handed out a second time at once, while whoever got it first still has it.",
        "tasks:HandsOutTwice",
    ),
    "strands-last-batch": Sabotage(
        "The last 4 tasks of a job (a quarter, if that is fewer) are counted and never handed out.",
        "tasks:StrandsLastBatch",
    ),
    "invents-tasks": Sabotage(
        "3 tasks are handed out beyond those of the job, for images that it does not have.",
        "tasks:InventsTasks",
    ),
    "starves-second-job": Sabotage(
        "Only the first job is served; tasks of the others are asked for in vain.",
        "tasks:StarvesSecondJob",
    ),
    "acks-before-saving": Sabotage(
        "Answers are acknowledged at once, and every 5th is then forgotten instead of saved.",
        "answers:AcksBeforeSaving",
    ),
    "records-half": Sabotage(
        "All answers of a post are acknowledged, and only the first half of them is recorded.",
        "answers:RecordsHalf",
    ),
    "error-as-success": Sabotage(
        "An error answer is counted as a success.",
        "answers:ErrorAsSuccess",
    ),
    "success-as-failure": Sabotage(
        "Every 6th success is counted as failed.",
        "answers:SuccessAsFailure",
    ),
    "collapses-after-fault": Sabotage(
        "After the first task that is handed out again, or the first error answer, 6 posts are answered with 500.",
        "answers:CollapsesAfterFault",
    ),
    "forgets-exhausted": Sabotage(
        "Images that the reaper gives up are not counted at all, and the job ends in SUCCESS.",
        "answers:ForgetsExhausted",
    ),
    "early-success": Sabotage(
        "The job ends in SUCCESS when half of its images are processed, although tasks are still out.",
        "ends:EarlySuccess",
    ),
    "serves-after-end": Sabotage(
        "After the job's end its last 4 tasks go on being handed out, and polls go on listing it.",
        "ends:ServesAfterEnd",
    ),
    "reopens-finished-job": Sabotage(
        "A job that has ended in SUCCESS is STARTED again 1.5 seconds later, and stays so.",
        "ends:ReopensFinishedJob",
    ),
    "never-ends": Sabotage(
        "The job stays STARTED although all of its images are counted.",
        "ends:NeverEnds",
    ),
}
"""Every sabotage by its name. Each has been met in a real task service, or is one bug away from what has."""


def backend_kind(name: str) -> type[Backend]:
    """Return the kind of backend that misbehaves so, or the healthy one for "". Raises KeyError for other names."""
    how = f"{__name__}.{SABOTAGES[name].how}" if name else "ami_fault_site.sandbox.backend:Backend"
    kind: type[Backend] = resolve_name(how)
    return kind
