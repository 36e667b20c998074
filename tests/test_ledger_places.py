"""The promises of the ledger about places: whose file it is, how far it was read, and where an event stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ami_fault_site.ledger import Damage, Ledger, Reader, incarnation_of, parse_line

HEAD = ("event", "wall", "mono", "host", "pid", "thread", "inc", "seq")


def line(kind: str, sequence: int) -> bytes:
    head = dict(zip(HEAD, (kind, 1.0, 2.0, "h", 5, "MainThread", 1, sequence), strict=True))
    return json.dumps(head).encode() + b"\n"


# --- whose file it is


def test_a_file_that_a_ledger_has_made_tells_its_incarnation_by_its_name(tmp_path: Path) -> None:
    for incarnation in (0, 7, 12345):
        folder = tmp_path / str(incarnation)
        folder.mkdir()
        Ledger(folder, incarnation).append("thing")
        (path,) = folder.iterdir()
        assert incarnation_of(path.name) == incarnation


def test_a_host_may_have_dashes_and_digits_in_its_name() -> None:
    assert incarnation_of("node-0007-3-0042-99-1795438299585001400.jsonl") == 42


@pytest.mark.parametrize(
    "name", ["", "notes.jsonl", "0007-99-1.jsonl", "h-x-99-1.jsonl", "h--99-1.jsonl", "h-1.5-99-1.jsonl"]
)
def test_a_file_of_another_name_is_of_no_incarnation(name: str) -> None:
    assert incarnation_of(name) == -1


# --- how far it was read


def test_nothing_read_is_nothing_counted(tmp_path: Path) -> None:
    Ledger(tmp_path, 1).append("thing")

    assert Reader(tmp_path).counts() == {}
    assert list(Reader(tmp_path / "nowhere").new()) == []


def test_the_lines_that_were_read_of_each_file_are_counted_as_it_grows(tmp_path: Path) -> None:
    first, second, reader = Ledger(tmp_path, 1), Ledger(tmp_path, 2), Reader(tmp_path)
    first.append("thing")
    list(reader.new())
    assert [*reader.counts().values()] == [2]

    first.append("thing")
    second.append("thing")
    assert [*reader.counts().values()] == [2]  # it has not looked again
    list(reader.new())
    assert {incarnation_of(name): lines for name, lines in reader.counts().items()} == {1: 3, 2: 2}


def test_only_whole_lines_are_counted_and_those_that_cannot_be_read_are_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "h-0001-5-1.jsonl"
    path.write_bytes(line("a", 1) + b"nonsense\n" + line("b", 3) + line("c", 4)[:-1])
    reader = Reader(tmp_path)
    list(reader.new())
    assert reader.counts() == {path.name: 3}

    with path.open("ab") as stream:
        stream.write(b"\n")
    list(reader.new())
    assert reader.counts() == {path.name: 4}


# --- where an event stands


def test_an_event_says_in_which_file_and_line_of_which_run_it_stands(tmp_path: Path) -> None:
    (tmp_path / "h-0002-5-1.jsonl").write_bytes(line("c", 1))
    (tmp_path / "h-0001-5-1.jsonl").write_bytes(line("a", 1) + line("b", 2))
    events = list(Reader(tmp_path, "first").new())

    assert [(one.kind, one.run, one.file, one.line) for one in events] == [
        ("a", "first", "h-0001-5-1.jsonl", 1),
        ("b", "first", "h-0001-5-1.jsonl", 2),
        ("c", "first", "h-0002-5-1.jsonl", 1),
    ]


def test_a_reader_without_a_name_for_the_run_gives_none(tmp_path: Path) -> None:
    (tmp_path / "h-0001-5-1.jsonl").write_bytes(line("a", 1))

    assert [one.run for one in Reader(tmp_path).new()] == [""]


def test_an_event_stands_where_it_stands_whatever_was_read_before(tmp_path: Path) -> None:
    path = tmp_path / "h-0001-5-1.jsonl"
    path.write_bytes(line("a", 1) + line("b", 2)[:10])
    reader = Reader(tmp_path)
    places = [(one.kind, one.line) for one in reader.new()]
    with path.open("ab") as stream:
        stream.write(line("b", 2)[10:] + line("c", 3))
    places += [(one.kind, one.line) for one in reader.new()]

    assert places == [("a", 1), ("b", 2), ("c", 3)]


def test_a_line_that_cannot_be_read_keeps_its_place_and_those_after_it_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "h-0001-5-1.jsonl"
    path.write_bytes(line("a", 1) + b"nonsense\n" + line("c", 3))
    reader = Reader(tmp_path)

    assert [(one.kind, one.line) for one in reader.new()] == [("a", 1), ("c", 3)]
    assert [(one.path, one.line) for one in reader.damage] == [(path, 2)]


def test_the_line_of_an_event_is_where_it_stands_and_not_its_number_in_the_process(tmp_path: Path) -> None:
    path = tmp_path / "h-0001-5-1.jsonl"
    path.write_bytes(line("a", 1) + line("d", 4))
    reader = Reader(tmp_path)

    assert [(one.sequence, one.line) for one in reader.new()] == [(1, 1), (4, 2)]
    assert reader.damage == [Damage(path, 2, "events 2 to 3 are missing")]


def test_a_line_by_itself_stands_nowhere_until_it_is_told() -> None:
    alone, placed = parse_line(line("a", 1)), parse_line(line("a", 1), "first", "h-0001-5-1.jsonl", 7)

    assert (alone.run, alone.file, alone.line) == ("", "", 0)
    assert (placed.run, placed.file, placed.line) == ("first", "h-0001-5-1.jsonl", 7)
    assert (placed.kind, placed.incarnation, placed.sequence, placed.data) == ("a", 1, 1, {})
