from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from ami_fault_site.ledger import Damage, Event, Ledger, Reader, parse_line

ROOT = Path(__file__).parent.parent
HEAD = ("event", "wall", "mono", "host", "pid", "thread", "inc", "seq")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def read(folder: Path) -> tuple[list[Event], list[Damage]]:
    reader = Reader(folder)
    return list(reader.new()), reader.damage


def kinds(events: Iterable[Event]) -> list[str]:
    return [event.kind for event in events]


def line(kind: str, sequence: int, **data: object) -> bytes:
    head = dict(zip(HEAD, (kind, 1.0, 2.0, "h", 5, "MainThread", 1, sequence), strict=True))
    return json.dumps({**head, **data}).encode() + b"\n"


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def book_in_child(ledger: Ledger, count: int) -> None:
    for number in range(count):
        ledger.append("child", number=number)
    ledger.end()


def test_one_event_is_one_line_with_a_contiguous_sequence(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 3)
    for number in range(5):
        ledger.append("thing", number=number, text="a\nb é \u2028")
    (path,) = files(tmp_path)
    lines = [json.loads(text) for text in path.read_bytes().decode("ascii").split("\n")[:-1]]

    assert [one["event"] for one in lines] == ["start"] + ["thing"] * 5
    assert [one["seq"] for one in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["version"] == 1
    assert lines[0]["parent"] == os.getppid()
    assert {(one["pid"], one["inc"], one["thread"]) for one in lines} == {(os.getpid(), 3, "MainThread")}
    assert path.name.split("-")[-3:-1] == ["0003", str(os.getpid())]


def test_an_event_is_read_back_as_it_was_booked(tmp_path: Path) -> None:
    before, began = time.time(), time.monotonic()
    Ledger(tmp_path, 2).append("lease", job=7, text="é", none=None, rows=[[1, "a"], [2, None]], words=["x", 3])
    event = read(tmp_path)[0][1]

    assert (event.kind, event.incarnation, event.sequence, event.pid) == ("lease", 2, 2, os.getpid())
    assert before - 1e-3 <= event.wall <= time.time() + 1e-3
    assert began - 1e-3 <= event.mono <= time.monotonic() + 1e-3
    assert event.data == {"job": 7, "text": "é", "none": None, "rows": [[1, "a"], [2, None]], "words": ["x", 3]}
    assert (event.number("job"), event.number("text"), event.number("no")) == (7, None, None)
    assert (event.text("text"), event.text("none"), event.text("no"), event.text("job")) == ("é", "", "", "7")
    assert (event.rows("rows"), event.rows("words"), event.rows("no")) == ([[1, "a"], [2, None]], [], [])
    assert (event.words("words"), event.words("job"), event.words("no")) == (["x", "3"], [], [])


def test_a_field_named_as_one_of_the_head_does_not_replace_it(tmp_path: Path) -> None:
    Ledger(tmp_path, 1).append("thing", host="another", pid=0, seq=9, mono=0.0)
    (start, thing), damage = read(tmp_path)

    assert (thing.host, thing.pid, thing.sequence, damage) == (start.host, start.pid, 2, [])
    assert thing.mono >= start.mono


def test_an_event_that_cannot_be_written_as_json_leaves_no_gap(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1)
    with pytest.raises(TypeError):
        ledger.append("thing", value=object())
    ledger.append("thing", value=1)

    assert read(tmp_path)[1] == []


def test_the_file_is_opened_at_the_first_event_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0)
    ledger.end()
    assert files(tmp_path) == []

    ledger.append("thing")
    assert len(files(tmp_path)) == 1


def test_an_orderly_end_is_booked_once_with_the_count_of_all_events(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0)
    ledger.append("thing")
    ledger.end()
    ledger.end()
    events, damage = read(tmp_path)

    assert (kinds(events), damage) == (["start", "thing", "end"], [])
    assert events[-1].number("events") == 3 == len(events)


def test_threads_share_one_file_without_gap_or_mixture(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0)
    threads = [threading.Thread(target=book_in_child, args=(ledger, 200), name=f"t{n}") for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events, damage = read(tmp_path)

    assert (len(files(tmp_path)), damage) == (1, [])
    for name in (thread.name for thread in threads):
        assert [e.number("number") for e in events if e.thread == name and e.kind == "child"] == list(range(200))


def test_a_fork_in_the_middle_books_into_a_file_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 4)
    ledger.append("parent")
    pid = os.fork()
    if pid == 0:
        ledger.append("child")
        ledger.end()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    ledger.append("parent")
    ledger.end()
    events, damage = read(tmp_path)
    own = {number: [e for e in events if e.pid == number] for number in (pid, os.getpid())}

    assert (len(files(tmp_path)), damage) == (2, [])
    assert kinds(own[os.getpid()]) == ["start", "parent", "parent", "end"]
    assert kinds(own[pid]) == ["start", "child", "end"]
    assert own[pid][0].number("parent") == os.getpid()
    assert {e.incarnation for e in events} == {4}


def test_a_fork_that_books_nothing_leaves_no_file_and_no_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0)
    ledger.append("parent")
    pid = os.fork()
    if pid == 0:
        ledger.end()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

    assert kinds(read(tmp_path)[0]) == ["start", "parent"]


def test_children_of_multiprocessing_book_into_files_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 0)
    ledger.append("parent")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=book_in_child, args=(ledger, 50)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    events, damage = read(tmp_path)

    assert [child.exitcode for child in children] == [0] * 4
    assert (len(files(tmp_path)), damage) == (5, [])
    for child in children:
        assert kinds(e for e in events if e.pid == child.pid) == ["start"] + ["child"] * 50 + ["end"]


FORK_UNDER_LOCK = """
import os, sys, threading, warnings
from pathlib import Path
from ami_fault_site.ledger import Ledger
warnings.simplefilter("ignore")  # newer Pythons warn of exactly this: a fork of a process with threads
ledger, done = Ledger(Path(sys.argv[1]), 0), threading.Event()
def book():
    while not done.is_set():
        ledger.append("parent", text="x" * 20_000)
threads = [threading.Thread(target=book) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        ledger.append("child")
        ledger.end()
        os._exit(0)
    children.append(pid)
done.set()
for thread in threads:
    thread.join()
print(sum(os.waitpid(pid, 0)[1] for pid in children))
"""


def test_a_fork_while_another_thread_is_booking_does_not_hang(tmp_path: Path) -> None:
    done = run_script(FORK_UNDER_LOCK, str(tmp_path))
    events, damage = read(tmp_path)

    assert (done.stdout, done.stderr, damage) == ("0\n", "", [])
    assert len(files(tmp_path)) == 41
    assert kinds(events).count("child") == 40


APPEND_FOR_EVER = """
import sys
from pathlib import Path
from ami_fault_site.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), 1)
print("ready", flush=True)
while True:
    ledger.append("thing", text="x" * 3_000)
"""


@pytest.mark.parametrize("after", [0.0, 0.003, 0.011, 0.023, 0.041, 0.07])
def test_a_process_killed_at_any_moment_leaves_a_readable_ledger(after: float, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not files(tmp_path):
            time.sleep(0.001)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
    events, damage = read(tmp_path)

    assert process.returncode == -signal.SIGKILL
    assert damage == []
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert "end" not in kinds(events)


def test_an_unterminated_last_line_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("start", 1) + line("thing", 2)[:-9])
    (tmp_path / "b.jsonl").write_bytes(line("start", 1)[:-1])
    events, damage = read(tmp_path)

    assert (kinds(events), damage) == (["start"], [])


def test_an_empty_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()

    assert read(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"\n", "cannot be read: Expecting value: line 1 column 1 (char 0)"),
        (b"garbage\n", "cannot be read: Expecting value: line 1 column 1 (char 0)"),
        (b"[1, 2]\n", "cannot be read: not an event"),
        (b'{"event": "thing"}\n', "cannot be read: not an event: it has no 'wall'"),
        (
            line("thing", 2).replace(b'"pid": 5', b'"pid": "x"'),
            "cannot be read: not an event: a field is of another kind",
        ),
        (
            line("thing", 2).replace(b'"wall": 1.0', b'"wall": []'),
            "cannot be read: float() argument must be a string or a real number, not 'list'",
        ),
    ],
)
def test_any_other_damaged_line_is_reported_with_its_file_and_line_and_the_rest_is_read(
    bad: bytes, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line("start", 1) + bad + line("thing", 3))
    events, damage = read(tmp_path)

    assert kinds(events) == ["start", "thing"]
    assert damage == [Damage(path, 2, problem)]


@pytest.mark.parametrize("bad", [b"\xff\xfe{}\n", b"\x00\x00\x00\n", b'{"event": "th\n', line("thing", 2)[20:]])
def test_bytes_that_are_no_text_are_damage_too(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line("start", 1) + bad + line("thing", 3))
    events, damage = read(tmp_path)

    assert kinds(events) == ["start", "thing"]
    assert [(one.path, one.line, one.problem.startswith("cannot be read: ")) for one in damage] == [(path, 2, True)]


def test_a_gap_in_the_sequence_is_reported_with_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line("start", 1) + line("thing", 2) + line("thing", 6) + line("thing", 7))
    whole = tmp_path / "b.jsonl"
    whole.write_bytes(line("start", 1))
    headless = tmp_path / "c.jsonl"
    headless.write_bytes(line("thing", 2))
    events, damage = read(tmp_path)

    assert len(events) == 6
    assert damage == [
        Damage(path, 3, "events 3 to 5 are missing"),
        Damage(headless, 1, "events 1 to 1 are missing"),
    ]


def test_an_event_that_stands_twice_is_damage_and_not_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line("start", 1) + line("thing", 2) + line("thing", 2) + line("thing", 3))
    damage = read(tmp_path)[1]

    assert [(one.path, one.line) for one in damage] == [(path, 3)]
    assert "missing" not in damage[0].problem


def test_a_reader_gives_each_event_once_as_the_files_grow(tmp_path: Path) -> None:
    reader, ledger = Reader(tmp_path), Ledger(tmp_path, 1)
    assert list(reader.new()) == []
    ledger.append("one")
    assert kinds(reader.new()) == ["start", "one"]
    assert list(reader.new()) == []
    ledger.append("two")
    (tmp_path / "zz.jsonl").write_bytes(line("start", 1))
    assert kinds(reader.new()) == ["two", "start"]
    assert reader.damage == []


def test_a_line_that_was_half_written_is_given_once_it_is_whole(tmp_path: Path) -> None:
    path, reader = tmp_path / "a.jsonl", Reader(tmp_path)
    whole = line("start", 1) + line("thing", 2, text="é" * 50) + line("end", 3)
    seen: list[str] = []
    for start in range(0, len(whole), 37):
        with path.open("ab") as stream:
            stream.write(whole[start : start + 37])
        seen += kinds(reader.new())

    assert (seen, reader.damage) == (["start", "thing", "end"], [])


def test_a_damaged_line_is_reported_once_however_often_the_reader_looks(tmp_path: Path) -> None:
    path, reader = tmp_path / "a.jsonl", Reader(tmp_path)
    path.write_bytes(line("start", 1) + b"garbage\n")
    list(reader.new())
    with path.open("ab") as stream:
        stream.write(line("thing", 3))

    assert kinds(reader.new()) == ["thing"]
    assert [one.line for one in reader.damage] == [2]


def test_a_reader_of_a_folder_without_ledger_finds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == ([], [])


def test_a_line_is_parsed_to_an_event() -> None:
    assert parse_line(line("thing", 2, job=3)) == Event("thing", 1.0, 2.0, "h", 5, "MainThread", 1, 2, {"job": 3})


def test_a_folder_that_is_not_there_raises_oserror_and_books_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none", 0)
    with pytest.raises(FileNotFoundError):
        ledger.append("thing")

    assert not (tmp_path / "none").exists()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ami_fault_site.ledger import Ledger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger, booked = Ledger(Path(sys.argv[1]), 0), 0
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, unlimited[1]))
try:
    while True:
        ledger.append("thing", text="x" * 100)
        booked += 1
except OSError as error:
    print(booked, type(error).__name__, error)
try:
    ledger.append("thing")
except OSError:
    print("again")
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)  # whoever else writes a file at the end of the process may
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the size of files cannot be limited here")
def test_a_full_disk_raises_oserror_and_leaves_what_was_booked_before_readable(tmp_path: Path) -> None:
    done = run_script(FULL_DISK, str(tmp_path))
    first, again = done.stdout.splitlines()
    booked, name, text = first.split(" ", 2)
    events, damage = read(tmp_path)

    assert (done.stderr, name, again) == ("", "OSError", "again")
    assert text.startswith("[Errno 28] only ")
    assert (kinds(events), damage) == (["start"] + ["thing"] * int(booked), [])


CLOSED_DESCRIPTORS = """
import os, sys
from pathlib import Path
from ami_fault_site.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), 0)
ledger.append("one")
def replaced(*_args): raise AssertionError("replaced")
os.write = os.open = os.close = os.getpid = replaced
ledger.append("two")
"""


def test_a_worker_that_replaces_os_functions_does_not_touch_the_ledger(tmp_path: Path) -> None:
    done = run_script(CLOSED_DESCRIPTORS, str(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    assert kinds(read(tmp_path)[0]) == ["start", "one", "two"]
