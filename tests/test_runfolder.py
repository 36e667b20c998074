from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest

from ami_fault_site.runfolder import HOME, LATEST, SEEDS, RunFolder, find, join
from ami_fault_site.settings import Settings, SettingsError, parse

PROCESSES = 16
COUNTS = 200
CONTEXT = multiprocessing.get_context("fork")
SEEDED = Settings(seed=7, worker_crash_rate=0.5)
Answers = SimpleQueue[list[int]]


def made(home: Path, settings: Settings = SEEDED) -> RunFolder:
    return join(settings, home).run


def problems(settings: Settings, home: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        join(settings, home)
    return caught.value.problems


def in_processes(work: Callable[[Path, int], list[int]], path: Path) -> list[list[int]]:
    """Let 16 processes begin at once, and return what each of them got."""
    answers: Answers = CONTEXT.SimpleQueue()
    barrier = CONTEXT.Barrier(PROCESSES)

    def begin(number: int) -> None:
        barrier.wait()
        answers.put(work(path, number))

    processes = [CONTEXT.Process(target=begin, args=(number,)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    got = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return got


def take_slots(path: Path, number: int) -> list[int]:
    run = RunFolder(path)
    return [int(run.take("faults", 37)) for _ in range(10)]


def take_names(path: Path, number: int) -> list[int]:
    run = RunFolder(path)
    return [int(run.claim(f"banner-{name}")) for name in range(20)]


def take_numbers(path: Path, number: int) -> list[int]:
    run = RunFolder(path)
    return [run.count("jobs") for _ in range(COUNTS)]


def join_it(path: Path, number: int) -> list[int]:
    joined = join(Settings(run_dir=str(path)), path)
    return [joined.settings.seed, int(joined.made)]


def recorded(run: RunFolder) -> dict[str, str]:
    """Return the settings that a run was made with, as they are kept."""
    return dict(json.loads((run.path / "settings.json").read_text())["settings"])


@pytest.mark.untraced
def test_racing_processes_take_every_place_and_never_one_more(tmp_path: Path) -> None:
    run = made(tmp_path)
    got = in_processes(take_slots, run.path)

    assert sum(map(sum, got)) == 37
    assert run.counted("faults") == 37
    assert not run.take("faults", 37)
    assert run.take("faults", 38)


def test_no_place_is_taken_where_there_are_none(tmp_path: Path) -> None:
    run = made(tmp_path)

    assert (run.take("faults", 0), run.counted("faults")) == (False, 0)


@pytest.mark.untraced
def test_a_name_is_claimed_by_exactly_one_of_racing_processes(tmp_path: Path) -> None:
    got = in_processes(take_names, made(tmp_path).path)

    assert [sum(column) for column in zip(*got, strict=True)] == [1] * 20


@pytest.mark.untraced
def test_a_counter_gives_every_number_once_over_all_processes(tmp_path: Path) -> None:
    run = made(tmp_path)
    got = in_processes(take_numbers, run.path)

    assert sorted(number for one in got for number in one) == list(range(1, PROCESSES * COUNTS + 1))
    assert all(one == sorted(one) for one in got)
    assert run.count("jobs") == PROCESSES * COUNTS + 1


def test_counters_of_other_names_are_other_counters(tmp_path: Path) -> None:
    run = made(tmp_path)

    assert [run.count("jobs"), run.count("jobs"), run.count("tasks")] == [1, 2, 1]


@pytest.mark.untraced
def test_racing_processes_that_were_given_no_seed_agree_on_one(tmp_path: Path) -> None:
    got = in_processes(join_it, tmp_path / "run")

    assert len({seed for seed, _ in got}) == 1
    assert sum(made_it for _, made_it in got) == 1


def test_the_first_to_join_makes_the_folder_with_its_settings(tmp_path: Path) -> None:
    joined = join(SEEDED, tmp_path / HOME)
    run = joined.run

    assert (joined.made, joined.settings) == (True, SEEDED)
    assert re.fullmatch(r"\d{8}T\d{6}Z-7", run.path.name)
    assert sorted(p.name for p in run.path.iterdir()) == ["jobs", "ledger", "output", "settings.json", "shared"]
    assert recorded(run) == {"AMI_TEST_SEED": "7", "AMI_TEST_WORKER_CRASH_RATE": "0.5"}
    assert parse(recorded(run)) == SEEDED


def test_neither_a_command_nor_a_url_query_is_written_and_two_queries_are_told_apart(tmp_path: Path) -> None:
    signed = "http://h/a.jpg?sig=secret1"
    settings = Settings(seed=7, permanent_error_images=(signed, "b,c"), worker_command="env TOKEN=secret2 ami worker")
    run = join(settings, tmp_path / HOME).run

    assert "secret" not in (run.path / "settings.json").read_text()
    same = Settings(seed=7, permanent_error_images=(signed, "b,c"), run_dir=str(run.path))
    assert not join(same, tmp_path).made
    with pytest.raises(SettingsError) as caught:
        join(Settings(seed=7, permanent_error_images=(signed + "x", "b,c"), run_dir=str(run.path)), tmp_path)
    assert "secret" not in str(caught.value)


def test_latest_points_at_the_newest_run_by_a_relative_name(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path, Settings(seed=8))

    assert os.readlink(tmp_path / LATEST) == second.path.name
    assert (tmp_path / LATEST).resolve() == second.path.resolve()
    assert first.path.is_dir()


def test_two_runs_in_the_same_second_with_the_same_seed_are_two_folders(tmp_path: Path) -> None:
    paths = [made(tmp_path).path for _ in range(4)]

    assert len(set(paths)) == 4
    assert all(path.name.split("-")[1] == "7" for path in paths)
    assert os.readlink(tmp_path / LATEST) == paths[-1].name


def test_without_a_seed_one_is_drawn_and_recorded(tmp_path: Path) -> None:
    drawn = [join(Settings(), tmp_path) for _ in range(3)]

    assert all(0 <= one.settings.seed < SEEDS for one in drawn)
    assert len({one.settings.seed for one in drawn}) == 3
    for one in drawn:
        assert one.run.path.name.split("-")[1] == str(one.settings.seed)
        assert recorded(one.run)["AMI_TEST_SEED"] == str(one.settings.seed)


def test_a_given_run_folder_is_made_where_it_was_asked_for_without_latest(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er"
    joined = join(Settings(seed=7, run_dir=str(path)), tmp_path / HOME)

    assert (joined.run.path, joined.made) == (path, True)
    assert not (tmp_path / HOME).exists()


def test_a_relative_run_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert join(Settings(run_dir="mine"), tmp_path).run.path == tmp_path / "mine"


def test_others_join_a_run_with_the_same_settings_and_take_its_seed_over(tmp_path: Path) -> None:
    run = made(tmp_path)
    again = join(Settings(run_dir=str(run.path), worker_crash_rate=0.5, incarnation=2, enabled=True), tmp_path)

    assert (again.made, again.settings.seed, again.settings.incarnation) == (False, 7, 2)
    assert join(Settings(run_dir=str(run.path), worker_crash_rate=0.5, seed=7), tmp_path).settings.seed == 7


def test_a_folder_of_other_settings_is_refused_with_every_difference(tmp_path: Path) -> None:
    run = made(tmp_path)
    before = (run.path / "settings.json").read_bytes()
    other = Settings(seed=8, run_dir=str(run.path), network_error_rate=0.5, jobs=frozenset({3}))
    head = f"AMI_TEST_RUN_DIR={str(run.path)!r}: made with"

    assert problems(other, tmp_path) == [
        f"{head} AMI_TEST_WORKER_CRASH_RATE='0.5', not '0.0'",
        f"{head} AMI_TEST_NETWORK_ERROR_RATE='0.0', not '0.5'",
        f"{head} AMI_TEST_SEED='7', not '8'",
        f"{head} AMI_TEST_JOBS='', not '3'",
    ]
    assert (run.path / "settings.json").read_bytes() == before
    assert sorted(p.name for p in run.path.iterdir()) == ["jobs", "ledger", "output", "settings.json", "shared"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"{}", "'fingerprint'"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(content: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_bytes(content)

    assert problems(Settings(seed=7, run_dir=str(tmp_path)), tmp_path) == [
        f"AMI_TEST_RUN_DIR={str(tmp_path)!r}: its settings.json cannot be read: {error}"
    ]


@pytest.mark.parametrize("content", ["[]", "3", '{"fingerprint": {}}', '{"fingerprint": {"AMI_TEST_SEED": "x"}}'])
def test_settings_of_another_form_are_refused_as_well(content: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(content)

    (problem,) = problems(Settings(run_dir=str(tmp_path)), tmp_path)
    assert problem.startswith(f"AMI_TEST_RUN_DIR={str(tmp_path)!r}: its settings.json cannot be read: ")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    for path in (file, file / "x"):
        assert problems(Settings(seed=7, run_dir=str(path)), tmp_path) == [
            f"AMI_TEST_RUN_DIR={str(path)!r}: cannot be written: Not a directory"
        ]


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    (problem,) = problems(SEEDED, file / HOME)
    assert re.fullmatch(
        rf"AMI_TEST_RUN_DIR='{re.escape(str(file))}/{HOME}/\d{{8}}T\d{{6}}Z-7': cannot be written: Not a directory",
        problem,
    )


def test_a_working_directory_that_was_removed_is_no_home_and_no_obstacle_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert problems(SEEDED, Path(HOME)) == [f"AMI_TEST_RUN_DIR={HOME!r}: cannot be written: No such file or directory"]
    assert problems(Settings(seed=7, run_dir="run"), Path(HOME)) == [
        "AMI_TEST_RUN_DIR='run': cannot be written: No such file or directory"
    ]
    assert join(Settings(seed=7, run_dir=str(tmp_path / "run")), Path(HOME)).made


def test_the_stop_file_is_seen_as_soon_as_it_is_there(tmp_path: Path) -> None:
    run = made(tmp_path)
    assert not run.is_stopped()

    run.stop_file.touch()
    assert run.stop_file == run.path / "STOP"
    assert run.is_stopped()


def test_a_process_that_could_not_book_everything_leaves_a_sign_for_all(tmp_path: Path) -> None:
    run = made(tmp_path)
    assert not run.is_incomplete()

    run.mark_incomplete()
    run.mark_incomplete()
    assert RunFolder(run.path).is_incomplete()


def test_a_sign_that_cannot_be_left_is_no_error(tmp_path: Path) -> None:
    gone = RunFolder(tmp_path / "gone")
    gone.mark_incomplete()

    assert not gone.is_incomplete()


def test_claims_and_counters_in_a_folder_that_is_gone_raise_oserror(tmp_path: Path) -> None:
    gone = RunFolder(tmp_path / "gone")

    attempts: list[Callable[[], object]] = [
        lambda: gone.claim("x"),
        lambda: gone.take("faults", 1),
        lambda: gone.count("jobs"),
    ]
    for attempt in attempts:
        with pytest.raises(FileNotFoundError):
            attempt()


def test_a_run_is_found_by_its_name_by_its_path_and_as_latest(tmp_path: Path) -> None:
    run = made(tmp_path)

    assert {find(name, tmp_path) for name in (run.path.name, str(run.path), LATEST)} == {run.path.resolve()}


def test_a_run_that_is_not_there_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find("mine", tmp_path / "none")
    assert str(caught.value) == f"RUN='mine': not a run folder; under {tmp_path / 'none'} there are: none yet"

    run = made(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        find("mine", tmp_path)
    assert str(caught.value) == f"RUN='mine': not a run folder; under {tmp_path} there are: {run.path.name}, latest"


def test_a_settings_file_of_a_run_is_whole_or_not_there(tmp_path: Path) -> None:
    run = made(tmp_path)

    assert set(json.loads((run.path / "settings.json").read_text())) == {"fingerprint", "settings"}
    assert [p.name for p in run.path.glob("settings.json*")] == ["settings.json"]


def test_a_run_has_one_supervisor_as_long_as_that_lives(tmp_path: Path) -> None:
    run = made(tmp_path / "runs")
    script = (
        "import sys; from pathlib import Path; from ami_fault_site.runfolder import RunFolder\n"
        "print(RunFolder(Path(sys.argv[1])).take_charge(), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "\n"

    assert run.take_charge() == f"process {first.pid} on {socket.gethostname()}"
    first.communicate()
    assert run.take_charge() == ""


def test_a_folder_that_nobody_can_take_charge_of_is_named(tmp_path: Path) -> None:
    run = made(tmp_path / "runs")
    (run.path / "shared" / "supervisor").mkdir()  # root may write where others may not

    with pytest.raises(SettingsError) as caught:
        run.take_charge()

    assert str(caught.value).endswith(f"AMI_TEST_RUN_DIR={str(run.path)!r}: cannot be written: Is a directory")
