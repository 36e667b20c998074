"""Set the rate at which a fault was to strike against the rate at which it did, with what chance allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ami_fault_site.report.contents import FaultRow

_Z = 1.959963984540054
"""The two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Chance:
    """One kind of fault: the rates that were set, the observed one and its 95 % interval; None if nothing was eligible.

    `expected` is whether all rates that were set lie in the interval, None where none was set or nothing was eligible.
    """

    effect: str
    set_rates: tuple[float, ...]
    observed: float | None
    low: float | None
    high: float | None
    expected: bool | None


def wilson(struck: int, eligible: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share; `eligible` must be above 0.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    """
    share, spread = struck / eligible, _Z**2 / eligible
    middle = (share + spread / 2) / (1 + spread)
    reach = _Z / (1 + spread) * math.sqrt(share * (1 - share) / eligible + spread / (4 * eligible))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def chance(row: FaultRow) -> Chance:
    """Return what chance says of one kind of fault."""
    rates = tuple(rate for rate in row.set_rates if rate)
    if not row.eligible or row.observed_rate is None:
        return Chance(row.effect, rates, None, None, None, None)
    low, high = wilson(row.injected, row.eligible)
    expected = all(low <= rate <= high for rate in rates) if rates else None
    return Chance(row.effect, rates, row.observed_rate, low, high, expected)
