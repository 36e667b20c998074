"""`ami-fault check`, `explain`, `plan` and `selftest`, on run folders that a model has written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ami_fault_site import runfolder
from ami_fault_site.cli import main
from tests.model import Sabotage, healthy, play, sabotaged, write
from tests.stage import service

URL, TOKEN = "AMI_ANTENNA_API_BASE_URL", "AMI_ANTENNA_API_AUTH_TOKEN"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("AMI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A run in which faults struck and nothing was lost."""
    (folder,) = write(play(healthy(67)), tmp_path / runfolder.HOME).values()
    (tmp_path / runfolder.HOME / "latest").symlink_to(folder.name)
    return folder


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A run whose service counted errors as successes."""
    (folder,) = write(play(sabotaged(Sabotage.ERROR_AS_SUCCESS, 1)), tmp_path / "bad").values()
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out))


def test_check_judges_the_latest_run_again_offline_and_without_a_token(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("PASS nothing lost: ")
    assert main(["check", str(good)]) == 0
    assert main(["check", "latest"]) == 0


def test_check_fails_a_run_whose_service_failed_and_says_whose_it_is(
    bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(bad)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL service: failure-counts-accurate: job 1 counts 0 failed, and ")
    assert "next: ami-fault explain " in out


def test_the_gate_says_whose_failures_decide(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bad), "--gate", "service"]) == 1
    assert main(["check", str(bad), "--gate", "worker"]) == 0
    assert "failure-counts-accurate" in capsys.readouterr().out


def test_a_failure_that_is_known_is_told_and_not_counted(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bad), "--known", "failure-counts-accurate=being mended"]) == 0
    assert "being mended" in capsys.readouterr().out
    assert main(["check", str(bad), "--known", "no-cascade=being mended"]) == 1
    assert "take it off --known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no-casade=x", "'no-casade' is not a check (did you mean no-cascade?); there are "),
        ("no-cascade", "is CHECK=REASON, such as no-cascade='the service is being mended'"),
        ("no-cascade= ", "is CHECK=REASON, such as no-cascade='the service is being mended'"),
    ],
)
def test_a_known_failure_is_a_check_and_a_reason(text: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--known", text]) == 2
    assert f"--known={text!r}: " in (err := capsys.readouterr().err)
    assert problem in err


def test_strict_is_4_where_a_check_could_not_be_judged(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json"]) == 0
    findings = told(capsys)["findings"]
    assert isinstance(findings, list)
    open_ones = [one for one in findings if one["status"] in ("vacuous", "unknown")]
    assert main(["check", "--strict"]) == (4 if open_ones else 0)
    assert open_ones, "this run was chosen because something in it is not judged"


def test_what_the_operator_knows_of_the_service_wins(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "--ack-wait", "7.5", "--max-deliver", "9"]) in (0, 1)
    parameters = told(capsys)["parameters"]
    assert isinstance(parameters, list)
    assert [(one["name"], one["value"], one["source"]) for one in parameters] == [
        ("ack_wait", 7.5, "--ack-wait"), ("max_deliver", 9.0, "--max-deliver"),
    ]  # fmt: skip


def test_findings_are_written_as_junit_and_markdown(bad: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "j.xml", tmp_path / "m.md"
    assert main(["check", str(bad), "--junit", str(junit), "--markdown", str(markdown)]) == 1
    failed = [
        case.get("name") for case in ElementTree.parse(junit).iter("testcase") if case.find("failure") is not None
    ]
    assert failed == ["failure-counts-accurate"]
    assert markdown.read_text().startswith("### FAIL service: failure-counts-accurate: ")


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_file_that_cannot_be_written_is_an_error_after_the_report(
    good: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", option, "no/such/folder/file"]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("PASS ")
    assert captured.err == f"ami-fault: {option}='no/such/folder/file': cannot be written: No such file or directory\n"


def test_a_folder_that_is_no_run_is_an_error_that_names_the_runs_there_are(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "nowhere"]) == 2
    assert f"RUN='nowhere': not a run folder; under {good.parent} there are: " in capsys.readouterr().err


def test_a_ledger_that_lost_lines_is_named_by_file_and_line_and_its_run_unknown(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = max((good / "ledger").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], b"{half a li\n", *lines[5:]]))
    assert main(["check"]) == 3
    assert f"{file.name}:4: cannot be read: " in capsys.readouterr().out


def test_a_baseline_is_a_run_to_compare_answer_times_with(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--baseline", "latest", "--json"]) == 0
    findings = told(capsys)["findings"]
    assert isinstance(findings, list)
    (graceful,) = [one for one in findings if one["check"] == "degrades-gracefully"]
    assert graceful["status"] in ("pass", "not-applicable")
    assert main(["check", "--baseline", "nowhere"]) == 2


@pytest.mark.parametrize("wait", ["soon", "5 minutes", "-3s", ""])
def test_a_time_to_wait_is_a_number_and_a_unit(wait: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if wait:
        assert main(["check", "--wait", wait]) == 2
        assert capsys.readouterr().err == f"ami-fault: --wait={wait!r}: is a time such as 90s, 30m or 1h\n"
    else:
        assert main(["check", "--wait", wait]) == 0


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run that the time was up for, whose job 1 had not ended."""
    (folder,) = write(play(sabotaged(Sabotage.NEVER_ENDS, 1)), tmp_path / "unfinished").values()
    return folder


def test_without_a_token_nobody_is_asked_and_what_is_there_is_judged(
    unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(unfinished.rglob("*"))
    assert main(["check", str(unfinished), "--wait", "1s"]) == 1
    assert "ami-fault: second witness missing: no token; judging what is there\n" in capsys.readouterr().err
    assert sorted(unfinished.rglob("*")) == before


def test_waiting_asks_the_service_until_the_jobs_have_ended_and_keeps_what_it_says(
    unfinished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set((unfinished / "jobs").iterdir())
    with service() as stage:
        stage.status = "SUCCESS"
        monkeypatch.setenv(URL, stage.url)
        monkeypatch.setenv(TOKEN, "0123456789abcdef")
        main(["check", str(unfinished), "--wait", "20s", "--json"])
    captured = capsys.readouterr()
    assert "waiting up to 20 s for the end of job 1" in captured.err
    new = set((unfinished / "jobs").iterdir()) - before
    assert any(path.name.endswith("-settled.json") for path in new)
    (job,) = json.loads(captured.out)["jobs"]
    assert job["status"] == "SUCCESS"


def test_a_run_whose_jobs_have_all_ended_is_not_waited_for(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--wait", "30m"]) == 0
    assert capsys.readouterr().err == ""


def test_explain_tells_one_tasks_story(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "1/1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("job 1 task 1 ")
    assert "handed out: delivery 1 of job 1" in out
    assert main(["explain", str(good), "1/1"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("words", [["1/99999"], ["latest", "no-such-image"], ["nowhere", "1"], ["a", "b", "c"]])
def test_explain_refuses_what_it_cannot_find(words: list[str], good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words]) == 2
    assert capsys.readouterr().err.startswith("ami-fault: ")


def test_plan_says_what_to_expect_with_every_setting_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", "--profile", "heavy", "--images", "400", "--batch", "8", "--workers", "2", "--ack-wait", "8"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "AMI_TEST_ACK_WAIT              = 8.0  (command line)\n" in out
    assert "AMI_TEST_WORKER_CRASH_RATE     = 0.15  (heavy.env:2)\n" in out
    assert "none for good by our own faults: none takes a task's last delivery, unless AMI_TEST_MAX_DELIVER=0" in out
    assert main([*argv, "--json"]) == 0
    assert told(capsys)["held"]


@pytest.mark.parametrize(
    ("argv", "code", "problem"),
    [
        (["--images", "0", "--batch", "8"], 2, "images=0: is a whole number from 1 to 1000000"),
        (["--images", "5", "--batch", "8", "--profile", "hevy"], 78, "did you mean heavy?"),
        (["--batch", "8"], 2, "Missing option '--images'"),
    ],
)
def test_plan_refuses_what_cannot_be(
    argv: list[str], code: int, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *argv]) == code
    assert problem in capsys.readouterr().err


def test_selftest_knows_its_trials_and_wants_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--only", "no-such-trial"]) == 2
    assert "--only='no-such-trial': is not a trial; there are never-redelivers, " in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert main(["selftest", "--keep", "full"]) == 2
    assert capsys.readouterr().err == "ami-fault: --keep='full': is a folder that is new or empty\n"


def test_runs_of_different_services_are_not_judged_as_one(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other,) = write(play(healthy(67)), tmp_path / "other").values()
    for number, path in enumerate((other / "ledger").iterdir()):
        text = path.read_text().replace('"target":"', '"target":"elsewhere.example')
        path.with_name(f"{number}-{path.name}").write_text(text)
        path.unlink()
    assert main(["check", str(good), str(other)]) == 2
    assert "judge them one by one, or say --same-service if that is one service" in capsys.readouterr().err


def test_a_copy_of_a_run_is_not_judged_beside_it(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(good, tmp_path / "copy")
    assert main(["check", str(good), str(tmp_path / "copy")]) == 2
    assert f"RUN={str(tmp_path / 'copy')!r}: a copy of {str(good)!r}: both hold the ledger " in capsys.readouterr().err
    assert main(["check", str(good), "latest"]) == 0


def test_a_run_without_its_supervisors_ledger_is_unknown(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own,) = (path for path in (good / "ledger").glob("*.jsonl") if b'"began"' in path.read_bytes())
    whole = own.read_bytes()
    own.write_bytes(
        b"".join(line for line in whole.splitlines(True) if b'"outcome"' not in line and b'"end"' not in line)
    )
    assert main(["check"]) == 3
    assert (
        "the supervisor has not booked the end of the run: it was killed, or the run goes on" in capsys.readouterr().out
    )
    own.unlink()
    assert main(["check"]) == 3
    assert "the supervisor's own ledger is missing" in capsys.readouterr().out


def test_a_run_whose_ledger_is_gone_is_unknown_and_not_vacuous(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (good / "ledger").iterdir():
        path.unlink()
    assert main(["check"]) == 3
    assert "the ledger is empty: nothing was booked, or its files are gone" in capsys.readouterr().out


def test_a_line_that_stands_there_twice_is_damage_and_no_second_delivery(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(path for path in sorted((good / "ledger").glob("*.jsonl")) if b'"leases":[[' in path.read_bytes())
    lines = file.read_bytes().splitlines(keepends=True)
    doubled = [copy for line in lines for copy in ([line, line] if b'"leases":[[' in line else [line])]
    file.write_bytes(b"".join(doubled))
    assert main(["check"]) == 3
    out = capsys.readouterr().out
    assert "stands here again" in out
    assert "FAIL" not in out


def test_a_time_that_is_none_is_refused(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--ack-wait", "inf"]) == 2
    assert "--ack-wait=inf: is a number of seconds above 0\n" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_file_that_cannot_be_written_is_told_before_a_run_and_not_after_it(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--profile", "light", option, "no/such/file", "--", "true"]) == 2
    assert f"{option}='no/such/file': cannot be written" in capsys.readouterr().err
    assert not (tmp_path / runfolder.HOME).exists()
