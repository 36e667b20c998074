from __future__ import annotations

import pytest

from ami_fault_site.report import NoSuchTaskError, find
from ami_fault_site.verdict import Case
from tests.booked import Books
from tests.report_cases import facts


def two_jobs() -> Case:
    """Return a case in which jobs 7 and 8 share images 1 to 3, and 7 has an image more; job 8 was run again."""
    books = Books()
    worker = books.process(11).start(0.5)
    worker.fetch(1.0, 7, (1, 1), (2, 1), (3, 1), (14, 1))
    worker.fetch(2.0, 8, (1, 1), (2, 1), (3, 1))
    books.refill(8)
    worker.fetch(9.0, 8, (1, 1))
    return books.case(facts())


def found(text: str) -> list[tuple[int, int]]:
    return [(task.job, task.key[1]) for task in find(two_jobs(), text)]


def refused(text: str) -> str:
    with pytest.raises(NoSuchTaskError) as error:
        find(two_jobs(), text)
    return str(error.value)


def test_a_task_is_found_by_job_and_sequence() -> None:
    assert found("7/14") == [(7, 14)]
    assert found(" 8/2 ") == [(8, 2)]


def test_a_job_that_was_run_again_has_two_tasks_of_a_sequence_the_earlier_first() -> None:
    tasks = find(two_jobs(), "8/1")

    assert [task.job for task in tasks] == [8, 8]
    assert tasks[0].key[2] < tasks[1].key[2]


def test_a_sequence_is_enough_where_only_one_job_has_it() -> None:
    assert found("14") == [(7, 14)]
    assert refused("2") == "TASK='2': several jobs have such a task; say which: 7/2, 8/2"


def test_an_image_is_found_by_its_id_or_file_name_in_every_job_that_has_it() -> None:
    books = Books()
    worker = books.process(11).start(0.5)
    rows = [[n, 1, n, 1000 + n, 0, f"55{n}", f"moth {n}.jpg"] for n in (1, 2)]
    for job in (8, 7):
        worker.book("leases", 1.0, call=1, job=job, stream=f"job_{job}", status=200, seconds=0.1, leases=rows)
    case = books.case(facts())

    assert [(task.job, task.key[1]) for task in find(case, "552")] == [(7, 2), (8, 2)]
    assert [(task.job, task.key[1]) for task in find(case, "moth 1.jpg")] == [(7, 1), (8, 1)]


def test_a_number_is_a_sequence_before_it_is_an_image() -> None:
    books = Books()
    rows = [[1, 1, 1, 1001, 0, "2", "2.jpg"], [2, 1, 2, 1002, 0, "1", "1.jpg"]]
    told = {"call": 1, "job": 7, "stream": "job_7", "status": 200, "seconds": 0.1}
    books.process(11).start(0.5).book("leases", 1.0, **told, leases=rows)

    assert [task.image for task in find(books.case(facts()), "2")] == ["1.jpg"]


def test_what_is_not_there_is_refused_with_what_is_near() -> None:
    assert refused("7/12") == (
        "TASK='7/12': nothing is known of such a task; of job 7 4 tasks are known, 1 to 14 (near it 7/2, 7/3, 7/14)"
    )
    assert refused("9/1") == "TASK='9/1': nothing is known of tasks of job 9, only of jobs 7, 8"
    forms = "TASK is job/sequence, a sequence that only one job has, an image id or the name of an image file"
    assert refused("14.jgp") == (
        f"TASK='14.jgp': nothing is known of such a task (did you mean 14.jpg or 1.jpg?); {forms}"
    )
    assert refused("77") == f"TASK='77': nothing is known of such a task; {forms}"
    assert refused("") == f"TASK='': nothing is known of such a task; {forms}"


def test_where_nothing_was_handed_out_there_is_nothing_to_offer() -> None:
    with pytest.raises(NoSuchTaskError) as error:
        find(Books().case(facts()), "7/1")
    assert str(error.value) == "TASK='7/1': nothing is known of tasks of job 7, only of no job at all"


def test_of_very_many_names_those_are_compared_that_begin_alike() -> None:
    books = Books()
    rows = [[n, 1, n, 1000 + n, 0, f"{n}", f"{'moth' if n % 2 else 'fly'}-{n}.jpg"] for n in range(1, 20_003)]
    told = {"call": 1, "job": 7, "stream": "job_7", "status": 200, "seconds": 0.1}
    books.process(11).start(0.5).book("leases", 1.0, **told, leases=rows)

    with pytest.raises(NoSuchTaskError) as error:
        find(books.case(facts()), "moth-1997.jgp")
    assert "(did you mean moth-1997.jpg or " in str(error.value)
