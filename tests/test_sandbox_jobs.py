"""A job counts as the platform does: never twice, failures for ever, and FAILURE only above the threshold."""

from __future__ import annotations

import pytest

from ami_fault_site.sandbox.jobs import LOGS_MOST, Answer, Job, JobState, Reaping, reaping


def started(images: int, available: int | None = None) -> Job:
    job = Job(1, "a job", "moth_binary", created_at=100.0)
    job.start(101.0, frozenset(str(i) for i in range(1, images + 1)), available or images)
    return job


def answer(job: Job, *images: str, error: str | None = None, now: float = 110.0) -> None:
    done = frozenset(images)
    job.count_processed(now, done, done if error else frozenset())
    job.count_saved(now, Answer("r", done, error, 0 if error else 2, 0 if error else 3))


def test_a_new_job_has_three_stages_whose_values_are_empty_text() -> None:
    job = Job(1, "a job", "moth_binary", created_at=100.0)
    assert [stage.key for stage in job.stages] == ["collect", "process", "results"]
    assert all(value == "" for stage in job.stages for value in stage.values.values())
    assert (job.status, job.updated_at) == (JobState.CREATED, 100.0)


def test_a_started_job_has_collected_and_processed_nothing_yet() -> None:
    job = started(4)
    assert job.collect.values == {"Total Images": 4}
    assert job.process.values == {"Processed": "", "Remaining": "", "Failed": ""}
    assert (job.status, job.progress, job.started_at) == (JobState.STARTED, 1 / 3, 101.0)


def test_a_limited_job_says_so() -> None:
    assert started(4, available=9).collect.values == {"Total Images": 9, "Limit": 4}


def test_an_answer_counts_its_image_and_what_was_found_on_it() -> None:
    job = started(4)
    answer(job, "1")
    assert job.process.values == {"Processed": 1, "Remaining": 3, "Failed": 0}
    assert job.results.values == {"Captures": 1, "Detections": 2, "Classifications": 3}
    assert (job.status, job.updated_at) == (JobState.STARTED, 110.0)


def test_a_second_answer_for_an_image_changes_no_count() -> None:
    job = started(4)
    answer(job, "1")
    answer(job, "1")
    assert job.process.values == {"Processed": 1, "Remaining": 3, "Failed": 0}
    assert job.results.values == {"Captures": 1, "Detections": 2, "Classifications": 3}


def test_an_error_counts_as_processed_and_failed() -> None:
    job = started(4)
    answer(job, "1", error="failed to load image")
    assert job.process.values == {"Processed": 1, "Remaining": 3, "Failed": 1}
    assert job.results.values == {"Captures": 0, "Detections": 0, "Classifications": 0}


def test_failed_never_goes_down_again() -> None:
    job = started(4)
    answer(job, "1", error="failed to load image")
    answer(job, "1")
    assert job.process.values["Failed"] == 1


def test_an_error_that_names_no_image_counts_nothing() -> None:
    job = started(4)
    answer(job, error="something")
    assert job.process.values == {"Processed": 0, "Remaining": 4, "Failed": 0}


@pytest.mark.parametrize(("failed", "status"), [(2, JobState.SUCCESS), (3, JobState.FAILURE)])
def test_a_job_fails_only_if_more_than_half_of_its_images_did(failed: int, status: JobState) -> None:
    job = started(4)
    for image in range(1, 5):
        answer(job, str(image), error="bad" if image <= failed else None, now=100.0 + image)
    assert (job.status, job.finished_at) == (status, 104.0)
    assert job.progress == 1.0


def test_a_job_that_will_fail_is_shown_failing_before_its_end_and_no_longer_listed_as_incomplete() -> None:
    job = started(4)
    for image in ("1", "2", "3"):
        answer(job, image, error="bad")
    assert (job.status, job.results.status) == (JobState.STARTED, JobState.FAILURE)
    assert not job.is_listed_incomplete


def test_a_job_that_has_ended_counts_nothing_more() -> None:
    job = started(1)
    answer(job, "1")
    assert job.total is None
    assert job.missing == frozenset()


def test_what_was_processed_and_not_saved_is_still_missing() -> None:
    job = started(2)
    job.count_processed(110.0, frozenset({"1"}))
    assert job.missing == {"1", "2"}
    assert not job.is_complete


def test_a_retried_job_starts_from_nothing_and_waits() -> None:
    job = started(1)
    answer(job, "1")
    job.retry(120.0)
    assert (job.status, job.started_at, job.finished_at) == (JobState.PENDING, None, None)
    assert job.process.values == {"Processed": 0, "Remaining": 0, "Failed": 0}
    assert job.progress == 0.0


def test_the_log_is_newest_first_and_limited() -> None:
    job = Job(1, "a job", "moth_binary", created_at=100.0)
    for number in range(LOGS_MOST + 10):
        job.log(100.0 + number, f"line {number}")
    assert [line.message for line in job.newest(2)] == [f"line {LOGS_MOST + 9}", f"line {LOGS_MOST + 8}"]
    assert len(job.newest()) == 1000
    assert len(job.newest(10 * LOGS_MOST)) == LOGS_MOST


def test_the_reaper_leaves_alone_who_is_not_idle_or_does_not_run() -> None:
    job = started(4)
    assert reaping(job, 101.0 + 599.0, 600.0, has_consumer=True) is Reaping.NOTHING
    fresh = Job(2, "never started", "moth_binary", created_at=0.0)
    assert reaping(fresh, 10_000.0, 600.0, has_consumer=False) is Reaping.NOTHING
    job.end(102.0, JobState.SUCCESS)
    assert reaping(job, 10_000.0, 600.0, has_consumer=True) is Reaping.NOTHING


def test_the_reaper_gives_up_missing_images_and_revokes_what_has_no_queue() -> None:
    job = started(4)
    assert reaping(job, 701.0, 600.0, has_consumer=True) is Reaping.GIVE_UP_MISSING
    assert reaping(job, 701.0, 600.0, has_consumer=False) is Reaping.REVOKE


def test_an_answer_makes_the_reaper_wait_again() -> None:
    job = started(4)
    answer(job, "1", now=500.0)
    assert reaping(job, 701.0, 600.0, has_consumer=True) is Reaping.NOTHING


def test_images_given_up_are_failed_named_and_end_the_job_by_its_own_rule() -> None:
    job = started(4)
    for image in ("1", "2"):
        answer(job, image)
    job.give_up_missing(800.0, "num_pending=0 num_ack_pending=2 num_redelivered=2")
    assert job.errors == [
        "jobs_health_check: marked 2 image(s) as failed (job idle past cutoff; NATS consumer "
        "num_pending=0 num_ack_pending=2 num_redelivered=2). IDs: ['3', '4']"
    ]
    assert job.process.values == {"Processed": 4, "Remaining": 0, "Failed": 2}
    assert job.results.values["Captures"] == 2
    assert job.status == JobState.SUCCESS


def test_many_images_given_up_are_not_all_named() -> None:
    job = started(30)
    job.give_up_missing(800.0, "-")
    assert "marked 30 image(s)" in job.errors[0]
    assert job.errors[0].endswith(" ... and 20 more")
    assert job.status == JobState.FAILURE
