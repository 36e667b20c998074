"""Histories in which a hasty judge would be unfair, or look away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ami_fault_site import runfolder, runs
from ami_fault_site.faults import Effect
from ami_fault_site.joblog import JobLog
from ami_fault_site.ledger import Ledger
from ami_fault_site.settings import Settings
from ami_fault_site.verdict import Case, calm, images, jobs, losses, network, work
from ami_fault_site.verdict.terms import Status
from tests.booked import Books, facts, witness

DAMAGED = ("h-0001-10-1.jsonl:7: events 7 to 8 are missing",)


def folder(home: Path, name: str) -> runfolder.RunFolder:
    return runfolder.join(Settings(enabled=True, seed=1, run_dir=str(home / name)), home).run


def snap(run: runfolder.RunFolder, at: str, status: str, stdout: object = None, job: int = 7) -> None:
    said = {"id": job, "status": status, "progress": {}, "logs": {"stdout": stdout}}
    (run.jobs / f"{job}-{at}-0001-end.json").write_text(json.dumps(said))


# --- runs.py


def test_the_order_of_the_folders_makes_no_difference_to_what_the_service_said_last(tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")
    snap(a, "20261123T083730Z", "SUCCESS", [])
    snap(b, "20261123T083720Z", "STARTED", [])
    said = [runs.read(paths)[1].witnesses[7].detail.status for paths in ([a.path, b.path], [b.path, a.path])]
    assert said == ["SUCCESS", "SUCCESS"]


def test_a_log_of_null_is_no_traceback(tmp_path: Path) -> None:
    run = folder(tmp_path, "a")
    snap(run, "20261123T083730Z", "SUCCESS", None)
    runs.read([run.path])


@pytest.mark.parametrize("text", ["[]", '"x"', "7"])
def test_settings_that_are_no_mapping_are_no_traceback(tmp_path: Path, text: str) -> None:
    run = folder(tmp_path, "a")
    (run.path / "settings.json").write_text(text)
    assert len(runs.read([run.path])[1].damage) == 1


def test_damage_of_settings_and_snapshots_names_its_run_where_there_are_several(tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")
    (b.path / "settings.json").write_text("{")
    (b.jobs / "7-20261123T083730Z-0001-end.json").write_text("{")
    damage = runs.read([a.path, b.path])[1].damage
    assert [one.startswith("b/") for one in damage] == [True, True]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_sealed_file_that_has_vanished_or_is_empty_is_noticed(tmp_path: Path, is_there: bool) -> None:
    run = folder(tmp_path, "a")
    Ledger(run.ledger, 0).append("sealed", files=[["h-0001-10-1.jsonl", 40]])
    if is_there:
        (run.ledger / "h-0001-10-1.jsonl").write_text("")
    assert len(runs.read([run.path])[1].damage) == 1


def test_why_a_job_has_no_witness_is_said_though_another_job_has_one(tmp_path: Path) -> None:
    run = folder(tmp_path, "a")
    Ledger(run.ledger, 0).append("unwitnessed", job=8, why="status 404")
    row = [1, 1, 1, 5, 0, "1", "1.jpg"]
    Ledger(run.ledger, 1).append("leases", call=1, job=8, status=200, struck=False, stream="job_8", leases=[row])
    snap(run, "20261123T083730Z", "SUCCESS", [])
    finding = jobs.job_reaches_its_end(Case(*runs.read([run.path])))

    assert finding.text == "job 8: second witness missing: status 404"


# --- joblog.py


def test_lines_that_repeat_do_not_hide_what_stands_between_them() -> None:
    """Real logs repeat lines of the second's resolution: "Created 0 new occurrences", "Updated 0 detections..."."""
    same = ["[08:38:13] INFO Created 0 new occurrences", "[08:38:13] INFO Updated 0 detections", "[08:38:13] INFO x"]
    recorded = "INFO Processing pipeline result for job 7, reply_subject: $JS.ACK.job_7.c.1.3.3.1.0"
    log = JobLog()
    first = ["INFO Created NATS consumer c (ack_wait=8.0s)", *same]
    log.add(first[::-1])
    log.add([*first, recorded, *same][::-1])
    assert len(log.recorded) == 1 or not log.is_whole


# --- jobs.py


def test_a_job_of_which_only_an_unheard_answer_is_known_is_not_idle_since_1970() -> None:
    books = Books()
    books.process(10).start(0.0).post(2.0, 7, (1, 1), outcome=None)  # the loader's file is not there
    finding = jobs.job_reaches_its_end(books.case(facts(witness(7, "STARTED", 0, 1))))
    assert (finding.status, "minutes" in finding.text) == (Status.UNKNOWN, False)


def test_a_task_whose_only_post_before_the_success_was_never_sent_was_out() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1))
    main.post(2.0, 7, (1, 1), outcome="not-sent", status=0, struck=True, error="ConnectionError")
    books.supervisor().seen(5.0, 7, "SUCCESS", 1, 0)
    main.fetch(9.5, 7, (1, 2))
    main.post(10.0, 7, (1, 2))
    assert jobs.no_early_success(books.case(facts(witness(7, "SUCCESS", 1, 0)))).status is Status.FAIL


def test_a_job_whose_counts_were_never_set_is_not_said_to_wait_for_answers() -> None:
    """STARTED while its images are still being collected: the counts are "" until first set."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1))
    for at in (2.25, 6.25, 10.75):
        main.fetch(at, 8)
    finding = jobs.no_starvation(books.case(facts(witness(8, "STARTED", None, None, failed=None))))
    assert finding.status is not Status.FAIL


# --- damage: a whole line is missing, and somebody is accused of what it would have told


def test_a_lost_leases_line_is_no_hang_of_the_service() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(10.0, 7, (1, 1))
    del main.events[-1]
    main.book("note", 200.0)
    assert calm.no_cascade(books.case(facts(damage=DAMAGED))).status is not Status.FAIL


def test_a_lost_leases_line_is_no_silence_after_a_failed_fetch() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fail(9.95, "tasks", 7, struck=True, error="ConnectTimeout")
    main.fetch(12.0, 7, (1, 1))
    del main.events[-1]
    main.poll(45.0, 7)
    main.poll(90.0)
    finding = network.failed_fetch_resumed(books.case(facts(damage=DAMAGED, network_error_rate=0.5)))
    assert finding.status is not Status.FAIL


@pytest.mark.parametrize("check", [work.held_tasks_are_answered, losses.no_task_lost])
def test_a_lost_post_is_no_task_that_a_live_worker_kept(check: object) -> None:
    books = Books()
    books.process(10).start(0.0).fetch(1.0, 7, (1, 1))  # both lines of its post are lost
    supervisor = books.supervisor()
    supervisor.spawn(0.0, 1)
    supervisor.exit(100.0, 1, "ended", -15)
    case = books.case(facts(witness(7, "STARTED", 0, 1), damage=DAMAGED))
    assert check(case).status is not Status.FAIL  # type: ignore[operator]


@pytest.mark.parametrize("check", [images.only_bad_images_fail, images.batch_survives_a_bad_image])
def test_a_lost_fault_line_is_no_good_image_that_failed(check: object) -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1), (2, 1))
    main.image(2.0, 7, 1, status=404, struck=True)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.image(2.0, 7, 2, status=404, struck=True)  # the line that tells of its fault is lost
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1, 2))
    case = books.case(facts(damage=DAMAGED, image_404_rate=0.5))
    assert check(case).status is not Status.FAIL  # type: ignore[operator]


# --- smaller ones


def test_the_evidence_of_a_silent_worker_is_the_last_call_that_was_struck() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    for number in range(60):
        main.fail(number / 10, "tasks", 7, struck=True, error="ConnectTimeout")
    finding = network.failed_fetch_resumed(books.case(facts(network_error_rate=0.5)))
    assert [place.line for place in finding.evidence] == [len(main.events)]
