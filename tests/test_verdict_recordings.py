"""What the judge makes of the real worker and the real service, where there are recordings of them."""

from __future__ import annotations

from collections import Counter

import pytest

from ami_fault_site.verdict import Case, judge
from ami_fault_site.verdict.ends import How
from ami_fault_site.verdict.fates import Fate
from ami_fault_site.verdict.lives import HowEnded
from ami_fault_site.verdict.terms import Status, Verdict, Whose
from tests.booked import told
from tests.recordings import FOLDER, events_of, facts_of, history_of, rows_of

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings of the real worker are not here")

KILLED_AFTER = 20.0  # seconds after its first call, when the real worker was killed
EXPIRED, DIED = "it expired while a live worker held it", "an exit of its own"


@pytest.fixture(scope="module")
def healthy() -> Case:
    return Case(history_of(events_of("worker-healthy.jsonl")), facts_of("job-after-healthy.json"))


@pytest.fixture(scope="module")
def killed() -> Case:
    first = float(str(rows_of("worker-killed.jsonl")[0]["t"]))
    history = history_of(events_of("worker-killed.jsonl", killed_at=first + KILLED_AFTER))
    return Case(history, facts_of("job-after-killed.json"))


def fates(case: Case) -> Counter[Fate]:
    return Counter(case.fates.of(task).fate for task in case.tasks())


def slugs(verdict: Verdict, status: Status) -> list[str]:
    return [finding.check.slug for finding in verdict.findings if finding.status is status]


def test_a_redirect_belongs_to_the_call_that_led_to_it() -> None:
    for name in ("worker-healthy.jsonl", "worker-killed.jsonl"):
        polls = [row for row in rows_of(name) if "ids_only" in str(row["url"])]

        assert polls
        assert all(row["redirects"] for row in polls)


def test_the_healthy_one_is_fully_accounted_for_and_passes(healthy: Case) -> None:
    verdict = judge(healthy)

    assert fates(healthy) == {Fate.DONE: 24}
    assert told(verdict.finding("no-task-lost")) == ("pass", "service", "24 of 24 tasks are accounted for")
    assert (verdict.status(), verdict.exit_code(), verdict.exit_code(strict=True)) == (Status.PASS, 0, 0)
    assert (slugs(verdict, Status.FAIL), verdict.not_judged) == ([], ())


def test_the_healthy_one_reached_its_end(healthy: Case) -> None:
    verdict = judge(healthy)

    assert told(verdict.finding("job-reaches-its-end")) == ("pass", "service", "job 63 ended with SUCCESS")
    assert verdict.finding("failure-counts-accurate").status is Status.PASS


def test_of_the_killed_one_forty_tasks_are_known_of_which_eight_are_done_and_thirty_two_exhausted(
    killed: Case,
) -> None:
    assert fates(killed) == {Fate.DONE: 8, Fate.EXHAUSTED: 32}


def test_its_worker_died_once_and_by_no_fault_of_ours(killed: Case) -> None:
    assert [life.how for life in killed.lives.all()] == [HowEnded.DIED, HowEnded.ENDED]
    assert killed.history.injections == []


def test_each_exhausted_task_lost_one_delivery_that_expired_and_the_last_to_the_crash(killed: Case) -> None:
    causes = Counter(fated.cause for _, fated in killed.with_fate(Fate.EXHAUSTED))

    assert causes == {f"delivery 1: {EXPIRED}; delivery 2: {DIED}": 32}
    assert {fated.whose for _, fated in killed.with_fate(Fate.EXHAUSTED)} == {Whose.SETUP}
    assert len({(lease.process, end.at) for _, lease, end in killed.ended(How.DROPPED)}) == 1


def test_what_it_lost_is_a_matter_of_the_setup(killed: Case) -> None:
    lost = judge(killed).finding("no-task-lost")

    assert told(lost) == ("fail", "setup", f"32 exhausted (delivery 1: {EXPIRED}; delivery 2: {DIED})")
    assert (len(lost.tasks), lost.judged) == (32, 40)
    assert lost.evidence


def test_its_leases_did_not_outlive_their_work(killed: Case) -> None:
    short = judge(killed).finding("leases-outlive-their-work")

    assert (short.status, short.whose, len(short.tasks)) == (Status.FAIL, Whose.SETUP, 32)


def test_its_job_is_not_at_its_end_as_long_as_the_reaper_has_not_come(killed: Case) -> None:
    end = judge(killed).finding("job-reaches-its-end")

    text = (
        "job 64 is STARTED, not at its end (8 of 40 processed); "
        "the reaper has not come yet: `ami-fault check --wait 30m` waits for it"
    )
    assert told(end) == ("unknown", "service", text)


def test_nothing_about_it_accuses_the_service(killed: Case) -> None:
    verdict = judge(killed)

    assert slugs(verdict, Status.FAIL) == ["no-task-lost", "leases-outlive-their-work"]
    assert {finding.whose for finding in verdict.failures} == {Whose.SETUP}
    assert verdict.finding("failure-counts-accurate").status is Status.PASS
