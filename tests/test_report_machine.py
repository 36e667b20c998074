from __future__ import annotations

import json

from ami_fault_site import report
from ami_fault_site.verdict.terms import Status
from tests.report_cases import INVOCATION, RUN, finding, report_of

KEYS = [
    "headline", "status", "code", "outcome", "gate", "strict", "nothing_fired", "runs", "findings", "faults", "kinds",
    "deaths", "attempts", "dry", "withheld", "guarded", "hidden_jobs", "recovery", "jobs", "parameters",
    "ledger_problems", "next", "notes", "run", "seed",
    "incarnations", "injected_exits", "organic_exits", "unsupervised", "unsupervised_crashes",
    "loader_crashes", "outlived_crashes",
    "total", "handed_out", "answered", "answered_with_error", "came_back", "unheard", "still_out", "taken_by_others",
    "fates", "marks", "exhausted_by", "lost_answers", "lost_leases", "kept_back",
]  # fmt: skip


def test_the_keys_stay_what_they_are() -> None:
    parsed = json.loads(report.as_json(report_of()))

    assert list(parsed) == KEYS
    assert list(parsed["findings"][0]) == [
        "check", "group", "whose", "status", "text", "meaning", "is_safety", "is_gated", "judged", "known", "tasks",
        "evidence", "warnings", "notes", "in_baseline",
    ]  # fmt: skip
    assert list(parsed["jobs"][0]) == [
        "job", "filling", "is_last", "tasks", "answered", "with_error", "unheard", "elsewhere", "status", "processed",
        "failed", "remaining", "given_up", "missing", "errors",
    ]  # fmt: skip


def test_every_task_and_every_line_of_evidence_is_there() -> None:
    lost = finding("no-task-lost", Status.FAIL, "4 lost", tasks=(1, 2, 3, 4), lines=(3, 4, 5, 6, 7), is_safety=True)
    told = json.loads(report.as_json(report_of(lost)))["findings"][-1]

    assert [task["sequence"] for task in told["tasks"]] == [1, 2, 3, 4]
    assert told["tasks"][1] == {
        "job": 7, "sequence": 2, "image": "2.jpg", "image_id": "2", "published": 1795438299585001402,
    }  # fmt: skip
    assert told["evidence"] == [f"ledger/h-0001-11-1.jsonl:{line}" for line in (3, 4, 5, 6, 7)]


def test_the_figures_stand_where_they_always_stood() -> None:
    told = json.loads(report.as_json(report_of()))

    assert (told["outcome"], told["code"], told["run"], told["seed"]) == ("drained", 0, str(RUN), 26)
    assert (told["handed_out"], told["answered"], told["still_out"], told["injected_exits"]) == (4, 4, 0, 1)
    assert told["runs"][0]["again"] == INVOCATION
    assert told["recovery"] == {"redeliveries": 2, "median_seconds": 8.3, "slowest_seconds": 8.3}
    assert told["kinds"] == {"crash: exit": 1, "image-404: http-404": 1}


def test_a_report_without_a_folder_or_an_outcome_is_whole_all_the_same() -> None:
    told = json.loads(report.as_json(report_of(runs=(), outcome=None)))

    assert (told["outcome"], told["run"], told["seed"], told["runs"]) == ("", "", -1, [])
