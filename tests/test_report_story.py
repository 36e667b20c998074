from __future__ import annotations

from dataclasses import replace

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.report import find, tell
from ami_fault_site.verdict import Case
from ami_fault_site.verdict.facts import Facts
from tests.booked import Books, Process, witness
from tests.report_cases import ENDED, facts, reply_subject, short_case


def story(case: Case, name: str) -> list[str]:
    return tell(case, find(case, name)[0])


def one_worker() -> tuple[Books, Process]:
    books = Books()
    return books, books.process(11).start(0.5)


def text_of(books: Books, known: Facts | None = None) -> list[str]:
    """Return the story of task 7/1 without its times, its places and its heading."""
    told = story(books.case(facts() if known is None else known), "7/1")[1:]
    return [line[14:].partition("  [")[0] for line in told]


def test_a_task_that_a_crash_took_and_another_life_answered_has_this_story() -> None:
    assert story(short_case(), "3") == [
        "job 7 task 3 (3.jpg), image 3",
        "     0.000 s  handed out: delivery 1 of job 7, to incarnation 1 (process 11 on h)"
        "  [ledger/h-0001-11-1.jsonl:4]",
        "     0.700 s  its batch began  [ledger/h-0001-11-1.jsonl:10]",
        "     0.800 s  a fault struck: its process crashed (exit, before the batch)  [ledger/h-0001-11-1.jsonl:11]",
        "     8.300 s  came back 8.3 s after delivery 1 was handed out: "
        "delivery 2 of job 7, to incarnation 2 (process 21 on h)  [ledger/h-0002-21-1.jsonl:4]",
        "     8.400 s  its batch began  [ledger/h-0002-21-1.jsonl:5]",
        "     8.700 s  answered: a success  [ledger/h-0002-21-1.jsonl:7]",
        "     8.800 s  accepted by the service (HTTP 200)  [ledger/h-0002-21-1.jsonl:8]",
        "     service  counted: its log tells of the answer to delivery 2",
        "     service  job 7 is SUCCESS, 4 of 4 processed, 1 failed",
        "     verdict  recovered: answered after it came back",
    ]


def test_a_task_with_a_missing_image_has_this_story() -> None:
    assert [line[:60].rstrip() for line in story(short_case(), "2.jpg")[1:6]] == [
        "     0.000 s  handed out: delivery 1 of job 7, to incarnatio",
        "     0.100 s  a fault struck: its image was answered 404 (ht",
        "     0.200 s  its batch began  [ledger/h-0001-11-1.jsonl:6]",
        "     0.500 s  answered: an error: 'failed to load image'  [l",
        "     0.600 s  accepted by the service (HTTP 200)  [ledger/h-",
    ]
    assert story(short_case(), "2.jpg")[-1] == (
        "     verdict  failed-expected: answered with an error, since a fault had made its image bad"
    )


def test_a_post_that_a_fault_kept_from_arriving_is_told_with_the_fault() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    number = worker._call("result", 2.0, 7, stream="job_7", tasks=[books.row(7, 1, 1)])
    worker.strike(2.0, Effect.NETWORK, 7, image="", kind="read-timeout")
    rows = {"tasks": [books.row(7, 1, 1)], "images": ["1"], "errors": [], "stream": "job_7"}
    failed = {"status": 0, "seconds": 0.1, "struck": True, "error": "ReadTimeout", "outcome": "not-sent"}
    worker.book("answer", 2.1, call=number, job=7, **failed, **rows)

    assert text_of(books)[1:4] == [
        "answered: a success",
        "a fault struck: its post failed (read-timeout)",
        "not sent, because of that (ReadTimeout)",
    ]


def test_a_fault_of_another_call_is_not_taken_for_that_of_the_post() -> None:
    books, worker = one_worker()
    supervisor = books.supervisor()
    worker.fetch(1.0, 7, (1, 1))
    worker.strike(1.5, Effect.NETWORK, 7, kind="before")
    number = worker._call("result", 2.0, 7, stream="job_7", tasks=[books.row(7, 1, 1)])
    about = {"phase": "before", "counted": True, "tasks": [], "image": "", "subject": "9"}
    worker.book("fault", 2.01, effect="network-error", kind="of a fetch", site="tasks", job=7, **about)
    worker.book("fault", 2.02, effect="network-error", kind="of job 8", site="result", job=8, **about)
    worker.strike(2.03, Effect.NETWORK, 7, kind="its own")
    rows = {"tasks": [books.row(7, 1, 1)], "images": ["1"], "errors": [], "stream": "job_7"}
    failed = {"status": 0, "seconds": 0.1, "struck": True, "error": "ReadTimeout", "outcome": "not-sent"}
    worker.book("answer", 2.1, call=number, job=7, **failed, **rows)
    worker.strike(2.2, Effect.NETWORK, 7, kind="after")
    for _ in range(8):
        supervisor.book("fault", 2.05, effect="network-error", kind="elsewhere", site="result", job=7, **about)

    assert [text for text in text_of(books) if "its post failed" in text] == [
        "a fault struck: its post failed (its own)"
    ]


def test_of_two_posts_at_once_each_has_the_fault_that_is_keyed_on_its_smallest_task() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    calls = [worker._call("result", 2.0, 7, stream="job_7", tasks=[books.row(7, n, 1)]) for n in (1, 2)]
    for number, kind in ((2, "http-502"), (1, "http-500")):
        worker.strike(2.0, Effect.NETWORK, 7, image=str(number), kind=kind)
    for number, call in zip((1, 2), calls, strict=True):
        rows = {"tasks": [books.row(7, number, 1)], "images": [""], "errors": [], "stream": "job_7"}
        failed = {"status": 500, "seconds": 0.1, "struck": True, "error": "", "outcome": "refused"}
        worker.book("answer", 2.1, call=call, job=7, **failed, **rows)

    assert text_of(books)[2:4] == [
        "a fault struck: its post failed (http-500)",
        "not sent, because of that (HTTP 500)",
    ]


@pytest.mark.parametrize(
    ("outcome", "status", "error", "text"),
    [
        ("refused", 413, "", "refused by the service (HTTP 413)"),
        ("unheard", 0, "ReadTimeout", "nobody heard whether it arrived (ReadTimeout)"),
    ],
)
def test_an_answer_that_was_not_taken_says_why(outcome: str, status: int, error: str, text: str) -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.post(2.0, 7, (1, 1), outcome=outcome, status=status, error=error)

    assert text_of(books)[1:3] == ["answered: a success", text]


def test_an_answer_that_was_under_way_when_its_worker_crashed_ends_with_the_crash() -> None:
    books, worker = one_worker()
    supervisor = books.supervisor()
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    worker.post(2.0, 7, (1, 1), outcome=None)
    worker.strike(2.05, Effect.CRASH, 7, (2, 1), kind="exit")
    supervisor.exit(2.2, 1, "injected")
    told = story(books.case(facts()), "7/1")

    assert told[2:4] == [
        "     1.000 s  answered: a success  [ledger/h-0001-11-1.jsonl:5]",
        "     1.050 s  how that ended nobody has booked: an injected crash while posting  [ledger/h-0001-11-1.jsonl:6]",
    ]


def test_a_worker_that_crashed_in_another_batch_took_the_task_along() -> None:
    books, worker = one_worker()
    supervisor = books.supervisor()
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    worker.strike(2.05, Effect.CRASH, 7, (2, 1), kind="exit")
    supervisor.exit(2.2, 1, "injected")

    assert text_of(books)[1] == "left unanswered: an injected crash"


def test_a_passing_error_is_told_where_it_struck_and_where_it_only_ended_the_job() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    worker.strike(2.0, Effect.TRANSIENT, 7, (2, 1), kind="exception")
    worker.poll(7.0, 7)
    worker.fetch(12.0, 7, (1, 2))
    worker.batch(12.5, 7, (1, 2), ends=None)
    worker.strike(12.6, Effect.TRANSIENT, 7, (1, 2), kind="exception")

    assert text_of(books)[1:5] == [
        "given up: an injected transient error",
        "came back 11.0 s after delivery 1 was handed out: delivery 2 of job 7, to incarnation 1 (process 11 on h)",
        "its batch began",
        "a fault struck: a passing error left its batch (exception, before the batch)",
    ]


def test_an_image_that_is_bad_on_every_delivery_is_told_once_for_each() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    worker.fetch(1.0, 8, (1, 1))
    for at, job, image in ((1.5, 7, "1"), (1.6, 7, "2"), (1.7, 8, "1")):
        worker.strike(at, Effect.CORRUPT, job, image=image, kind="empty")
    worker.fetch(10.0, 7, (1, 2))
    named = {"kind": "html", "site": "open", "phase": "before", "counted": False, "tasks": []}
    worker.book("fault", 10.5, effect="corrupt-image", job=None, image="", subject="1", **named)
    other = books.process(12).start(0.5, parent=11)
    other.strike(11.0, Effect.CORRUPT, 7, image="1", kind="cut-header")  # for a task that it was never handed

    told = [text for text in text_of(books) if "image" in text or "handed out" in text]
    assert [text.partition(" of job")[0] for text in told] == [
        "handed out: delivery 1",
        "a fault struck: its image was damaged (empty)",
        "came back 9.0 s after delivery 1 was handed out: delivery 2",
        "a fault struck: its image was damaged (html)",
    ]


def test_a_late_answer_stands_where_it_came() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.fetch(9.5, 7, (1, 2))
    worker.post(10.0, 7, (1, 1))
    worker.post(11.0, 7, (1, 2))

    assert [text.partition(" of job")[0] for text in text_of(books)[:6]] == [
        "handed out: delivery 1",
        "came back 8.5 s after delivery 1 was handed out: delivery 2",
        "answered: a success",
        "accepted by the service (HTTP 200)",
        "answered: a success",
        "accepted by the service (HTTP 200)",
    ]
    assert text_of(books)[-1] == "done: answered on its first delivery; also duplicated, expired-while-held"


def test_times_of_different_clocks_are_told_apart_and_never_subtracted() -> None:
    books = Books()
    here, there = books.process(11).start(0.5), books.process(11, host="other", base=500.0).start(40.5)
    here.fetch(1.0, 7, (1, 1))
    there.fetch(41.0, 7, (1, 2))
    there.post(42.0, 7, (1, 2))

    assert story(books.case(facts()), "7/1")[:8] == [
        "job 7 task 1 (1.jpg), image 1",
        "seen on several clocks, whose times cannot be compared: each counts from its own first moment",
        "on the clock of h:",
        "     0.000 s  handed out: delivery 1 of job 7, to incarnation 1 (process 11 on h)"
        "  [ledger/h-0001-11-1.jsonl:4]",
        "              never answered: no end that is known",
        "on the clock of other:",
        "     0.000 s  came back, after delivery 1; how long that took is on no single clock: "
        "delivery 2 of job 7, to incarnation 1 (process 11 on other)  [ledger/other-0001-11-1.jsonl:4]",
        "     1.000 s  answered: a success  [ledger/other-0001-11-1.jsonl:5]",
    ]


def test_a_host_that_was_started_anew_has_two_clocks() -> None:
    books = Books()
    before, after = books.process(11).start(100.5), books.process(12, base=1000.0).start(0.5)
    before.fetch(101.0, 7, (1, 1))
    after.fetch(1.0, 7, (1, 2))
    told = story(books.case(facts()), "7/1")

    assert [line for line in told if line.startswith("on the clock")] == [
        "on the clock of h (start 1):",
        "on the clock of h (start 2):",
    ]


def test_deliveries_that_went_elsewhere_are_not_passed_over() -> None:
    books, worker = one_worker()
    books.skip(7)
    worker.fetch(9.0, 7, (1, 2))
    worker.fetch(30.0, 7, (1, 4))

    assert text_of(books)[:4] == [
        "delivery 1: another worker got it, or it was lost on its way to ours",
        "handed out again: delivery 2 of job 7, to incarnation 1 (process 11 on h)",
        "never answered: no end that is known",
        "delivery 3: another worker got it, or it was lost on its way to ours",
    ]


def test_a_delivery_of_which_only_the_answer_tells_says_so() -> None:
    books, worker = one_worker()
    worker.post(2.0, 7, (1, 1))

    assert text_of(books)[:3] == [
        "delivery 1: nobody of ours has booked its receipt",
        "answered: a success",
        "accepted by the service (HTTP 200)",
    ]


def test_the_very_same_delivery_handed_out_twice_is_told_twice() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.fetch(2.0, 7, (1, 1))

    assert text_of(books)[:2] == [
        "handed out: delivery 1 of job 7, to incarnation 1 (process 11 on h)",
        "handed out once more: the very same delivery 1",
    ]


def test_an_image_is_named_by_its_id_unless_that_says_nothing_more() -> None:
    books, worker = one_worker()
    told = {"call": 1, "job": 7, "stream": "job_7", "status": 200, "seconds": 0.1}
    rows = [[1, 1, 1, 1001, 0, "x1", ""], [2, 1, 2, 1002, 0, "", ""], [3, 1, 3, 1003, 0, "x3", "a.jpg"]]
    worker.book("leases", 1.0, **told, leases=rows)
    case = books.case(facts())

    assert [story(case, name)[0] for name in ("7/1", "7/2", "7/3")] == [
        "job 7 task 1 (x1)",
        "job 7 task 2",
        "job 7 task 3 (a.jpg), image x3",
    ]


def test_an_answer_about_another_image_is_told_to_be_that() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.post(2.0, 7, (1, 1), images={1: "99"})

    assert text_of(books)[1:3] == ["answered: a success", "which was about image 99, not its own"]


def test_who_held_it_is_named_also_where_nobody_supervised() -> None:
    books = Books()
    books.process(11, incarnation=0).start(0.5)
    books.process(12, incarnation=0).start(0.6, parent=11).fetch(1.0, 7, (1, 1))
    books.process(11, incarnation=0).fetch(9.5, 7, (1, 2))

    told = text_of(books)
    assert told[0] == "handed out: delivery 1 of job 7, to process 11 on h (process 12 on h)"


@pytest.mark.parametrize(
    ("known", "lines"),
    [
        (
            facts(replace(ENDED, recorded=frozenset())),
            [
                "not counted: its log, which is whole, does not tell of an answer to delivery 1",
                "job 7 is SUCCESS, 4 of 4 processed, 1 failed",
            ],
        ),
        (
            facts(replace(ENDED, unsaved=frozenset({reply_subject(1)}))),
            [
                "not counted: its log tells that saving the answer to delivery 1 failed",
                "job 7 is SUCCESS, 4 of 4 processed, 1 failed",
            ],
        ),
        (
            facts(replace(ENDED, recorded=None)),
            [
                "its log does not reach back to the job's start, so it names no answers; "
                "job 7 is SUCCESS, 4 of 4 processed, 1 failed"
            ],
        ),
        (replace(facts(), witness_missing="no token"), ["what the service counted is not known: no token"]),
        (facts(), ["what the service counted is not known: it was not asked"]),
    ],
    ids=["not in the log", "not saved", "log cut off", "no token", "not asked"],
)
def test_what_the_service_counted_is_told_as_far_as_it_is_known(known: Facts, lines: list[str]) -> None:
    told = story(short_case(known), "1")

    assert [line.removeprefix("     service  ") for line in told if line.startswith("     service")] == lines


def test_the_counts_of_a_job_that_was_filled_anew_are_about_other_tasks() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    books.refill(7)
    worker.fetch(20.0, 7, (1, 1))
    case = books.case(facts(witness(7, "STARTED", 0, 1)))
    first, second = (tell(case, task) for task in find(case, "7/1"))

    assert "     service  the job has been filled anew since: its counts are about other tasks" in first
    assert "     service  the job has been filled anew since: its counts are about other tasks" not in second


def test_the_verdict_says_whose_doing_it_is_and_why() -> None:
    books = Books()
    supervisor = books.supervisor()
    for incarnation, at in ((1, 1.0), (2, 10.0)):
        worker = books.process(10 + incarnation, incarnation).start(at)
        worker.fetch(at, 7, (1, incarnation))
        worker.strike(at + 1, Effect.CRASH, 7, (1, incarnation), kind="exit")
        supervisor.exit(at + 2, incarnation, "injected")

    assert story(books.case(facts(witness(7, "STARTED", 0, 1))), "7/1")[-1] == (
        "     verdict  exhausted (budget): all its deliveries were used up, and no answer was accepted: "
        "delivery 1: an injected crash; delivery 2: an injected crash"
    )


def test_an_answer_whose_reply_got_lost_is_told_with_what_the_service_made_of_it() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.lose_answer(2.0, 7, (1, 1))

    assert text_of(books)[1:3] == ["answered: a success", "accepted by the service, and the answer lost (HTTP 200)"]


def test_a_delivery_that_got_lost_on_its_way_is_told_with_whom_it_was_for() -> None:
    books, worker = one_worker()
    worker.lose_tasks(1.0, 7, (1, 1))
    worker.fetch(9.5, 7, (1, 2))
    text = text_of(books)

    assert text[0] == (
        "handed out: delivery 1 of job 7, to incarnation 1 (process 11 on h); a fault let it get lost on its way"
    )
    assert text[1].startswith("came back 8.5 s after delivery 1 was handed out: delivery 2 of job 7")


def test_a_delivery_that_was_kept_back_says_that_it_was_on_purpose() -> None:
    books, worker = one_worker()
    worker.strike(1.0, Effect.WITHHOLD, 7, (1, 1), site="tasks", trigger="exhaust")
    worker.lose_tasks(1.0, 7, (1, 1), then=((2, 1),))

    assert text_of(books)[0].endswith("; a fault kept it back on purpose")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("kill", "its process was killed (in-batch)"),
        ("segv", "its process died of a segmentation fault (in-batch)"),
        ("hang", "its process hangs from here on (in-batch)"),
        ("sysexit", "a SystemExit was raised in its process (in-batch)"),
        ("exit", "its process crashed (exit, in-batch)"),
    ],
)
def test_a_death_is_told_with_how_and_where(mode: str, words: str) -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.strike(2.0, Effect.CRASH, 7, (1, 1), kind=mode, point="in-batch", role="main")

    assert text_of(books)[1] == f"a fault struck: {words}"


def test_an_answer_that_a_crash_kept_from_being_sent_is_told_so() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.post(2.0, 7, (1, 1), outcome=None)
    worker.crash(2.0, site="posting", point="posting-unsent", call=worker.calls)

    assert text_of(books)[2] == "not sent: an injected crash before its answer was sent"


def test_every_struck_try_to_load_an_image_is_told() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.attempt(2.0, "image", 9, status=503, kind="http-503", job=7, sequence=1)
    worker.attempt(3.0, "image", 9, status=0, error="X", kind="reset", job=7, sequence=1)

    assert text_of(books)[1:3] == [
        "a fault struck: a try to load its image failed (http-503)",
        "a fault struck: a try to load its image failed (reset)",
    ]


def test_a_batch_that_was_delayed_is_told_with_by_how_much() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1))
    worker.strike(2.0, Effect.SLOW, 7, (1, 1), kind="delay", seconds=3.5)

    assert text_of(books)[1] == "a fault struck: its batch was delayed by 3.5 s"


def test_the_death_of_a_loader_for_which_a_batch_was_failed_is_told() -> None:
    books, worker = one_worker()
    worker.fetch(1.0, 7, (1, 1), (2, 1))
    loader = books.process(12).start(1.25, 11)
    more = {"role": "loader", "site": "downloading", "point": "downloading", "job": 7}
    loader.crash(2.0, "kill", **more)  # type: ignore[arg-type]
    worker.batch(2.0, 7, (1, 1), (2, 1))
    worker.post(3.0, 7, (1, 1), (2, 1), failed=(1, 2))
    told = text_of(books)

    assert "a fault struck: its process was killed (a loader) (downloading)" in told
    assert (
        told[-1]
        == "failed-transient (worker): failed for good: an injected death of a loader was answered as a final error"
    )
