"""The promises of joblog: what a job's own log tells, put together from excerpts."""

from __future__ import annotations

import pytest

from ami_fault_site.joblog import JobLog, consumer_settings, given_up

CONSUMER = "[2026-11-23 08:37:20] INFO Created NATS consumer job-7-consumer (max_deliver=2, ack_wait=8.0s, x=y)"
QUEUED = "[2026-11-23 08:37:20] INFO Successfully queued 40/40 images to stream for job '7'"


def stamped(*texts: str) -> list[str]:
    """Stamp lines as the service does; each is unlike the others."""
    return [f"[2026-11-23 08:38:{number:02d}] INFO {text}" for number, text in enumerate(texts)]


def subject(sequence: int, delivery: int = 1) -> str:
    return f"$JS.ACK.job_7.job-7-consumer.{delivery}.{sequence}.{sequence}.1795441068530757755.24"


def recorded(sequence: int) -> str:
    return f"INFO Processing pipeline result for job 7, reply_subject: {subject(sequence)}"


def read(*excerpts: list[str]) -> JobLog:
    """Give excerpts, each written here in the order of time, as the service does: newest line first."""
    log = JobLog()
    for lines in excerpts:
        log.add(lines[::-1])
    return log


# --- what a line tells


def test_a_log_of_which_nothing_was_read_tells_nothing() -> None:
    log = JobLog()

    assert (log.consumer, log.recorded, log.unsaved, log.delivered) == ({}, set(), set(), 0)
    assert (log.queued, log.restarted, log.is_whole) == (None, False, False)


def test_it_tells_how_the_consumer_is_set() -> None:
    assert read([CONSUMER, QUEUED]).consumer == {"max_deliver": 2.0, "ack_wait": 8.0}


def test_the_consumer_is_found_in_a_later_excerpt_too_and_the_first_one_found_stays() -> None:
    lines = stamped("a", "b", "c")
    another = CONSUMER.replace("ack_wait=8.0s", "ack_wait=30.0s")

    assert read(lines, [*lines, CONSUMER]).consumer == {"max_deliver": 2.0, "ack_wait": 8.0}
    assert read([CONSUMER, *lines], [*lines, another]).consumer["ack_wait"] == 8.0
    assert read([CONSUMER, *lines], lines).consumer["ack_wait"] == 8.0


def test_it_tells_how_many_tasks_were_queued_and_the_last_time_counts() -> None:
    assert read(stamped("a", "b")).queued is None
    assert read([CONSUMER, QUEUED]).queued == 40
    assert read([CONSUMER, QUEUED, QUEUED.replace("40/40", "12/40")]).queued == 12


def test_it_tells_which_answers_were_recorded_by_their_reply_subjects() -> None:
    log = read([CONSUMER, recorded(3), "INFO Successfully saved results for job 7", recorded(4), recorded(3)])

    assert log.recorded == {subject(3), subject(4)}
    assert log.unsaved == set()


def test_every_line_of_an_excerpt_is_read_the_oldest_and_the_newest_too() -> None:
    assert read([recorded(1), recorded(2), recorded(3)]).recorded == {subject(1), subject(2), subject(3)}


def test_a_result_that_could_not_be_saved_is_the_one_that_was_begun_last() -> None:
    error = "ERROR Error processing pipeline result for job 7: no such algorithm"
    log = read([CONSUMER, recorded(3), recorded(4), "INFO something else", error, recorded(5)])

    assert log.recorded == {subject(3), subject(4), subject(5)}
    assert log.unsaved == {subject(4)}


def test_it_tells_which_algorithm_an_answer_names_that_its_pipeline_does_not_declare() -> None:
    why = "Detection algorithm my_detector is not a known algorithm. The processing service must declare it"
    error = f"ERROR Error processing pipeline result for job 7: {why}"
    log = read([CONSUMER, recorded(3), error, recorded(4), "ERROR Error processing pipeline result for job 7: odd"])

    assert log.undeclared == {subject(3): "my_detector"}
    assert log.unsaved == {subject(3), subject(4)}


def test_an_error_before_any_result_names_none() -> None:
    log = read([CONSUMER, "ERROR Error processing pipeline result for job 7: no such algorithm", recorded(3)])

    assert (log.recorded, log.unsaved) == ({subject(3)}, set())


def test_an_error_at_the_head_of_an_excerpt_is_that_of_the_result_begun_in_the_last_one() -> None:
    lines = [CONSUMER, *stamped("a", "b"), recorded(3)]
    error = "ERROR Error processing pipeline result for job 7: no such algorithm"

    assert read(lines, [*lines, error]).unsaved == {subject(3)}


def test_it_adds_up_the_deliveries_to_anybody() -> None:
    fetched = "INFO Tasks fetched: requested={}, delivered={}"
    log = read([CONSUMER, fetched.format(8, 8), fetched.format(8, 0), fetched.format(24, 16)])

    assert log.delivered == 24


def test_it_tells_whether_somebody_ran_the_job_again_since_it_was_first_looked_at() -> None:
    before, after = [CONSUMER, QUEUED], [CONSUMER, QUEUED, "INFO Re-running job 7"]

    assert read(before, after).restarted
    assert not read(before, before).restarted
    assert not read(after, after).restarted
    assert read(before, after, [*after, *stamped("a", "b")]).restarted


def test_of_a_job_that_was_run_again_it_tells_of_the_last_time() -> None:
    fetched = "INFO Tasks fetched: requested=8, delivered=8"
    error = "ERROR Error processing pipeline result for job 7: my_detector is not a known algorithm"
    first = [CONSUMER, QUEUED, fetched, recorded(3), error]
    log = read([*first, "INFO Re-running job 7", CONSUMER, QUEUED.replace("40/40", "12/40"), fetched, recorded(4)])

    assert (log.recorded, log.unsaved, log.undeclared) == ({subject(4)}, set(), {})
    assert (log.delivered, log.queued, log.is_whole) == (8, 12, True)


# --- how excerpts are put together


def test_a_log_that_reaches_back_to_the_making_of_the_consumer_is_whole() -> None:
    assert read([CONSUMER, QUEUED]).is_whole
    assert not read([QUEUED, *stamped("a", "b")]).is_whole


def test_excerpts_that_overlap_are_read_once_and_the_whole_stays_whole() -> None:
    one, two, three = (f"INFO Tasks fetched: requested=8, delivered={n}" for n in (1, 2, 4))
    lines = [CONSUMER, one, *stamped("a", "b"), two, *stamped("c", "d"), three]

    for cut in (4, 5, 6):
        log = read(lines[:cut], lines[cut - 3 :])
        assert (log.delivered, log.is_whole) == (7, True)
    log = read(lines[:4], lines[1:6], lines[3:], lines[3:])
    assert (log.delivered, log.is_whole) == (7, True)


def test_excerpts_that_do_not_overlap_leave_a_gap_and_the_whole_is_no_longer_whole() -> None:
    lines = [CONSUMER, *stamped("a", "b", "c", "d"), recorded(3), *stamped("e", "f")]
    log = read(lines[:4], lines[5:])

    assert not log.is_whole
    assert log.recorded == {subject(3)}  # what can be read is read


def test_an_overlap_of_fewer_than_three_lines_may_be_chance() -> None:
    lines = [CONSUMER, *stamped("a", "b", "c", "d", "e")]

    assert read(lines[:4], lines[1:]).is_whole
    assert not read(lines[:4], lines[2:]).is_whole


@pytest.mark.parametrize(("repeated", "is_whole"), [(3, True), (19, True), (20, False)])
def test_lines_that_repeat_hide_nothing_and_where_they_join_in_two_places_the_log_is_not_whole(
    repeated: int, is_whole: bool
) -> None:
    """The lines of one second may repeat, as those of images without a find do."""
    same = stamped(*(f"Updated {number} detections" for number in range(repeated)))
    fetched = "INFO Tasks fetched: requested=8, delivered=8"
    log = read([CONSUMER, *same], [CONSUMER, *same, recorded(3), fetched, *same])

    assert log.recorded == {subject(3)}
    assert (log.delivered, log.is_whole) == (8, is_whole)


def test_after_a_gap_the_next_excerpts_are_joined_again_but_not_whole() -> None:
    fetched = "INFO Tasks fetched: requested=8, delivered=8"
    lines = [CONSUMER, *stamped("a", "b", "c", "d", "e", "f", "g"), fetched]
    log = read(lines[:4], lines[5:], lines[5:], [*lines[5:], *stamped("h")])

    assert (log.delivered, log.is_whole) == (8, False)


def test_a_gap_is_not_closed_by_a_consumer_that_is_made_anew() -> None:
    lines = [CONSUMER, *stamped("a", "b", "c", "d", "e", "f"), CONSUMER.replace("08:37", "09:37"), *stamped("g")]

    assert not read(lines[:4], lines[5:]).is_whole


def test_a_log_whose_start_was_never_seen_does_not_become_whole() -> None:
    lines = stamped("a", "b", "c")

    assert not read(lines, [*lines, CONSUMER]).is_whole
    assert not read(lines, [CONSUMER, *lines]).is_whole


def test_a_log_of_two_lines_is_joined_by_both() -> None:
    lines = [CONSUMER, *stamped("a", "b", "c")]

    assert read(lines[:2], lines).is_whole
    assert not read(lines[:2], lines[1:]).is_whole


def test_an_excerpt_that_is_shorter_than_the_overlap_joins_nothing() -> None:
    lines = [CONSUMER, *stamped("a", "b", "c")]

    assert not read(lines, lines[-2:]).is_whole


@pytest.mark.parametrize("look", [[], ["INFO Tasks fetched: requested=8, delivered=8"]])
def test_a_look_at_the_state_only_is_no_excerpt(look: list[str]) -> None:
    lines = [CONSUMER, *stamped("a", "b", "c")]
    for excerpts in ((look, lines), (lines, look), (lines, look, [*lines, *stamped("d")])):
        log = read(*excerpts)
        assert (log.is_whole, log.delivered) == (True, 0)


def test_lines_that_are_no_texts_do_no_harm() -> None:
    log = JobLog()
    log.add([None, 7, CONSUMER])  # type: ignore[list-item]

    assert (log.is_whole, log.consumer["ack_wait"]) == (True, 8.0)


# --- the reaper


def test_the_reaper_says_in_the_jobs_errors_how_many_images_it_gave_up() -> None:
    errors = [
        "jobs_health_check: marked 3 image(s) as failed (job idle past cutoff; likely NATS max_deliver exhausted)",
        "something else went wrong with 99 image(s)",
        "2026-11-23: jobs_health_check: marked 12 image(s) as failed",
    ]

    assert given_up(errors) == 15
    assert given_up(errors[1:2]) == given_up([]) == 0


LOG = "[2026-11-23] INFO Created NATS consumer job-64-consumer (max_deliver=2, ack_wait=8.0s, max_ack_pending=1000)"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["first", LOG, "last"], {"max_deliver": 2.0, "ack_wait": 8.0}),
        ([LOG.replace("8.0s", "300s")], {"max_deliver": 2.0, "ack_wait": 300.0}),
        ([LOG.replace("max_deliver=2, ", "")], {"ack_wait": 8.0}),
        ([LOG.replace("8.0s", "soon")], {"max_deliver": 2.0}),
        (["nothing", 7, None], {}),
        ([], {}),
        (None, {}),
        ("Created NATS consumer x (max_deliver=2)", {}),
    ],
)
def test_the_consumers_settings_are_found_in_the_jobs_log(lines: object, found: dict[str, float]) -> None:
    assert consumer_settings(lines) == found
