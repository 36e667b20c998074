"""The promises of the scripts: they work in the shells people use, and leave the logic to the command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ami_fault_site import profiles
from ami_fault_site.forecast import RATE_FIELDS
from ami_fault_site.settings import SettingsError, as_text

ROOT = Path(__file__).parent.parent
SCENARIOS = ROOT / "scripts" / "test_scenarios.env"
NAMES = tuple(profiles.available())
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed"))
    for shell in ("bash", "zsh", "dash")
]


def function(scenario: str) -> str:
    """Return the name of the shell function that chooses a scenario."""
    return f"test_{scenario.replace('-', '_')}"


def shell(name: str, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AMI_")}
    return subprocess.run(
        [name, "-eu", "-c", f". {SCENARIOS}\n{text}"],
        env={**clean, **environ}, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("scenario", NAMES)
def test_a_scenario_exports_two_variables_and_says_so_in_one_line(name: str, scenario: str) -> None:
    done = shell(name, f"test_heavy >/dev/null; {function(scenario)}; env | grep ^AMI_TEST_ | sort")
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert lines[1:] == ["AMI_TEST_FAULT_INJECTION_ENABLED=true", f"AMI_TEST_PROFILE={scenario}"]
    assert lines[0].startswith(f"{scenario}: ")


@pytest.mark.parametrize("scenario", NAMES)
def test_what_a_scenario_says_is_what_its_profile_holds(scenario: str) -> None:
    said = shell("sh", function(scenario)).stdout
    settings = profiles.resolve({"AMI_TEST_PROFILE": scenario, "AMI_TEST_ACK_WAIT": "60"}).settings
    rates = {
        "crash": settings.worker_crash_rate,
        "network": settings.network_error_rate,
        "corrupt": settings.corrupt_image_rate,
        "404": settings.image_404_rate,
        "transient": settings.transient_error_rate,
    }
    assert len(rates) == len(RATE_FIELDS)
    for word, rate in rates.items():
        assert (f"{word} {rate:.2f}" in said) == (rate > 0), word
    rules = as_text(settings).get("AMI_TEST_RULES", "")
    assert {share for share in re.findall(r"\d+%", said) if share not in rules} == set()
    assert bool(rules) <= bool(re.search(r"\d+%|rules|all API calls", said))


@pytest.mark.parametrize("scenario", NAMES)
def test_a_scenario_names_what_must_be_known_of_the_service(scenario: str) -> None:
    try:
        profiles.resolve({"AMI_TEST_PROFILE": scenario})
    except SettingsError as error:
        missing = set(re.findall("AMI_TEST_ACK_WAIT", str(error)))
    else:
        missing = set()
    assert set(re.findall("needs (AMI_TEST_[A-Z_]*)", shell("sh", function(scenario)).stdout)) == missing
    assert missing == ({"AMI_TEST_ACK_WAIT"} if scenario == "slow-worker" else set())


@pytest.mark.parametrize("name", SHELLS)
def test_off_leaves_nothing_of_ours_behind(name: str) -> None:
    text = 'test_medium >/dev/null; test_off; env | grep -c ^AMI_ || true; echo "$AMI_OTHER"'
    done = shell(
        name, text, AMI_TEST_SEED="1", AMI_TEST_PERMANENT_ERROR_IMAGES="a b'c\nAMI_TEST_X=1;2", AMI_OTHER="kept"
    )
    assert (done.stdout, done.stderr) == ("1\nkept\n", "")


@pytest.mark.parametrize("name", SHELLS)
def test_help_lists_every_scenario(name: str) -> None:
    done = shell(name, "test_help")
    assert all(f"{function(scenario)} " in done.stdout for scenario in (*NAMES, "off"))


def test_the_robustness_script_turns_names_into_options_and_starts_the_command(tmp_path: Path) -> None:
    fake = tmp_path / "ami-fault"
    fake.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\n')
    fake.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = str(ROOT / "scripts" / "test_worker_robustness.sh")
    for names in ([], ["moth_binary"], ["moth_binary", "a name", "--"]):
        done = subprocess.run([script, *names], env=environ, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.splitlines() == ["<run>", *(word for n in names for word in ("<--pipeline>", f"<{n}>"))]


def test_the_robustness_script_names_the_cure_where_the_command_is_missing(tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "test_worker_robustness.sh")
    done = subprocess.run(
        [script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: ami-fault is not on the PATH; activate the worker's environment and: pip install "
    )


def environment(tmp_path: Path, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f". {ROOT / 'scripts' / 'environment.sh'}\n{text}"],
        env={"PATH": str(tmp_path / "bin"), **environ}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def fake_python(tmp_path: Path, body: str) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "env"):
        os.symlink(shutil.which(tool) or "", folder / tool)
    python = folder / "python3"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    return python


def test_an_old_python_is_an_error_that_names_the_cure(tmp_path: Path) -> None:
    fake_python(tmp_path, "exit 1")
    done = environment(tmp_path, "make_environment venv . none")
    assert done.returncode == 1
    assert done.stderr == (
        "error: Python 3.10 or newer is needed and none was found; install one, or name one: PYTHON=/path/to/python3\n"
    )


def test_a_missing_venv_module_is_an_error_that_names_the_cure(tmp_path: Path) -> None:
    fake_python(tmp_path, 'case "$2" in *venv*) exit 1;; esac; exec ' + sys.executable + ' "$@"')
    done = environment(tmp_path, "make_environment venv . none")
    assert done.returncode == 1
    assert done.stderr == "error: python3 has no venv module; on Debian and Ubuntu: apt install python3-venv\n"


def test_a_named_python_is_taken_first(tmp_path: Path) -> None:
    fake_python(tmp_path, "exit 1")
    assert environment(tmp_path, "find_python", PYTHON=sys.executable).stdout == f"{sys.executable}\n"


def test_an_environment_whose_making_was_stopped_is_made_whole(tmp_path: Path) -> None:
    half = tmp_path / "half"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", half], check=True)
    (half / "kept").touch()  # nothing in it is taken away: somebody may have made it so
    text = f"make_environment {half} {tmp_path} none; {half}/bin/python -m pip --version"
    done = environment(tmp_path, text, PATH=os.environ["PATH"], PYTHON=sys.executable)
    assert done.stdout.startswith("pip "), done.stderr
    assert (half / "kept").exists()


def test_the_robustness_script_says_what_it_can_and_names_an_option_that_there_is_not(tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "test_worker_robustness.sh")
    told = subprocess.run([script, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "--sandbox [PIPELINE]" in told.stdout
    assert "set -eu" not in told.stdout
    wrong = subprocess.run([script, "--sandbocks", "a"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: there is no option --sandbocks; there are --sandbox and --help\n"
