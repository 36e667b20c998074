"""The promise of the page's figures: each is the one of `check --json`, is read as what it is, and none is missing."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TypeAlias

import pytest

from ami_fault_site.cli import main
from tests.page_cases import RUNS

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"

Way: TypeAlias = "tuple[str | int, ...]"
"""Keys and places, one in the other: `("jobs", 0, "processed")`."""
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def leaves(value: Json, way: Way = ()) -> Iterator[tuple[Way, Json]]:
    """Return what stands in a JSON document that is no list and no object, with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*way, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*way, number))
    else:
        yield way, value


def is_figure(told: dict[Way, Json], way: Way) -> bool:
    """Say whether a number is to be on the page: it counts or measures something, and something is known of it."""
    value, beside = told[way], way[:-1]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    names_a_task = way[0] == "findings" and way[2] == "tasks"
    names_a_moment = "notes" in way  # and the page tells it in seconds of the run
    stands_there_twice = way == ("seed",)  # that of the first run
    if names_a_task or names_a_moment or stands_there_twice:
        return False
    if way[-1] == "filling":  # told where a job was filled more often than once
        return value != 1 or not told[(*beside, "is_last")]
    return way[-1] != "given_up" or told[(*beside, "status")] != ""  # else nobody knows what the service gave up


@dataclass
class Figure:
    """A figure as the page has it: where it stands in the JSON, its exact value, and the text that is read."""

    way: Way
    value: Json
    text: str = ""


@dataclass
class Figures(HTMLParser):
    """Reads the figures out of a page."""

    found: list[Figure] = field(default_factory=list)
    _open: list[Figure | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            return
        told = dict(attrs)
        way, value = told.get("data-figure"), told.get("data-value")
        figure = Figure(tuple(json.loads(way)), json.loads(value or "")) if way else None
        self._open.append(figure)
        if figure is not None:
            self.found.append(figure)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for figure in self._open:
            if figure is not None:
                figure.text += data


def figures(page: str) -> list[Figure]:
    reader = Figures()
    reader.feed(page)
    reader.close()
    return reader.found


def is_read_as(text: str, value: Json) -> bool:
    """Say whether a text is this value, rounded to as many places as it shows; a share may be told in per cent."""
    if value is None:
        return not re.search(r"\d", text)
    if value == 0 and text == "No":
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).lower() in text.lower()
    numbers = re.findall(r"-?\d[\d,\u202f ]*(?:\.\d+)?(?:e-?\d+)?", text)
    if not numbers:
        return False
    shown = re.sub(r"[,\u202f ]", "", numbers[0])
    places = len(shown.partition("e")[0].partition(".")[2])
    step = 0.5000001 * 10.0**-places
    meant = value * 100 if "%" in text else value
    return abs(float(shown) - meant) <= (step if isinstance(value, float) or "%" in text else 0)


Shown: TypeAlias = "tuple[dict[Way, Json], list[Figure]]"


@pytest.fixture(scope="module", params=RUNS)
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Return what `check --json` says of some runs, and the figures on their page."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [str(path) for path in RUNS[request.param](folder)]
    page, said = folder / "page.html", io.StringIO()
    with contextlib.redirect_stdout(said):
        main(["check", "--json", *paths])
        told = json.loads(said.getvalue())
        assert main(["report", *paths, "--html", str(page)]) == 0
    return dict(leaves(told)), figures(page.read_text(encoding="utf-8"))


def test_every_figure_on_the_page_is_that_of_check_json(shown: Shown) -> None:
    told, found = shown
    assert [one for one in found if one.way not in told or one.value != told[one.way]] == []


def test_every_figure_is_read_as_what_it_is(shown: Shown) -> None:
    _, found = shown
    assert [one for one in found if not is_read_as(one.text, one.value)] == []


def test_no_number_of_check_json_is_missing_on_the_page(shown: Shown) -> None:
    told, found = shown
    assert {way for way in told if is_figure(told, way)} - {one.way for one in found} == set()


@pytest.mark.parametrize(
    ("text", "value", "is_so"),
    [
        ("1,234", 1234, True),
        ("1,235", 1234, False),
        ("12.3 s", 12.345, True),
        ("12.4 s", 12.345, False),
        ("5 %", 0.0512, True),
        ("6 %", 0.0512, False),
        ("not known", None, True),
        ("0", None, False),
        ("No", 0, True),
        ("No", 1, False),
        ("", 0, False),
        ("lost 3 of 4", 3, True),
    ],
)
def test_a_text_is_read_as_the_number_that_it_shows(text: str, value: Json, is_so: bool) -> None:
    assert is_read_as(text, value) == is_so
