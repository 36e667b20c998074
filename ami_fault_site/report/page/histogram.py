"""Count values into steps of equal width that people can read off an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_NICE = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Histogram:
    """`counts` of values from 0 on, each step `width` wide; the last step holds the greatest value."""

    width: float
    counts: tuple[int, ...]


def nice(width: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten that is no smaller; `width` must be above 0."""
    scale = 10.0 ** math.floor(math.log10(width))
    return next(step * scale for step in _NICE if step * scale >= width * (1 - 1e-9))


def histogram(values: Sequence[float], most: int, least_width: float) -> Histogram:
    """Count values that are not negative into `most` steps at most, none narrower than `least_width`."""
    if not values:
        return Histogram(nice(least_width), ())
    width = nice(max(max(values) / most, least_width))
    counts = [0] * (int(max(values) / width) + 1)
    for value in values:
        counts[int(value / width)] += 1
    return Histogram(width, tuple(counts))
