"""What the page's parts say of a history: lanes, spans and links, what became of what was struck, rates, steps."""

from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.report.contents import FaultRow
from ami_fault_site.report.page.chances import chance, wilson
from ami_fault_site.report.page.concerns import Concerns
from ami_fault_site.report.page.histogram import histogram, nice
from ami_fault_site.report.page.lanes import Lanes, lanes
from ami_fault_site.report.page.marks import marks
from ami_fault_site.report.page.matrix import Became, matrix
from ami_fault_site.report.page.settings_shown import settings_shown
from ami_fault_site.report.page.spans import Link, Span, spans
from ami_fault_site.report.page.throughput import pace
from ami_fault_site.report.page.timescale import Timescale
from ami_fault_site.settings import Settings
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.ends import How
from tests.booked import Books, facts, witness
from tests.report_cases import ENDED, short_case


def laid(case: Case) -> Lanes:
    return lanes(case, Timescale(case))


def held(case: Case) -> tuple[list[Span], list[Link]]:
    times = Timescale(case)
    return spans(case, times, lanes(case, times))


# --- lanes


def test_the_lives_of_a_worker_follow_one_another_in_one_lane() -> None:
    found = laid(short_case())

    assert found.names == ("worker",)
    assert [(bar.name, bar.lane, bar.is_injected) for bar in found.bars] == [
        ("incarnation 1", 0, True),
        ("incarnation 2", 0, False),
    ]
    assert found.bars[0].ended <= found.bars[1].began
    assert found.bars[0].how == "an injected crash, exit code 86"


def test_workers_side_by_side_have_a_lane_each_whenever_they_began() -> None:
    books = Books()
    supervisor = books.supervisor()
    for incarnation, worker, at in ((1, 1, 0.1), (2, 2, 0.2), (3, 1, 5.0), (4, 2, 4.0)):
        supervisor.spawn(at, incarnation, worker=worker)
        books.process(10 + incarnation, incarnation).start(at + 0.1)
    supervisor.exit(3.0, 1, "injected")
    supervisor.exit(3.5, 2, "injected")
    found = laid(books.case(facts()))

    assert found.names == ("worker 1", "worker 2")
    assert {bar.name: bar.lane for bar in found.bars} == {
        "incarnation 1": 0, "incarnation 3": 0,
        "incarnation 2": 1, "incarnation 4": 1,
    }  # fmt: skip


def test_unsupervised_lives_share_a_lane_as_long_as_they_do_not_overlap() -> None:
    books = Books()
    for pid, began, last in ((10, 1.0, 4.0), (20, 3.0, 9.0), (30, 5.0, 6.0)):
        process = books.process(pid, 0).start(began)
        process.poll(last)
    found = laid(books.case(facts()))

    assert found.names == ("worker 1 on h", "worker 2 on h")
    assert [bar.lane for bar in found.bars] == [0, 1, 0]


# --- spans


def test_each_delivery_is_a_span_in_the_first_row_that_is_free_and_each_return_a_link() -> None:
    found, links = held(short_case())

    told = [(one.task.key[1], one.delivery, one.row, one.how) for one in found]
    assert told == [
        (1, 1, 1, How.ACCEPTED),
        (2, 1, 2, How.ACCEPTED),
        (3, 1, 3, How.DROPPED),
        (4, 1, 4, How.DROPPED),
        (3, 2, 1, How.ACCEPTED),
        (4, 2, 2, How.ACCEPTED),
    ]
    assert [(link.before, link.after) for link in links] == [(2, 4), (3, 5)]
    assert all(one.began <= one.ended for one in found)


def test_times_are_counted_from_the_first_thing_that_was_booked() -> None:
    case = short_case()
    times = Timescale(case)
    struck = marks(case, times, lanes(case, times), Concerns(case))

    assert [(one.at, one.effect) for one in struck] == [(1.1, "image-404"), (1.8, "crash")]
    assert [[task.key[1] for task in one.tasks] for one in struck] == [[2], [3, 4]]
    assert times.end == 12.1


# --- what became of what was struck


def test_a_fault_is_told_by_the_gravest_of_what_became_of_its_tasks() -> None:
    case = short_case()

    told = {row.fault: (row.struck, row.became) for row in matrix(case, Concerns(case))}
    assert told == {
        "crash: exit": (1, {Became.CAME_BACK: 1}),
        "image-404: http-404": (1, {Became.FAILED: 1}),
    }


def test_a_crash_did_not_fail_a_task_whose_image_was_missing_anyhow() -> None:
    books = Books()
    supervisor = books.supervisor()
    supervisor.spawn(0.1, 1)
    first = books.process(11).start(0.5)
    first.fetch(1.0, 7, (1, 1))
    first.strike(1.2, Effect.CRASH, 7, (1, 1), kind="exit")
    supervisor.exit(1.3, 1, "injected")
    supervisor.spawn(2.0, 2)
    second = books.process(21, incarnation=2).start(2.1)
    second.fetch(9.5, 7, (1, 2))
    second.strike(9.6, Effect.IMAGE_404, 7, image="1", kind="http-404")
    second.post(9.8, 7, (1, 2), failed=(1,))
    case = books.case(facts(witness(7, "SUCCESS", 1, 0, 1)))

    assert {row.fault: row.became for row in matrix(case, Concerns(case))} == {
        "crash: exit": {Became.CAME_BACK: 1},
        "image-404: http-404": {Became.FAILED: 1},
    }


def test_what_struck_a_post_is_told_by_that_posts_tasks_and_a_poll_has_none() -> None:
    books = Books()
    main = books.process(11).start(0.5)
    main.fetch(1.0, 7, (1, 1), (2, 1))
    main.fail(1.5, "jobs", None, struck=True, status=503)
    main.strike(1.5, Effect.NETWORK, None, kind="http-503", site="jobs")
    main.post(2.0, 7, (1, 1))
    main.post(3.0, 7, (2, 1), outcome=None)
    main.strike(3.1, Effect.NETWORK, 7, kind="reset")
    case = books.case(facts(witness(7, "STARTED", 1, 1)))
    told = {row.fault: row.became for row in matrix(case, Concerns(case))}

    assert told["network-error: http-503"] == {Became.NO_TASK: 1}


# --- rates and steps


def test_the_interval_of_a_rate_is_wilsons() -> None:
    low, high = wilson(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)  # as published tables have it
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


@pytest.mark.parametrize(
    ("rates", "injected", "expected"),
    [((0.1,), 10, True), ((0.5,), 10, False), ((), 10, None), ((0.1, 0.5), 10, False)],
)
def test_a_set_rate_is_expected_or_not(rates: tuple[float, ...], injected: int, expected: bool | None) -> None:
    assert chance(FaultRow("crash", rates, 100, injected, injected / 100)).expected is expected


def test_where_nothing_was_eligible_nothing_is_said_of_the_rate() -> None:
    one = chance(FaultRow("crash", (0.1,), 0, 0, None))
    assert (one.low, one.high, one.expected) == (None, None, None)


@pytest.mark.parametrize(("width", "step"), [(1.0, 1.0), (1.01, 2.0), (3, 5.0), (7, 10.0), (0.04, 0.05), (200, 200.0)])
def test_steps_are_widths_that_people_read_off(width: float, step: float) -> None:
    assert nice(width) == pytest.approx(step)


def test_every_value_is_counted_once_and_no_step_is_too_narrow_or_too_many() -> None:
    values = [0.0, 0.9, 1.0, 7.3, 59.9, 60.0]
    found = histogram(values, 10, 0.5)

    assert (found.width, found.counts) == (10.0, (4, 0, 0, 0, 0, 1, 1))
    assert sum(found.counts) == len(values)
    assert histogram([0.1, 0.2], 10, 0.5).width == 0.5
    assert histogram([], 10, 0.5).counts == ()


def test_a_run_is_one_point_of_throughput_and_fault_rate() -> None:
    found = pace(short_case(), "short")

    assert found is not None
    assert found.faults_a_hundred_tasks == 50.0
    assert found.answered_a_second == pytest.approx(4 / 8.8, rel=0.02)
    assert pace(Books().case(facts(ENDED)), "empty") is None


# --- settings


def test_a_setting_is_told_with_where_it_came_from_as_far_as_its_profile_tells() -> None:
    shown = settings_shown(Settings(profile="medium", worker_crash_rate=0.05, network_error_rate=0.5, seed=7))

    sources = {one.name: one.source for one in shown}
    assert sources["AMI_TEST_WORKER_CRASH_RATE"] == "profile medium"
    assert sources["AMI_TEST_NETWORK_ERROR_RATE"] == "set for this run"
    assert all(one.meaning for one in shown)
    assert {one.source for one in settings_shown(Settings(profile="./gone.env", seed=7))} == {"set for this run"}
