"""The promises of what `run` can be asked for: short forms become settings, and what cannot be is refused by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ami_fault_site import runfolder
from ami_fault_site.cli import main
from ami_fault_site.cli.options import Chosen, Placed, sandbox_options, settle, without_faults
from ami_fault_site.cli.speaking import RefusedError
from ami_fault_site.faults import Mode, Point
from ami_fault_site.grammar import GRAMMAR, parse_rules
from ami_fault_site.sandbox.photographs import write_small
from ami_fault_site.settings import Settings, SettingsError
from tests import stage

RULES, STOP_AFTER = "AMI_TEST_RULES", "AMI_TEST_STOP_AFTER"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AMI_") or name in ("MAX_RESTARTS", "RESTART_DELAY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def rules(chosen: Chosen, environ: Mapping[str, str] | None = None) -> list[str]:
    return [str(rule) for rule in settle(chosen, environ or {}, in_sandbox=False).effective.settings.rules]


def refused(chosen: Chosen, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        settle(chosen, environ or {}, in_sandbox=False)
    assert caught.value.code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("placed", "rule"),
    [
        (Placed(Point.IDLE), "crash[point=idle]: 1*kill"),
        (Placed(Point.IN_BATCH, "7", Mode.SEGV, 3), "crash[task=7, point=in-batch]: 3*segv"),
        (Placed(Point.AFTER_FETCH, "12/7"), "crash[job=12, task=7, point=after-fetch]: 1*kill"),
        (Placed(Point.DOWNLOADING, "moth *.jpg"), "crash[name=moth *.jpg, point=downloading]: 1*kill"),
        (Placed(Point.DOWNLOADING, "a[1],b.jpg"), 'crash[name="a[1],b.jpg", point=downloading]: 1*kill'),
        (Placed(Point.DOWNLOADING, "7"), "crash[task=7, point=downloading]: 1*kill"),
    ],
)
def test_a_placed_crash_is_a_rule(placed: Placed, rule: str) -> None:
    assert rules(Chosen(placed=placed)) == [rule]


@pytest.mark.parametrize("point", Point)
def test_every_point_can_be_named_and_is_a_scenario_of_its_own(point: Point) -> None:
    settled = settle(Chosen(placed=Placed(point)), {}, in_sandbox=True)

    assert [str(rule) for rule in settled.effective.settings.rules] == [f"crash[point={point.value}]: 1*kill"]
    assert settled.effective.settings.profile == ""


def test_a_placed_crash_comes_before_rules_and_these_before_what_is_set_already() -> None:
    chosen = Chosen(placed=Placed(Point.IDLE), rules=("api: off  # mine", "batch: transient; tasks: refused"))

    assert rules(chosen, {RULES: "result: reset"}) == [
        "crash[point=idle]: 1*kill", "api: off", "batch: transient", "tasks: refused", "result: reset",
    ]  # fmt: skip
    assert rules(Chosen("blackout", rules=("jobs: off",))) == ["jobs: off", "api: refused"]


def test_what_the_worker_gets_reads_back_as_the_same_rules() -> None:
    settled = settle(Chosen("everything", rules=("jobs: off",)), {}, in_sandbox=False)

    assert parse_rules(settled.over[RULES]) == settled.effective.settings.rules
    assert len(settled.effective.settings.rules) == 10


@pytest.mark.parametrize(
    ("placed", "problem"),
    [
        (Placed(task="7"), "--task goes with --at"),
        (Placed(mode=Mode.KILL), "--mode goes with --at"),
        (Placed(times=2), "--times goes with --at"),
        (Placed(Point.IDLE, "7"), "--task='7': at idle the worker holds no task"),
        (
            Placed(Point.IN_BATCH, "moth.jpg"),
            "--task='moth.jpg': at in-batch a task is SEQUENCE or JOB/SEQUENCE; "
            "an image's name is known only at downloading",
        ),
        (
            Placed(Point.DOWNLOADING, 'a"b'),
            "--task='a\"b': a name cannot hold a double quote or the end of a line",
        ),
    ],
)
def test_a_crash_that_cannot_be_placed_is_refused(placed: Placed, problem: str) -> None:
    assert refused(Chosen("light", placed=placed)) == problem


def test_a_wrong_rule_is_told_with_a_caret() -> None:
    with pytest.raises(SettingsError) as caught:
        settle(Chosen(rules=("resul: off",)), {}, in_sandbox=False)

    assert caught.value.problems == [
        "AMI_TEST_RULES='resul: off': unknown site 'resul' (did you mean result?)\n  resul: off\n  ^ column 1"
    ]


@pytest.mark.parametrize(("written", "stop_after"), [("90", 80), ("90s", 80), ("1.5m", 80), ("2h", 7190)])
def test_a_time_limit_ends_the_faults_one_ack_wait_earlier(written: str, stop_after: float) -> None:
    chosen = Chosen("light", time_limit=written)

    assert settle(chosen, {"AMI_TEST_ACK_WAIT": "10"}, in_sandbox=False).effective.settings.stop_after == stop_after
    assert chosen.seconds == stop_after + 10


def test_faults_that_were_to_end_earlier_still_do() -> None:
    settled = settle(Chosen("blackout", time_limit="10m"), {"AMI_TEST_ACK_WAIT": "10"}, in_sandbox=False)

    assert settled.effective.settings.stop_after == 70


@pytest.mark.parametrize("written", ["soon", "2d", "0", "-5", "1h30m", "inf"])
def test_a_time_limit_that_is_none_is_refused(written: str) -> None:
    assert refused(Chosen("light", time_limit=written)) == (
        f"--time-limit={written!r}: is a duration above 0, such as 5400, 90m or 2h"
    )


def test_a_time_limit_needs_to_know_the_ack_wait_and_to_be_longer() -> None:
    chosen = Chosen("light", time_limit="1m")

    assert refused(chosen) == (
        "--time-limit=1m needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds: "
        "faults end so long before the limit, that the last can heal"
    )
    assert refused(chosen, {"AMI_TEST_ACK_WAIT": "60"}) == (
        "--time-limit=1m: is not longer than the ack_wait, 60 s: no fault could heal"
    )


def test_a_sandbox_without_a_scenario_gets_medium_and_nobody_else_does() -> None:
    assert settle(Chosen(), {}, in_sandbox=True).effective.settings.profile == "medium"
    assert refused(Chosen()).startswith("no scenario chosen: --profile or AMI_TEST_PROFILE takes one of blackout, ")
    assert settle(Chosen(rules=("api: off",)), {}, in_sandbox=True).effective.settings.profile == ""
    assert settle(Chosen(), {RULES: "api: off"}, in_sandbox=True).effective.settings.profile == ""


def test_a_dry_run_still_needs_something_that_would_strike() -> None:
    assert refused(Chosen(dry_run=True)).startswith("no scenario chosen: ")
    assert settle(Chosen("light", dry_run=True), {}, in_sandbox=False).effective.settings.dry_run


def test_a_sandbox_is_as_its_options_say() -> None:
    given = {"images": "7", "jobs": 2, "ack-wait": 3.0, "max-deliver": 4, "reaper": 5.0, "sabotage": ""}
    wanted = sandbox_options(["a"], given)

    assert (wanted.images, wanted.jobs, wanted.ack_wait, wanted.max_deliver) == (7, 2, 3.0, 4)
    assert (wanted.reaper_idle, wanted.reaper_interval, wanted.pipelines) == (5.0, 2.5, ("a",))


def test_a_run_can_be_done_again_by_the_line_that_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--seed", "5", "--at", "downloading", "--task", "a moth.jpg", "--mode", "segv", "--times", "2"]
    asked += ["--rule", "jobs: 1*refused -> off", "--rule", "tasks: off", "--dry-run", "--time-limit", "2m"]
    asked += ["--until", "exit", "--timeout", "90", "--restart-delay", "0.5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMI_TEST_ACK_WAIT", "10")
        patch.setenv("AMI_TEST_EXHAUST", "http://h/a.jpg?sig=1")
        patch.setenv("AMI_TEST_JOBS", "7")
        assert (
            main(
                [
                    "run",
                    *asked,
                    "--json",
                    "--",
                    sys.executable,
                    "-c",
                    "import requests",
                ]
            )
            == 4
        )
    told = json.loads(capsys.readouterr().out)
    settings = json.loads((runfolder.find("latest", Path.cwd() / runfolder.HOME) / "settings.json").read_text())

    line = (
        "AMI_TEST_ACK_WAIT=10 AMI_TEST_EXHAUST='http://h/a.jpg?***' "
        "ami-fault run --seed 5 --at downloading --task 'a moth.jpg' --mode segv --times 2 "
        "--rule 'jobs: 1*refused -> off' --rule 'tasks: off' --dry-run --time-limit 2m --job 7 --until exit "
        "--timeout 90 --restart-delay 0.5 -- WORKER..."
    )
    assert line in json.dumps(told)
    assert settings["settings"][RULES] == (
        "crash[name=a moth.jpg, point=downloading]: 2*segv; jobs: 1*refused -> off; tasks: off"
    )
    assert (settings["settings"][STOP_AFTER], settings["settings"]["AMI_TEST_DRY_RUN"]) == ("110.0", "true")


def test_a_time_limit_ends_the_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMI_TEST_ACK_WAIT", "0.1")
    argv = ["run", "--profile", "light", "--time-limit", "1", "--until", "exit", "--json", "--"]

    assert main([*argv, sys.executable, "-c", "import requests, signal; signal.pause()"]) in (3, 4)
    assert json.loads(capsys.readouterr().out)["outcome"] == "timeout"


def test_a_crash_that_cannot_be_placed_is_refused_before_anything_is_begun(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["run", "--sandbox", "--at", "idle", "--task", "7"]) == 2
    assert capsys.readouterr().err == "ami-fault: --task='7': at idle the worker holds no task\n"
    assert list(tmp_path.iterdir()) == []


def test_a_point_that_is_none_is_told_all_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--at", "somewhere"]) == 2
    said = capsys.readouterr().err
    assert all(point.value in said for point in Point)


def test_the_grammar_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grammar"]) == 0
    assert capsys.readouterr().out == GRAMMAR


def test_a_run_that_is_terminated_asks_its_worker_books_it_and_tells_the_verdict(tmp_path: Path) -> None:
    """As Slurm, docker stop and systemd end a run."""
    code = (
        "import os, signal, sys, requests\n"
        "signal.signal(signal.SIGINT, lambda *_: (print('asked', flush=True), sys.exit(0)))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "signal.pause()"
    )
    command = [sys.executable, "-m", "ami_fault_site", "run", "--profile", "light", "--until", "exit", "--json", "--"]
    done = subprocess.run(
        [*command, sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=50
    )

    told = json.loads(done.stdout)
    assert (done.returncode, told["outcome"]) == (130, "interrupted")
    assert told["headline"].startswith("UNKNOWN stopped by the operator")
    assert "asked\n" in done.stderr
    ledgers = (tmp_path / "ami-fault-runs" / "latest" / "ledger").glob("*-0000-*.jsonl")
    events = [json.loads(line) for path in ledgers for line in path.read_text().splitlines()]
    ended = {event["event"]: event for event in events}
    assert (ended["exit"]["kind"], ended["exit"]["code"]) == ("operator", 0)
    assert (ended["outcome"]["outcome"], events[-1]["event"]) == ("interrupted", "end")


# --- without faults


def test_without_faults_nothing_strikes_and_what_is_known_of_the_service_and_the_worker_stays() -> None:
    Path("mine.env").write_text(
        "AMI_TEST_WORKER_CRASH_RATE=0.5\nAMI_TEST_TASK_LOOP=a:b\nAMI_TEST_PROTECTED_HOSTS=h.example\n"
    )
    chosen = Chosen("mine.env", "7", (12,), "here/run", Placed(Point.IDLE), ("tasks: reset",), time_limit="2h")
    environ = {
        "AMI_TEST_RULES": "result: reset", "AMI_TEST_PERMANENT_ERROR_IMAGES": "3", "AMI_TEST_MAX_FAULTS": "2",
        "AMI_TEST_ACK_WAIT": "30", "PATH": "/bin",
    }  # fmt: skip
    settings = settle(chosen, environ, in_sandbox=False).effective.settings

    settled = settle(*without_faults(settings, environ), in_sandbox=False).effective.settings

    assert (settled.seed, settled.jobs, settled.run_dir) == (7, frozenset({12}), "here/run-baseline")
    assert (settled.ack_wait, settled.task_loop, settled.protected_hosts) == (30.0, "a:b", ("h.example",))
    assert (settled.rules, settled.permanent_error_images, settled.stop_after) == ((), (), None)
    rates = (settled.worker_crash_rate, settled.network_error_rate, settled.transient_error_rate)
    assert (*rates, settled.corrupt_image_rate, settled.image_404_rate) == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_without_a_folder_of_its_own_a_run_without_faults_lies_beside_the_others() -> None:
    chosen, _ = without_faults(Settings(), {})

    assert re.fullmatch(r"ami-fault-runs/\d{8}T\d{6}Z-baseline", chosen.run_dir)


def test_what_would_keep_a_run_from_beginning_is_told_before_the_one_without_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.env").write_text("AMI_TEST_WORKER_CRASH_RATE=0.5\nAMI_TEST_PROTECTED_HOSTS=127.0.0.1\n")
    asked = ["run", "--baseline", "--run-dir", "run", "--", sys.executable, "-c", "pass"]
    monkeypatch.setenv("AMI_ANTENNA_API_BASE_URL", "http://127.0.0.1:9/api/v2")

    assert main([*asked[:2], "--profile", "mine.env", *asked[2:]]) == 78
    assert capsys.readouterr().err == (
        "ami-fault: 127.0.0.1 is a protected host (AMI_TEST_PROTECTED_HOSTS=127.0.0.1): never tested\n"
    )
    monkeypatch.setenv("AMI_TEST_PROFILE", "heavy")
    assert main(asked) == 2
    assert capsys.readouterr().err.endswith(
        "ami-fault: --baseline: needs AMI_ANTENNA_API_AUTH_TOKEN, with which the service runs a job again\n"
    )
    monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", "0123456789abcdef")
    (tmp_path / "run" / "ledger").mkdir(parents=True)
    (tmp_path / "run" / "ledger" / "h-0000-1-1.jsonl").touch()
    assert main(asked) == 78
    assert capsys.readouterr().err.endswith("ami-fault: AMI_TEST_RUN_DIR='run': holds a run already\n")
    assert not (tmp_path / "run-baseline").exists()


def test_a_job_that_cannot_be_run_again_ends_it_and_the_run_without_faults_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        'import requests, time; s = requests.Session(); url = f\'{__import__("os").environ["URL"]}/jobs\'\n'
        "s.get(url + '/?ids_only=1&pipeline__slug__in=moth_binary'); s.post(url + '/1/tasks/', json={'batch_size': 1})"
    )
    with stage.service() as service:
        stage.hand_out(service, 1)
        service.status, service.retry_status = "SUCCESS", 403
        monkeypatch.setenv("URL", f"{service.url}/api/v2")
        monkeypatch.setenv("AMI_ANTENNA_API_BASE_URL", f"{service.url}/api/v2")
        monkeypatch.setenv("AMI_ANTENNA_API_AUTH_TOKEN", "0123456789abcdef")
        command = ["run", "--profile", "network", "--baseline", "--until", "exit", "--run-dir", "run"]
        code = main([*command, "--restart-delay", "0.1", "--", sys.executable, "-c", script])

    err = capsys.readouterr().err
    assert code == 2, err
    said = 'says 403: {"detail":"You do not have permission."}'
    assert "ami-fault: --baseline: job 1 cannot be run again: 127.0.0.1:" in err
    assert err.endswith(f"{said}; without faults it has been done: {tmp_path / 'run-baseline'}\n")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_pictures_is_a_job_of_so_many_images(tmp_path: Path) -> None:
    write_small(tmp_path, 15)
    (tmp_path / "notes.txt").touch()
    given = {"images": str(tmp_path), "reaper": None}

    options = sandbox_options([], {**dict.fromkeys(("ack-wait", "max-deliver", "jobs", "sabotage")), **given})

    assert (options.images, options.image_dir) == (15, str(tmp_path))


def test_a_folder_without_pictures_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--sandbox", "--images", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"ami-fault: image_dir={str(tmp_path)!r}: has no picture, ")
