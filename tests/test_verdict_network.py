"""The promises of the checks on network errors."""

from __future__ import annotations

from typing import Any

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import KEPT_REFS
from ami_fault_site.verdict import Facts
from ami_fault_site.verdict.network import failed_fetch_resumed, failed_post_redelivered, persistent_errors_do_not_block
from ami_fault_site.verdict.terms import Finding, Group, Status, Whose
from tests.booked import Books, Process, concerned, facts, lines, told, witness

NETWORK: dict[str, Any] = {"network_error_rate": 0.5}
BAD: dict[str, Any] = {"image_404_rate": 0.5}


# --- failed-fetch-resumed: a tasks call that fails at 10.0 s, in line 4 of its file


def a_struck_fetch(job: int = 7) -> tuple[Books, Process]:
    books = Books()
    main = books.process(10).start(0.0)
    main.fail(9.95, "tasks", job, struck=True, error="ConnectTimeout")
    return books, main


def test_it_is_the_workers_to_ask_again_after_a_failed_tasks_call() -> None:
    books, _ = a_struck_fetch()
    check = failed_fetch_resumed(books.case(facts(**NETWORK))).check

    assert (check.slug, check.group, check.whose) == ("failed-fetch-resumed", Group.NETWORK, Whose.WORKER)
    assert not check.is_safety


def test_without_network_errors_among_the_settings_no_fetch_is_judged() -> None:
    finding = failed_fetch_resumed(Books().case(facts(worker_crash_rate=0.5)))

    assert told(finding) == ("not-applicable", "worker", "no network error was set")
    assert (finding.check.slug, finding.judged, lines(finding.evidence)) == ("failed-fetch-resumed", 0, [])


def test_with_network_errors_that_struck_no_tasks_call_a_run_shows_nothing_of_fetches() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fail(1.0, "jobs", None, struck=True, error="ConnectTimeout")
    main.fail(2.0, "tasks", 7, struck=False, error="ConnectTimeout")
    finding = failed_fetch_resumed(books.case(facts(**NETWORK)))

    assert told(finding) == ("vacuous", "worker", "no tasks call was struck")


def test_a_failed_fetch_that_is_followed_by_a_good_one_is_resumed() -> None:
    books, main = a_struck_fetch()
    main.fail(10.95, "tasks", 7, struck=True, status=503)
    main.fetch(12.0, 7, (1, 1))
    finding = failed_fetch_resumed(books.case(facts(**NETWORK)))

    assert told(finding) == (
        "pass",
        "worker",
        "2 tasks calls were made to fail, each was followed by another",
    )
    assert (finding.judged, lines(finding.evidence)) == (2, [])


def test_a_fetch_that_brings_nothing_is_a_fetch_all_the_same() -> None:
    books, main = a_struck_fetch()
    main.fetch(12.0, 7)

    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is Status.PASS


@pytest.mark.parametrize(("at", "status"), [(9.0, Status.UNKNOWN), (10.0, Status.UNKNOWN), (10.001, Status.PASS)])
def test_only_a_fetch_after_the_failed_one_resumes_it(at: float, status: Status) -> None:
    books, _ = a_struck_fetch()
    books.process(11).fetch(at, 7, (1, 1))

    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is status


def test_a_fetch_that_failed_by_itself_resumes_nothing() -> None:
    books, main = a_struck_fetch()
    main.fail(12.0, "tasks", 7, struck=False, status=503)

    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is Status.UNKNOWN


def test_a_fetch_for_another_job_or_on_another_host_resumes_nothing() -> None:
    books, main = a_struck_fetch()
    main.fetch(12.0, 8, (1, 1))
    books.process(11, host="other", base=1000.0).fetch(12.0, 7, (1, 1))

    finding = failed_fetch_resumed(books.case(facts(**NETWORK)))
    assert told(finding) == (
        "unknown",
        "worker",
        "the run ended before the worker asked for tasks of job 7 again",
    )
    assert (finding.judged, lines(finding.evidence)) == (1, ["10:4"])


def test_each_host_that_had_a_failed_fetch_must_ask_again_itself() -> None:
    books, main = a_struck_fetch()
    main.fetch(12.0, 7, (1, 1))
    other = books.process(11, host="other", base=1000.0)
    other.fail(9.95, "tasks", 7, struck=True, error="ConnectTimeout")
    finding = failed_fetch_resumed(books.case(facts(**NETWORK)))

    assert (finding.status, finding.judged) == (Status.UNKNOWN, 2)
    other.fetch(12.0, 7)
    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is Status.PASS


@pytest.mark.parametrize("ended", ["SUCCESS", "FAILURE", "REVOKED"])
def test_nobody_needs_to_ask_for_tasks_of_a_job_that_has_ended(ended: str) -> None:
    books, _ = a_struck_fetch()

    assert failed_fetch_resumed(books.case(facts(witness(7, ended, 1, 0), **NETWORK))).status is Status.PASS
    assert failed_fetch_resumed(books.case(facts(witness(8, ended, 1, 0), **NETWORK))).status is Status.UNKNOWN
    assert failed_fetch_resumed(books.case(facts(witness(7, "STARTED", 0, 1), **NETWORK))).status is Status.UNKNOWN


def lived_on(listed: float, again: float | None, job: int = 7, teller: int = 1, run: str = "") -> Finding:
    """Let a life be told of a job once more, and go on to another poll that names none; the struck one is number 1."""
    books, _ = a_struck_fetch()
    main = books.process(11, teller, run=run)
    main.poll(listed - 0.05, job)
    if again is not None:
        main.poll(again - 0.05)
    return failed_fetch_resumed(books.case(facts(**NETWORK)))


def test_a_worker_that_is_told_of_the_job_again_and_goes_on_to_yet_another_poll_has_given_up() -> None:
    finding = lived_on(45.0, 90.0)

    text = "after a failed tasks call the worker lived on and did not ask for tasks of job 7 again"
    assert told(finding) == ("fail", "worker", text)
    assert (finding.judged, lines(finding.evidence)) == (1, ["10:4"])


@pytest.mark.parametrize(
    ("listed", "again", "status"),
    [
        (10.5, 11.5, Status.FAIL),
        (10.5, None, Status.UNKNOWN),  # it may still be at work on another job of that poll
        (10.0, 11.5, Status.UNKNOWN),  # told at the very moment
        (9.0, 11.5, Status.UNKNOWN),  # told before the call that failed
    ],
)
def test_giving_up_takes_a_poll_that_names_the_job_after_the_failure_and_one_after_that(
    listed: float, again: float | None, status: Status
) -> None:
    assert lived_on(listed, again).status is status


def test_where_lines_are_lost_nobody_has_given_up() -> None:
    books, main = a_struck_fetch()
    main.poll(45.0, 7)
    main.poll(90.0)
    finding = failed_fetch_resumed(books.case(facts(damage=("a.jsonl:7: lost",), **NETWORK)))

    text = "the ledger is not complete: whether tasks of job 7 were asked for again cannot be told"
    assert told(finding) == ("unknown", "worker", text)
    assert (finding.judged, lines(finding.evidence)) == (1, ["10:4"])


def test_a_worker_that_is_never_told_of_the_job_again_has_no_reason_to_ask() -> None:
    books, main = a_struck_fetch()
    main.poll(45.0)
    main.poll(90.0)

    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is Status.UNKNOWN


def test_what_another_life_is_told_and_other_jobs_show_nothing_of_the_one_that_was_struck() -> None:
    assert lived_on(45.0, 90.0, job=8).status is Status.UNKNOWN
    assert lived_on(45.0, 90.0, teller=2).status is Status.UNKNOWN
    assert lived_on(45.0, 90.0, run="another").status is Status.UNKNOWN


def test_the_life_that_was_struck_last_is_the_one_that_should_have_asked_again() -> None:
    books, main = a_struck_fetch()
    main.poll(45.0, 7)
    main.poll(90.0)
    books.process(11, incarnation=2).fail(50.0, "tasks", 7, struck=True, error="ConnectTimeout")

    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is Status.UNKNOWN


def test_a_host_that_asked_again_does_not_show_that_another_gave_up() -> None:
    """The one that lived on and was told again has asked again; the other one ended."""
    books, main = a_struck_fetch()
    main.fetch(12.0, 7, (1, 1))
    main.poll(45.0, 7)
    main.poll(90.0)
    books.process(11, run="another", host="other", base=1000.0).fail(9.95, "tasks", 7, struck=True, status=503)

    assert failed_fetch_resumed(books.case(facts(**NETWORK))).status is Status.UNKNOWN


def test_the_last_of_several_failed_calls_is_the_one_that_is_shown() -> None:
    books, main = a_struck_fetch()
    main.fail(10.95, "tasks", 7, struck=True, status=503)

    assert lines(failed_fetch_resumed(books.case(facts(**NETWORK))).evidence) == ["10:6"]


def test_the_last_of_very_many_failed_calls_is_shown_too() -> None:
    books, main = a_struck_fetch()
    for number in range(KEPT_REFS + 10):
        main.fail(11.0 + number, "tasks", 7, struck=True, error="ConnectTimeout")

    assert lines(failed_fetch_resumed(books.case(facts(**NETWORK))).evidence) == [f"10:{len(main.events)}"]


def test_every_job_that_was_not_asked_for_again_is_named() -> None:
    books, main = a_struck_fetch(8)
    for job in (7, 9):
        main.fail(9.95, "tasks", job, struck=True, error="ConnectTimeout")
    main.fetch(12.0, 7)
    main.poll(45.0, 8, 9)
    main.poll(90.0)
    finding = failed_fetch_resumed(books.case(facts(**NETWORK)))

    assert told(finding) == (
        "fail",
        "worker",
        "after a failed tasks call the worker lived on and did not ask for tasks of job 8, job 9 again",
    )
    assert (finding.judged, lines(finding.evidence)) == (3, ["10:4", "10:8"])


# --- failed-post-redelivered: tasks are handed out at 1.0 s, and due again by 15.0 s at the latest


def struck_posts(*tasks: int, back: tuple[int, ...] = (), empty: float | None = 16.0) -> tuple[Books, Process]:
    """Let one post fail for each of these tasks; some come back and are answered, and then no more are there."""
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, *((task, 1) for task in tasks))
    for task in tasks:
        main.post(1.5, 7, (task, 1), outcome="not-sent", status=0, struck=True, error="ConnectionError")
    for task in back:
        main.fetch(10.0, 7, (task, 2))
        main.post(11.0, 7, (task, 2))
    if empty is not None:
        main.fetch(empty, 7)
    return books, main


def redelivered(books: Books, known: Facts) -> Finding:
    return failed_post_redelivered(books.case(known))


def test_it_is_the_services_to_hand_out_again_what_was_not_answered() -> None:
    check = redelivered(*(struck_posts(1)[0], facts(**NETWORK))).check

    assert (check.slug, check.group, check.whose) == ("failed-post-redelivered", Group.NETWORK, Whose.SERVICE)
    assert check.is_safety


def test_without_network_errors_among_the_settings_no_post_is_judged() -> None:
    finding = redelivered(Books(), facts(transient_error_rate=0.5))

    assert told(finding) == ("not-applicable", "service", "no network error was set")
    assert finding.check.slug == "failed-post-redelivered"


def test_with_network_errors_that_struck_no_post_a_run_shows_nothing_of_posts() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1), (2, 1), (3, 1))
    main.post(2.0, 7, (1, 1))
    main.post(2.0, 7, (2, 1), outcome="refused", status=500)  # the service's own doing
    main.poll(5.0, 7)  # task 3 was given up without a post

    assert told(redelivered(books, facts(**NETWORK))) == ("vacuous", "service", "no result post was struck")


def test_a_task_given_up_by_an_injected_transient_error_had_no_post_that_failed() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1))
    main.strike(1.5, Effect.TRANSIENT, 7, (1, 1), kind="RuntimeError")
    main.poll(5.0, 7)

    assert redelivered(books, facts(**NETWORK)).text == "no result post was struck"


def test_a_task_whose_answer_never_arrived_and_that_came_back_and_was_answered_is_accounted_for() -> None:
    books, _ = struck_posts(1, 2, back=(1, 2))
    finding = redelivered(books, facts(witness(7, "SUCCESS", 2, 0), **NETWORK))

    assert told(finding) == (
        "pass",
        "service",
        "the answers to 2 tasks were kept from arriving; all of them are accounted for",
    )
    assert (finding.tasks, finding.judged, lines(finding.evidence)) == ((), 2, [])


def test_a_post_that_an_injected_status_refused_was_kept_from_arriving_too() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1))
    main.post(1.5, 7, (1, 1), outcome="refused", status=503, struck=True)
    main.fetch(10.0, 7, (1, 2))
    main.post(11.0, 7, (1, 2))

    assert redelivered(books, facts(witness(7, "SUCCESS", 1, 0), **NETWORK)).status is Status.PASS


def test_a_task_that_is_not_handed_out_again_though_it_was_asked_for_when_due_is_lost() -> None:
    books, _ = struck_posts(1, 2, 3, back=(2,), empty=26.0)
    finding = redelivered(books, facts(witness(7, "STARTED", 1, 2, delivered=4), **NETWORK))

    assert told(finding) == (
        "fail",
        "service",
        "2 of 3 tasks whose answer never arrived were not handed out again",
    )
    assert (concerned(finding), finding.judged) == ([1, 3], 3)
    # the lease, the posts of both and how they ended
    assert lines(finding.evidence) == [f"10:{line}" for line in (4, 5, 6, 9, 10)]


def test_a_task_that_nobody_asked_for_when_it_was_due_cannot_be_told() -> None:
    books, _ = struck_posts(1, 2, back=(2,), empty=None)
    finding = redelivered(books, facts(witness(7, "STARTED", 1, 1), **NETWORK))

    assert told(finding) == (
        "unknown",
        "service",
        "of 1 of 2 tasks whose answer never arrived it cannot be told: "
        "an injected failure of its post (ConnectionError); nobody asked again after its ack_wait",
    )
    assert (concerned(finding), finding.judged) == ([1], 2)


def test_of_several_tasks_that_cannot_be_told_the_cause_of_the_first_is_said() -> None:
    books, main = struck_posts(1, empty=None)
    main.fetch(5.0, 7, (2, 1))
    main.post(5.5, 7, (2, 1), outcome="refused", status=503, struck=True)
    finding = redelivered(books, facts(witness(7, "STARTED", 0, 2), **NETWORK))

    assert finding.text == (
        "of 2 of 2 tasks whose answer never arrived it cannot be told: "
        "an injected failure of its post (ConnectionError); nobody asked again after its ack_wait"
    )


def test_a_task_that_another_worker_may_have_got_cannot_be_told_while_the_service_waits_for_answers() -> None:
    books, main = struck_posts(1)
    books.skip(7)
    main.fetch(17.0, 7, (2, 1))
    main.post(17.5, 7, (2, 1))
    finding = redelivered(books, facts(witness(7, "STARTED", 1, 1), **NETWORK))

    assert finding.text == (
        "of 1 of 1 tasks whose answer never arrived it cannot be told: 1 deliveries of this job went to another worker"
    )
    assert finding.status is Status.UNKNOWN


def test_a_task_that_the_service_waits_for_no_longer_was_answered_by_somebody() -> None:
    books, _ = struck_posts(1, empty=None)
    finding = redelivered(books, facts(witness(7, "SUCCESS", 1, 0), **NETWORK))

    assert (finding.status, finding.judged) == (Status.PASS, 1)


def test_a_task_whose_last_delivery_failed_too_is_accounted_for_here_and_counted_as_exhausted_elsewhere() -> None:
    books, main = struck_posts(1, empty=None)
    main.fetch(10.0, 7, (1, 2))
    main.post(10.5, 7, (1, 2), outcome="not-sent", status=0, struck=True, error="ConnectionError")
    main.fetch(30.0, 7)

    assert redelivered(books, facts(witness(7, "STARTED", 0, 1), **NETWORK)).status is Status.PASS


# --- persistent-errors-do-not-block: image 1 is bad at 2.0 s


def beside_a_bad_image(*others: int, effect: Effect = Effect.IMAGE_404) -> tuple[Books, Process]:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, *((task, 1) for task in (1, *others)))
    main.strike(2.0, effect, 7, image="1")
    main.post(3.0, 7, (1, 1), failed=(1,))
    return books, main


def blocked(books: Books, **settings: object) -> Finding:
    return persistent_errors_do_not_block(books.case(facts(**(settings or BAD))))


def test_it_is_the_workers_not_to_be_stopped_by_what_always_fails() -> None:
    check = blocked(Books()).check

    assert (check.slug, check.group, check.whose) == ("persistent-errors-do-not-block", Group.NETWORK, Whose.WORKER)
    assert not check.is_safety


def test_without_lasting_errors_among_the_settings_nothing_can_block() -> None:
    finding = blocked(Books(), network_error_rate=0.5, transient_error_rate=0.5)

    assert told(finding) == ("not-applicable", "worker", "no lasting error was set")


@pytest.mark.parametrize(
    "settings",
    [BAD, {"corrupt_image_rate": 0.5}, {"permanent_error_images": ("1.jpg",)}],
    ids=lambda one: next(iter(one)),
)
def test_with_lasting_errors_that_struck_nothing_a_run_shows_nothing(settings: dict[str, object]) -> None:
    finding = blocked(Books(), **settings)

    assert told(finding) == ("vacuous", "worker", "lasting errors were set and none struck")


@pytest.mark.parametrize("effect", [Effect.IMAGE_404, Effect.CORRUPT])
def test_tasks_beside_a_bad_image_that_are_answered_are_not_blocked(effect: Effect) -> None:
    books, main = beside_a_bad_image(2, 3, effect=effect)
    main.post(4.0, 7, (2, 1))
    main.post(4.0, 7, (3, 1), outcome=None)  # sent, and nobody heard whether it arrived
    main.fetch(5.0, 8, (4, 1))  # a job without a bad image
    finding = blocked(books)

    assert told(finding) == ("pass", "worker", "2 of 2 tasks beside 1 bad images were answered")
    assert (finding.judged, finding.tasks, lines(finding.evidence)) == (2, (), [])


def test_a_task_that_was_only_answered_and_never_handed_out_to_us_is_not_judged() -> None:
    books, main = beside_a_bad_image(2)
    main.post(4.0, 7, (2, 1), (3, 1))

    assert blocked(books).text == "1 of 1 tasks beside 1 bad images were answered"


def test_a_task_that_a_live_worker_holds_to_the_end_beside_a_bad_image_is_blocked() -> None:
    books, main = beside_a_bad_image(2, 3, 4)
    main.post(4.0, 7, (2, 1))
    main.post(4.0, 7, (4, 1), outcome=None)
    supervisor = books.supervisor()
    supervisor.spawn(0.0, 1)
    supervisor.exit(100.0, 1, "ended", -15)
    finding = blocked(books)

    assert told(finding) == ("fail", "worker", "1 of 3 tasks beside 1 bad images were held and never answered")
    assert (concerned(finding), finding.judged) == ([3], 3)
    assert lines(finding.evidence) == ["1:2", "10:4"]


def test_tasks_that_nobody_answered_beside_a_bad_image_are_blocked_only_if_a_live_worker_holds_them() -> None:
    books, main = beside_a_bad_image(2, 3)
    main.poll(5.0, 7)  # given up
    main.book("note", 200.0)

    assert told(blocked(books)) == ("pass", "worker", "0 of 2 tasks beside 1 bad images were answered")


def test_a_bad_image_alone_in_its_job_blocks_nothing() -> None:
    books, main = beside_a_bad_image()
    main.book("note", 200.0)

    assert told(blocked(books)) == ("pass", "worker", "0 of 0 tasks beside 1 bad images were answered")


# --- answers that were lost


def test_an_answer_that_the_service_took_unheard_needs_not_come_back() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1))
    main.lose_answer(2.0, 7, (1, 1))
    finding = failed_post_redelivered(books.case(facts(witness(7, "SUCCESS", 1, 0), **NETWORK)))

    assert told(finding) == (
        "pass", "service", "1 answers were accepted, and the reply was lost: none had to come back",
    )  # fmt: skip


def test_an_answer_that_was_never_sent_is_judged_beside_one_that_was_taken_unheard() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1), (2, 1))
    main.lose_answer(2.0, 7, (1, 1))
    main.post(3.0, 7, (2, 1), outcome="not-sent", struck=True)
    main.fetch(12.0, 7, (2, 2))
    main.post(13.0, 7, (2, 2))
    finding = failed_post_redelivered(books.case(facts(witness(7, "SUCCESS", 2, 0), **NETWORK)))
    text = "the answers to 1 tasks were kept from arriving; all of them are accounted for"

    assert told(finding) == ("pass", "service", f"{text}; 1 answers were accepted, and the reply was lost")


def test_a_single_fetch_that_failed_is_told_as_one() -> None:
    books, main = a_struck_fetch()
    main.fetch(20.0, 7)
    finding = failed_fetch_resumed(books.case(facts(**NETWORK)))

    assert finding.text == "1 tasks call was made to fail, and was followed by another"


def test_a_fetch_that_was_refused_to_guard_the_budget_needs_not_be_resumed() -> None:
    books = Books()
    main = books.process(10).start(0.0)
    main.fetch(1.0, 7, (1, 1))
    main.refuse_fetch(10.0, 7)

    assert told(failed_fetch_resumed(books.case(facts()))) == ("not-applicable", "worker", "no network error was set")
