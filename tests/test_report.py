from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ami_fault_site.antenna import JobDetail
from ami_fault_site.history import History
from ami_fault_site.ledger import Damage, Event
from ami_fault_site.report import (
    NOT_ARMED_CURE,
    FaultRow,
    Summary,
    as_json,
    exit_code,
    headline,
    summarize,
    to_terminal,
)
from ami_fault_site.settings import Settings
from ami_fault_site.supervisor import Outcome

RUN = Path("/runs/20261123T083731Z-7")
SETTINGS = Settings(
    seed=7, worker_crash_rate=0.05, network_error_rate=0.3, permanent_error_images=("3",), corrupt_image_rate=0.001
)

LONG = "Traceback " + "x" * 150


def event(kind: str, inc: int = 1, /, **data: object) -> Event:
    return Event(kind, 100.0, 1.0, "h", 5, "MainThread", inc, 1, data)


def lease_rows(*rows: tuple[int, int]) -> list[list[object]]:
    return [[s, d, s, 1_000 + s, 0, str(s), f"{s}.jpg"] for s, d in rows]


def answer_rows(*rows: tuple[int, int]) -> list[list[int]]:
    return [[s, d, s, 1_000 + s] for s, d in rows]


def fault(effect: str, kind: str, counted: bool = True) -> Event:
    return event("fault", effect=effect, kind=kind, counted=counted)


EVENTS = [
    event("armed"),
    event("leases", job=64, stream="job_64", leases=lease_rows((1, 1), (2, 1), (3, 1), (4, 1), (5, 1))),
    *(event("call", site="result", eligible=["network-error"]) for _ in range(3)),
    fault("network-error", "http-500"),
    *(event("batch", eligible=["crash"]) for _ in range(8)),
    event("call", site="result", job=64, stream="job_64", tasks=answer_rows((1, 1))),
    event("answer", job=64, stream="job_64", outcome="accepted", tasks=answer_rows((1, 1)), errors=[]),
    fault("image-404", "http-404", counted=False),
    event("call", site="result", job=64, stream="job_64", tasks=answer_rows((5, 1))),
    fault("crash", "exit"),
    event("exit", 0, incarnation=1, code=86, kind="injected", last_words=[]),
    event("armed", 2),
    event("leases", 2, job=64, stream="job_64", leases=lease_rows((2, 2), (3, 2))),
    event(
        "answer", 2, job=64, stream="job_64", outcome="accepted", tasks=answer_rows((2, 2), (3, 2)), errors=[[3, "x"]]
    ),
    event("withheld", 2, effect="crash", why="the stop file is there"),
    event("exit", 0, incarnation=2, code=-9, kind="organic", last_words=["out of [memory]", LONG, "Killed"]),
    event("armed", 3),
    event("exit", 0, incarnation=3, code=0, kind="ended", last_words=[]),
]
DETAILS = {64: JobDetail(64, "STARTED", 2, None, 1, ())}
TEXT = f"""\
timeout: the time was up, but 1 tasks are still out (exit code 3)
worker    3 incarnations: 1 injected crash, 1 exit of its own
          incarnation 2: killed by SIGKILL; its last words:
          | out of [memory]
          | {LONG}
          | Killed
faults             set  observed  injected  of
  crash           0.05     0.125         1   8
  network-error    0.3     0.333         1   3
  corrupt-image  0.001         -         0   0
  image-404          0         -         1   0
          1 withheld: the stop file is there
tasks     5 handed out, 3 answered (1 of them with an error), 2 came back, 1 still out
          1 more answered, but the reply was never heard: only the service knows
service   job 64: STARTED; 2 processed, 1 failed, ? remaining
run       /runs/20261123T083731Z-7, seed 7
"""


def folded(*events: Event) -> History:
    history = History()
    history.add(events)
    return history


def example(outcome: Outcome = Outcome.TIMEOUT, damage: tuple[Damage, ...] = (), incomplete: bool = False) -> Summary:
    return summarize(outcome, folded(*EVENTS), SETTINGS, DETAILS, RUN, list(damage), incomplete)


def shown(summary: Summary, width: int = 120) -> str:
    stream = io.StringIO()
    to_terminal(summary, Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


def without_padding(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


OUT = event("leases", job=1, stream="job_1", leases=lease_rows((1, 1)))
SENT = event("call", site="result", job=1, stream="job_1", tasks=answer_rows((1, 1)))
ANSWERED = event("answer", job=1, stream="job_1", outcome="accepted", tasks=answer_rows((1, 1)), errors=[])
CRASHED = fault("crash", "exit")
CRASHING, HARMLESS = Settings(worker_crash_rate=0.1), Settings()


@pytest.mark.parametrize(
    ("outcome", "events", "settings", "complete", "code"),
    [
        (Outcome.DRAINED, [OUT, SENT, ANSWERED, CRASHED], CRASHING, True, 0),
        (Outcome.DRAINED, [OUT, SENT, ANSWERED], HARMLESS, True, 0),
        (Outcome.IDLE, [OUT, SENT, ANSWERED, CRASHED], CRASHING, True, 0),
        (Outcome.EXITED, [], HARMLESS, True, 0),
        (Outcome.DRAINED, [OUT, CRASHED], CRASHING, True, 3),
        (Outcome.DRAINED, [OUT], CRASHING, True, 3),
        (Outcome.DRAINED, [OUT, SENT, CRASHED], CRASHING, True, 0),
        (Outcome.IDLE, [OUT, SENT, CRASHED], CRASHING, True, 3),
        (Outcome.EXITED, [OUT, SENT, CRASHED], CRASHING, True, 3),
        (Outcome.DRAINED, [OUT, SENT, ANSWERED, CRASHED], CRASHING, False, 3),
        (Outcome.TIMEOUT, [OUT, SENT, ANSWERED, CRASHED], CRASHING, True, 3),
        (Outcome.DRAINED, [OUT, SENT, ANSWERED], CRASHING, True, 4),
        (Outcome.EXITED, [], CRASHING, True, 4),
        (Outcome.IDLE, [], Settings(permanent_error_images=("3",)), True, 4),
        (Outcome.RESTARTS_EXHAUSTED, [OUT, CRASHED], CRASHING, False, 6),
        (Outcome.NOT_ARMED, [], CRASHING, True, 78),
        (Outcome.SETTINGS, [], CRASHING, True, 78),
        (Outcome.INTERRUPTED, [OUT, CRASHED], CRASHING, False, 130),
    ],
)
def test_the_exit_code_says_how_the_run_ended(
    outcome: Outcome, events: list[Event], settings: Settings, complete: bool, code: int
) -> None:
    assert exit_code(outcome, folded(*events), settings, complete) == code


@pytest.mark.parametrize(
    "settings",
    [
        Settings(worker_crash_rate=0.1),
        Settings(network_error_rate=0.1),
        Settings(corrupt_image_rate=0.1),
        Settings(image_404_rate=0.1),
        Settings(transient_error_rate=0.1),
        Settings(permanent_error_images=("1",)),
    ],
)
def test_a_run_in_which_nothing_fired_is_vacuous_whichever_fault_was_set(settings: Settings) -> None:
    assert exit_code(Outcome.DRAINED, History(), settings, True) == 4


def test_a_summary_joins_what_ledger_and_service_say() -> None:
    assert example() == Summary(
        outcome="timeout",
        code=3,
        seed=7,
        run=str(RUN),
        incarnations=3,
        injected_exits=1,
        organic_exits=[
            {"incarnation": 2, "exit": "killed by SIGKILL", "last_words": ["out of [memory]", LONG, "Killed"]},
        ],
        faults=[
            FaultRow("crash", 0.05, 8, 1, 0.125),
            FaultRow("network-error", 0.3, 3, 1, 1 / 3),
            FaultRow("corrupt-image", 0.001, 0, 0, None),
            FaultRow("image-404", 0.0, 0, 1, None),
        ],
        kinds={"crash: exit": 1, "image-404: http-404": 1, "network-error: http-500": 1},
        withheld={"the stop file is there": 1},
        handed_out=5,
        answered=3,
        answered_with_error=1,
        came_back=2,
        unheard=1,
        still_out=1,
        jobs=[{"job": 64, "status": "STARTED", "processed": 2, "remaining": None, "failed": 1, "errors": ()}],
        ledger_problems=[],
    )


def test_damage_and_incompleteness_are_told_and_make_the_run_unknown() -> None:
    damage = Damage(Path("/runs/x/ledger/h-1.jsonl"), 3, "events 3 to 5 are missing")
    history = folded(OUT, SENT, ANSWERED, CRASHED)

    def told(damaged: list[Damage], incomplete: bool) -> tuple[list[str], int]:
        summary = summarize(Outcome.DRAINED, history, CRASHING, {}, RUN, damaged, incomplete)
        return summary.ledger_problems, summary.code

    assert told([], False) == ([], 0)
    assert told([damage], False) == (["h-1.jsonl:3: events 3 to 5 are missing"], 3)
    assert told([damage], True) == (
        ["h-1.jsonl:3: events 3 to 5 are missing", "a process could not book everything"], 3,
    )  # fmt: skip


def test_the_summary_for_a_machine_holds_everything() -> None:
    parsed = json.loads(as_json(example()))

    assert list(parsed) == list(Summary.__dataclass_fields__)
    assert parsed["faults"][0] == {
        "effect": "crash", "set_rate": 0.05, "eligible": 8, "injected": 1, "observed_rate": 0.125,
    }  # fmt: skip
    assert (parsed["code"], parsed["came_back"], parsed["jobs"][0]["remaining"]) == (3, 2, None)


def test_the_summary_for_people_reads_so() -> None:
    assert without_padding(shown(example())) == TEXT


def test_no_line_of_the_summary_is_broken_where_the_output_is_no_terminal() -> None:
    # 80 columns is what a console assumes of a file or a pipe; whoever greps there wants whole lines.
    assert without_padding(shown(example(), width=80)) == TEXT


@pytest.mark.parametrize(
    ("outcome", "events", "damaged", "text"),
    [
        (Outcome.DRAINED, [OUT, SENT, ANSWERED, CRASHED], False, "drained: every job has ended (exit code 0)"),
        (Outcome.DRAINED, [OUT], False, "drained: every job has ended, but 1 tasks are still out (exit code 3)"),
        (
            Outcome.DRAINED,
            [OUT, SENT, ANSWERED],
            True,
            "drained: every job has ended, but the ledger is not complete (exit code 3)",
        ),
        (
            Outcome.IDLE,
            [OUT, SENT],
            False,
            "idle: nothing was handed out or answered any more, "
            "but of 1 answers nobody knows what became (exit code 3)",
        ),
        (
            Outcome.EXITED,
            [],
            False,
            "exited: the worker ended by itself, but no fault ever struck: this run shows nothing (exit code 4)",
        ),
        (Outcome.INTERRUPTED, [OUT], False, "interrupted: stopped by the operator (exit code 130)"),
    ],
)
def test_the_headline_says_how_it_ended_and_why_the_exit_code_is_what_it_is(
    outcome: Outcome, events: list[Event], damaged: bool, text: str
) -> None:
    assert headline(summarize(outcome, folded(*events), CRASHING, {}, RUN, [], damaged)) == text


def test_a_run_without_faults_says_that_none_were_set() -> None:
    summary = summarize(Outcome.EXITED, History(), HARMLESS, {}, RUN, [], False)

    assert shown(summary) == (
        "exited: the worker ended by itself (exit code 0)\n"
        "worker    0 incarnations: 0 injected crashes, 0 exits of its own\n"
        "faults    none were set\n"
        "tasks     0 handed out, 0 answered (0 of them with an error), 0 came back, 0 still out\n"
        "run       /runs/20261123T083731Z-7, seed -1\n"
    )


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: str(outcome.value))
def test_every_ending_has_words_and_only_the_unarmed_one_a_cure(outcome: Outcome) -> None:
    text = shown(summarize(outcome, History(), HARMLESS, {}, RUN, [], False), width=400)

    assert text.startswith(f"{outcome.value}: ")
    assert text.partition(" (exit code ")[0] != f"{outcome.value}: "
    assert (f"cure      {NOT_ARMED_CURE}\n" in text) is (outcome is Outcome.NOT_ARMED)


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    history = folded(event("withheld", why="[red]because[/red]"), fault("crash", "exit"))
    damage = Damage(Path("[bold].jsonl"), 1, "[/] [link]")
    detail = {1: JobDetail(1, "[bold]STARTED", 1, 1, 1, ())}
    text = shown(summarize(Outcome.DRAINED, history, CRASHING, detail, Path("/runs/[x]"), [damage], False))

    assert "1 withheld: [red]because[/red]\n" in text
    assert "ledger    [bold].jsonl:1: [/] [link]\n" in text
    assert "service   job 1: [bold]STARTED; 1 processed, 1 failed, 1 remaining\n" in text
    assert "run       /runs/[x], seed -1\n" in text


def test_of_many_problems_of_the_ledger_the_first_ten_are_shown() -> None:
    damage = tuple(Damage(Path("a.jsonl"), line, "cannot be read") for line in range(1, 20))
    lines = [line for line in shown(example(damage=damage)).splitlines() if line.startswith("ledger")]

    assert lines == [f"ledger    a.jsonl:{line}: cannot be read" for line in range(1, 11)]
