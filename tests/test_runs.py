"""The promises of runs and of the facts that it finds: run folders on disk, read back."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import pytest

from ami_fault_site import runfolder
from ami_fault_site.history import History
from ami_fault_site.ledger import Ledger
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.runs import Overrides, RunError, names, read, uncollected
from ami_fault_site.settings import Settings
from ami_fault_site.verdict.facts import Facts, JobWitness, Parameters
from tests.booked import witness

CONSUMER = "[2026-11-23 08:37:20] INFO Created NATS consumer job-7-consumer (max_deliver=2, ack_wait=8.0s, x=y)"
QUEUED = "[2026-11-23 08:37:20] INFO Successfully queued 4/4 images to stream for job '7'"
FETCHED = "[2026-11-23 08:37:25] INFO Tasks fetched: requested=8, delivered=4"
LATER = [f"[2026-11-23 08:37:3{number}] INFO something" for number in range(8)]


def subject(sequence: int) -> str:
    return f"$JS.ACK.job_7.job-7-consumer.1.{sequence}.{sequence}.1795441068530757755.24"


def recorded(sequence: int) -> str:
    return f"INFO Processing pipeline result for job 7, reply_subject: {subject(sequence)}"


def folder(home: Path, name: str = "run", **settings: object) -> RunFolder:
    """Make a run folder as a run does."""
    told = Settings(enabled=True, seed=1, run_dir=str(home / name), **settings)  # type: ignore[arg-type]
    return runfolder.join(told, home).run


def booked(run: RunFolder, *kinds: str, incarnation: int = 1, **data: object) -> Path:
    """Book these events in a ledger file of their own, and return it."""
    before = set(run.ledger.iterdir())
    ledger = Ledger(run.ledger, incarnation)
    for kind in kinds:
        ledger.append(kind, **data)
    (made,) = set(run.ledger.iterdir()) - before
    return made


def kept(
    run: RunFolder,
    why: str = "end",
    *,
    job: int = 7,
    at: str = "20261123T083730Z",
    number: int = 1,
    status: str = "SUCCESS",
    counts: tuple[int, int, int] = (4, 0, 0),
    errors: tuple[str, ...] = (),
    log: list[str] | None = None,
    name: str = "",
) -> Path:
    """Keep what the service says of a job, as the supervisor does; `log` in the order of time."""
    params = [{"key": key, "value": n} for key, n in zip(("processed", "remaining", "failed"), counts, strict=True)]
    progress = {"stages": [{"key": "process", "params": params}], "errors": list(errors)}
    said = {"id": job, "status": status, "progress": progress, "logs": {"stdout": (log or [])[::-1]}}
    path = run.jobs / (name or f"{job}-{at}-{number:04d}-{why}.json")
    path.write_text(json.dumps(said))
    return path


def facts_of(*runs: RunFolder, **overrides: float) -> Facts:
    return read([run.path for run in runs], Overrides(**overrides))[1]  # type: ignore[arg-type]


def kinds(history: History) -> list[tuple[str, str]]:
    return [(process.run, process.file) for process in history.processes]


# --- folders


def test_a_run_folder_is_read_back_as_what_was_booked_and_what_was_asked_for(tmp_path: Path) -> None:
    run = folder(tmp_path, worker_crash_rate=0.25, permanent_error_images=("a.jpg",))
    made = booked(run, "armed")
    history, facts = read([run.path])

    assert kinds(history) == [("", made.name)]
    assert history.lives["", 1].armed
    (settings,) = facts.settings
    assert (settings.worker_crash_rate, settings.permanent_error_images, settings.seed) == (0.25, ("a.jpg",), 1)
    assert (facts.damage, facts.witnesses, facts.baseline) == ((), {}, None)


def test_a_folder_without_settings_is_no_run_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(RunError) as caught:
            read([folder(tmp_path).path, tmp_path / name])
        assert str(caught.value) == f"RUN={str(tmp_path / name)!r}: not a run folder, it has no settings.json"


def test_a_run_in_which_nothing_was_booked_is_read_all_the_same(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.ledger.rmdir()

    assert read([run.path]) == (History(), Facts(settings=facts_of(run).settings, witness_missing=SILENT))


def test_several_folders_are_one_history_in_which_each_event_says_by_name_which_run_it_is_of(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first", worker_crash_rate=0.5), folder(tmp_path, "second")
    files = [booked(first, "armed"), booked(second, "armed")]
    history, facts = read([second.path, first.path])

    assert kinds(history) == [("second", files[1].name), ("first", files[0].name)]
    assert sorted(history.lives) == [("first", 1), ("second", 1)]
    assert [one.worker_crash_rate for one in facts.settings] == [0.0, 0.5]


def test_a_folder_that_is_named_twice_in_whatever_way_is_read_once_and_needs_no_name(tmp_path: Path) -> None:
    run = folder(tmp_path)
    booked(run, "armed")
    (tmp_path / "latest").symlink_to(run.path)
    history, facts = read([run.path, tmp_path / "latest", tmp_path / "run" / ".." / "run"])

    assert (history.events, len(facts.settings)) == (2, 1)
    assert [run for run, _ in kinds(history)] == [""]


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    same = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]

    assert names(same) == [str(same[0]), str(same[1]), "other"]
    assert names(same[:1]) == [""]
    assert names([]) == []


def test_the_garbage_collector_is_held_while_a_run_is_read_and_left_as_it_was_whatever_happens() -> None:
    was = []

    def fail() -> None:
        with uncollected():
            was.append(gc.isenabled())
            with uncollected():
                pass
            was.append(gc.isenabled())
            raise KeyError

    assert gc.isenabled()
    with pytest.raises(KeyError):
        fail()
    assert (was, gc.isenabled()) == ([False, False], True)


def test_what_was_made_meanwhile_is_not_looked_through_any_more() -> None:
    before = gc.get_freeze_count()
    with uncollected():
        made: list[list[int]] = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= before + len(made)
    gc.unfreeze()


# --- damage


def test_a_line_that_cannot_be_read_is_damage_with_file_and_line(tmp_path: Path) -> None:
    run = folder(tmp_path)
    made = booked(run, "note", "armed")
    lines = made.read_bytes().splitlines(keepends=True)
    made.write_bytes(lines[0] + b"nonsense\n" + lines[2])
    history, facts = read([run.path])

    (damage,) = facts.damage
    assert damage.startswith(f"{made.name}:2: cannot be read: ")
    assert history.lives["", 1].armed  # the rest is read


def test_an_event_that_cannot_be_understood_is_damage_with_file_and_line(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    made = booked(second, "sealed", incarnation=0, files=[["h-0001-10-1.jsonl", "many"]])

    text = f"{made.name}:2: cannot be understood: sealed: ValueError: invalid literal for int() with base 10: 'many'"
    assert facts_of(second).damage == (text,)
    assert facts_of(first, second).damage == (f"second/{text}",)


def test_lines_that_are_missing_are_damage_where_the_gap_shows(tmp_path: Path) -> None:
    run = folder(tmp_path)
    made = booked(run, "note", "note", "armed")
    lines = made.read_bytes().splitlines(keepends=True)
    made.write_bytes(lines[0] + lines[3])

    assert facts_of(run).damage == (f"{made.name}:2: events 2 to 3 are missing",)


def test_one_unterminated_last_line_is_no_damage(tmp_path: Path) -> None:
    run = folder(tmp_path)
    made = booked(run, "note", "armed")
    made.write_bytes(made.read_bytes()[:-1])

    assert facts_of(run).damage == ()


def test_damage_names_the_run_where_there_are_several(tmp_path: Path) -> None:
    runs = [folder(tmp_path, name) for name in ("first", "second")]
    made = [booked(run, "armed") for run in runs]
    for path in made:
        path.write_bytes(path.read_bytes() + b"[]\n")

    assert facts_of(*runs).damage == (
        f"first/{made[0].name}:3: cannot be read: not an event",
        f"second/{made[1].name}:3: cannot be read: not an event",
    )


@pytest.mark.parametrize(("sealed", "is_short"), [(3, False), (4, True), (2, False)])
def test_a_file_with_fewer_lines_than_were_counted_when_its_process_was_gone_was_cut_short(
    tmp_path: Path, sealed: int, is_short: bool
) -> None:
    run = folder(tmp_path)
    made = booked(run, "note", "note")
    booked(run, "sealed", incarnation=0, files=[[made.name, sealed]])

    text = f"{made.name}:3: cut short, {sealed} lines had been counted"
    assert facts_of(run).damage == ((text,) if is_short else ())


@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_that_has_vanished_or_is_empty_was_cut_short_before_its_first_line(
    tmp_path: Path, is_there: bool
) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    booked(second, "sealed", incarnation=0, files=[["h-0001-10-1.jsonl", 40]])
    if is_there:
        (second.ledger / "h-0001-10-1.jsonl").touch()

    text = "h-0001-10-1.jsonl:0: cut short, 40 lines had been counted"
    assert facts_of(second).damage == (text,)
    assert facts_of(first, second).damage == (f"second/{text}",)


def test_a_file_is_held_against_the_count_of_its_own_run_and_named_with_it(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    made = booked(first, "note")
    (second.ledger / made.name).write_bytes(made.read_bytes())
    booked(second, "sealed", incarnation=0, files=[[made.name, 9]])

    assert facts_of(first, second).damage == (f"second/{made.name}:2: cut short, 9 lines had been counted",)


def test_a_process_that_could_not_book_everything_is_damage(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    second.mark_incomplete()

    assert facts_of(first).damage == ()
    assert facts_of(second).damage == ("a process could not book everything",)
    assert facts_of(first, second).damage == ("second/a process could not book everything",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("{}", "cannot be read: 'settings'"),
        ('{"settings": null}', "cannot be read: 'NoneType' object has no attribute 'items'"),
        ('{"settings": []}', "cannot be read: 'list' object has no attribute 'items'"),
        ("[]", "cannot be read: list indices must be integers or slices, not str"),
        ("7", "cannot be read: 'int' object is not subscriptable"),
        ('{"settings": {"AMI_TEST_SEED": "x"}}', "AMI_TEST_SEED='x': is a whole number, 0 or more"),
    ],
)
def test_settings_that_cannot_be_read_are_damage_and_the_rest_is_judged(
    tmp_path: Path, text: str, problem: str
) -> None:
    run = folder(tmp_path, worker_crash_rate=0.25)
    booked(run, "armed")
    (run.path / "settings.json").write_text(text)
    history, facts = read([run.path])

    assert facts.damage == (f"settings.json: {problem}",)
    assert facts.settings == (Settings(),)
    assert history.lives["", 1].armed


def test_settings_that_are_a_text_are_damage_too(tmp_path: Path) -> None:
    run = folder(tmp_path)
    (run.path / "settings.json").write_text('"x"')

    (damage,) = facts_of(run).damage
    assert damage.startswith("settings.json: cannot be read: string indices must be integers")


def test_every_problem_of_the_settings_is_told(tmp_path: Path) -> None:
    run = folder(tmp_path)
    problems = {"AMI_TEST_SEED": "x", "AMI_TEST_WORKER_CRASH_RATE": 2}
    (run.path / "settings.json").write_text(json.dumps({"settings": problems}))

    assert len(facts_of(run).damage) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "list indices must be integers or slices, not str"),
        ("{}", "'id'"),
        ('{"id": "x"}', "invalid literal for int() with base 10: 'x'"),
    ],
)
def test_a_snapshot_that_cannot_be_read_is_damage_and_the_others_count(tmp_path: Path, text: str, problem: str) -> None:
    run = folder(tmp_path)
    kept(run, at="20261123T083730Z")
    path = kept(run, at="20261123T083731Z", number=2)
    path.write_text(text)
    kept(run, job=8, at="20261123T083732Z", number=3)
    facts = facts_of(run)

    assert facts.damage == (f"jobs/{path.name}:1: cannot be read: {problem}",)
    assert sorted(facts.witnesses) == [7, 8]
    assert facts.witnesses[7].detail.status == "SUCCESS"


def test_a_snapshot_without_a_log_is_none_the_worse_for_it(tmp_path: Path) -> None:
    run = folder(tmp_path)
    path = kept(run)
    shapes = ("null", "[]", "{}", '{"stdout": null}', '{"stdout": "x"}')
    for logs in ("", *(f', "logs": {shape}' for shape in shapes)):
        path.write_text(f'{{"id": 7, "status": "SUCCESS"{logs}}}')
        facts = facts_of(run)
        assert (facts.damage, facts.witnesses[7].detail.status) == ((), "SUCCESS")


def test_damage_of_settings_and_snapshots_names_the_run_where_there_are_several(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    (second.path / "settings.json").write_text("{}")
    path = kept(second)
    path.write_text("{}")

    assert facts_of(first, second).damage == (
        "second/settings.json: cannot be read: 'settings'",
        f"second/jobs/{path.name}:1: cannot be read: 'id'",
    )


def test_what_else_lies_beside_the_snapshots_is_left_alone(tmp_path: Path) -> None:
    run = folder(tmp_path)
    (run.jobs / "notes.txt").write_text("nonsense")

    assert facts_of(run).damage == ()


# --- the second witness

SILENT = "the run folder holds nothing that the service said"


def test_the_latest_snapshot_by_its_name_tells_what_the_service_said_last(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, "settled", at="20261123T083732Z", number=3, status="SUCCESS", counts=(3, 1, 2))
    kept(run, "first", at="20261123T083730Z", number=1, status="PENDING", counts=(0, 4, 0))
    kept(run, "end", at="20261123T083731Z", number=2, status="STARTED", counts=(2, 2, 1))
    (told,) = facts_of(run).witnesses.values()

    assert (told.detail.job, told.detail.status) == (7, "SUCCESS")
    assert (told.detail.processed, told.detail.remaining, told.detail.failed) == (3, 1, 2)
    assert told.wall == 1795423052.0  # 2026-11-23 08:37:32 UTC
    assert told.size == 4


def test_a_later_snapshot_counts_though_its_number_is_lower_as_where_somebody_looked_again_after_the_run(
    tmp_path: Path,
) -> None:
    run = folder(tmp_path)
    kept(run, "settled", at="20261123T084000Z", number=1, status="SUCCESS")
    kept(run, "end", at="20261123T083731Z", number=9, status="STARTED")

    assert facts_of(run).witnesses[7].detail.status == "SUCCESS"


def test_two_snapshots_of_one_second_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, "later", number=10, status="SUCCESS")
    kept(run, "settled", number=9, status="STARTED")

    assert facts_of(run).witnesses[7].detail.status == "SUCCESS"
    assert not facts_of(run).witnesses[7].settled


@pytest.mark.parametrize(
    ("why", "settled"), [("first", False), ("later", False), ("end", False), ("unsettled", False), ("settled", True)]
)
def test_counts_have_settled_only_in_a_snapshot_that_says_so(tmp_path: Path, why: str, settled: bool) -> None:
    run = folder(tmp_path)
    kept(run, why)

    assert facts_of(run).witnesses[7].settled is settled


def test_a_later_look_unsettles_what_had_settled(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, "settled", at="20261123T083730Z")
    kept(run, "later", at="20261123T083731Z", number=2)

    assert not facts_of(run).witnesses[7].settled


@pytest.mark.parametrize("name", ["seven.json", "7-yesterday-0001-end.json"])
def test_a_snapshot_of_another_name_is_dated_by_its_file(tmp_path: Path, name: str) -> None:
    run = folder(tmp_path)
    os.utime(kept(run, name=name), (1000.0, 2000.0))

    assert facts_of(run).witnesses[7].wall == 2000.0


def test_a_snapshot_of_another_name_comes_before_those_that_tell_their_time(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, name="7-20261124T000000Z-end.json", status="STARTED")
    kept(run, status="SUCCESS")

    assert facts_of(run).witnesses[7].detail.status == "SUCCESS"


def test_each_job_has_a_witness_of_its_own(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, job=8, status="STARTED")
    kept(run, job=7, status="SUCCESS", number=2)
    facts = facts_of(run)

    assert {number: one.detail.status for number, one in facts.witnesses.items()} == {7: "SUCCESS", 8: "STARTED"}
    assert list(facts.witnesses) == [7, 8]
    assert facts.witness_missing == ""


@pytest.mark.parametrize(
    ("earlier", "later", "last"),
    [
        ("SUCCESS", "STARTED", "20261123T083730Z"),
        ("STARTED", "SUCCESS", "20261123T083731Z"),
        ("PENDING", "STARTED", "20261123T083731Z"),
        ("FAILURE", "SUCCESS", "20261123T083731Z"),
    ],
)
def test_of_what_several_folders_kept_of_a_job_an_end_is_the_last_word_and_else_the_later_in_any_order(
    tmp_path: Path, earlier: str, later: str, last: str
) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    kept(first, "settled", at="20261123T083730Z", status=earlier)
    kept(second, "unsettled", at="20261123T083731Z", status=later)
    is_earlier = last == "20261123T083730Z"
    for order in ((first, second), (second, first)):
        (told,) = facts_of(*order).witnesses.values()
        assert told.detail.status == (earlier if is_earlier else later)
        assert (told.wall, told.settled) == (1795423050.0 if is_earlier else 1795423051.0, is_earlier)


def test_of_what_several_folders_kept_of_a_job_its_end_counts_and_the_log_that_misses_nothing(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    kept(first, at="20261123T083731Z", status="STARTED", log=[CONSUMER, *LATER[:3], recorded(3)])
    kept(second, at="20261123T083730Z", status="SUCCESS", log=[*LATER[:3]])
    for order in ((first, second), (second, first)):
        (told,) = facts_of(*order).witnesses.values()
        assert (told.detail.status, told.recorded) == ("SUCCESS", frozenset({subject(3)}))


def test_a_whole_log_tells_which_answers_were_recorded_and_how_many_deliveries_there_were(tmp_path: Path) -> None:
    run = folder(tmp_path)
    error = "ERROR Error processing pipeline result for job 7: no such algorithm"
    kept(run, log=[CONSUMER, QUEUED, FETCHED, recorded(1), recorded(2), error, *LATER])
    (told,) = facts_of(run).witnesses.values()

    assert told.recorded == frozenset({subject(1), subject(2)})
    assert told.unsaved == frozenset({subject(2)})
    assert (told.delivered, told.queued, told.restarted, told.given_up) == (4, 4, False, 0)


def test_a_log_that_does_not_reach_back_to_the_start_tells_neither_of_the_two(tmp_path: Path) -> None:
    run = folder(tmp_path)
    error = "ERROR Error processing pipeline result for job 7: no such algorithm"
    kept(run, log=[QUEUED, FETCHED, recorded(1), error, *LATER])
    (told,) = facts_of(run).witnesses.values()

    assert (told.recorded, told.delivered) == (None, None)
    assert (told.unsaved, told.queued) == (frozenset({subject(1)}), 4)


def test_a_whole_log_that_tells_of_no_delivery_is_of_a_service_that_does_not_write_them_down(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, log=[CONSUMER, QUEUED, recorded(1)])
    (told,) = facts_of(run).witnesses.values()

    assert (told.recorded, told.delivered) == (frozenset({subject(1)}), None)


def test_logs_of_several_snapshots_are_joined_in_the_order_of_their_time_where_they_overlap(tmp_path: Path) -> None:
    run = folder(tmp_path)
    lines = [CONSUMER, FETCHED, *LATER[:3], recorded(1), FETCHED.replace(":25", ":39"), *LATER[3:]]
    kept(run, "settled", at="20261123T083732Z", number=3, log=lines[6:])
    kept(run, "first", at="20261123T083730Z", number=1, log=lines[:5])
    kept(run, "later", at="20261123T083731Z", number=2, log=lines[2:9])
    (told,) = facts_of(run).witnesses.values()

    assert (told.recorded, told.delivered) == (frozenset({subject(1)}), 8)


def test_logs_that_do_not_overlap_are_not_whole(tmp_path: Path) -> None:
    run = folder(tmp_path)
    lines = [CONSUMER, FETCHED, *LATER[:3], recorded(1), *LATER[3:]]
    kept(run, "first", at="20261123T083730Z", number=1, log=lines[:4])
    kept(run, "settled", at="20261123T083732Z", number=2, log=lines[5:])
    (told,) = facts_of(run).witnesses.values()

    assert (told.recorded, told.delivered) == (None, None)


def test_a_job_that_was_run_again_and_images_that_were_given_up_are_told(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, "first", log=[CONSUMER, QUEUED])
    kept(
        run,
        number=2,
        errors=("jobs_health_check: marked 3 image(s) as failed (job idle past cutoff)",),
        log=[CONSUMER, QUEUED, "INFO Re-running job 7"],
    )
    (told,) = facts_of(run).witnesses.values()

    assert (told.restarted, told.given_up) == (True, 3)


def test_a_run_without_a_word_of_the_service_says_so(tmp_path: Path) -> None:
    assert facts_of(folder(tmp_path)).witness_missing == SILENT


def test_why_the_service_could_not_be_asked_is_told_if_the_run_knows_it(tmp_path: Path) -> None:
    run = folder(tmp_path)
    booked(run, "unwitnessed", incarnation=0, job=7, why="")
    assert facts_of(run).witness_missing == SILENT

    booked(run, "unwitnessed", incarnation=0, job=8, why="no token")
    assert facts_of(run).witness_missing == "no token"

    kept(run, job=8)
    assert facts_of(run).witness_missing == ""


# --- how the service is set


def test_nothing_is_known_of_the_service_where_nobody_says_it(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, log=[QUEUED, *LATER])

    assert facts_of(run).parameters == Parameters(None, None, {})


def test_an_option_wins_over_a_setting_and_a_setting_over_a_log(tmp_path: Path) -> None:
    logged, both = folder(tmp_path, "logged"), folder(tmp_path, "both", ack_wait=30.0, max_deliver=5)
    for run in (logged, both):
        kept(run, log=[CONSUMER, QUEUED])

    log = "the log of job 7"
    assert facts_of(logged).parameters == Parameters(8.0, 2, {"ack_wait": log, "max_deliver": log})
    settings = {"ack_wait": "AMI_TEST_ACK_WAIT", "max_deliver": "AMI_TEST_MAX_DELIVER"}
    assert facts_of(both).parameters == Parameters(30.0, 5, settings)
    options = {"ack_wait": "--ack-wait", "max_deliver": "--max-deliver"}
    assert facts_of(both, ack_wait=60.0, max_deliver=7).parameters == Parameters(60.0, 7, options)


def test_each_of_the_two_is_looked_for_by_itself(tmp_path: Path) -> None:
    run = folder(tmp_path, max_deliver=5)
    kept(run, log=[CONSUMER, QUEUED])
    assert facts_of(run).parameters == Parameters(
        8.0, 5, {"ack_wait": "the log of job 7", "max_deliver": "AMI_TEST_MAX_DELIVER"}
    )
    assert facts_of(run, ack_wait=60.0).parameters.sources == {
        "ack_wait": "--ack-wait",
        "max_deliver": "AMI_TEST_MAX_DELIVER",
    }
    assert facts_of(folder(tmp_path, "other", ack_wait=30.0)).parameters == Parameters(
        30.0, None, {"ack_wait": "AMI_TEST_ACK_WAIT"}
    )


def test_an_option_of_nothing_is_an_option(tmp_path: Path) -> None:
    run = folder(tmp_path, ack_wait=30.0)

    assert facts_of(run, ack_wait=0.0).parameters.ack_wait == 0.0


def test_max_deliver_is_a_whole_number_wherever_it_comes_from(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, log=[CONSUMER, QUEUED])

    assert type(facts_of(run).parameters.max_deliver) is int


def test_of_several_runs_the_first_that_sets_it_counts(tmp_path: Path) -> None:
    runs = [folder(tmp_path, "a"), folder(tmp_path, "b", ack_wait=30.0), folder(tmp_path, "c", ack_wait=60.0)]

    assert facts_of(*runs).parameters.ack_wait == 30.0
    assert facts_of(*reversed(runs)).parameters.ack_wait == 60.0


def test_of_several_logs_the_one_of_the_lowest_job_that_tells_it_counts(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, job=12, log=[CONSUMER.replace("ack_wait=8.0s", "ack_wait=30.0s"), QUEUED])
    kept(run, job=9, number=2, log=[CONSUMER.replace("ack_wait=8.0s, ", ""), QUEUED])
    kept(run, job=7, number=3, log=[QUEUED, *LATER])

    sources = {"ack_wait": "the log of job 12", "max_deliver": "the log of job 9"}
    assert facts_of(run).parameters == Parameters(30.0, 2, sources)


def test_a_log_that_is_not_whole_tells_how_the_service_is_set_all_the_same(tmp_path: Path) -> None:
    run = folder(tmp_path)
    kept(run, "first", at="20261123T083730Z", log=[CONSUMER, QUEUED])
    kept(run, "end", at="20261123T083731Z", number=2, log=LATER)

    assert (facts_of(run).parameters.ack_wait, facts_of(run).witnesses[7].recorded) == (8.0, None)


def test_a_baseline_is_passed_on(tmp_path: Path) -> None:
    assert facts_of(folder(tmp_path), baseline=0.125).baseline == 0.125


# --- what follows from how the service is set


@pytest.mark.parametrize(
    ("ack_wait", "longest", "slack", "haste"),
    [
        (8.0, 8.0, 6.0, 0.4),
        (2.0, 2.0, 3.0, 0.1),
        (1.0, 1.0, 2.5, 0.1),
        (60.0, 60.0, 32.0, 3.0),
        (None, 300.0, 2.0, 0.1),
    ],
)
def test_a_redelivery_may_be_late_by_half_of_ack_wait_and_2_s_and_early_by_a_twentieth_or_a_tenth_of_a_second(
    ack_wait: float | None, longest: float, slack: float, haste: float
) -> None:
    parameters = Parameters(ack_wait)

    assert (parameters.longest, parameters.slack) == (longest, slack)
    assert parameters.haste == pytest.approx(haste)


def test_a_witness_that_was_told_no_more_knows_of_no_log_no_reaper_and_no_second_run() -> None:
    told = JobWitness(witness(7, "STARTED", 3, 4).detail, 0.0, settled=True)

    assert (told.recorded, told.unsaved, told.delivered, told.queued) == (None, frozenset(), None, None)
    assert (told.given_up, told.restarted) == (0, False)


def test_a_job_is_as_large_as_what_is_processed_and_what_remains() -> None:
    assert witness(7, "STARTED", 3, 4, failed=2).size == 7
    for processed, remaining in ((None, 4), (3, None), (None, None)):
        assert witness(7, "STARTED", processed, remaining).size is None
