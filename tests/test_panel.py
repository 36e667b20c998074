from __future__ import annotations

import io

import pytest
from rich.console import Console

from ami_fault_site.panel import panel
from ami_fault_site.progress import Happened, JobStanding, Standing, WorkerStanding

NOW = Standing(
    handed_out=1234,
    out=20,
    answered=1214,
    failed=3,
    came_back=7,
    faults={"crash": 2, "network-error": 5},
    workers=(WorkerStanding(1, 4, "at work"), WorkerStanding(2, 3, "crashed by a fault", 4.2)),
    jobs=(JobStanding(7, 1214, "STARTED", 1200, None, 34),),
    last=(Happened(0.0, "crash: kill"), Happened(1.0, "operator: \x1b[31mkilled\r celeryworker")),
    heard=2.0,
    outcome="",
)


def drawn(width: int, waiting_for: str = "the end of job 7 (STARTED)") -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(panel(NOW, waiting_for))
    return stream.getvalue().splitlines()


def test_the_panel_tells_tasks_faults_workers_jobs_and_what_happened_last() -> None:
    lines = [line.rstrip() for line in drawn(120)]

    assert lines[0] == "20 out   1,214 answered   3 failed   7 came back"
    assert lines[1:5] == [
        "faults   2 crash, 5 network-error",
        "worker 1 incarnation 4, at work",
        "worker 2 incarnation 3, crashed by a fault; starts again in 4 s",
        "job 7    ours 1214 answered; service 1200 processed, ? failed, 34 remaining, STARTED",
    ]
    assert lines[5].endswith("crash: kill")
    assert lines[-1] == "waiting for the end of job 7 (STARTED)"


def test_foreign_text_moves_no_cursor_and_colours_nothing() -> None:
    assert drawn(120)[6].rstrip().endswith("operator:  [31mkilled  celeryworker")


@pytest.mark.parametrize("width", [80, 40, 20])
def test_nothing_is_lost_and_no_line_is_wider_where_the_terminal_is_narrow(width: int) -> None:
    lines = drawn(width)
    letters = ["".join("".join(one).split()) for one in (lines, drawn(200))]

    assert letters[0] == letters[1]
    assert max(map(len, lines)) <= width
