from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.verdict.lives import Abort, Holder, HowEnded, Lives
from tests.booked import Books, Process


def lives_of(books: Books) -> Lives:
    return Lives(books.history())


def holder_of(books: Books, process: Process) -> Holder:
    return lives_of(books).holder(number_of(books, process))


def number_of(books: Books, process: Process) -> int:
    return next(one.number for one in books.history().processes if one.file == process.file)


# --- who held it: supervised


def test_all_processes_of_an_incarnation_are_one_life() -> None:
    books = Books()
    main, loader = books.process(10).start(1.0), books.process(11).start(2.0, 10)
    later = books.process(20, 2).start(3.0)

    assert holder_of(books, main) == holder_of(books, loader)
    assert holder_of(books, main).key == ("", "", 1)
    assert holder_of(books, later).key == ("", "", 2)


def test_a_life_is_named_by_its_incarnation_and_by_its_run_if_that_has_a_name() -> None:
    books = Books()
    plain, named = books.process(10).start(1.0), books.process(20, 3, run="evening").start(1.0)

    assert holder_of(books, plain).name == "incarnation 1"
    assert holder_of(books, named).name == "incarnation 3 of evening"
    assert holder_of(books, named).key == ("evening", "", 3)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("injected", HowEnded.CRASHED),
        ("organic", HowEnded.DIED),
        ("refused", HowEnded.DIED),
        ("operator", HowEnded.STOPPED),
        ("ended", HowEnded.ENDED),
        ("of a later version", HowEnded.DIED),
    ],
)
def test_how_a_life_ended_is_what_the_supervisor_booked_of_its_exit(kind: str, how: HowEnded) -> None:
    books = Books()
    main = books.process(10, host="other").start(2.0)
    supervisor = books.supervisor()
    supervisor.spawn(1.0, 1)
    supervisor.exit(4.0, 1, kind)

    assert holder_of(books, main) == Holder(("", "", 1), "incarnation 1", 1, how, 4.0, (1, 2))


def test_an_injected_crash_ends_a_life_when_it_strikes_and_not_when_the_supervisor_notices() -> None:
    books = Books()
    supervisor = books.supervisor()
    loader, main = books.process(11).start(2.0, 10), books.process(10).start(1.0)
    main.strike(3.0, Effect.CRASH, 7)
    supervisor.exit(4.0, 1, "injected")

    assert holder_of(books, loader) == Holder(("", "", 1), "incarnation 1", 0, HowEnded.CRASHED, 3.0, (2, 3))


def test_a_crash_that_is_booked_later_than_the_exit_ends_a_life_at_its_exit() -> None:
    books = Books()
    supervisor = books.supervisor()
    main = books.process(10).start(1.0)
    main.strike(5.0, Effect.CRASH, 7)
    supervisor.exit(4.0, 1, "injected")

    assert (holder_of(books, main).end, holder_of(books, main).ref) == (4.0, (1, 3))


@pytest.mark.parametrize(("kind", "how"), [("operator", HowEnded.STOPPED), ("organic", HowEnded.DIED)])
def test_a_crash_of_one_process_does_not_end_a_life_that_the_supervisor_saw_end_otherwise(
    kind: str, how: HowEnded
) -> None:
    books = Books()
    supervisor = books.supervisor()
    main, loader = books.process(10).start(1.0), books.process(11).start(1.0, 10)
    loader.strike(2.0, Effect.CRASH, 7)
    supervisor.exit(4.0, 1, kind)

    assert holder_of(books, main) == Holder(("", "", 1), "incarnation 1", 0, how, 4.0, (0, 1))


def test_a_crash_ends_a_life_although_the_supervisor_was_killed_before_it_could_book_the_exit() -> None:
    books = Books()
    books.supervisor().spawn(0.5, 1)
    main = books.process(10, host="other").start(1.0)
    main.strike(3.0, Effect.CRASH, 7)

    assert holder_of(books, main) == Holder(("", "", 1), "incarnation 1", 1, HowEnded.CRASHED, 3.0, (1, 3))


def test_a_crash_of_one_incarnation_or_run_ends_no_other() -> None:
    books = Books()
    crashed, later = books.process(10).start(1.0), books.process(20, 2).start(4.0)
    other = books.process(30, run="evening").start(1.0)
    crashed.strike(3.0, Effect.CRASH, 7)

    assert holder_of(books, later) == Holder(("", "", 2), "incarnation 2", 0, HowEnded.LIVES)
    assert holder_of(books, other).how is HowEnded.LIVES


def test_a_life_of_which_no_end_was_booked_lives_even_if_nothing_but_its_processes_is_known() -> None:
    books = Books()
    main = books.process(10)
    main.poll(1.0, 7)

    assert holder_of(books, main) == Holder(("", "", 1), "incarnation 1", 0, HowEnded.LIVES)


# --- who held it: nobody supervised


def test_without_a_supervisor_a_life_is_a_first_process_and_those_that_descend_from_it() -> None:
    books = Books()
    child, grandchild = books.process(11, 0).start(2.0, 10), books.process(12, 0).start(3.0, 11)
    main = books.process(10, 0).start(1.0, 1)

    for process in (child, grandchild, main):
        assert holder_of(books, process) == Holder(("", "h", -3), "process 10 on h", 0, HowEnded.LIVES)


def test_without_a_supervisor_two_first_processes_are_two_lives() -> None:
    books = Books()
    first, second = books.process(10, 0).start(1.0), books.process(20, 0).start(1.0)

    assert [holder_of(books, one).key for one in (first, second)] == [("", "h", -1), ("", "h", -2)]


def test_a_process_of_another_host_or_run_or_one_that_began_later_is_nobodys_parent() -> None:
    for parent in (("other", "", 1.0), ("h", "evening", 1.0), ("h", "", 2.5)):
        host, run, began = parent
        books = Books()
        books.process(10, 0, host=host, run=run).start(began)
        child = books.process(11, 0).start(2.0, 10)

        assert holder_of(books, child).name == "process 11 on h"


def test_a_process_that_began_at_the_same_moment_may_be_the_parent() -> None:
    books = Books()
    books.process(10, 0).start(2.0)

    assert holder_of(books, books.process(11, 0).start(2.0, 10)).name == "process 10 on h"


def test_of_two_processes_that_had_the_same_number_the_later_is_the_parent_whichever_file_is_read_first() -> None:
    for order in (1, -1):
        books = Books()
        early, late = books.process(10, 0).start(1.0, 1), books.process(10, 0, part=2).start(5.0, 2)
        root = books.process(2, 0).start(0.5)
        before, after = books.process(11, 0).start(2.0, 10), books.process(12, 0).start(6.0, 10)
        books.processes = books.processes[::order]

        assert holder_of(books, before).key == holder_of(books, early).key
        assert holder_of(books, after).key == holder_of(books, late).key == holder_of(books, root).key
        assert holder_of(books, before).key != holder_of(books, after).key


def test_a_process_that_is_said_to_descend_from_itself_is_a_life_of_its_own() -> None:
    books = Books()

    assert holder_of(books, books.process(10, 0).start(1.0, 10)).name == "process 10 on h"


def test_a_worker_that_nobody_supervised_and_that_booked_its_orderly_end_was_stopped_by_its_operator() -> None:
    books = Books()
    main, loader = books.process(10, 0, host="other").start(1.0), books.process(11, 0, host="other").start(2.0, 10)
    loader.end(3.0)
    main.end(5.0)

    expected = Holder(("", "other", -1), "process 10 on other", 0, HowEnded.STOPPED, 5.0, (0, 3))
    assert [holder_of(books, one) for one in (main, loader)] == [expected, expected]


def test_the_orderly_end_of_a_loader_is_not_the_end_of_its_worker() -> None:
    books = Books()
    main, loader = books.process(10, 0).start(1.0), books.process(11, 0).start(2.0, 10)
    loader.end(3.0)

    assert [holder_of(books, one).how for one in (main, loader)] == [HowEnded.LIVES, HowEnded.LIVES]


def test_a_crash_ends_a_worker_that_nobody_supervised_and_takes_its_loaders_along() -> None:
    books = Books()
    main, loader = books.process(10, 0, host="other").start(1.0), books.process(11, 0, host="other").start(2.0, 10)
    main.strike(4.0, Effect.CRASH, 7)
    main.end(5.0)

    expected = Holder(("", "other", -1), "process 10 on other", 0, HowEnded.CRASHED, 4.0, (0, 3))
    assert [holder_of(books, one) for one in (main, loader)] == [expected, expected]


# --- all lives


def test_all_lives_are_those_of_workers_each_once_in_the_order_of_their_processes_and_no_supervisor() -> None:
    books = Books()
    books.supervisor().spawn(1.0, 1)
    books.process(20, 2).start(3.0)
    books.process(10, 1).start(1.0)
    books.process(11, 1).start(2.0, 10)

    assert [one.name for one in lives_of(books).all()] == ["incarnation 2", "incarnation 1"]


def test_a_process_without_a_number_is_a_supervisor_only_in_a_run_whose_workers_have_numbers() -> None:
    books = Books()
    books.supervisor(run="a").spawn(1.0, 1)
    books.process(10, 1, run="a").start(1.0)
    books.process(30, 0, run="b").start(1.0)

    assert [one.name for one in lives_of(books).all()] == ["incarnation 1 of a", "process 30 on h"]


def test_a_worker_without_a_number_is_no_supervisor_even_in_a_run_that_has_one() -> None:
    books = Books()
    books.supervisor().spawn(0.1, 1)
    books.process(10).start(1.0)
    books.process(90, 0).start(2.0, parent=5).fetch(3.0, 7, (1, 1))

    assert [one.name for one in lives_of(books).all()] == ["incarnation 1", "process 90 on h"]


def test_a_worker_without_a_number_is_a_worker_although_it_has_armed() -> None:
    books = Books()
    books.process(30, 0).start(1.0).strike(2.0, Effect.CRASH)

    assert [one.name for one in lives_of(books).all()] == ["process 30 on h"]


# --- passages


@pytest.fixture
def polled() -> Books:
    books = Books()
    main = books.process(10).start(0.5)
    for at in (1.0, 5.0, 9.0):
        main.poll(at, 7)
    books.process(11).start(2.0, 10)
    return books


@pytest.mark.parametrize(
    ("at", "passage"),
    [
        (0.75, (float("-inf"), 1.0)),
        (1.0, (1.0, 5.0)),
        (3.0, (1.0, 5.0)),
        (5.0, (5.0, 9.0)),
        (9.0, (9.0, None)),
        (12.0, (9.0, None)),
    ],
)
def test_a_passage_lasts_from_one_poll_to_the_next(polled: Books, at: float, passage: tuple[float, float]) -> None:
    assert lives_of(polled).passage(0, at) == passage


def test_a_loader_works_between_the_polls_of_its_worker(polled: Books) -> None:
    lives = lives_of(polled)

    assert lives.passage(1, 3.0) == (1.0, 5.0)
    assert lives.passage(1, 6.0) == (5.0, 9.0)


def test_a_process_that_polls_itself_works_between_its_own_polls_and_not_between_those_of_its_parent() -> None:
    books = Books()
    books.process(10).start(0.5).poll(1.0, 7)
    child = books.process(11).start(0.6, 10)
    child.poll(2.0, 7)

    assert lives_of(books).passage(1, 3.0) == (2.0, None)


def test_where_nobody_polls_there_is_one_passage_without_end() -> None:
    books = Books()
    books.process(10).start(1.0)

    assert lives_of(books).passage(0, 3.0) == (float("-inf"), None)


def test_a_process_of_another_incarnation_is_nobodys_parent_even_if_it_had_the_number() -> None:
    books = Books()
    books.process(10, 1).start(0.5).poll(1.0, 7)
    books.process(20, 2).start(5.0, 10)

    assert lives_of(books).passage(1, 6.0) == (float("-inf"), None)


def test_the_parent_of_a_loader_is_found_whichever_file_is_read_first_although_an_earlier_life_had_its_number() -> None:
    for order in (1, -1):
        books = Books()
        books.process(10, 1).start(0.5).poll(1.0, 7)
        books.process(10, 2).start(5.0).poll(5.5, 7)
        loader = books.process(21, 2).start(6.0, 10)
        books.processes = books.processes[::order]

        assert lives_of(books).passage(number_of(books, loader), 7.0) == (5.5, None)


# --- aborts


def aborts_of(books: Books, job: int, since: float, until: float | None = None, process: int = 0) -> Abort | None:
    lives = lives_of(books)
    return lives.abort(lives.holder(process), job, since, until)


def test_an_injected_passing_error_gives_up_the_whole_job() -> None:
    books = Books()
    books.process(10).start(0.5).strike(3.0, Effect.TRANSIENT, 7, (1, 1), kind="exception")
    injection = books.history().injections[0]

    assert aborts_of(books, 7, 1.0) == Abort(3.0, 7, "exception", (0, 3), injection)


def test_other_faults_give_up_nothing() -> None:
    books = Books()
    main = books.process(10).start(0.5)
    for effect in (Effect.CRASH, Effect.NETWORK, Effect.IMAGE_404, Effect.CORRUPT):
        main.strike(3.0, effect, 7)

    assert aborts_of(books, 7, 1.0) is None


def test_a_passing_error_in_a_batch_of_no_job_gives_up_no_named_one() -> None:
    books = Books()
    books.process(10).strike(3.0, Effect.TRANSIENT)

    assert aborts_of(books, 7, 1.0) is None
    assert aborts_of(books, 0, 1.0) is not None


def test_an_exception_of_the_workers_own_gives_up_the_whole_job_when_it_leaves_the_batch() -> None:
    books = Books()
    books.process(10).batch(3.0, 7, (1, 1), ends=1.0, error="RuntimeError")

    assert aborts_of(books, 7, 1.0) == Abort(4.0, 7, "RuntimeError", (0, 1))


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [(3.0, None, 3.0), (3.25, None, 6.0), (2.0, 3.0, 3.0), (2.0, 2.75, None), (6.25, None, None), (4.0, 7.0, 6.0)],
)
def test_the_first_abort_of_a_passage_counts_with_both_its_ends(
    since: float, until: float | None, found: float | None
) -> None:
    books = Books()
    main = books.process(10)
    main.strike(6.0, Effect.TRANSIENT, 7)
    main.strike(3.0, Effect.TRANSIENT, 7)
    abort = aborts_of(books, 7, since, until)

    assert (abort.at if abort is not None else None) == found


def test_an_abort_of_another_job_or_by_another_life_counts_for_nothing() -> None:
    books = Books()
    books.process(10).strike(3.0, Effect.TRANSIENT, 7)
    books.process(20, 2).start(1.0)

    assert aborts_of(books, 8, 1.0) is None
    assert aborts_of(books, 7, 1.0, process=1) is None


def test_an_abort_in_one_process_of_a_life_counts_for_all_of_them() -> None:
    books = Books()
    books.process(10).strike(3.0, Effect.TRANSIENT, 7)
    books.process(11).batch(1.0, 7, (1, 1), ends=1.0, error="RuntimeError")

    assert [aborts_of(books, 7, 0.0, process=one) for one in (0, 1)] == [Abort(2.0, 7, "RuntimeError", (1, 1))] * 2


# --- silence


def test_a_life_is_silent_since_the_last_line_of_any_of_its_processes() -> None:
    books = Books()
    books.supervisor().spawn(0.5, 1)
    books.process(10).start(1.0)
    books.process(11).start(6.0, 10)
    books.process(12).start(3.0, 10)
    books.process(20, 2).start(9.0)
    lives = lives_of(books)

    assert [lives.silent_since(lives.holder(process)) for process in range(5)] == [0.5, 6.0, 6.0, 6.0, 9.0]


def test_a_life_that_hung_and_was_ended_for_it_ended_by_the_hang() -> None:
    books = Books()
    main = books.process(10).start(1.0)
    main.crash(3.0, "hang", job=7)
    books.supervisor().exit(20.0, 1, "injected", code=-9)

    assert holder_of(books, main) == Holder(("", "", 1), "incarnation 1", 0, HowEnded.HUNG, 20.0, (0, 3))


@pytest.mark.parametrize(("exited", "how"), [(13.0, HowEnded.FOLLOWED), (13.5, HowEnded.DIED), (2.5, HowEnded.DIED)])
def test_an_exit_just_after_an_injected_death_of_its_loader_is_not_the_workers_doing(
    exited: float, how: HowEnded
) -> None:
    books = Books()
    main = books.process(10).start(1.0)
    books.process(11).start(2.0, 10).crash(3.0, "sysexit", role="loader", job=7)
    books.supervisor().exit(exited, 1, "organic", code=1)

    assert (holder_of(books, main).how, holder_of(books, main).how.is_ours) == (how, how is HowEnded.FOLLOWED)


def test_the_death_of_another_lifes_loader_explains_no_exit() -> None:
    books = Books()
    main = books.process(20, 2).start(1.0)
    books.process(11).start(2.0, 10).crash(3.0, "sysexit", role="loader", job=7)
    books.supervisor().exit(4.0, 2, "organic", code=1)

    assert holder_of(books, main).how is HowEnded.DIED


def test_a_process_that_only_wrote_a_note_is_no_life_and_nobodys_parent() -> None:
    books = Books()
    books.process(5, 0).book("note", 0.5, text="killed celeryworker", ago=0.0)
    main = books.process(10, 0, part=2).start(1.0, parent=5)

    assert [one.name for one in lives_of(books).all()] == ["process 10 on h"]
    assert holder_of(books, main).name == "process 10 on h"


# --- started again by others


def test_a_container_that_is_started_again_has_a_life_each_time_although_its_worker_is_always_process_1() -> None:
    books = Books()
    mains = [books.process(1, 0, part=part).start(at, 0) for part, at in ((1, 1.0), (2, 100.0), (3, 200.0))]
    loaders = [books.process(7, 0, part=part).start(at, 1) for part, at in ((1, 2.0), (2, 101.0), (3, 201.0))]

    lives = [holder_of(books, main).key for main in mains]
    assert len(set(lives)) == 3
    assert [holder_of(books, loader).key for loader in loaders] == lives
    assert len(lives_of(books).all()) == 3


def test_after_a_reboot_a_number_that_is_used_again_is_no_parent_of_before() -> None:
    """The monotonic clock begins anew: by its readings alone the old process could be the new one's parent."""
    books = Books()
    before = books.process(10, 0, part=1).start(1.0, 1)
    after = books.process(20, 0, base=5000.0, part=2).start(3.0, 10)

    assert holder_of(books, after).key != holder_of(books, before).key


def test_several_workers_of_one_supervisor_are_named_by_their_numbers() -> None:
    books = Books()
    supervisor = books.supervisor()
    supervisor.spawn(0.1, 1, worker=1)
    supervisor.spawn(0.2, 2, worker=2)
    first, second = books.process(10, 1).start(1.0), books.process(11, 2).start(1.0)

    assert [holder_of(books, one).name for one in (first, second)] == [
        "worker 1, incarnation 1",
        "worker 2, incarnation 2",
    ]


def test_a_number_that_has_been_used_again_is_no_parent_if_it_began_at_another_time() -> None:
    """A killed worker's number goes to a shell, which starts the next one: in a container that happens at once."""
    for born, parent_born, lives in ((500, 900, 2), (500, 500, 1), (0, 900, 1), (500, 0, 1)):
        books = Books()
        books.process(7, 0, part=1).start(1.0, born=born)
        books.process(8, 0, part=2).start(3.0, parent=7, born=901, parent_born=parent_born)

        assert len(lives_of(books).all()) == lives
