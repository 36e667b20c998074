"""A poll shows one job at random, out of those that match."""

from __future__ import annotations

import random

import pytest

from ami_fault_site.sandbox.bodies import BadBody
from ami_fault_site.sandbox.jobs import Job, JobState
from ami_fault_site.sandbox.polls import Page, page

URL = "http://127.0.0.1:1/api/v2/jobs/?ids_only=1"


def jobs() -> list[Job]:
    made = [Job(number, "a job", "a" if number % 2 else "b", created_at=0.0) for number in range(1, 13)]
    made[0].status = JobState.SUCCESS
    return made


def ask(query: dict[str, str], seed: int = 0) -> Page:
    return page(jobs(), query, URL, random.Random(seed))


def numbers(query: dict[str, str], seed: int = 0) -> list[int]:
    return [job.number for job in ask(query, seed).jobs]


def test_a_poll_for_ids_shows_one_job_and_how_many_there_are() -> None:
    shown = ask({"ids_only": "1"})
    assert (len(shown.jobs), shown.count) == (1, 12)
    assert shown.after == "http://127.0.0.1:1/api/v2/jobs/?ids_only=1&limit=1&offset=1"
    assert shown.before is None


def test_polls_spread_over_all_jobs() -> None:
    assert {numbers({"ids_only": "1"}, seed)[0] for seed in range(200)} == set(range(1, 13))


def test_a_poll_that_names_a_limit_gets_it() -> None:
    assert sorted(numbers({"ids_only": "1", "limit": "50"})) == list(range(1, 13))


def test_a_list_without_ids_only_is_newest_first_ten_a_page() -> None:
    assert numbers({}) == list(range(12, 2, -1))
    assert numbers({"offset": "10"}) == [2, 1]
    assert ask({"offset": "10"}).before == "http://127.0.0.1:1/api/v2/jobs/?ids_only=1&limit=10"


def test_incomplete_only_leaves_out_jobs_that_have_ended() -> None:
    assert 1 not in numbers({"incomplete_only": "1", "limit": "50"})
    assert 1 in numbers({"limit": "50"})


def test_pipelines_are_chosen_by_name_one_or_several() -> None:
    assert numbers({"pipeline__slug__in": "b", "limit": "50"}) == [12, 10, 8, 6, 4, 2]
    assert len(numbers({"pipeline__slug__in": "a,b", "limit": "50"})) == 12
    assert numbers({"pipeline__slug": "c"}) == []
    assert numbers({"pipeline__slug__in": "c"}) == []


def test_all_jobs_are_for_workers_that_fetch() -> None:
    assert len(numbers({"dispatch_mode": "async_api", "limit": "50"})) == 12
    assert numbers({"dispatch_mode": "sync_api"}) == []
    assert numbers({"status": "SUCCESS"}) == [1]


def test_a_choice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadBody, match="nonsense is not one of the available choices"):
        ask({"dispatch_mode": "nonsense"})


def test_a_limit_that_is_no_number_is_ignored() -> None:
    assert len(numbers({"ids_only": "1", "limit": "many", "offset": "-3"})) == 1
