"""The promises of the model: it books what the real hooks book, its service is JetStream's, and its truth is true."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ami_fault_site import runs
from ami_fault_site.history import History
from ami_fault_site.ledger import Event, Reader
from ami_fault_site.settings import Settings
from tests.model import Modelled, Reaper, Scenario, healthy, play, wild
from tests.model.booking import MemoryShelf
from tests.model.folders import write, write_big
from tests.model.play import Stage
from tests.model.queue import Handed, Task
from tests.model.reality import hook_events, key_sets, shapes, supervisor_events
from tests.model.scenarios import PROFILES

pytestmark = pytest.mark.untraced

SEEDS = range(60)
CRASHES = Settings(enabled=True, worker_crash_rate=0.3)


@cache
def played(scenario: Scenario) -> Modelled:
    return play(scenario)


def staged(scenario: Scenario) -> Stage:
    stage = Stage(scenario, MemoryShelf())
    stage.play()
    return stage


def tasks_of(stage: Stage) -> Iterator[Task]:
    for job in stage.service.jobs.values():
        yield from job.tasks


def deliveries(stage: Stage) -> Iterator[Handed]:
    for task in tasks_of(stage):
        yield from task.handed


def booked(modelled: Modelled, *kinds: str) -> list[Event]:
    return [event for event in modelled.all_events() if event.kind in kinds]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    folder = tmp_path_factory.mktemp("real")
    return hook_events(folder / "hooks") + supervisor_events(folder / "supervisor")


@pytest.fixture(scope="module")
def modelled() -> list[Event]:
    return [event for seed in SEEDS for event in played(wild(seed)).all_events()]


# --- events


def test_every_event_has_the_keys_that_the_real_one_has(real: list[Event], modelled: list[Event]) -> None:
    expected = key_sets(real)

    assert key_sets(modelled) == {kind: expected.get(kind) for kind in key_sets(modelled)}


def test_the_model_books_every_kind_of_event_that_a_worker_books_but_for_registrations(
    real: list[Event], modelled: list[Event]
) -> None:
    assert key_sets(real).keys() - key_sets(modelled).keys() == set()
    assert "registered" not in key_sets(modelled)


def test_every_field_has_a_form_that_the_real_one_has(real: list[Event], modelled: list[Event]) -> None:
    expected, unset = shapes(real), {("seen", "processed"), ("seen", "remaining"), ("seen", "failed")}
    odd = {
        (kind, key, form)
        for kind, fields in shapes(modelled).items()
        for key, forms in fields.items()
        for form in forms - expected[kind][key]
        if not ((kind, key) in unset and form == "NoneType")  # the service's counts are empty until first set
    }

    assert odd == set()


def test_each_file_is_one_process_with_its_lines_numbered_in_the_order_of_time() -> None:
    for seed in SEEDS:
        for (run, file), events in played(wild(seed)).events.items():
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert [event.line for event in events] == list(range(1, len(events) + 1))
            assert {(event.run, event.file, event.pid, event.host) for event in events} == {
                (run, file, events[0].pid, events[0].host)
            }
            assert [event.mono for event in events] == sorted(event.mono for event in events)
            assert events[0].kind == "start"


def test_what_is_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    for seed in range(8):
        model = played(wild(seed))
        for name, folder in write(model, tmp_path / str(seed)).items():
            reader = Reader(folder / "ledger", name)
            assert list(reader.new()) == [event for event in model.all_events() if event.run == name]
            assert reader.damage == []


def test_what_the_reader_of_run_folders_learns_is_what_the_model_knows(tmp_path: Path) -> None:
    seeds = [seed for seed in SEEDS if wild(seed).workers == 1 and wild(seed).token and wild(seed).knows_parameters]
    for seed in seeds[:12]:
        model = played(wild(seed))
        known = model.facts.parameters
        folders = list(write(model, tmp_path / str(seed)).values())
        _, facts = runs.read(folders, runs.Overrides(known.ack_wait, known.max_deliver))
        assert (facts.damage, facts.parameters.ack_wait) == ((), known.ack_wait)
        assert facts.witnesses.keys() == model.facts.witnesses.keys()
        for job, witness in model.facts.witnesses.items():
            assert abs(facts.witnesses[job].wall - witness.wall) <= 1.0
            read = dataclasses.replace(facts.witnesses[job], wall=witness.wall, settled=witness.settled)
            assert read == witness


def test_the_supervisor_seals_every_file_with_the_number_of_its_lines() -> None:
    for seed in SEEDS:
        model = played(wild(seed))
        sealed = [(event.run, *row) for event in booked(model, "sealed") for row in event.rows("files")]
        workers = [(run, file, len(events)) for (run, file), events in model.events.items() if events[0].incarnation]
        assert sorted(sealed, key=str) == sorted(workers, key=str)


def test_each_host_has_clocks_of_its_own() -> None:
    model = played(Scenario(hosts=3, workers=3))
    bases = {event.host: round(event.wall - event.mono) for event in model.all_events()}

    assert len(bases) == len(set(bases.values())) == 3
    assert len({event.host: event.mono for event in model.all_events()}) == 3


def test_an_unsupervised_worker_has_incarnation_0_and_no_supervisor() -> None:
    model = played(Scenario(unsupervised=True, settings=CRASHES, max_deliver=20, seed=2))

    assert {event.incarnation for event in model.all_events()} == {0}
    assert booked(model, "spawn", "exit", "seen", "outcome") == []
    assert model.truth.injected["crash"] > 0


def test_the_history_of_it_knows_the_tasks_that_our_workers_were_handed() -> None:
    for seed in SEEDS:
        model, history = played(wild(seed)), History()
        history.add(model.all_events())
        assert set(history.tasks) == {key for key, task in model.truth.tasks.items() if task.is_seen}


def test_the_same_scenario_is_the_same_history_in_any_interpreter() -> None:
    code = (
        "import hashlib\nfrom tests.model import play, wild\n"
        "print(hashlib.sha256(repr([play(wild(n)).all_events() for n in (5, 6, 7)]).encode()).hexdigest())"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert len(prints) == 1


def test_another_seed_is_another_history() -> None:
    assert play(Scenario(seed=1)).all_events() != play(Scenario(seed=2)).all_events()


# --- the service


def test_consumer_sequences_have_no_gaps_over_everybody() -> None:
    for seed in SEEDS:
        stage = staged(wild(seed))
        for job in stage.service.jobs.values():
            numbers = [handed.consumer for task in job.tasks for handed in task.handed]
            assert sorted(numbers) == list(range(1, job.delivered + 1))


def test_others_leave_gaps_in_what_we_see() -> None:
    model = played(Scenario(others=2, others_every=1.0))
    seen = {row[2] for event in booked(model, "leases") for row in event.rows("leases")}

    assert model.truth.jobs[1].delivered_to_others > 0
    assert len(seen) < model.truth.jobs[1].delivered


def test_an_unanswered_task_comes_back_after_ack_wait_and_not_before() -> None:
    waits = []
    for seed in SEEDS:
        stage = staged(wild(seed))
        wait = stage.scenario.ack_wait
        for task in tasks_of(stage):
            waits += [b.at - a.at - wait for a, b in zip(task.handed, task.handed[1:], strict=False)]

    assert min(waits) > -1e-6
    assert min(waits) < 1e-6  # at once, where somebody was asking


def test_nothing_is_handed_out_more_than_max_deliver_times_or_after_its_answer_was_counted() -> None:
    for seed in SEEDS:
        stage = staged(wild(seed))
        for task in tasks_of(stage):
            assert [handed.number for handed in task.handed] == list(range(1, len(task.handed) + 1))
            assert len(task.handed) <= stage.scenario.max_deliver
            assert task.due is None or not task.is_acked


def test_every_accepted_answer_is_counted_once() -> None:
    for seed in SEEDS:
        stage = staged(healthy(seed))
        for job in stage.service.jobs.values():
            answers = [one for task in job.tasks for handed in task.handed for one in handed.answers]
            answered = {one.handed.task.key for one in answers if one.post.arrived}
            failed = {one.handed.task.key for one in answers if one.post.arrived and one.is_recorded and one.error}
            assert (job.processed or 0, job.failed or 0) == (len(answered), len(failed))
            assert len(answered) == sum(task.is_counted for task in job.tasks)


def test_healthy_runs_end_with_every_image_processed_by_the_services_own_rule() -> None:
    ended = Counter[str]()
    for seed in SEEDS:
        for job in played(healthy(seed)).truth.jobs.values():
            ended[job.status] += 1
            assert (job.status in ("SUCCESS", "FAILURE")) == (job.processed == job.size)
            assert (job.status == "FAILURE") == ((job.failed or 0) / job.size > 0.5 and job.processed == job.size)

    assert ended["SUCCESS"] > 40


@pytest.mark.parametrize("profile", PROFILES)
def test_the_worker_gets_through_each_profile(profile: str) -> None:
    scenario = Scenario(images=60, batch=4, max_deliver=25, settings=PROFILES[profile], max_restarts=1000, seed=3)
    model = played(scenario)

    assert model.truth.outcomes == {"": "drained"}
    assert model.truth.jobs[1].processed == 60
    assert bool(sum(model.truth.injected.values())) == (profile != "none")


def test_a_late_answer_counts_and_a_second_one_does_not() -> None:
    stage = staged(Scenario(images=120, ack_wait=0.5, max_deliver=2, batch=10, timeout=60.0))
    recorded = [handed.task.sequence for handed in stage.service.jobs[1].recorded]

    assert len(recorded) > len(set(recorded))
    assert any(handed.number == 1 and len(handed.task.handed) == 2 for handed in stage.service.jobs[1].recorded)
    assert stage.service.jobs[1].processed == len(set(recorded))


def test_the_reaper_gives_up_what_is_missing_and_so_ends_the_job() -> None:
    scenario = Scenario(max_deliver=1, settings=CRASHES, ack_wait=3.0, reaper=Reaper(every=5.0, idle=10.0), seed=1)
    job = played(scenario).truth.jobs[1]

    assert job.given_up > 0
    assert (job.processed, job.failed, job.status) == (40, job.given_up, "SUCCESS" if job.given_up <= 20 else "FAILURE")
    assert played(scenario).facts.witnesses[1].given_up == job.given_up


# --- the worker


def test_a_post_that_a_crash_cuts_off_may_have_arrived_or_not() -> None:
    arrived: Counter[bool] = Counter()
    for seed in range(40):
        stage = staged(Scenario(settings=CRASHES, max_deliver=20, seed=seed))
        posts = {id(one.post): one.post for handed in deliveries(stage) for one in handed.answers}
        arrived.update(post.arrived for post in posts.values() if post.outcome is None)

    assert min(arrived[True], arrived[False]) > 5


def test_a_fetch_that_a_crash_cuts_off_reserves_its_tasks_and_nobody_sees_them() -> None:
    stages = [staged(Scenario(settings=CRASHES, max_deliver=20, seed=seed, latency=0.3)) for seed in range(20)]

    assert any(handed.is_ours and not handed.is_seen for stage in stages for handed in deliveries(stage))


def test_a_transient_error_leaves_everything_prefetched_unanswered_until_it_comes_back() -> None:
    settings = Settings(enabled=True, transient_error_rate=0.3)
    stage = staged(Scenario(settings=settings, max_deliver=20, seed=2))
    abandoned = [handed for handed in deliveries(stage) if handed.how == "abandoned"]

    assert abandoned
    assert all(not handed.answers for handed in abandoned)
    assert all(handed.task.handed[-1] is not handed for handed in abandoned)


def test_an_operators_stop_is_booked_as_such_and_leaves_tasks_pending() -> None:
    model = played(Scenario(stop_after=1.8, workers=2))

    assert set(model.truth.outcomes.values()) == {"interrupted"}
    assert {kind for _, _, kind in model.truth.exits} == {"operator"}
    assert model.truth.fates()["pending"] > 0
    assert not model.facts.witnesses[1].settled


# --- the big one


def test_a_big_run_is_written_as_it_goes_and_can_be_read(tmp_path: Path) -> None:
    run = write_big(tmp_path / "big", 300, PROFILES["medium"])
    reader = Reader(run.path / "ledger")

    assert (sum(1 for _ in reader.new()), reader.damage, run.status) == (run.events, [], "SUCCESS")
    assert len(list((run.path / "jobs").iterdir())) == 1
