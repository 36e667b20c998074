"""Counts in memory, for decisions without a run folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ami_fault_site.faults import Limit


@dataclass
class Counting:
    """Counts in memory what a run counts over all its processes."""

    counts: Counter[str] = field(default_factory=Counter)

    def passed(self, name: str) -> int:
        self.counts[name] += 1
        return self.counts[name]

    def has_room(self, limit: Limit) -> bool:
        return self.counts[limit.name] < limit.most
