from __future__ import annotations

import pytest

from ami_fault_site.faults import Effect
from ami_fault_site.history import Lease
from ami_fault_site.verdict.spoilt import SpoiltImages, shows
from tests.booked import Books, Process, task


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def main(books: Books) -> Process:
    made = books.process(10).start(0.5)
    made.fetch(1.0, 7, (1, 1), (2, 1))
    return made


def leases(spoilt: SpoiltImages) -> list[tuple[int, int]]:
    return [(one.key[1], lease.delivery) for one, lease, _ in spoilt.leases]


def explains(books: Books, sequence: int, delivery: int) -> bool:
    history = books.history()
    one = task(history, 7, sequence)
    return SpoiltImages(history).explains(one, [lease for lease in one.leases if lease.delivery == delivery])


def test_without_faults_no_image_is_spoilt(books: Books, main: Process) -> None:
    spoilt = SpoiltImages(books.history())

    assert (spoilt.leases, spoilt.images) == ([], set())


@pytest.mark.parametrize("effect", [Effect.IMAGE_404, Effect.CORRUPT])
def test_an_image_that_is_bad_by_its_rate_is_bad_for_every_delivery(
    books: Books, main: Process, effect: Effect
) -> None:
    main.strike(2.0, effect, 7, image="1", trigger="rate")
    main.fetch(12.0, 7, (1, 2))

    assert SpoiltImages(books.history()).images == {"1"}
    assert [explains(books, 1, delivery) for delivery in (1, 2)] == [True, True]
    assert not explains(books, 2, 1)


def test_an_image_that_a_rule_damaged_is_bad_for_the_delivery_for_which_it_was_loaded(
    books: Books, main: Process
) -> None:
    main.strike(2.0, Effect.CORRUPT, 7, image="1", trigger="rule")
    main.fetch(12.0, 7, (1, 2))

    assert [explains(books, 1, delivery) for delivery in (1, 2)] == [True, False]


def test_an_image_is_loaded_for_the_last_lease_of_it_that_the_process_had_received(books: Books, main: Process) -> None:
    books.process(20, 2).fetch(12.0, 7, (1, 2))
    main.strike(13.0, Effect.CORRUPT, 7, image="1", trigger="rule")

    assert leases(SpoiltImages(books.history())) == [(1, 1)]


@pytest.mark.parametrize(("status", "error"), [(403, ""), (500, ""), (0, "ConnectionError")])
def test_a_download_that_failed_in_any_way_by_our_doing_spoils_its_delivery(
    books: Books, main: Process, status: int, error: str
) -> None:
    main.strike(2.0, Effect.NETWORK, 7, image="2", kind="http-403", site="image", call=5)
    main.image(2.5, 7, 2, status=status, error=error, struck=True, call=5)

    assert leases(SpoiltImages(books.history())) == [(2, 1)]
    assert explains(books, 2, 1)


def test_a_download_that_failed_by_itself_spoils_nothing(books: Books, main: Process) -> None:
    main.image(2.5, 7, 2, status=500, call=5)

    assert SpoiltImages(books.history()).leases == []


def test_a_missing_image_is_told_once(books: Books, main: Process) -> None:
    main.strike(2.0, Effect.IMAGE_404, 7, image="2", kind="http-404", site="image", call=5)
    main.image(2.5, 7, 2, status=404, struck=True, call=5)

    assert leases(SpoiltImages(books.history())) == [(2, 1)]


def test_an_image_that_we_have_no_lease_of_is_spoilt_all_the_same(books: Books) -> None:
    books.process(10).strike(2.0, Effect.CORRUPT, 7, image="1")
    spoilt = SpoiltImages(books.history())

    assert (spoilt.images, spoilt.leases) == ({"1"}, [])


@pytest.mark.parametrize(
    ("kind", "seen"), [("empty", True), ("html", True), ("truncated", False), ("wrong-size", False)]
)
def test_some_damage_does_not_show_when_an_image_is_opened(books: Books, main: Process, kind: str, seen: bool) -> None:
    main.strike(2.0, Effect.CORRUPT, 7, image="1", kind=kind)
    ((_, lease, one),) = SpoiltImages(books.history()).leases

    assert isinstance(lease, Lease)
    assert shows(one) is seen
