from __future__ import annotations

import pytest

from ami_fault_site.faults import API_SITES, Call, Draw, Effect, Harm, Mode, Phase, Point, Role, Site
from ami_fault_site.rules import (
    Duration,
    HarmTemplate,
    Match,
    Rule,
    Term,
    forms_at,
    keys_at,
    sites_of,
)

OFF = (Term(None),)
RESET = HarmTemplate(Effect.NETWORK, "reset")


def call(
    site: Site = Site.RESULT,
    job: int | None = 7,
    names: tuple[str, ...] = (),
    tasks: tuple[tuple[int, int], ...] = (),
    attempt: int = 0,
    role: Role = Role.MAIN,
) -> Call:
    return Call(site, (Draw("", ""),), job, names, tasks, attempt, role)


def test_a_rule_applies_at_its_site_only() -> None:
    rule = Rule("result", Match(), OFF)

    assert [site for site in Site if rule.applies(call(site))] == [Site.RESULT]


def test_api_is_the_four_calls_of_the_api() -> None:
    rule = Rule("api", Match(), OFF)

    assert tuple(site for site in Site if rule.applies(call(site))) == API_SITES


def test_batch_is_a_batch_or_a_pass_over_a_whole_job() -> None:
    assert sites_of("batch") == (Site.BATCH, Site.JOB_PASS)


def test_a_crash_strikes_at_every_passage_unless_points_are_named() -> None:
    assert sites_of("crash") == (
        Site.BATCH, Site.JOB_PASS, Site.FETCHED, Site.DOWNLOADING, Site.POSTING, Site.IDLE,
    )  # fmt: skip


def test_a_crash_with_points_strikes_only_at_passages_that_have_one_of_them() -> None:
    rule = Rule("crash", Match(points=frozenset({Point.POSTING_UNHEARD, Point.IDLE})), OFF)

    assert rule.sites == (Site.POSTING, Site.IDLE)
    assert rule.applies(call(Site.POSTING))
    assert not rule.applies(call(Site.BATCH))
    assert rule.points == {Point.POSTING_UNHEARD, Point.IDLE}


def test_only_calls_of_the_jobs_named_are_matched() -> None:
    match = Match(jobs=frozenset({7, 8}))

    assert [match.fits(call(job=job)) for job in (7, 8, 9, None)] == [True, True, False, False]


def test_an_image_is_matched_by_a_glob_for_any_of_its_names() -> None:
    match = Match(name="moth*.jpg")

    assert match.fits(call(names=("17", "moth-17.jpg", "http://images/moth-17.jpg")))
    assert not match.fits(call(names=("17", "bee-17.jpg", "http://images/moth/bee-17.jpg")))
    assert not match.fits(call())


def test_a_glob_minds_upper_and_lower_case() -> None:
    assert not Match(name="moth*").fits(call(names=("Moth.jpg",)))


def test_any_task_of_a_call_can_be_the_one_that_is_matched() -> None:
    match = Match(tasks=frozenset({3}))

    assert match.fits(call(tasks=((2, 1), (3, 1))))
    assert not match.fits(call(tasks=((2, 1), (4, 3))))
    assert not match.fits(call())


def test_any_delivery_of_a_call_can_be_the_one_that_is_matched() -> None:
    match = Match(deliveries=frozenset({2}))

    assert match.fits(call(tasks=((1, 1), (9, 2))))
    assert not match.fits(call(tasks=((2, 1),)))


def test_a_task_and_a_delivery_are_matched_by_one_and_the_same_lease() -> None:
    match = Match(tasks=frozenset({3}), deliveries=frozenset({2}))

    assert match.fits(call(tasks=((1, 1), (3, 2))))
    assert not match.fits(call(tasks=((3, 1), (1, 2))))


def test_a_call_as_a_whole_is_its_first_attempt() -> None:
    first, second = Match(attempts=frozenset({1})), Match(attempts=frozenset({2}))

    assert [first.fits(call(attempt=n)) for n in (0, 1, 2)] == [True, True, False]
    assert [second.fits(call(attempt=n)) for n in (0, 1, 2)] == [False, False, True]


def test_a_process_is_matched_by_its_role() -> None:
    match = Match(roles=frozenset({Role.LOADER}))

    assert match.fits(call(role=Role.LOADER))
    assert not match.fits(call(role=Role.MAIN))


def test_all_that_is_asked_for_must_hold() -> None:
    match = Match(jobs=frozenset({7}), attempts=frozenset({1}))

    assert match.fits(call(job=7, attempt=1))
    assert not match.fits(call(job=7, attempt=2))
    assert not match.fits(call(job=8, attempt=1))


def test_the_share_of_the_images_is_left_to_whoever_draws() -> None:
    rule = Rule("image.get", Match(images=0.2), OFF)

    assert rule.applies(call(Site.IMAGE))
    assert rule.image_share == 0.2


@pytest.mark.parametrize(
    ("site", "keys"),
    [
        ("jobs", ("attempt", "process")),
        ("tasks", ("job", "attempt", "process")),
        ("result", ("job", "task", "delivery", "attempt", "process")),
        ("register", ("attempt", "process")),
        ("api", ("job", "task", "delivery", "attempt", "process")),
        ("image.get", ("job", "task", "name", "delivery", "attempt", "process", "images")),
        ("image.open", ("job", "task", "name", "delivery", "process", "images")),
        ("batch", ("job", "task", "delivery", "process")),
        ("crash", ("job", "task", "name", "delivery", "process", "point")),
    ],
)
def test_what_is_known_at_a_site_can_be_matched_there(site: str, keys: tuple[str, ...]) -> None:
    assert keys_at(site) == keys


def test_nothing_is_known_of_an_idle_worker_but_its_process() -> None:
    assert keys_at("crash", frozenset({Point.IDLE})) == ("process", "point")


def test_every_mode_of_dying_is_an_effect_of_a_crash() -> None:
    assert set(forms_at("crash")) == {mode.value for mode in Mode}


@pytest.mark.parametrize("site", ["jobs", "tasks", "register", "api", "image.get"])
def test_whatever_can_happen_to_one_http_call_can_happen_to_all(site: str) -> None:
    assert forms_at(site) == forms_at("result")


def test_only_a_term_without_conditions_takes_every_passage() -> None:
    assert Term(None).always
    assert not any(term.always for term in (Term(None, 1), Term(None, 0, 2), Term(None, share=0.9), Term(None, most=1)))


@pytest.mark.parametrize(
    ("term", "counts"),
    [(Term(None, after=1), True), (Term(None, every=2), True), (Term(None, share=0.5, most=3), False)],
)
def test_passages_are_counted_only_for_after_and_every(term: Term, counts: bool) -> None:
    assert Rule("jobs", Match(), (Term(None, most=1), term)).counts_passages is counts


def test_an_off_does_no_harm() -> None:
    assert Term(None).harm_for(None) is None


def test_a_harm_is_made_of_a_template_once_the_ack_wait_is_known() -> None:
    template = HarmTemplate(Effect.SLOW, "delay", Phase.AFTER, None, Duration(ack_waits=1.5), Duration(0.2))

    assert Term(template).harm_for(30.0) == Harm(Effect.SLOW, "delay", Phase.AFTER, None, 45.0, 0.2)


def test_a_harm_keeps_what_its_status_says_of_a_later_try() -> None:
    template = HarmTemplate(Effect.NETWORK, "http-503", retry_after=Duration(ack_waits=2.0))

    assert template.harm(8.0) == Harm(Effect.NETWORK, "http-503", retry_after=16.0)


def test_a_jitter_that_turns_out_longer_than_its_delay_is_refused() -> None:
    template = HarmTemplate(Effect.SLOW, "delay", seconds=Duration(ack_waits=1.0), jitter=Duration(10.0))

    assert template.harm(10.0).jitter == 10.0
    with pytest.raises(ValueError, match=r"^delay\(1ack_wait, jitter=10\): the jitter exceeds the delay$"):
        template.harm(9.0)


def test_seconds_need_no_ack_wait() -> None:
    assert Duration(2.5).resolve(None) == 2.5


def test_a_multiple_of_an_ack_wait_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^1\.5ack_wait needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds$"):
        Duration(ack_waits=1.5).resolve(None)


def test_a_multiple_of_the_ack_wait_is_an_hour_at_most() -> None:
    assert Duration(ack_waits=12.0).resolve(300.0) == 3600.0
    with pytest.raises(ValueError, match=r"^13ack_wait is 3900 s with an ack_wait of 300 s: at most 3600 s$"):
        Duration(ack_waits=13.0).resolve(300.0)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (Duration(), "0"),
        (Duration(2.0), "2"),
        (Duration(0.5), "0.5"),
        (Duration(3600.0), "3600"),
        (Duration(1e-9), "0.000000001"),
        (Duration(ack_waits=1.5), "1.5ack_wait"),
    ],
)
def test_a_duration_is_written_without_exponent_or_needless_digits(duration: Duration, text: str) -> None:
    assert str(duration) == text


def test_a_rule_is_written_in_one_way_whatever_the_order_it_was_given_in() -> None:
    match = Match(
        frozenset({8, 7}), frozenset({3}), "moth*", frozenset({2}), frozenset({1}), frozenset({Role.LOADER}), images=0.2
    )
    terms = (Term(None, 20, 3, 0.125, 5), Term(RESET))

    assert str(Rule("image.get", match, terms)) == (
        "image.get[job=7|8, task=3, name=moth*, delivery=2, attempt=1, process=loader, images=20%]: "
        "after 20 every 3 12.5%5*off -> reset"
    )


def test_points_are_written_in_the_order_of_a_workers_life() -> None:
    match = Match(points=frozenset({Point.IDLE, Point.AFTER_FETCH}))

    assert str(match) == "point=after-fetch|idle"


@pytest.mark.parametrize("glob", [" a", "a ", "a,b", "a;b", "a#b", "[ab]"])
def test_a_glob_that_would_end_too_early_is_written_in_quotes(glob: str) -> None:
    assert str(Match(name=glob)) == f'name="{glob}"'
