from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import Task
from ami_fault_site.settings import Settings
from ami_fault_site.verdict import CHECKS, SLUGS, Case, judge
from ami_fault_site.verdict.case import task_name
from ami_fault_site.verdict.ends import How
from ami_fault_site.verdict.facts import Facts
from ami_fault_site.verdict.fates import Fate, Fated
from ami_fault_site.verdict.terms import Gate, Group, Status, Verdict, Whose
from tests.booked import Books, Process, facts, lines, task, told, witness

SAFETY = {
    "crashed-tasks-requeued",
    "no-task-lost",
    "failed-post-redelivered",
    "failure-counts-accurate",
    "job-reaches-its-end",
}
RATES = {
    Effect.CRASH: "worker_crash_rate",
    Effect.TRANSIENT: "transient_error_rate",
    Effect.NETWORK: "network_error_rate",
    Effect.IMAGE_404: "image_404_rate",
    Effect.CORRUPT: "corrupt_image_rate",
}


class UnluckyCase(Case):
    """A case of which some questions cannot be answered."""

    def with_fate(self, *fates: Fate) -> list[tuple[Task, Fated]]:
        raise RuntimeError("no luck")


def healthy() -> Books:
    books = Books()
    main = books.process(10).start(0.5)
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.post(3.0, 7, (1, 1), (2, 1))
    return books


# --- the verdict


def test_every_check_says_one_finding_in_the_order_of_the_testers_list() -> None:
    verdict = judge(healthy().case(facts(witness(7, "SUCCESS", 2, 0))))

    assert tuple(finding.check.slug for finding in verdict.findings) == SLUGS
    assert [finding.check for finding in verdict.findings] == list(CHECKS)
    assert SLUGS == (
        "crashed-tasks-requeued",
        "requeued-in-time",
        "picked-up-by-another",
        "no-task-lost",
        "one-holder-at-a-time",
        "redelivery-ends",
        "failed-fetch-resumed",
        "failed-post-redelivered",
        "persistent-errors-do-not-block",
        "transient-errors-retried",
        "backoff-grows",
        "retry-after-honoured",
        "permanent-errors-reported",
        "only-bad-images-fail",
        "batch-survives-a-bad-image",
        "transient-errors-requeued",
        "answers-name-their-image",
        "no-cascade",
        "failure-counts-accurate",
        "job-reaches-its-end",
        "no-early-success",
        "nothing-served-after-the-end",
        "no-starvation",
        "no-invented-tasks",
        "held-tasks-are-answered",
        "leases-outlive-their-work",
        "degrades-gracefully",
    )


def test_each_check_has_a_name_of_its_own_and_one_sentence_of_what_it_means() -> None:
    assert len(set(SLUGS)) == len(CHECKS)
    for check in CHECKS:
        assert check.meaning[0].isupper()
        assert check.meaning.endswith(".")
        assert check.meaning.count(". ") == 0


def test_the_list_goes_from_crashes_over_network_and_images_to_stability() -> None:
    groups = [check.group for check in CHECKS]

    assert groups == sorted(groups, key=list(Group).index)
    assert set(groups) == set(Group)


def test_whether_anything_was_lost_and_whether_counts_and_end_are_right_is_a_matter_of_safety() -> None:
    assert {check.slug for check in CHECKS if check.is_safety} == SAFETY


def test_a_run_in_which_all_went_well_passes() -> None:
    verdict = judge(healthy().case(facts(witness(7, "SUCCESS", 2, 0, delivered=2))))

    assert (verdict.status(), verdict.failures) == (Status.PASS, ())
    assert (verdict.nothing_fired, verdict.nothing_handed_out) == (False, False)


def test_a_run_in_which_faults_were_set_and_none_struck_is_vacuous() -> None:
    books = healthy()
    about = facts(witness(7, "SUCCESS", 2, 0, delivered=2), worker_crash_rate=0.1)
    assert judge(books.case(about)).nothing_fired
    assert judge(books.case(about)).exit_code() == 4

    books.processes[0].strike(4.0, Effect.NETWORK, 7)
    assert not judge(books.case(about)).nothing_fired
    assert judge(books.case(about)).status() is Status.PASS


def test_an_empty_run_is_judged_too_accuses_nobody_and_shows_nothing() -> None:
    verdict = judge(Books().case(Facts()))

    assert len(verdict.findings) == len(CHECKS)
    assert verdict.failures == ()
    assert (verdict.nothing_fired, verdict.nothing_handed_out, verdict.status()) == (False, True, Status.VACUOUS)


def test_a_check_that_throws_is_unknown_and_counts_whatever_check_it_is() -> None:
    verdict = judge(UnluckyCase(healthy().history(), facts(witness(7, "SUCCESS", 2, 0, delivered=2))))
    thrown = verdict.finding("no-invented-tasks")

    text = "the check itself failed, please report it: RuntimeError: no luck"
    assert told(thrown) == ("unknown", "service", text)
    assert thrown.check.is_safety
    assert thrown.check.meaning == next(one.meaning for one in CHECKS if one.slug == "no-invented-tasks")
    assert Verdict((thrown,), nothing_fired=False).status() is Status.UNKNOWN
    assert verdict.exit_code() == 3
    assert verdict.exit_code(Gate.WORKER) == 3


def test_a_check_that_throws_stops_no_other() -> None:
    verdict = judge(UnluckyCase(healthy().history(), facts(witness(7, "SUCCESS", 2, 0, delivered=2))))

    assert tuple(finding.check.slug for finding in verdict.findings) == SLUGS
    assert verdict.finding("one-holder-at-a-time").status is Status.PASS


def test_failures_that_are_known_are_marked_by_their_slug() -> None:
    books = healthy()
    case = books.case(facts(witness(7, "SUCCESS", 1, 0, delivered=2, queued=2)))
    assert judge(case).status() is Status.FAIL

    known = {"no-task-lost": "a background worker that dies", "failure-counts-accurate": "likewise"}
    verdict = judge(case, known)
    assert [one.check.slug for one in verdict.findings if one.known] == ["no-task-lost", "failure-counts-accurate"]
    assert verdict.finding("no-task-lost").known == "a background worker that dies"
    assert verdict.finding("no-task-lost").status is Status.FAIL
    assert verdict.finding("no-task-lost") not in verdict.failures


# --- the case: what was set, what struck


def test_a_fault_is_set_if_its_rate_is_above_nothing_in_any_of_the_runs() -> None:
    history = Books().history()
    for effect, name in RATES.items():
        setting = Settings(enabled=True, **{name: 0.01})  # type: ignore[arg-type]
        case = Case(history, Facts((Settings(enabled=True), setting)))

        assert [one for one in Effect if case.is_set(one)] == [effect]
        assert case.is_set(*Effect)
    assert not Case(history, Facts((Settings(enabled=True),))).is_set(*Effect)
    assert not Case(history, Facts()).is_set(*Effect)


def test_naming_permanent_images_sets_missing_and_damaged_images() -> None:
    case = Case(Books().history(), Facts((Settings(enabled=True, permanent_error_images=("3",)),)))

    assert [one for one in Effect if case.is_set(one)] == [Effect.IMAGE_404, Effect.CORRUPT]


def test_what_struck_comes_in_the_order_of_the_wall_clocks_of_all_hosts() -> None:
    books = Books()
    first, second = books.process(10, host="a"), books.process(20, host="b", base=-100.0)
    first.strike(50.0, Effect.CRASH, image="third")
    first.strike(30.0, Effect.TRANSIENT, image="second")
    first.strike(40.0, Effect.NETWORK)
    second.strike(120.0, Effect.CRASH, image="first")
    case = books.case(facts())

    assert [one.image for one in case.struck(Effect.CRASH, Effect.TRANSIENT)] == ["first", "second", "third"]
    assert case.struck(Effect.CORRUPT) == []
    assert case.wall(1, 120.0) - case.wall(0, 30.0) == pytest.approx(-10.0)


def test_of_what_struck_at_the_same_moment_the_first_line_comes_first() -> None:
    books = Books()
    main = books.process(10)
    for image in ("b", "a"):
        main.strike(5.0, Effect.CRASH, image=image)

    assert [one.image for one in books.case(facts()).struck(Effect.CRASH)] == ["b", "a"]


# --- the case: tasks and leases


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def main(books: Books) -> Process:
    return books.process(10)


def test_tasks_with_a_fate_come_in_the_order_of_job_and_sequence(books: Books, main: Process) -> None:
    main.fetch(2.0, 8, (1, 1))
    main.fetch(2.0, 7, (3, 1), (1, 1), (2, 1))
    main.post(3.0, 7, (2, 1))
    main.post(3.0, 7, (3, 1), failed=(3,))
    case = books.case(facts())

    def found(*fates: Fate) -> list[tuple[int, int, Fate]]:
        return [(one.job, one.key[1], fated.fate) for one, fated in case.with_fate(*fates)]

    assert found(Fate.PENDING) == [(7, 1, Fate.PENDING), (8, 1, Fate.PENDING)]
    assert found(Fate.FAILED_ORGANIC, Fate.LOST) == [(7, 3, Fate.FAILED_ORGANIC)]
    assert found(Fate.LOST) == []
    assert len(list(case.tasks())) == 4


def test_leases_that_did_not_end_well_are_found_by_how_they_ended(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1), (2, 1))
    main.post(3.0, 7, (2, 1))
    main.batch(4.0, 7, (1, 2))
    case = books.case(facts())

    def found(*hows: How) -> list[tuple[int, int, How]]:
        return [(one.key[1], lease.delivery, end.how) for one, lease, end in case.ended(*hows)]

    assert found(How.HELD, How.UNSEEN) == [(1, 1, How.HELD), (1, 2, How.UNSEEN)]
    assert found(How.UNSEEN) == [(1, 2, How.UNSEEN)]
    assert found(How.DROPPED) == []


def test_the_service_waits_for_a_task_unless_its_counts_say_that_nothing_remains(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))

    def waits(*witnesses: object) -> bool:
        case = books.case(facts(*witnesses))  # type: ignore[arg-type]
        return case.waits_for(task(case.history, 7, 1))

    assert waits()
    assert waits(witness(7, "STARTED", 0, 1))
    assert waits(witness(7, "SUCCESS", 1, 0, given_up=1))
    assert not waits(witness(7, "SUCCESS", 1, 0))
    assert not waits(witness(7, "STARTED", None, None))


def test_a_task_is_named_by_job_sequence_and_image_if_that_is_known(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    main.post(3.0, 7, (2, 1))
    case = books.case(facts())

    assert [case.name(task(case.history, 7, number)) for number in (1, 2)] == ["job 7 task 1 (1.jpg)", "job 7 task 2"]
    assert task_name(task(case.history, 7, 1)) == "job 7 task 1 (1.jpg)"


def test_a_task_leads_to_its_stream(books: Books, main: Process) -> None:
    main.fetch(2.0, 7, (1, 1))
    case = books.case(facts())

    assert case.stream(task(case.history, 7, 1)) is case.streams.all[0]


# --- the case: what a check says


def test_a_finding_is_its_checks_unless_it_is_said_whose_and_names_tasks_and_lines_in_their_order(
    books: Books, main: Process
) -> None:
    main.fetch(2.0, 7, (2, 1), (1, 1))
    books.process(9).poll(1.0, 7)
    case = books.case(facts())
    check = next(iter(CHECKS))
    finding = case.say(
        check, Status.FAIL, "so it was", case.tasks(), [(0, 2), (1, 1), (0, 1), (0, 2)], warnings=["beware"], judged=3
    )

    assert told(finding) == ("fail", "service", "so it was")
    assert case.say(check, Status.UNKNOWN, "so it was", case.tasks()).tasks == finding.tasks
    assert ([key[1] for key in finding.tasks], lines(finding.evidence)) == ([1, 2], ["10:1", "10:2", "9:1"])
    assert (finding.warnings, finding.judged, finding.known) == (("beware",), 3, "")
    assert case.say(check, Status.FAIL, "so it was", whose=Whose.SETUP).whose is Whose.SETUP
    plain = case.say(check, Status.PASS, "so it was", case.tasks())  # all are well: none is named
    assert (plain.tasks, plain.evidence, plain.warnings, plain.judged) == ((), (), (), 0)


def test_no_more_than_twenty_lines_are_named_and_none_that_stands_nowhere(books: Books, main: Process) -> None:
    for number in range(30):
        main.poll(number, 7)
    books.process(20, run="a").poll(1.0, 7)
    case = books.case(facts())
    given = [(0, line) for line in (*range(30, 0, -1), *range(31, 61))]

    assert lines(case.places(given)) == [f"10:{line}" for line in range(11, 31)]  # the first twenty, in their order
    assert lines(case.places(given, most=2)) == ["10:29", "10:30"]
    assert lines(case.places([(0, 3), (0, 3), (0, 2), (0, 1)], most=2)) == ["10:2", "10:3"]
    assert case.places([(-1, 0), (-1, 3), (0, 0)]) == ()
    assert lines(case.places([(0, 1), (1, 1)])) == ["10:1", "20:1"]
    assert lines(case.places([(0, 10), (0, 9)])) == ["10:9", "10:10"]


def test_a_dry_run_shows_nothing() -> None:
    books = healthy()
    books.processes[0].book("dry", 4.0, effect="crash")
    about = facts(witness(7, "SUCCESS", 2, 0, delivered=2), worker_crash_rate=0.1, dry_run=True)

    assert judge(books.case(about)).status() is Status.VACUOUS
    assert books.case(about).is_dry
