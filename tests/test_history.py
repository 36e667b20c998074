from __future__ import annotations

import random
from pathlib import Path

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import History, Life
from ami_fault_site.ledger import Event, Ledger, Reader

PUBLISHED = 1_795_438_299_585_001_400


def event(kind: str, /, *, inc: int = 1, mono: float = 1.0, **data: object) -> Event:
    return Event(kind, 100.0 + mono, mono, "h", 5, "MainThread", inc, 1, data)


def leases(job: int, *rows: tuple[int, int], mono: float = 1.0) -> Event:
    """Return what a tasks response was booked as: rows of (sequence, delivery)."""
    booked = [[s, d, s, PUBLISHED + s, 0, str(s), f"{s}.jpg"] for s, d in rows]
    return event("leases", job=job, stream=f"job_{job}", leases=booked, mono=mono)


def answer(job: int, *rows: tuple[int, int], outcome: str = "accepted", failed: tuple[int, ...] = ()) -> Event:
    booked = [[s, d, s, PUBLISHED + s] for s, d in rows]
    errors = [[s, "failed to load image"] for s in failed]
    return event("answer", job=job, stream=f"job_{job}", outcome=outcome, tasks=booked, errors=errors, mono=2.0)


def post(job: int, *rows: tuple[int, int]) -> Event:
    """Return what is booked before a result is sent: if no answer follows, this is all that is known of it."""
    booked = [[s, d, s, PUBLISHED + s] for s, d in rows]
    return event("call", site="result", job=job, stream=f"job_{job}", tasks=booked)


def fault(effect: Effect, kind: str = "", *, inc: int = 1, counted: bool = True) -> Event:
    return event("fault", inc=inc, effect=effect.value, kind=kind, counted=counted)


def folded(*events: Event) -> History:
    history = History()
    history.add(events)
    return history


def test_an_empty_ledger_is_an_empty_history() -> None:
    assert folded() == History()
    assert History().out == []


def test_a_task_that_was_handed_out_and_not_answered_is_out() -> None:
    (task,) = folded(leases(7, (3, 1))).out

    assert (task.key, task.job, task.image) == (("job_7", 3, PUBLISHED + 3), 7, "3.jpg")
    assert (task.leases, task.accepted, task.errors, task.is_answered) == (1, 0, 0, False)


def test_a_task_whose_answer_was_accepted_is_not_out() -> None:
    history = folded(leases(7, (3, 1), (4, 1)), answer(7, (3, 1)))

    assert [task.key[1] for task in history.out] == [4]
    assert history.tasks["job_7", 3, PUBLISHED + 3].is_answered


@pytest.mark.parametrize("outcome", ["refused", "not-sent"])
def test_an_answer_that_was_refused_or_never_sent_leaves_its_tasks_out(outcome: str) -> None:
    history = folded(leases(7, (3, 1)), post(7, (3, 1)), answer(7, (3, 1), outcome=outcome))

    assert [task.key[1] for task in history.out] == [3]
    assert history.unheard == []


def test_an_answer_of_whose_fate_nothing_is_known_leaves_its_tasks_unheard_and_not_out() -> None:
    died = folded(leases(7, (3, 1)), post(7, (3, 1)))
    unheard = folded(leases(7, (3, 1)), post(7, (3, 1)), answer(7, (3, 1), outcome="unheard"))

    for history in (died, unheard):
        assert history.out == []
        assert [task.key[1] for task in history.unheard] == [3]


def test_an_answer_that_was_accepted_in_the_end_is_no_longer_unheard() -> None:
    history = folded(leases(7, (3, 1)), post(7, (3, 1)), leases(7, (3, 2)), post(7, (3, 2)), answer(7, (3, 2)))
    (task,) = history.tasks.values()

    assert (history.out, history.unheard, task.is_answered, task.accepted) == ([], [], True, 1)


def test_an_answer_whose_sending_was_not_booked_is_not_taken_for_unheard() -> None:
    # A damaged line may have held it.
    history = folded(leases(7, (3, 1)), answer(7, (3, 1), outcome="refused"))

    assert [task.key[1] for task in history.out] == [3]
    assert history.unheard == []


def test_an_accepted_error_is_an_answer_and_is_counted_as_an_error() -> None:
    history = folded(leases(7, (3, 1), (4, 1)), post(7, (3, 1), (4, 1)), answer(7, (3, 1), (4, 1), failed=(4,)))

    assert history.out == []
    assert [task.errors for task in history.tasks.values()] == [0, 1]


def test_an_error_that_was_refused_is_not_counted_as_an_answer_with_an_error() -> None:
    history = folded(leases(7, (3, 1)), post(7, (3, 1)), answer(7, (3, 1), outcome="refused", failed=(3,)))

    assert [(task.accepted, task.errors) for task in history.tasks.values()] == [(0, 0)]


def test_a_task_that_came_back_is_one_task_with_two_leases() -> None:
    history = folded(leases(7, (3, 1)), leases(7, (3, 2)), answer(7, (3, 2)))
    (task,) = history.tasks.values()

    assert (task.leases, task.accepted) == (2, 1)


def test_a_retried_job_whose_sequences_begin_anew_is_not_mistaken_for_the_first() -> None:
    again = event("leases", job=7, stream="job_7", leases=[[3, 1, 3, PUBLISHED + 999, 0, "3", "3.jpg"]])

    assert len(folded(leases(7, (3, 1)), answer(7, (3, 1)), again).out) == 1


def test_the_same_sequence_of_another_job_is_another_task() -> None:
    history = folded(leases(7, (3, 1)), leases(8, (3, 1)), answer(7, (3, 1)))

    assert [task.job for task in history.out] == [8]
    assert history.jobs == {7, 8}


def test_an_image_without_a_file_name_is_known_by_its_id() -> None:
    (task,) = folded(event("leases", job=7, stream="job_7", leases=[[1, 1, 1, 5, 0, "17", ""]])).out

    assert task.image == "17"


def test_an_answer_to_a_task_that_nobody_saw_handed_out_is_kept_without_a_lease() -> None:
    (task,) = folded(answer(7, (3, 2))).tasks.values()

    assert (task.job, task.leases, task.accepted) == (7, 0, 1)


def test_an_empty_tasks_response_is_no_traffic_and_no_job() -> None:
    history = folded(event("leases", job=7, stream="", leases=[], mono=9.0))

    assert (history.jobs, history.last_traffic) == (set(), 0.0)


def test_the_last_traffic_is_the_last_lease_or_accepted_answer() -> None:
    assert folded(leases(7, (1, 1), mono=4.0), leases(7, (2, 1), mono=3.0)).last_traffic == 4.0
    assert folded(leases(7, (1, 1)), answer(7, (1, 1))).last_traffic == 2.0
    assert folded(leases(7, (1, 1)), answer(7, (1, 1), outcome="refused")).last_traffic == 1.0


def test_observed_rates_are_injections_by_rate_over_eligible_calls() -> None:
    calls = [event("call", site="result", eligible=["network-error"]) for _ in range(8)]
    batches = [event("batch", eligible=["crash", "transient-error"]) for _ in range(4)]
    history = folded(
        *calls,
        *batches,
        event("call", site="jobs", eligible=[]),
        fault(Effect.NETWORK, "http-500"),
        fault(Effect.NETWORK, "http-500"),
        fault(Effect.CRASH, "exit"),
        fault(Effect.IMAGE_404, "http-404", counted=False),
    )

    assert history.observed_rate(Effect.NETWORK) == 0.25
    assert history.observed_rate(Effect.CRASH) == 0.25
    assert history.observed_rate(Effect.TRANSIENT) == 0.0
    assert history.observed_rate(Effect.IMAGE_404) is None
    assert history.kinds == {"network-error: http-500": 2, "crash: exit": 1, "image-404: http-404": 1}


def test_a_permanent_fault_is_injected_and_does_not_count_for_the_rate() -> None:
    history = folded(
        *(event("image", eligible=["image-404"]) for _ in range(10)),
        fault(Effect.IMAGE_404, counted=False),
        fault(Effect.IMAGE_404),
    )

    assert history.injected == {"image-404": 2}
    assert history.observed_rate(Effect.IMAGE_404) == 0.1


def test_a_withheld_fault_is_counted_by_its_reason_and_not_as_injected() -> None:
    history = folded(event("withheld", effect="crash", why="the stop file is there"))

    assert (history.withheld, history.injected, history.lives) == ({"the stop file is there": 1}, {}, {})


def test_a_life_is_known_by_its_arming_its_crash_and_its_exit() -> None:
    history = folded(
        event("spawn", inc=0, incarnation=1),
        event("armed", inc=1),
        fault(Effect.CRASH, "exit", inc=1),
        event("exit", inc=0, incarnation=1, code=86, kind="injected", last_words=[]),
        event("armed", inc=2),
        fault(Effect.TRANSIENT, inc=2),
        event("exit", inc=0, incarnation=2, code=-9, kind="organic", last_words=["Killed", "."]),
        event("armed", inc=3),
    )

    assert list(history.lives.values()) == [
        Life(1, True, True, 86, "injected", []),
        Life(2, True, False, -9, "organic", ["Killed", "."]),
        Life(3, armed=True),
    ]


def test_a_protected_host_that_was_refused_is_remembered() -> None:
    assert folded(event("refused", target="antenna.insectai.org")).refused_host == "antenna.insectai.org"


def test_a_protected_host_that_was_refused_is_remembered_from_a_real_ledger(tmp_path: Path) -> None:
    Ledger(tmp_path, 1).append("refused", target="antenna.insectai.org")

    assert folded(*Reader(tmp_path).new()).refused_host == "antenna.insectai.org"


def test_events_of_other_kinds_change_nothing() -> None:
    assert folded(event("start"), event("end", events=2), event("batch-end"), event("add"), event("")) == History()


def test_the_order_of_the_files_makes_no_difference() -> None:
    events = [
        leases(7, (1, 1), (2, 1), (3, 1)),
        post(7, (1, 1)),
        post(7, (2, 2)),
        post(7, (3, 1)),
        answer(7, (1, 1), failed=(1,)),
        leases(7, (2, 2)),
        answer(7, (2, 2), outcome="refused"),
        event("call", site="jobs", eligible=["network-error"]),
        fault(Effect.CRASH),
        event("armed"),
    ]
    expected = folded(*events)

    for seed in range(20):
        again = folded(*random.Random(seed).sample(events, len(events)))
        assert (again.tasks, again.injected, again.eligible, again.lives, again.jobs, again.last_traffic) == (
            expected.tasks, expected.injected, expected.eligible, expected.lives, expected.jobs, expected.last_traffic,
        )  # fmt: skip


def test_events_may_come_a_few_at_a_time() -> None:
    history = History()
    for one in (leases(7, (3, 1)), leases(7, (3, 2)), answer(7, (3, 2))):
        history.add([one])

    assert history == folded(leases(7, (3, 1)), leases(7, (3, 2)), answer(7, (3, 2)))
