"""The promises of the command line: what is wrong is named, nothing is begun, and the exit codes are the documented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ami_fault_site import __version__, profiles
from ami_fault_site.cli import main
from tests import stage

URL, TOKEN, NAME = "AMI_ANTENNA_API_BASE_URL", "AMI_ANTENNA_API_AUTH_TOKEN", "AMI_ANTENNA_SERVICE_NAME"
NO_SCENARIO = (
    "ami-fault: no scenario chosen: --profile or AMI_TEST_PROFILE takes one of "
    f"{', '.join(profiles.available())}, or a path\n"
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AMI_") or name in ("MAX_RESTARTS", "RESTART_DELAY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def script(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    "argv", [["run", "--until", "never"], ["run", "--max-restarts", "-1"], ["fly"], ["run", "--seeds"]]
)
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    named = "--max-restarts" if "-1" in argv else argv[-1]
    assert named in capsys.readouterr().err


def test_without_a_scenario_nothing_is_begun_and_all_are_listed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["run", *script("pass")]) == 2
    assert capsys.readouterr().err == NO_SCENARIO
    assert list(tmp_path.iterdir()) == []


def test_the_token_and_the_service_name_are_required_for_the_real_worker(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["run", "--profile", "medium"]) == 2
    ending = "is required, in the environment or in .env in the working directory\n"
    assert capsys.readouterr().err == f"ami-fault: {TOKEN}: {ending}ami-fault: {NAME}: {ending}"
    monkeypatch.setenv(TOKEN, "0123456789abcdef")
    assert main(["run", "--profile", "medium"]) == 2
    assert capsys.readouterr().err == f"ami-fault: {NAME}: {ending}"
    assert list(tmp_path.iterdir()) == []


def test_they_may_stand_in_the_workers_dotenv_in_any_case(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"{TOKEN.lower()}=0123456789abcdef\n{NAME}=lab\n{URL}=http://127.0.0.1:9/api/v2\n")
    monkeypatch.setenv("AMI_TEST_WORKER_COMMAND", "true")
    assert main(["run", "--profile", "medium"]) == 2
    assert capsys.readouterr().err == (
        f"ami-fault: {URL}='http://127.0.0.1:9/api/v2' (.env): "
        "nothing answers there (ConnectionError); is the service up?\n"
    )


def test_a_broken_line_in_the_workers_dotenv_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"what is this\n{NAME}=lab\n")
    assert main(["run", "--profile", "medium"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / '.env'}:1: not NAME=value, ignored as the worker ignores it\n" in said
    assert TOKEN in said


def test_a_refused_token_is_named_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stage.service() as service:
        service.token = "good"
        monkeypatch.setenv(URL, f"{service.url}/api/v2")
        monkeypatch.setenv(TOKEN, "0123456789abcdef")
        assert main(["run", "--profile", "medium", *script("pass")]) == 2
    host = service.url.removeprefix("http://")
    assert capsys.readouterr().err == f"ami-fault: {TOKEN} (environment): {host} refuses it (401)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("AMI_TEST_NETWORK_ERROR_RATE", "130%", "a rate is a number from 0 to 1 (did you mean 1.0?)"),
        ("AMI_TEST_NETWRK_ERROR_RATE", "0.1", "unknown setting (did you mean AMI_TEST_NETWORK_ERROR_RATE?)"),
        ("AMI_TEST_PROFILE", "medum", "not a profile (did you mean medium?)"),
    ],
)
def test_wrong_settings_are_78_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    problem: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["run", *script("pass")]) == 78
    assert problem in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_protected_host_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, "https://api.antenna.insectai.org/api/v2")
    assert main(["run", "--profile", "light", *script("pass")]) == 78
    assert capsys.readouterr().err == (
        "ami-fault: api.antenna.insectai.org is a protected host "
        "(AMI_TEST_PROTECTED_HOSTS=antenna.insectai.org): never tested\n"
    )


def test_a_command_that_is_not_there_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--profile", "light", "--until", "exit", "--", "no-such-worker"]) == 2
    assert "ami-fault: 'no-such-worker' cannot be started: No such file or directory\n" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_made_is_78(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", "--profile", "light", "--until", "exit", "--run-dir", "file/run", *script("pass")]) == 78
    assert capsys.readouterr().err == "ami-fault: AMI_TEST_RUN_DIR='file/run': cannot be written: Not a directory\n"


def test_a_run_without_the_hook_is_78_and_says_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "--profile", "light", "--until", "exit", "--", sys.executable, "-S", "-c", "pass"]
    assert main(argv) == 78
    out = capsys.readouterr().out
    assert out.startswith("UNKNOWN the worker ran without the hook: no fault could strike (exit code 78)\n")
    assert "install ami-fault-site into the environment that the worker's Python uses" in out


def test_a_run_in_which_nothing_fires_or_nothing_is_handed_out_is_4(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "--until", "exit", "--json", "--seed", "5"]
    assert main([*argv, "--profile", "light", *script("import requests")]) == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["runs"][0]["seed"], told["incarnations"]) == ("exited", 5, 1)
    assert told["headline"].startswith("VACUOUS ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMI_TEST_WORKER_CRASH_RATE", "0")
        assert main([*argv, *script("import requests")]) == 4
    assert json.loads(capsys.readouterr().out)["headline"].startswith("VACUOUS no task was handed out")


def test_restarts_that_are_used_up_are_6_and_the_environment_sets_them(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_RESTARTS", "1")
    monkeypatch.setenv("RESTART_DELAY", "0")
    code = "import requests, sys; print('last words'); sys.exit(9)"
    assert main(["run", "--profile", "light", "--until", "exit", *script(code)]) == 6
    captured = capfd.readouterr()
    assert "2 incarnations: 0 injected crashes, 2 exits of its own\n" in captured.out
    assert "incarnation 2: exit code 9; its last words:\n" in captured.out
    assert "ami-fault: starting again in 0 s\n" in captured.err


def test_the_run_folder_of_other_settings_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "--until", "exit", "--run-dir", "same", "--seed", "1"]
    assert main([*argv, "--profile", "light", *script("import requests")]) == 4
    capsys.readouterr()
    assert main([*argv, "--profile", "heavy", *script("import requests")]) == 78
    assert "made with AMI_TEST_WORKER_CRASH_RATE='0.01', not '0.15'" in capsys.readouterr().err


def test_stop_ends_injection_in_the_latest_or_a_named_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["stop"]) == 2
    assert "RUN='latest': not a run folder" in capsys.readouterr().err
    assert main(["run", "--profile", "light", "--until", "exit", *script("import requests")]) == 4
    capsys.readouterr()
    assert main(["stop"]) == 0
    run = (tmp_path / "ami-fault-runs" / "latest").resolve()
    assert capsys.readouterr().out == f"no more faults in {run}\n"
    assert (run / "STOP").exists()
    assert main(["stop", run.name]) == 0


def test_the_site_dir_holds_a_sitecustomize(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site-dir"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "sitecustomize.py").is_file()


def test_the_exports_of_no_sandbox_are_an_error_that_names_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "--env", "--port", "9"]) == 2
    assert "9" in capsys.readouterr().err


def test_the_command_can_be_run_as_a_module() -> None:
    command = [sys.executable, "-m", "ami_fault_site", "--version"]
    environ = {**os.environ, "AMI_TEST_FAULT_INJECTION_ENABLED": "true", "AMI_TEST_NETWORK_ERROR_RATE": "wrong"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_the_doctor_finds_the_hook_and_shows_what_is_in_force(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMI_TEST_PROFILE", "medium")
    monkeypatch.setenv("AMI_TEST_SEED", "7")
    monkeypatch.setenv("AMI_TEST_TASK_LOOP", "ami_fault_site.sandbox.worker.loop:process_batch")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ok    hook: http (requests.Session.send), image (PIL.Image.open); from " in out
    assert "ok    task loop: ami_fault_site.sandbox.worker.loop:process_batch\n" in out
    assert "      AMI_TEST_SEED = 7  (environment)\n" in out
    assert "medium.env:" in next(line for line in out.splitlines() if "AMI_TEST_WORKER_CRASH_RATE = 0.05" in line)
    assert "note  target: localhost:8000 (default); no token; no name\n" in out


def test_a_sandbox_and_no_other_worker_is_no_reason_for_the_doctor_to_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    only = "note  task loop: only the sample worker is here, which is all a sandbox needs\n"
    assert only in capsys.readouterr().out


def test_the_doctor_finds_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMI_TEST_TASK_LOOP", "no.such:loop")
    monkeypatch.setenv(URL, "https://antenna.insectai.org/api/v2")
    assert main(["doctor"]) == 78
    out = capsys.readouterr().out
    assert "BAD   task loop: AMI_TEST_TASK_LOOP='no.such:loop': there is no such function\n" in out
    protected = "antenna.insectai.org is a protected host (AMI_TEST_PROTECTED_HOSTS=antenna.insectai.org): never tested"
    assert f"BAD   target: antenna.insectai.org (environment): {protected}\n" in out
    monkeypatch.setenv("AMI_TEST_JOBS", "one")
    assert main(["doctor"]) == 78
    out = capsys.readouterr().out
    assert "AMI_TEST_JOBS='one': is a list of job ids, whole numbers separated by commas" in out
    assert "      the settings in force can be shown once the problems above are mended\n" in out


def test_the_doctor_speaks_to_machines_too_and_tells_no_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "abcd1234")
    monkeypatch.setenv("AMI_TEST_WORKER_COMMAND", "work --token abcd1234")
    assert main(["doctor", "--json", "--python", "/no/such/python"]) == 78
    out = capsys.readouterr().out
    told = json.loads(out)
    assert told["good"] is False
    assert [(one["name"], one["level"]) for one in told["found"]] == [
        ("interpreter", "bad"), ("run folder", "ok"), ("settings", "ok"), ("target", "note"),
    ]  # fmt: skip
    assert told["found"][0]["cure"].startswith("give the worker's interpreter: --python ")
    assert {"name": "AMI_TEST_MAX_FAULTS", "value": "-", "source": "default"} in told["settings"]
    assert "abcd1234" not in out


def test_a_bundle_is_written_once_and_says_how_to_use_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "faults"
    assert main(["bundle", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"export PYTHONPATH={folder} " in out
    assert f"docker run -v {folder}:/faults:ro -e PYTHONPATH=/faults" in out
    assert main(["bundle", str(folder)]) == 2
    said = f"ami-fault: {folder}: there is something already; a bundle is written into a new or an empty folder\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("argv", [["--images", "5"], ["--ack-wait", "3"], ["--max-deliver", "3"]])
def test_what_is_for_the_sandbox_is_refused_without_it(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(["run", *argv, "--profile", "light", *script("pass")]) == 2
    assert capsys.readouterr().err == f"ami-fault: {argv[0]} goes with --sandbox\n"


def test_a_pipeline_beside_a_whole_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--pipeline", "x", "--profile", "light", *script("pass")]) == 2
    assert "--pipeline goes with the worker's own command" in capsys.readouterr().err


def test_images_that_are_neither_a_number_nor_a_folder_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "--images", "some"]) == 2
    assert capsys.readouterr().err == (
        "ami-fault: --images='some': is a number of images above 0, or a folder of pictures\n"
    )


def test_a_folder_that_holds_a_run_is_not_used_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The second run's incarnations would be taken for the first one's."""
    argv = ["run", "--until", "exit", "--run-dir", "same", "--seed", "1", "--profile", "light"]
    assert main([*argv, *script("import requests")]) == 4
    capsys.readouterr()
    assert main([*argv, *script("import requests")]) == 78
    assert capsys.readouterr().err == f"ami-fault: AMI_TEST_RUN_DIR={str(tmp_path / 'same')!r}: holds a run already\n"


def test_a_profile_by_relative_path_holds_wherever_the_worker_works(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.env").write_text("AMI_TEST_NETWORK_ERROR_RATE=0.5\n")
    command = f"cd / && exec {sys.executable} -c 'import requests'"
    argv = ["run", "--until", "exit", "--profile", "./mine.env", "--", "sh", "-c", command]
    assert main(argv) == 4, capsys.readouterr().err


def test_a_closed_stderr_is_nobodys_file(tmp_path: Path) -> None:
    """Number 2 would else be given to the first socket, and the worker's output would be written into it."""
    command = f"{sys.executable} -m ami_fault_site run --profile light --until exit --json -- {sys.executable} -c "
    code = "import requests; print(1)"
    done = subprocess.run(
        ["sh", "-c", f"{command} '{code}' 2>&-"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 4
    assert json.loads(done.stdout)["outcome"] == "exited"


def test_a_run_whose_words_nobody_reads_any_more_goes_on_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ami_fault_site", "run", "--profile", "light", "--until", "exit", "--json", "--"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [*command, sys.executable, "-c", "import requests"],
            stdout=subprocess.PIPE, stderr=nobody, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 4
    assert json.loads(done.stdout)["outcome"] == "exited"


def test_what_an_encoding_has_not_is_told_in_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "L\u00fccke"
    folder.mkdir()
    environ = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    for words in (["run", "--help"], ["doctor"]):
        command = [sys.executable, "-m", "ami_fault_site", *words]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=folder)
        assert "Traceback" not in done.stderr
        assert done.stdout.isascii()
    assert "L\\xfccke" in done.stdout


def test_hanging_up_ends_a_run_unless_it_was_told_to_ignore_that(tmp_path: Path) -> None:
    code = "import os, signal, time, requests; os.kill(os.getppid(), signal.SIGHUP); time.sleep(0.5)"
    command = [sys.executable, "-m", "ami_fault_site", "run", "--profile", "light", "--until", "exit"]
    for prefix, expected in (([], 130), (["nohup"], 4)):
        done = subprocess.run(
            [*prefix, *command, "--", sys.executable, "-c", code], capture_output=True, check=False, cwd=tmp_path
        )
        assert done.returncode == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_summary_that_nobody_can_read_does_not_change_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ami_fault_site", "run", "--profile", "light", "--until", "exit", "--json", "--"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, sys.executable, "-c", "import requests"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.endswith("ami-fault: the report cannot be printed: No space left on device\n")


def test_what_the_environment_says_of_another_service_than_the_sandbox_is_told_not_to_be_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMI_TEST_MAX_DELIVER", "1.5")
    monkeypatch.setenv("AMI_TEST_ACK_WAIT", "10")
    worker = ("--", sys.executable, "-c", "import requests")
    assert main(["run", "--sandbox", "--images", "1", "--until", "exit", *worker]) == 4
    said = [line for line in capsys.readouterr().err.splitlines() if "heeded" in line]
    assert said == [
        "ami-fault: AMI_TEST_MAX_DELIVER='1.5' is not heeded: this sandbox's is 2, and --max-deliver sets it"
    ]


def test_a_sandbox_that_dies_ends_the_run(tmp_path: Path) -> None:
    """A child of our own that has gone does not come back; what is out stays out."""
    kill = "import os, signal, requests\n"
    kill += "url = os.environ['AMI_ANTENNA_API_BASE_URL'].removesuffix('/api/v2')\n"
    kill += "os.kill(requests.get(url + '/sandbox/', timeout=5).json()['pid'], signal.SIGKILL)\nsignal.pause()"
    command = [sys.executable, "-m", "ami_fault_site", "run", "--sandbox", "--images", "5", "--json", "--timeout", "60"]
    done = subprocess.run(
        [*command, "--", sys.executable, "-c", kill], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["outcome"] == "service-gone"
