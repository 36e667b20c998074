"""Gather what the page's script draws and lists, as plain values that JSON holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ami_fault_site.history import Task
from ami_fault_site.report.contents import Report
from ami_fault_site.report.page import stories
from ami_fault_site.report.page.chances import Chance, chance
from ami_fault_site.report.page.concerns import Concerns
from ami_fault_site.report.page.histogram import Histogram, histogram
from ami_fault_site.report.page.lanes import Lanes, lanes
from ami_fault_site.report.page.marks import Mark, NoteMark, marks, notes
from ami_fault_site.report.page.matrix import Row, matrix
from ami_fault_site.report.page.spans import Link, Span, spans
from ami_fault_site.report.page.stories import TaskRow
from ami_fault_site.report.page.throughput import Pace, answered
from ami_fault_site.report.page.timescale import Timescale
from ami_fault_site.verdict.case import Case
from ami_fault_site.verdict.ends import How

_STEPS, _LEAST = 40, 0.1  # of the times to come back: steps at most, and their least width in seconds


@dataclass(frozen=True)
class Drawing:
    """Everything that is drawn or listed. Times are in seconds of the timescale."""

    times: Timescale
    lanes: Lanes
    spans: Sequence[Span]
    links: Sequence[Link]
    marks: Sequence[Mark]
    notes: Sequence[NoteMark]
    recovery: Histogram
    answered: Histogram
    chances: Sequence[Chance]
    matrix: Sequence[Row]
    paces: Sequence[Pace]
    tasks: Sequence[Task]
    rows: Sequence[TaskRow]

    def as_data(self, ack_wait: float | None) -> dict[str, object]:
        """Return it for JSON; `ack_wait` in seconds, None if it is not known."""
        hows = list(How)
        causes = {cause: place for place, cause in enumerate(dict.fromkeys(one.cause for one in self.spans))}
        places = {task.key: place for place, task in enumerate(self.tasks)}
        return {
            "start": self.times.start,
            "end": self.times.end,
            "ackWait": ack_wait,
            "lanes": self.lanes.names,
            "bars": [[one.name, one.lane, one.began, one.ended, one.how, one.is_injected] for one in self.lanes.bars],
            "hows": [how.value for how in hows],
            "causes": list(causes),
            "spans": [
                [
                    places[one.task.key], one.delivery, one.lane, one.row, one.began, one.ended,
                    hows.index(one.how), causes[one.cause],
                ]
                for one in self.spans
            ],
            "links": [[one.before, one.after] for one in self.links],
            "marks": [
                [one.effect, one.kind, one.where, one.lane, one.at, one.job, [places[task.key] for task in one.tasks]]
                for one in self.marks
            ],
            "notes": [[one.at, one.text] for one in self.notes],
            "recovery": [self.recovery.width, self.recovery.counts],
            "answered": [self.answered.width, self.answered.counts],
            "chances": [[one.effect, one.set_rates, one.observed, one.low, one.high] for one in self.chances],
            "paces": [[one.name, one.answered_a_second, one.faults_a_hundred_tasks] for one in self.paces],
            "tasks": [
                [one.job, one.sequence, one.image, one.deliveries, one.fate, one.whose, one.marks] for one in self.rows
            ],
        }  # fmt: skip


def drawing(case: Case, report: Report, seconds_to_come_back: Sequence[float], paces: Sequence[Pace]) -> Drawing:
    """Lay out a case. `paces` are the runs whose throughput is compared."""
    times, concerns = Timescale(case), Concerns(case)
    laid = lanes(case, times)
    held, links = spans(case, times, laid)
    rows, tasks = stories.rows(case)
    return Drawing(
        times=times,
        lanes=laid,
        spans=held,
        links=links,
        marks=marks(case, times, laid, concerns),
        notes=notes(case, times),
        recovery=histogram(seconds_to_come_back, _STEPS, _LEAST),
        answered=answered(case, times),
        chances=[chance(row) for row in report.faults],
        matrix=matrix(case, concerns),
        paces=paces,
        tasks=tasks,
        rows=rows,
    )
