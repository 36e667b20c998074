"""What a benchmark found: rows of one table, beside what they are held against and the goals that were set before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Spread:
    """What was measured several times: the median, and between which two figures the middle half of them lies."""

    median: float
    low: float
    high: float
    runs: int


def spread(figures: Sequence[float]) -> Spread:
    """Return the median and the quartiles; a figure alone is its own spread."""
    if len(figures) < 2:
        return Spread(figures[0], figures[0], figures[0], len(figures))
    low, middle, high = quantiles(figures, n=4, method="inclusive")
    return Spread(middle, low, high, len(figures))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of those that were measured side by side."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def added(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the differences of those that were measured side by side."""
    return median(one - other for one, other in zip(ours, theirs, strict=True))


@dataclass(frozen=True)
class Goal:
    """What a row is to reach. `figure` names the field of the row that it is about: median, ratio or added."""

    text: str
    figure: str
    most: float | None = None
    least: float | None = None

    def is_met_by(self, figure: float) -> bool:
        """Say whether a figure reaches it."""
        return (self.most is None or figure <= self.most) and (self.least is None or figure >= self.least)


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` and `added` are against `against`; `promise` is what it belongs to.

    A peer that could not be installed or run has a row without a figure, and a note that says why.
    """

    promise: str
    subject: str
    unit: str
    measured: Spread | None = None
    against: str = ""
    ratio: float | None = None
    added: float | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None where none was set."""
        if self.goal is None:
            return None
        figure = self.ratio if self.goal.figure == "ratio" else self.added if self.goal.figure == "added" else None
        if self.goal.figure == "median" and self.measured is not None:
            figure = self.measured.median
        return figure is not None and self.goal.is_met_by(figure)


def paired(
    promise: str,
    subject: str,
    unit: str,
    ours: Sequence[float],
    against: tuple[str, Sequence[float]],
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """Return the row of what was measured side by side with something else."""
    name, theirs = against
    return Row(promise, subject, unit, spread(ours), name, ratio(ours, theirs), added(ours, theirs), goal, note)


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows as they are written to a JSON file."""
    return [{**asdict(row), "is_met": row.is_met} for row in rows]


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as one Markdown table, those of a promise together."""
    promises = list(dict.fromkeys(row.promise for row in rows))
    rows = sorted(rows, key=lambda row: promises.index(row.promise))
    lines = ["| | median (middle half) | against | ratio | added | goal | |", "|---|---|---|---|---|---|---|"]
    promise = ""
    for row in rows:
        if row.promise != promise:
            promise = row.promise
            lines.append(f"| **{promise}** | | | | | | |")
        lines.append("| " + " | ".join(_cells(row)) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    met = {None: "", True: "met", False: "**not met**"}[row.is_met]
    said = f"{row.subject} ({row.note})" if row.note else row.subject
    measured = "not measured"
    if row.measured is not None:
        measured = f"{_number(row.measured.median)} {row.unit}".strip()
        if row.measured.runs > 1:
            measured += f" ({_number(row.measured.low)} to {_number(row.measured.high)})"
    ratio_text = "" if row.ratio is None else f"{row.ratio:.3f}" if row.ratio < 10 else f"{row.ratio:.0f}"
    added_text = "" if row.added is None else f"{_number(row.added, sign=True)} {row.unit}".strip()
    return [said, measured, row.against, ratio_text, added_text, row.goal.text if row.goal else "", met]


def _number(value: float, sign: bool = False) -> str:
    """Write a figure with as many digits as say something."""
    digits = 0 if abs(value) >= 1000 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:{'+' if sign else ''},.{digits}f}"
