"""The promises of the checks on image errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.grammar import parse_rules
from ami_fault_site.verdict import Case, Facts
from ami_fault_site.verdict.images import (
    answers_name_their_image,
    batch_survives_a_bad_image,
    only_bad_images_fail,
    permanent_errors_reported,
    transient_errors_requeued,
)
from ami_fault_site.verdict.terms import Finding, Group, Status, Whose
from tests.booked import Books, Process, concerned, facts, lines, told, witness

BAD: dict[str, Any] = {"image_404_rate": 0.5}
PASSING: dict[str, Any] = {"transient_error_rate": 0.5}
FAILED_TO_LOAD = "failed to load image"
DAMAGED = ("h-0001-10-1.jsonl:7: events 7 to 7 are missing",)


def fetched(*tasks: int) -> tuple[Books, Process]:
    """Hand these tasks out at 1.0 s, in line 4 of the one file."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, *((task, 1) for task in tasks))
    return books, main


@pytest.mark.parametrize(
    ("judge", "slug"),
    [
        (permanent_errors_reported, "permanent-errors-reported"),
        (only_bad_images_fail, "only-bad-images-fail"),
        (batch_survives_a_bad_image, "batch-survives-a-bad-image"),
        (transient_errors_requeued, "transient-errors-requeued"),
        (answers_name_their_image, "answers-name-their-image"),
    ],
)
def test_image_errors_are_the_workers_and_make_no_run_unknown(judge: Callable[[Case], Finding], slug: str) -> None:
    check = judge(Books().case(facts())).check

    assert (check.slug, check.group, check.whose, check.is_safety) == (slug, Group.IMAGES, Whose.WORKER, False)


# --- permanent-errors-reported


def reported(books: Books, **settings: object) -> Finding:
    return permanent_errors_reported(books.case(facts(**(settings or BAD))))


def test_without_bad_images_among_the_settings_no_report_is_expected() -> None:
    finding = reported(fetched(1)[0], transient_error_rate=0.5, network_error_rate=0.5)

    assert told(finding) == ("not-applicable", "worker", "no missing or damaged image was set")


@pytest.mark.parametrize(
    "settings",
    [BAD, {"corrupt_image_rate": 0.5}, {"permanent_error_images": ("1.jpg",)}],
    ids=lambda one: next(iter(one)),
)
def test_bad_images_that_were_set_and_never_answered_show_nothing(settings: dict[str, object]) -> None:
    books, main = fetched(1, 2)
    main.post(3.0, 7, (2, 1))
    text = "no task with a missing or damaged image was answered"
    assert told(reported(books, **settings)) == ("vacuous", "worker", text)

    main.strike(3.5, Effect.IMAGE_404, 7, image="1")
    main.post(4.0, 7, (1, 1), outcome="refused", status=500, failed=(1,))
    main.post(5.0, 7, (1, 1), outcome=None, failed=(1,))
    assert reported(books, **settings).text == text


@pytest.mark.parametrize("effect", [Effect.IMAGE_404, Effect.CORRUPT])
def test_a_bad_image_that_is_answered_with_an_error_is_reported(effect: Effect) -> None:
    books, main = fetched(1, 2, 3)
    main.strike(2.0, effect, 7, image="1")
    main.strike(2.0, effect, 7, image="1")  # the worker tried again
    main.strike(2.5, effect, 7, image="3")
    main.strike(2.5, effect, 7, image="99")  # of no task that we know
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), failed=(1, 3))
    finding = reported(books)

    assert told(finding) == ("pass", "worker", "2 tasks with a bad image, all of them reported as failed")
    assert (finding.tasks, finding.judged, lines(finding.evidence)) == ((), 3, [])


def test_a_bad_image_that_is_answered_as_a_success_was_swallowed() -> None:
    books, main = fetched(1, 2, 3)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.strike(2.0, Effect.CORRUPT, 7, image="2")
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), failed=(2, 3))
    finding = reported(books)

    assert told(finding) == ("fail", "worker", "1 of 2 bad images were answered as a success")
    assert (concerned(finding), finding.judged) == ([1], 2)
    assert lines(finding.evidence) == ["10:5", "10:8"]  # the fault, and the answer


def test_a_refused_error_before_an_accepted_success_was_not_reported() -> None:
    books, main = fetched(1)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), failed=(1,), outcome="refused", status=503)
    main.post(4.0, 7, (1, 1))

    assert reported(books).status is Status.FAIL
    assert lines(reported(books).evidence) == [f"10:{line}" for line in (5, 7, 9)]


def test_a_fault_is_tied_to_the_delivery_for_which_its_image_was_loaded() -> None:
    """Delivery 1 was answered before anything struck, delivery 2 is the one with the missing image."""
    books, main = fetched(1)
    main.post(1.5, 7, (1, 1))
    main.fetch(10.0, 7, (1, 2))
    main.strike(11.0, Effect.IMAGE_404, 7, image="1")
    main.post(12.0, 7, (1, 2), failed=(1,))
    main.fetch(20.0, 7, (1, 3))
    main.post(21.0, 7, (1, 3))

    assert reported(books).status is Status.PASS
    assert reported(books).judged == 1


def test_the_latest_of_two_tasks_about_one_image_is_the_one_that_it_was_loaded_for() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 8, (1, 1))
    main.fetch(1.0, 9, (1, 1))  # at the same time
    main.post(1.5, 8, (1, 1), failed=(1,))
    main.fetch(2.0, 7, (1, 1))
    main.strike(3.0, Effect.IMAGE_404, 7, image="1")
    main.post(4.0, 7, (1, 1))
    finding = reported(books)

    assert (finding.status, [key[0] for key in finding.tasks]) == (Status.FAIL, ["job_7"])


@pytest.mark.parametrize(("at", "status"), [(1.0, Status.PASS), (0.999, Status.VACUOUS)])
def test_a_fault_before_the_image_was_handed_out_belongs_to_no_task(at: float, status: Status) -> None:
    books, main = fetched(1)
    main.strike(at, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), failed=(1,))

    assert reported(books).status is status


def test_a_fault_in_another_process_than_the_one_that_was_handed_the_task_belongs_to_no_task() -> None:
    books, main = fetched(1)
    books.process(11).strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), failed=(1,))

    assert reported(books).status is Status.VACUOUS


# --- only-bad-images-fail


def failing(books: Books, known: Facts | None = None) -> Finding:
    return only_bad_images_fail(books.case(known or facts()))


def test_where_no_image_passes_a_seam_of_ours_no_failed_image_can_be_told_from_a_good_one() -> None:
    books, main = fetched(1)
    main.open(2.0, 1, error="UnidentifiedImageError")
    main.post(3.0, 7, (1, 1), failed=(1,))

    text = "no image was loaded in a way that we see"
    assert told(failing(books)) == ("not-applicable", "worker", text)


def test_an_error_for_a_good_image_that_nothing_struck_is_the_workers_own() -> None:
    books, main = fetched(1, 2, 3)
    for task in (1, 2, 3):
        main.image(2.0, 7, task)
    main.post(3.0, 7, (1, 1), (2, 1), failed=(2,))
    main.post(4.0, 7, (3, 1), outcome=None)
    finding = failing(books)

    assert told(finding) == (
        "fail",
        "worker",
        f"1 tasks were answered with an error although their image was good: {FAILED_TO_LOAD!r}",
    )
    assert (concerned(finding), finding.judged, finding.warnings) == ([2], 2, ())
    assert lines(finding.evidence) == ["10:9"]


def test_every_answer_to_a_task_that_failed_without_a_reason_is_shown() -> None:
    books, main = fetched(1)
    main.image(2.0, 7, 1)
    main.post(3.0, 7, (1, 1), outcome="refused", status=503)
    main.post(4.0, 7, (1, 1), failed=(1,))
    main.fetch(12.0, 7, (1, 2))
    main.post(13.0, 7, (1, 2), failed=(1,))
    main.post(14.0, 7, (1, 2), failed=(1,), outcome=None)

    assert lines(failing(books).evidence) == [f"10:{line}" for line in (7, 9, 13)]


def test_of_several_tasks_the_first_is_named_and_its_first_error_is_told() -> None:
    books, main = fetched(1, 2, 3, 4)
    for task in (1, 2):
        main.image(2.0, 7, task, status=404)
    for task in (3, 4):
        main.image(2.0, 7, task)
    for error, task in (("first", 3), ("second", 3), ("third", 4)):
        main.post(3.0, 7, (task, 1), failed=(task,))
        main.events[-1].rows("errors")[0][1] = error
    main.post(4.0, 7, (1, 1), (2, 1), failed=(1, 2))
    finding = failing(books)

    assert finding.text == "2 tasks were answered with an error although their image was good: 'first'"
    assert finding.warnings == ("2 images failed by themselves, as job 7 task 1 (1.jpg)",)


def test_an_error_that_nobody_heard_was_accepted_and_that_the_service_has_counted_has_no_text() -> None:
    books, main = fetched(1)
    main.image(2.0, 7, 1)
    main.post(3.0, 7, (1, 1), failed=(1,), outcome="unheard", status=0, error="ReadTimeout")

    text = "1 tasks were answered with an error although their image was good: ''"
    assert told(failing(books, facts(witness(7, "FAILURE", 1, 0, failed=1)))) == ("fail", "worker", text)


@pytest.mark.parametrize("why", ["status", "error", "open"])
def test_an_image_that_could_not_be_had_or_opened_is_a_reason_and_is_told(why: str) -> None:
    books, main = fetched(1, 2)
    main.image(2.0, 7, 1, status=404 if why == "status" else 200, error="ConnectTimeout" if why == "error" else "")
    main.open(2.5, 1, error="UnidentifiedImageError" if why == "open" else "")
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1,))
    finding = failing(books)

    assert told(finding) == ("pass", "worker", "2 tasks answered, none with an error without a reason")
    assert finding.warnings == ("1 images failed by themselves, as job 7 task 1 (1.jpg)",)
    assert (finding.judged, finding.tasks) == (2, ())


def test_images_with_a_reason_are_told_beside_those_without() -> None:
    books, main = fetched(1, 2)
    main.image(2.0, 7, 1, status=404)
    main.image(2.0, 7, 2)
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1, 2))
    finding = failing(books)

    assert (finding.status, concerned(finding)) == (Status.FAIL, [2])
    assert finding.warnings == ("1 images failed by themselves, as job 7 task 1 (1.jpg)",)


def test_an_image_that_we_made_bad_is_no_failure_of_the_workers() -> None:
    books, main = fetched(1)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.image(2.0, 7, 1, status=404, struck=True)
    main.post(3.0, 7, (1, 1), failed=(1,))
    finding = failing(books)

    assert told(finding) == ("pass", "worker", "1 tasks answered, none with an error without a reason")
    assert finding.warnings == ()


def test_where_lines_are_lost_an_error_for_a_good_image_may_have_been_of_our_making() -> None:
    books, main = fetched(1, 2, 3)
    main.image(2.0, 7, 1, status=404)
    main.image(2.0, 7, 2, status=404, struck=True)  # the line that tells of its fault is lost
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), failed=(1, 2))
    finding = failing(books, facts(damage=DAMAGED))

    text = "1 tasks were answered with an error, and what struck them may stand in lost lines"
    assert told(finding) == ("unknown", "worker", text)
    assert (concerned(finding), finding.judged) == ([2], 3)
    assert finding.warnings == ("1 images failed by themselves, as job 7 task 1 (1.jpg)",)


def test_where_lines_are_lost_and_no_error_lacks_a_reason_nothing_is_in_doubt() -> None:
    books, main = fetched(1)
    main.image(2.0, 7, 1, status=404)
    main.post(3.0, 7, (1, 1), failed=(1,))

    assert failing(books, facts(damage=DAMAGED)).status is Status.PASS


# --- batch-survives-a-bad-image


def surviving(books: Books, **settings: object) -> Finding:
    return batch_survives_a_bad_image(books.case(facts(**(settings or BAD))))


def test_without_bad_images_among_the_settings_no_batch_has_one() -> None:
    books, main = fetched(1, 2)
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1,))

    text = "no missing or damaged image was set"
    assert told(surviving(books, worker_crash_rate=0.5)) == ("not-applicable", "worker", text)


def test_bad_images_that_no_accepted_post_reported_show_nothing_of_batches() -> None:
    books, main = fetched(1, 2)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1,), outcome="refused", status=500)
    main.post(4.0, 7, (1, 1), (2, 1))  # the bad one as a success

    text = "no task with a missing or damaged image was answered"
    assert told(surviving(books)) == ("vacuous", "worker", text)


def test_a_batch_of_which_only_the_bad_image_failed_has_survived() -> None:
    books, main = fetched(1, 2, 3, 4)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), failed=(1,))
    main.post(4.0, 7, (4, 1), failed=(4,))  # a batch without a bad image
    finding = surviving(books)

    text = "1 batches with a bad image, 2 tasks beside them answered as a success"
    assert told(finding) == ("pass", "worker", text)
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (1, (), [])


def test_a_good_image_that_fails_beside_a_bad_one_was_taken_along() -> None:
    books, main = fetched(1, 2, 3, 4)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), failed=(1, 3))
    main.post(4.0, 7, (4, 1), failed=(4,))
    finding = surviving(books)

    assert told(finding) == ("fail", "worker", "1 good images were answered with an error beside a bad one")
    assert (concerned(finding), finding.judged, lines(finding.evidence)) == ([3], 1, ["10:7"])


def test_an_image_that_failed_by_itself_beside_a_bad_one_was_not_taken_along() -> None:
    books, main = fetched(1, 2)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.image(2.0, 7, 2, status=404)
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1, 2))

    assert told(surviving(books)) == (
        "pass",
        "worker",
        "1 batches with a bad image, 0 tasks beside them answered as a success",
    )


def test_an_image_that_a_passing_error_failed_beside_a_bad_one_was_not_taken_along_by_it() -> None:
    books, main = fetched(1, 2)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.strike(2.5, Effect.TRANSIENT, 7, (2, 1), kind="RuntimeError")
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1, 2))

    assert surviving(books).status is Status.PASS


def test_where_lines_are_lost_an_error_beside_a_bad_image_may_have_been_of_our_making() -> None:
    books, main = fetched(1, 2)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.image(2.0, 7, 2, status=404, struck=True)  # the line that tells of its fault is lost
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1, 2))
    finding = surviving(books, damage=DAMAGED, **BAD)

    text = "1 errors beside a bad image, and what struck them may stand in lost lines"
    assert told(finding) == ("unknown", "worker", text)
    assert (concerned(finding), finding.judged) == ([2], 1)


def test_where_lines_are_lost_a_batch_of_which_only_the_bad_image_failed_has_survived_all_the_same() -> None:
    books, main = fetched(1, 2)
    main.strike(2.0, Effect.IMAGE_404, 7, image="1")
    main.post(3.0, 7, (1, 1), (2, 1), failed=(1,))

    assert surviving(books, damage=DAMAGED, **BAD).status is Status.PASS


# --- transient-errors-requeued


def passing(books: Books, known: Facts | None = None) -> Finding:
    return transient_errors_requeued(books.case(known or facts(**PASSING)))


def struck_batch(*tasks: int) -> tuple[Books, Process]:
    """Let an exception out of the loop at 2.0 s, in line 5, while these tasks are in the batch."""
    books, main = fetched(*tasks)
    main.strike(2.0, Effect.TRANSIENT, 7, *((task, 1) for task in tasks), kind="RuntimeError")
    return books, main


def test_without_passing_errors_among_the_settings_none_is_judged() -> None:
    finding = passing(fetched(1)[0], facts(**BAD))

    assert told(finding) == ("not-applicable", "worker", "no passing error was set")


def test_passing_errors_that_struck_no_task_show_nothing() -> None:
    books, main = fetched(1)
    main.strike(2.0, Effect.TRANSIENT, 7, kind="RuntimeError")
    main.strike(2.0, Effect.TRANSIENT, 9, (5, 1), kind="RuntimeError")  # of which nothing else is known
    main.strike(2.5, Effect.CRASH, 7, (1, 1))

    text = "passing errors were set and none struck a task"
    assert told(passing(books)) == ("vacuous", "worker", text)


def test_a_task_that_a_passing_error_left_and_that_came_back_was_requeued() -> None:
    books, main = struck_batch(1, 2)
    main.fetch(10.0, 7, (1, 2), (2, 2))
    main.strike(10.5, Effect.TRANSIENT, 7, (2, 2), kind="RuntimeError")
    main.post(11.0, 7, (1, 2))
    finding = passing(books, facts(witness(7, "SUCCESS", 2, 0), **PASSING))

    text = "2 tasks were struck by a passing error, none was failed for it"
    assert told(finding) == ("pass", "worker", text)
    assert (finding.tasks, finding.judged, lines(finding.evidence)) == ((), 2, [])


def test_a_task_that_is_failed_for_good_by_a_passing_error_is_the_workers_failure() -> None:
    books, main = struck_batch(1, 2)
    main.post(3.0, 7, (1, 1), (2, 1), failed=(2,))
    finding = passing(books)

    assert told(finding) == (
        "fail",
        "worker",
        "1 of 2 tasks were failed for good by an error that would have passed",
    )
    assert (concerned(finding), finding.judged) == ([2], 2)
    assert lines(finding.evidence) == ["10:4", "10:5"]  # handed out, and struck


def test_a_task_that_a_passing_error_left_and_that_the_service_never_handed_out_again_is_the_services_failure() -> None:
    books, main = struck_batch(1, 2)
    main.fetch(10.0, 7, (2, 2))
    main.post(11.0, 7, (2, 2))
    main.fetch(26.0, 7)
    finding = passing(books, facts(witness(7, "STARTED", 1, 1, delivered=3), **PASSING))

    assert told(finding) == (
        "fail",
        "service",
        "1 of 2 tasks left unanswered by a passing error were never handed out again",
    )
    assert (concerned(finding), finding.judged) == ([1], 2)
    assert (finding.check.slug, lines(finding.evidence)) == ("transient-errors-requeued", ["10:4", "10:5"])


def test_a_task_that_a_passing_error_left_and_nobody_asked_for_again_cannot_be_told() -> None:
    books, main = struck_batch(1, 2)
    main.fetch(10.0, 7, (2, 2))
    main.post(11.0, 7, (2, 2))
    finding = passing(books, facts(witness(7, "STARTED", 1, 1), **PASSING))

    assert told(finding) == (
        "unknown",
        "worker",
        "of 1 of 2 tasks it cannot be told: an injected transient error; nobody asked again after its ack_wait",
    )
    assert (concerned(finding), finding.judged, lines(finding.evidence)) == ([1], 2, [])


def test_of_several_tasks_that_cannot_be_told_the_cause_of_the_first_is_said() -> None:
    books, main = struck_batch(1)
    main.fetch(3.0, 7, (2, 1))
    main.strike(3.5, Effect.TRANSIENT, 7, (2, 1), kind="RuntimeError")
    main.post(3.6, 7, (2, 1), outcome=None)
    finding = passing(books, facts(witness(7, "STARTED", 0, 2), **PASSING))

    assert finding.text == (
        "of 2 of 2 tasks it cannot be told: an injected transient error; nobody asked again after its ack_wait"
    )


def test_being_failed_for_good_weighs_more_than_being_lost_and_that_more_than_not_being_told() -> None:
    books, main = struck_batch(1, 2)
    main.post(3.0, 7, (1, 1), failed=(1,))
    main.fetch(26.0, 7)
    known = facts(witness(7, "STARTED", 1, 2, delivered=2), **PASSING)
    assert concerned(passing(books, known)) == [1]

    books, main = struck_batch(1)
    main.fetch(20.0, 7, (2, 1))
    main.strike(20.5, Effect.TRANSIENT, 7, (2, 1), kind="RuntimeError")
    main.fetch(26.0, 7)
    assert concerned(passing(books, facts(witness(7, "STARTED", 0, 2, delivered=2), **PASSING))) == [1]


# --- answers-name-their-image


def named(books: Books) -> Finding:
    return answers_name_their_image(books.case(facts()))


def test_answers_about_their_own_images_pass_with_or_without_faults() -> None:
    books, main = fetched(1, 2, 3)
    main.post(3.0, 7, (1, 1), (2, 1), failed=(2,))
    finding = named(books)

    assert told(finding) == ("pass", "worker", "2 answers, each about the image of its task")
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (2, (), [])


def test_an_answer_about_another_image_than_its_tasks_fails_and_both_are_named() -> None:
    books, main = fetched(1, 2, 3)
    main.post(3.0, 7, (1, 1), (2, 1), (3, 1), images={2: "99", 3: "98"})
    finding = named(books)

    assert told(finding) == (
        "fail",
        "worker",
        "2 answers were about another image, as that to job 7 task 2 (2.jpg) about image 99",
    )
    assert (concerned(finding), finding.judged, lines(finding.evidence)) == ([2, 3], 3, ["10:6"])


def test_an_answer_that_names_no_image_is_about_no_other() -> None:
    books, main = fetched(1)
    main.post(3.0, 7, (1, 1), images={1: ""})

    assert named(books).status is Status.PASS


def test_what_is_answered_without_having_been_handed_out_to_us_has_no_image_of_its_own() -> None:
    books, main = fetched(1)
    main.post(3.0, 7, (1, 1), (2, 1))

    assert told(named(books)) == ("pass", "worker", "2 answers, each about the image of its task")


# --- faults in depth


@pytest.mark.parametrize("kind", ["truncated", "wrong-size"])
def test_damage_that_does_not_show_may_be_answered_as_a_success(kind: str) -> None:
    books, main = fetched(1)
    main.strike(2.0, Effect.CORRUPT, 7, image="1", kind=kind, trigger="rule")
    main.post(3.0, 7, (1, 1))

    assert reported(books).status is Status.VACUOUS


def test_a_download_that_failed_by_our_doing_is_to_be_reported() -> None:
    books, main = fetched(1)
    main.strike(2.0, Effect.NETWORK, 7, image="1", kind="http-403", site="image", call=9, trigger="rule")
    main.image(2.5, 7, 1, status=403, struck=True, call=9)
    main.post(3.0, 7, (1, 1))

    assert told(reported(books)) == ("fail", "worker", "1 of 1 bad images were answered as a success")


def a_loader_died(*, failed: tuple[int, ...]) -> Books:
    books, main = fetched(1)
    main.batch(1.5, 7, (1, 1), ends=1.0)
    books.process(12).start(1.0, 10).crash(2.0, role="loader", job=7, site="downloading")
    main.post(3.0, 7, (1, 1), failed=failed)
    return books


def test_a_batch_that_was_failed_for_a_loaders_death_was_failed_in_passing() -> None:
    finding = transient_errors_requeued(a_loader_died(failed=(1,)).case(facts(worker_crash_rate=0.5)))
    text = "1 of 1 tasks were failed for good by an error that would have passed"

    assert told(finding) == ("fail", "worker", text)
    assert lines(finding.evidence)[-1] == "12:3"


def test_a_loaders_death_for_which_no_batch_was_failed_is_well() -> None:
    finding = transient_errors_requeued(a_loader_died(failed=()).case(facts(worker_crash_rate=0.5)))

    assert told(finding) == ("pass", "worker", "1 loaders died, and no batch was failed for it")


@pytest.mark.parametrize("judge", [permanent_errors_reported, batch_survives_a_bad_image])
def test_damage_that_opening_does_not_show_is_no_bad_image_that_went_unanswered(
    judge: Callable[[Case], Finding],
) -> None:
    books, main = fetched(1, 2)
    main.strike(2.0, Effect.CORRUPT, 7, image="1", kind="truncated", trigger="rule")
    main.post(3.0, 7, (1, 1), (2, 1))
    rules = parse_rules("image.open: 30%truncated")
    text = "1 damaged images could be opened all the same, and were answered as successes"
    assert told(judge(books.case(facts(rules=rules)))) == ("not-applicable", "worker", text)

    text = "no task with a missing or damaged image was answered"
    assert told(judge(books.case(facts(rules=rules, **BAD)))) == ("vacuous", "worker", text)
