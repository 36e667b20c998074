"""The judge against a model that knows the truth: random histories, healthy, wild and sabotaged."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from ami_fault_site import runs
from ami_fault_site.history import History
from ami_fault_site.ledger import Event
from ami_fault_site.verdict import Case, Verdict, judge
from ami_fault_site.verdict.terms import Status, Whose
from tests.model import (
    SLUGS,
    Misbehaviour,
    Modelled,
    Sabotage,
    Scenario,
    healthy,
    misbehaving,
    play,
    sabotaged,
    wild,
    write,
)
from tests.model.scenarios import PROFILES
from tests.thorough import times

pytestmark = pytest.mark.untraced

SEEDS = times(13, 23)
HEALTHY = [(seed, profile) for seed, profile in enumerate(list(PROFILES) * SEEDS)]  # 104 runs, or 184
UNSURE = {"pending", "taken-elsewhere"}
# What only a service that misbehaves can fail, whatever workers, operators and networks do.
SERVICE_ONLY = (
    "crashed-tasks-requeued", "requeued-in-time", "one-holder-at-a-time", "redelivery-ends", "failed-post-redelivered",
    "failure-counts-accurate", "no-early-success", "nothing-served-after-the-end", "no-starvation", "no-invented-tasks",
)  # fmt: skip


def case_of(modelled: Modelled, events: Iterable[Event] | None = None) -> Case:
    history = History()
    history.add(modelled.all_events() if events is None else events)
    return Case(history, modelled.facts)


@cache
def played(scenario: Scenario) -> tuple[Modelled, Case, Verdict]:
    modelled = play(scenario)
    case = case_of(modelled)
    return modelled, case, judge(case)


def told(verdict: Verdict) -> list[tuple[object, ...]]:
    return [(f.check.slug, f.status, f.whose, f.text, f.tasks, f.warnings) for f in verdict.findings]


def assert_honest(modelled: Modelled, case: Case) -> None:
    for task in case.tasks():
        truth, said = modelled.truth.tasks[task.key], case.fates.of(task)
        assert said.fate.value in truth.honest, (task.key, said, truth)
        marks = {mark.value for mark in said.marks}
        assert truth.provable <= marks <= truth.marks, (task.key, marks, truth)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_healthy_run_never_fails_whoever_else_is_there_and_whatever_strikes(profile: str) -> None:
    seeds = [seed for seed, name in HEALTHY if name == profile]
    assert len(seeds) == SEEDS
    for seed in seeds:
        _, _, verdict = played(healthy(seed, profile))
        assert [(f.check.slug, f.text) for f in verdict.findings if f.status is Status.FAIL] == [], seed


def test_among_the_healthy_runs_are_lost_answers_and_deliveries_dead_loaders_and_slow_batches() -> None:
    seen: set[tuple[object, ...]] = set()
    for seed, profile in HEALTHY:
        for event in play(healthy(seed, profile)).all_events():
            if event.kind == "lost" and (event.rows("leases") or event.data.get("accepted")):
                seen.add(("lost", event.text("site")))
            elif event.kind == "fault":
                seen.add((event.text("effect"), event.text("point"), event.text("role")))

    assert {("lost", "tasks"), ("lost", "result"), ("slow", "", "main")} <= seen
    assert {("crash", "after-fetch", role) for role in ("main", "loader")} <= seen


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_healthy_run_is_unknown_only_where_something_cannot_be_known(profile: str) -> None:
    for seed, name in HEALTHY:
        if name == profile:
            modelled, _, verdict = played(healthy(seed, profile))
            honest = set().union(*(task.honest for task in modelled.truth.tasks.values()))
            unfinished = any(job.status != "SUCCESS" for job in modelled.truth.jobs.values())
            unknown = [f for f in verdict.findings if f.status is Status.UNKNOWN and f.check.is_safety]
            assert not unknown or honest & UNSURE or unfinished, (seed, unknown)


@pytest.mark.parametrize("seed", range(0, times(80, 120), 20))
def test_every_fate_and_mark_is_one_that_the_truth_allows(seed: int) -> None:
    for number in range(seed, seed + 20):
        for scenario in (healthy(number), wild(number)):
            modelled, case, _ = played(scenario)
            assert_honest(modelled, case)


def test_a_healthy_services_own_checks_never_fail_however_wild_it_gets() -> None:
    for seed in range(times(60, 150)):
        _, _, verdict = played(wild(seed))
        failed = [verdict.finding(slug) for slug in SERVICE_ONLY]
        assert [(f.check.slug, f.text) for f in failed if f.status is Status.FAIL] == [], seed


@pytest.mark.parametrize("sabotage", list(Sabotage), ids=lambda one: one.value)
def test_a_sabotaged_service_is_caught_by_the_right_check_and_no_worker_is_blamed(sabotage: Sabotage) -> None:
    for seed in range(5):
        modelled, _, verdict = played(sabotaged(sabotage, seed))
        assert modelled.truth.bitten > 0, seed
        finding = verdict.finding(SLUGS[sabotage][0])
        assert (finding.status, finding.whose) == (Status.FAIL, Whose.SERVICE), (seed, finding.text)
        assert [f.check.slug for f in verdict.failures if f.whose is Whose.WORKER] == [], seed


@pytest.mark.parametrize("misbehaviour", list(Misbehaviour), ids=lambda one: one.value)
def test_a_worker_that_misbehaves_is_caught_and_no_service_is_blamed(misbehaviour: Misbehaviour) -> None:
    for seed in range(5):
        modelled, _, verdict = played(misbehaving(misbehaviour, seed))
        assert modelled.truth.bitten > 0, seed
        finding = verdict.finding(SLUGS[misbehaviour][0])
        assert (finding.status, finding.whose) == (Status.FAIL, Whose.WORKER), (seed, finding.text)
        assert [f.check.slug for f in verdict.failures if f.whose is Whose.SERVICE] == [], seed


@pytest.mark.parametrize("seed", range(12))
def test_the_order_of_the_files_changes_nothing(seed: int) -> None:
    for scenario in (healthy(seed), wild(seed), sabotaged(list(Sabotage)[seed], seed)):
        modelled, _, verdict = played(scenario)
        places = list(modelled.events)
        random.Random(seed).shuffle(places)
        again = judge(case_of(modelled, [event for place in places for event in modelled.events[place]]))
        assert told(again) == told(verdict)


@pytest.mark.parametrize("seed", range(12))
def test_the_last_line_of_killed_processes_never_turns_a_failure_into_a_pass(seed: int) -> None:
    scenarios = [wild(seed), *(sabotaged(one, seed) for one in Sabotage), *(misbehaving(m, seed) for m in Misbehaviour)]
    for scenario in scenarios:
        modelled, _, verdict = played(scenario)
        kept = [event for events in modelled.events.values() for event in _without_last(events)]
        again = judge(case_of(modelled, kept))
        if verdict.status() is Status.FAIL:
            assert again.status() is not Status.PASS, scenario


def _without_last(events: list[Event]) -> list[Event]:
    """Cut off what a process was writing when it was killed; one that ended in order has written it whole.

    The supervisor counts whole lines only, so it has not counted this one.
    """
    whole = events if events[-1].kind == "end" else events[:-1]
    return [event for event in whole if event.kind != "sealed"]


@pytest.mark.parametrize("seed", range(16))
def test_a_file_that_lost_lines_makes_what_depends_on_it_unknown_and_accuses_nobody(seed: int, tmp_path: Path) -> None:
    modelled, _, verdict = played(healthy(seed))
    folders = list(write(modelled, tmp_path).values())
    whole, facts = runs.read(folders)
    assert facts.damage == ()
    assert {f.check.slug: f.status for f in judge(Case(whole, facts)).findings} == {
        f.check.slug: f.status for f in verdict.findings
    }
    chance = random.Random(seed)
    files = [path for folder in folders for path in sorted((folder / "ledger").glob("*.jsonl"))]
    longest = chance.choice([path for path in files if path.read_bytes().count(b"\n") > 3])
    lines = longest.read_bytes().splitlines(keepends=True)
    cut = chance.randrange(1, len(lines) - 1)
    longest.write_bytes(b"".join(lines[:cut] + lines[min(len(lines) - 1, cut + chance.randint(1, 8)) :]))
    damaged, facts = runs.read(folders)
    again = judge(Case(damaged, facts))

    assert longest.name in facts.damage[0]
    assert [(f.check.slug, f.text) for f in again.findings if f.status is Status.FAIL] == []
    assert again.finding("no-task-lost").status is Status.UNKNOWN
