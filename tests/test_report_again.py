from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ami_fault_site.report.again import near, rebuilt, run_rows, typed
from ami_fault_site.report.contents import RunRow
from ami_fault_site.settings import Settings
from tests.booked import Books
from tests.report_cases import ENDED, INVOCATION, RUN, facts, short_case


def test_a_run_is_repeated_by_the_line_that_its_supervisor_booked() -> None:
    assert run_rows(short_case(), [RUN]) == (
        RunRow(str(RUN), str(RUN), "", str(RUN), 26, "medium", "drained", INVOCATION),
    )  # fmt: skip


def test_a_folder_that_is_named_twice_is_one_run() -> None:
    assert len(run_rows(short_case(), [RUN, RUN])) == 1


def test_of_several_runs_each_has_its_own_line_and_outcome() -> None:
    books = Books()
    books.supervisor(run="a").book("began", 0.0, invocation="ami-fault run --seed 1")
    second = books.supervisor(run="b")
    second.book("began", 0.0, invocation="ami-fault run --seed 2")
    second.book("outcome", 1.0, outcome="timeout")
    known = replace(facts(ENDED), settings=(Settings(seed=1), Settings(seed=2)))
    rows = run_rows(books.case(known), [RUN / "a", RUN / "b"])

    assert [(row.name, row.seed, row.outcome, row.again) for row in rows] == [
        ("a", 1, "", "ami-fault run --seed 1"),
        ("b", 2, "timeout", "ami-fault run --seed 2"),
    ]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (Settings(seed=26, profile="medium", worker_crash_rate=0.05), "ami-fault run --profile medium --seed 26"),
        (Settings(seed=0, profile="my envs/x.env"), "ami-fault run --profile 'my envs/x.env' --seed 0"),
        (
            Settings(seed=7, worker_crash_rate=0.1, permanent_error_images=("a b.jpg",), jobs=frozenset({9, 8})),
            "AMI_TEST_WORKER_CRASH_RATE=0.1 AMI_TEST_PERMANENT_ERROR_IMAGES='a b.jpg' "
            "ami-fault run --seed 7 --job 8 --job 9",
        ),
        (
            Settings(seed=7, profile="light", max_faults=3),
            "AMI_TEST_MAX_FAULTS=3 ami-fault run --profile light --seed 7",
        ),
        (Settings(), "ami-fault run"),
    ],
)
def test_without_such_a_line_it_is_built_from_the_settings(settings: Settings, line: str) -> None:
    assert rebuilt(settings) == line


def test_a_folder_is_named_as_a_command_takes_it_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "ami-fault-runs"
    for name in ("one", "two"):
        (home / name).mkdir(parents=True)
    (home / "latest").symlink_to("two")

    assert [typed(home / name) for name in ("one", "two")] == ["one", "latest"]
    assert typed(tmp_path / "elsewhere" / "run") == "elsewhere/run"
    assert typed(Path("/runs/x")) == "/runs/x"
    assert [near(home / "two"), near(Path("/runs/x"))] == ["ami-fault-runs/two", "/runs/x"]
