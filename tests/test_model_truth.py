"""The promises of the model's truth: every fate happens, is what it is called, and is fair to whoever has to judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from ami_fault_site.antenna import parse_reply_subject
from ami_fault_site.settings import Settings
from tests.model import Misbehaviour, Sabotage, Scenario, healthy, misbehaving, sabotaged, wild
from tests.test_model import CRASHES, SEEDS, booked, played

FATES: Mapping[str, Callable[[], Scenario]] = {
    "done": lambda: wild(2),
    "recovered": lambda: Scenario(max_deliver=9, settings=CRASHES, ack_wait=3.0, timeout=90.0),
    "failed-expected": lambda: healthy(1, "images"),
    "failed-transient": lambda: misbehaving(Misbehaviour.FINAL_TRANSIENT, 1),
    "failed-organic": lambda: Scenario(broken=0.3),
    "exhausted": lambda: Scenario(max_deliver=1, settings=CRASHES, ack_wait=3.0, timeout=60.0),
    "taken-elsewhere": lambda: Scenario(others=2, others_every=1.0),
    "lost": lambda: sabotaged(Sabotage.NEVER_REDELIVERS, 1),
    "stuck": lambda: misbehaving(Misbehaviour.HANGS, 1),
    "unrecorded": lambda: sabotaged(Sabotage.ACKS_BEFORE_SAVING, 1),
    "never-delivered": lambda: sabotaged(Sabotage.STRANDS_LAST_BATCH, 1),
    "unexpected": lambda: sabotaged(Sabotage.INVENTS_TASKS, 1),
    "pending": lambda: Scenario(stop_after=1.8),
}


@pytest.mark.parametrize("fate", FATES)
def test_each_fate_happens(fate: str) -> None:
    assert played(FATES[fate]()).truth.fates()[fate] > 0


def test_a_success_and_an_error_of_one_task_are_a_conflict() -> None:
    # Two runs with different seeds strike different images.
    settings = Settings(enabled=True, image_404_rate=0.5)
    scenario = Scenario(settings=settings, workers=2, ack_wait=0.3, max_deliver=3, batch=10, timeout=60.0)

    assert played(scenario).truth.fates()["conflict"] > 0


def test_every_fate_is_honest_and_what_must_be_marked_may_be_marked() -> None:
    for seed in SEEDS:
        for task in played(wild(seed)).truth.tasks.values():
            assert task.fate in task.honest
            assert task.provable <= task.marks


def test_what_our_ledgers_prove_leaves_an_honest_judge_no_choice() -> None:
    for seed in SEEDS:
        model = played(healthy(seed))
        heard = {
            (event.text("stream"), int(str(row[0])), int(str(row[3])))
            for event in booked(model, "answer")
            if event.text("outcome") == "accepted"
            for row in event.rows("tasks")
        }
        for key in heard:
            assert model.truth.tasks[key].honest <= {"done", "recovered", "failed-expected", "conflict"}


def test_a_healthy_service_never_loses_forgets_or_strands_anything() -> None:
    fates: Counter[str] = Counter()
    for seed in SEEDS:
        fates += played(healthy(seed)).truth.fates()

    assert fates.keys() <= {"done", "recovered", "failed-expected", "conflict", "taken-elsewhere", "pending"}
    assert min(fates["done"], fates["recovered"], fates["failed-expected"]) > 50


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sabotage", Sabotage)
def test_each_sabotage_bites(sabotage: Sabotage, seed: int) -> None:
    assert played(sabotaged(sabotage, seed)).truth.bitten > 0


@pytest.mark.parametrize("misbehaviour", Misbehaviour)
def test_each_misbehaviour_happens(misbehaviour: Misbehaviour) -> None:
    assert played(misbehaving(misbehaviour, 1)).truth.bitten > 0


@pytest.mark.parametrize("sabotage", [Sabotage.REDELIVERS_EARLY, Sabotage.HANDS_OUT_TWICE])
def test_an_early_delivery_is_marked_and_can_be_proved(sabotage: Sabotage) -> None:
    provable = Counter(mark for task in played(sabotaged(sabotage, 1)).truth.tasks.values() for mark in task.provable)

    assert provable["delivered-early"] > 0


def test_reply_subjects_of_the_log_name_deliveries_that_were_made() -> None:
    witness = played(Scenario()).facts.witnesses[1]
    parsed = [parse_reply_subject(subject) for subject in witness.recorded or ()]

    assert {one.sequence for one in parsed if one is not None} == set(range(1, 41))
