"""The ledger read back, as one thing that can be asked: what was handed out, to whom, and what became of it."""

from __future__ import annotations

from ami_fault_site.history.fold import PACE_SECONDS, History
from ami_fault_site.history.records import (
    KEPT_REFS,
    Batch,
    Injection,
    JobRecord,
    Lease,
    Life,
    Note,
    Pace,
    Place,
    Post,
    Process,
    Ref,
    Seen,
    Tally,
    Task,
    TaskKey,
    Trouble,
)

__all__ = [
    "KEPT_REFS",
    "PACE_SECONDS",
    "Batch",
    "History",
    "Injection",
    "JobRecord",
    "Lease",
    "Life",
    "Note",
    "Pace",
    "Place",
    "Post",
    "Process",
    "Ref",
    "Seen",
    "Tally",
    "Task",
    "TaskKey",
    "Trouble",
]
