from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history.attempts import Attempts, Calls, Try, is_passing
from ami_fault_site.history.records import Injection

PROCESS, CLOCK = 3, 0


def one(
    at: float,
    *,
    status: int = 200,
    error: str = "",
    kind: str = "",
    retry_after: float | None = None,
    image: str = "5",
    site: str = "image",
) -> Try:
    return Try(at - 0.25, at, status, error, kind, bool(kind), retry_after, (PROCESS, int(at * 4)), site, image, 7)


def fault(effect: Effect = Effect.NETWORK, phase: str = "before") -> Injection:
    return Injection(effect, "refused", "image", phase, PROCESS, 1.0, (PROCESS, 1), 7, "5", "5")


def taken(*tries: Try, struck: bool = False, faults: tuple[Injection, ...] = ()) -> Attempts:
    attempts = Attempts()
    attempts.take(PROCESS, CLOCK, tries, struck, faults)
    return attempts


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_service_that_is_in_trouble_may_not_be_at_the_next_attempt(status: int) -> None:
    assert is_passing(one(1.0, status=status), "")


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 410, 413, 501])
def test_what_an_answer_says_for_good_does_not_pass(status: int) -> None:
    assert not is_passing(one(1.0, status=status), "")


def test_too_many_requests_pass_if_it_is_said_when() -> None:
    assert is_passing(one(1.0, status=429, retry_after=1.0), "")
    assert not is_passing(one(1.0, status=429), "")


@pytest.mark.parametrize("kind", ["refused", "connect-timeout", "reset", "closed", "read-timeout", "stall"])
def test_a_connection_that_broke_may_hold_at_the_next_attempt(kind: str) -> None:
    assert is_passing(one(1.0, status=0, error="X", kind=kind), "before")
    assert not is_passing(one(1.0, status=0, error="X", kind=kind), "during")


@pytest.mark.parametrize(("error", "passes"), [("ConnectTimeoutError", True), ("ProtocolError", True), ("Odd", False)])
def test_an_attempt_that_we_did_not_strike_is_judged_by_its_error(error: str, passes: bool) -> None:
    assert is_passing(one(1.0, status=0, error=error), "") is passes


@pytest.mark.parametrize("kind", ["dns", "tls", "garbage", "bad-json"])
def test_what_may_well_last_is_not_called_passing(kind: str) -> None:
    assert not is_passing(one(1.0, status=0, error="X", kind=kind), "before")


def test_a_call_that_went_well_at_once_is_only_counted() -> None:
    attempts = taken(one(1.0))

    assert attempts.sites == {"image": Calls(calls=1, tries=1)}
    assert (attempts.met, attempts.unrepeated, attempts.growth.judged, attempts.waits.judged) == ({}, {}, 0, 0)


def test_a_call_that_came_through_its_struck_attempts_has_absorbed_them() -> None:
    tries = (one(1.0, status=0, error="X", kind="refused"), one(2.0))

    assert taken(*tries, faults=(fault(),)).sites["image"] == Calls(1, absorbed=1, failed=0, tries=2, struck=1)


def test_a_call_whose_last_attempt_was_struck_has_failed_for_it() -> None:
    tries = (one(1.0, status=0, error="X", kind="refused"), one(2.0, status=503, kind="http-503"))
    attempts = taken(*tries, struck=True, faults=(fault(), fault()))

    assert attempts.sites["image"] == Calls(1, absorbed=0, failed=1, tries=2, struck=2)


def test_a_call_that_failed_for_a_missing_image_has_not_failed_for_the_network() -> None:
    tries = (one(1.0, status=404, kind="http-404"),)

    assert taken(*tries, struck=True, faults=(fault(Effect.IMAGE_404),)).sites["image"].failed == 0


def test_a_call_that_failed_by_itself_after_a_struck_attempt_has_absorbed_nothing() -> None:
    tries = (one(1.0, status=0, error="X", kind="refused"), one(2.0, status=500))
    counts = taken(*tries, faults=(fault(),)).sites["image"]

    assert (counts.absorbed, counts.failed) == (0, 0)


def test_a_passing_failure_that_is_followed_by_an_attempt_was_repeated() -> None:
    attempts = taken(one(1.0, status=503), one(2.0, status=503))

    assert (attempts.met, attempts.unrepeated) == ({"image": 1}, {})


def test_a_passing_failure_at_the_end_of_a_call_was_not_repeated_until_the_same_image_is_asked_for_again() -> None:
    attempts = taken(failed := one(1.0, status=503))
    assert attempts.unrepeated == {(PROCESS, "image", "5"): failed}

    attempts.take(PROCESS, CLOCK, (one(2.0, image="6"),), False, ())
    attempts.take(PROCESS + 1, CLOCK, (one(2.0),), False, ())
    assert len(attempts.unrepeated) == 1

    attempts.take(PROCESS, CLOCK, (one(3.0),), False, ())
    assert attempts.unrepeated == {}


@pytest.mark.parametrize("site", ["tasks", "result", "register"])
def test_a_post_is_not_expected_to_be_repeated(site: str) -> None:
    attempts = taken(one(1.0, status=503, image="", site=site))

    assert (attempts.met, attempts.unrepeated) == ({}, {})


def test_what_follows_a_redirect_is_another_request() -> None:
    hops = (one(1.0, status=301, image="", site="jobs"), one(1.25, status=503, image="", site="jobs"))
    attempts = taken(*hops)

    assert len(attempts.unrepeated) == 1
    assert taken(*hops, one(1.5, status=503, image="", site="jobs")).growth.judged == 0


def tries_at(*ends: float, **how: object) -> tuple[Try, ...]:
    return tuple(one(end, **{"status": 503, **how}) for end in ends)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ends", "grows"),
    [
        ((1.0, 1.25, 2.5, 4.75), True),  # pauses of 0, 1 and 2 s
        ((1.0, 1.25, 2.5), True),
        ((1.0, 1.75, 2.5), False),  # 0.5 and 0.5 s
        ((1.0, 1.25, 1.5), False),  # none at all
        ((1.0, 2.25, 2.75), False),  # 1 and 0.25 s
        ((1.0, 1.75, 2.25, 4.5), False),  # 0.5, 0.25 and 2 s
        ((1.0, 1.5, 2.75, 4.0), True),  # 0.25, 1 and 1 s: at its longest
    ],
)
def test_pauses_grow_if_none_is_shorter_than_the_one_before_and_the_last_longer_than_the_first(
    ends: tuple[float, ...], grows: bool
) -> None:
    growth = taken(*tries_at(*ends)).growth

    assert (growth.judged, growth.bad.count) == (1, 0 if grows else 1)
    assert bool(growth.best) is grows
    assert bool(growth.worst) is not grows


def test_two_attempts_have_one_pause_which_cannot_grow() -> None:
    assert taken(*tries_at(1.0, 1.25)).growth.judged == 0


def test_pauses_that_an_answer_asked_for_are_not_the_workers_own() -> None:
    attempts = taken(*tries_at(1.0, 2.25, 3.5, status=429, retry_after=1.0))

    assert (attempts.growth.judged, attempts.waits.judged, attempts.waits.bad.count) == (0, 2, 0)


@pytest.mark.parametrize(("end", "kept"), [(2.25, True), (2.17, True), (2.0, False)])
def test_a_repetition_waits_as_long_as_it_was_asked_to(end: float, kept: bool) -> None:
    waits = taken(one(1.0, status=429, retry_after=1.0), one(end)).waits

    assert (waits.judged, waits.bad.count) == (1, 0 if kept else 1)


def test_a_new_call_for_the_same_image_is_a_repetition_too() -> None:
    attempts = taken(one(1.0, status=429, retry_after=2.0))
    attempts.take(PROCESS, CLOCK, (one(2.0),), False, ())
    attempts.take(PROCESS, CLOCK, (one(2.5),), False, ())

    assert (attempts.waits.judged, attempts.waits.bad.count, attempts.waits.worst) == (1, 1, (2.0, 0.75))


def test_a_tasks_call_that_was_asked_to_wait_is_remembered_with_the_time_until_which() -> None:
    attempts = taken(one(1.0, status=429, retry_after=2.0, image="", site="tasks"))

    assert attempts.told_to_wait == [(CLOCK, 7, 1.0, 3.0)]


def test_an_attempt_that_broke_off_in_the_midst_of_its_answer_has_failed_and_is_not_passing() -> None:
    broken = one(1.0, status=200, kind="reset")

    assert broken.has_failed
    assert not is_passing(broken, "during")
    assert taken(broken, struck=True, faults=(fault(phase="during"),)).sites["image"].failed == 1
