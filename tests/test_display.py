from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ami_fault_site.display import LiveDisplay, PlainDisplay, choose
from ami_fault_site.history import History
from ami_fault_site.ledger import Event

ROOT = Path(__file__).parent.parent


def event(kind: str, /, **data: object) -> Event:
    return Event(kind, 100.0, 1.0, "h", 5, "MainThread", 2, 1, data)


def history() -> History:
    folded = History()
    rows = [[s, 1, s, 1_000 + s, 0, str(s), f"{s}.jpg"] for s in range(5)]
    answered = [[s, 1, s, 1_000 + s] for s in range(3)]
    folded.add(
        [
            event("armed"),
            event("leases", job=7, stream="job_7", leases=rows),
            event("answer", job=7, stream="job_7", outcome="accepted", tasks=answered, errors=[]),
            event("fault", effect="crash", kind="exit"),
            event("fault", effect="network-error", kind="http-500"),
        ]
    )
    return folded


def terminal() -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=True, width=200, color_system=None), stream


def plain(stream: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_terminal_gets_a_panel_and_everything_else_plain_lines() -> None:
    assert isinstance(choose(terminal()[0]), LiveDisplay)
    assert isinstance(choose(Console(file=io.StringIO(), force_terminal=False)), PlainDisplay)


def test_plain_lines_go_to_stderr_with_our_name(capfd: pytest.CaptureFixture[str]) -> None:
    with PlainDisplay() as display:
        display.line("incarnation 1 started")

    assert capfd.readouterr() == ("", "ami-fault: incarnation 1 started\n")


def test_the_workers_bytes_are_passed_on_as_they_come(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with PlainDisplay() as display:
        display.output(b"half a li")
        display.output(b"ne \xff\x1b[1m\r\n")

    assert capfdbinary.readouterr() == (b"", b"half a line \xff\x1b[1m\r\n")


def test_plain_progress_is_not_said_at_every_look(capfd: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    for _ in range(50):
        display.progress(history(), "nothing")

    assert capfd.readouterr().err == ""


def test_a_closed_stderr_does_not_end_the_run() -> None:
    script = (
        "import os; from ami_fault_site.display import PlainDisplay; os.close(2); "
        "d = PlainDisplay(); d.line('x'); d.output(b'y'); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, timeout=30, check=True)

    assert done.stdout == f"goes on{os.linesep}".encode()


def test_the_panel_shows_the_progress() -> None:
    console, stream = terminal()
    with LiveDisplay(console) as display:
        display.progress(history(), "a first task")

    shown = plain(stream)
    assert "2 out   3 answered   0 failed   0 came back" in shown
    assert "faults   1 crash, 1 network-error" in shown
    assert "waiting for a first task" in shown


def test_lines_and_the_workers_output_stand_above_the_panel() -> None:
    console, stream = terminal()
    with LiveDisplay(console) as display:
        display.line("incarnation 1 [bold]started[/bold]")
        display.output(b"a wor")
        display.output(b"ker's [red]line\nand \xff another\n")
    shown = [line.strip() for line in plain(stream).splitlines() if line.strip()]

    assert shown == ["ami-fault: incarnation 1 [bold]started[/bold]", "a worker's [red]line", "and \ufffd another"]


def test_what_a_worker_wrote_last_is_shown_even_if_it_did_not_end_the_line() -> None:
    console, stream = terminal()
    with LiveDisplay(console) as display:
        display.output(b"first\nlast words")

    assert "last words" in plain(stream)


def test_the_lines_of_several_workers_are_whole_and_carry_their_numbers(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    with PlainDisplay() as display:
        display.output(b"one, hal", 1)
        display.output(b"two\nlast", 2)
        display.output(b"f\n  7%\r 14%\r100%\n", 1)

    assert capfdbinary.readouterr().err == b"2| two\n1| one, half\n1| 100%\n2| last\n"


def test_an_end_of_line_that_comes_in_two_pieces_loses_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with PlainDisplay() as display:
        for chunk in (b"whole\r", b"\n 7%\r", b"100%\r", b"\r\n", b"last\r"):
            display.output(chunk, 3)

    assert capfdbinary.readouterr().err == b"3| whole\n3| 100%\n3| last\n"


def test_what_several_workers_write_at_once_comes_whole_through_a_pipe_that_is_read_slowly() -> None:
    script = """
import threading
from ami_fault_site.display import PlainDisplay
display = PlainDisplay()
def write(worker): [display.output(b"%d" % worker * 30_000 + b"\\n", worker) for _ in range(10)]
threads = [threading.Thread(target=write, args=(worker,)) for worker in (1, 2, 3)]
[one.start() for one in threads]; [one.join() for one in threads]
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        read = b""
        while chunk := os.read(process.stderr.fileno(), 1_000):
            read += chunk

    whole = [b"%d| " % worker + b"%d" % worker * 30_000 for worker in (1, 2, 3)]
    assert sorted(read.splitlines()) == sorted(whole * 10)
