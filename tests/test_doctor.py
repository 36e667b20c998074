"""What the doctor finds in real interpreters: the hook, who stands before and around it, and what keeps it out."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ami_fault_site import __version__
from ami_fault_site.doctor import Examined, Level, examine
from ami_fault_site.doctor.probe import ProbeError, probe
from tests import interpreters
from tests.interpreters import Environment, bare

WRAPS = """
import functools

def wrap(owner, name):
    original = getattr(owner, name)
    @functools.wraps(original)
    def traced(*args, **kwargs):
        return original(*args, **kwargs)
    setattr(owner, name, traced)
"""
SEND, OPEN = "wrappers of requests.Session.send", "wrappers of PIL.Image.open"


@pytest.fixture
def worker(tmp_path: Path) -> Environment:
    """A worker's environment, without us."""
    return interpreters.make(tmp_path / "env")


@pytest.fixture
def armed(worker: Environment) -> Environment:
    """A worker's environment with us in it."""
    worker.install()
    return worker


def look(at: Environment, folder: Path, **variables: str) -> dict[str, Examined]:
    found = examine(bare(**variables), folder, at.python)
    assert all(one.cure for one in found if one.level is Level.BAD)
    return {one.name: one for one in found}


def told(one: Examined) -> tuple[str, str]:
    return one.level.value, one.found


# The hook


def test_a_healthy_environment_has_nothing_bad_and_shows_what_is_patched_and_where(
    armed: Environment, tmp_path: Path
) -> None:
    found = look(armed, tmp_path)
    package = interpreters.ROOT / "ami_fault_site"
    assert told(found["hook"]) == ("ok", f"http (requests.Session.send), image (PIL.Image.open); from {package}")
    assert found["interpreter"].found.startswith(f"{armed.python}, Python 3.")
    assert found["first in line"].found.startswith("our finder is asked first of ")
    assert told(found["imported at start"]) == ("ok", "none of requests, urllib3, PIL")
    assert (told(found[SEND]), told(found[OPEN])) == (("ok", "ours alone"), ("ok", "ours alone"))
    assert {one.name: one for one in found.values() if one.level is Level.BAD} == {}
    assert f"pillow 11.0.0, wrapt {version('wrapt')}" in found["versions"].found
    assert found["versions"].found.endswith(f", ami-fault-site {__version__}")


def test_looking_leaves_nothing_behind(armed: Environment, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts)
    look(armed, tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == before


def test_an_environment_without_us_is_told_how_to_get_us(worker: Environment, tmp_path: Path) -> None:
    found = look(worker, tmp_path)
    assert told(found["hook"]) == ("bad", "ami-fault-site is not installed there")
    assert "ami-fault bundle DIR" in found["hook"].cure
    assert found.keys() & {"first in line", SEND, OPEN} == set()


def test_a_package_without_its_start_up_line_is_there_and_not_started(worker: Environment, tmp_path: Path) -> None:
    worker.write("_checkout.pth", f"{interpreters.ROOT}\n")
    assert look(worker, tmp_path)["hook"].found == (
        f"{interpreters.ROOT / 'ami_fault_site'} is there and was not started: "
        "ami_fault_site.pth is in no folder whose .pth files this Python reads"
    )


def test_a_missing_wrapt_stops_the_probe_and_its_own_words_are_shown(armed: Environment, tmp_path: Path) -> None:
    (armed.packages / "wrapt").unlink()
    hook = look(armed, tmp_path)["hook"]
    assert told(hook) == (
        "bad",
        "the probe left with exit code 78: ami-fault-site: cannot hook requests.sessions: "
        "ModuleNotFoundError: No module named 'wrapt'",
    )
    assert hook.cure.startswith("install what is missing there")


def test_a_library_that_cannot_be_imported_is_named(armed: Environment, tmp_path: Path) -> None:
    armed.write("PIL/Image.py", "raise ImportError('libjpeg.so.62: cannot open shared object file')\n")
    assert told(look(armed, tmp_path)["hook"]) == (
        "bad", "PIL.Image cannot be imported: ImportError: libjpeg.so.62: cannot open shared object file",
    )  # fmt: skip


def test_a_library_that_prints_does_not_garble_the_probe(armed: Environment, tmp_path: Path) -> None:
    armed.write("PIL/Image.py", f"import sys\nsys.stdout.write('{{\"x\"')\nsys.stdout.flush()\n{interpreters.PIL}")
    assert look(armed, tmp_path)["hook"].level is Level.OK


def test_a_probe_that_is_killed_says_by_which_signal(armed: Environment, tmp_path: Path) -> None:
    armed.write("PIL/Image.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert told(look(armed, tmp_path)["hook"]) == ("bad", "the probe was killed by SIGKILL")


def test_a_probe_that_hangs_is_ended_and_keeps_what_it_had_told(armed: Environment) -> None:
    armed.write("PIL/Image.py", "import signal\nwhile True:\n    signal.pause()\n")
    seen = probe(armed.python, bare(), {}, patience=5)
    assert (seen.libraries, seen.ending) == (None, "had not ended after 5 s")
    assert seen.start.started


def test_the_settings_and_a_protected_target_do_not_keep_the_probe_from_looking(
    armed: Environment, tmp_path: Path
) -> None:
    url = "https://antenna.insectai.org/api/v2"
    found = look(armed, tmp_path, AMI_TEST_NONSENSE="1", AMI_ANTENNA_API_BASE_URL=url)
    assert found["hook"].level is Level.OK
    assert (found["settings"].level, found["target"].level) == (Level.BAD, Level.BAD)
    assert "AMI_TEST_NONSENSE" in found["settings"].found


# The interpreter


@pytest.mark.parametrize(
    ("python", "problem"),
    [
        ("/no/such/python", "/no/such/python: there is no such program, or it cannot be executed"),
        ("/usr", "/usr: is a folder"),
        ("/bin/echo", "/bin/echo: is not a Python, or one that cannot start (left with exit code 0)"),
    ],
)
def test_what_is_no_python_is_said_in_one_line(python: str, problem: str, tmp_path: Path) -> None:
    found = {one.name: one for one in examine(bare(), tmp_path, python)}
    assert told(found["interpreter"]) == ("bad", problem)
    assert found.keys() == {"interpreter", "run folder", "settings", "target"}


def test_a_python_that_is_too_old_is_told_its_version(tmp_path: Path) -> None:
    old = {number: path for number, path in interpreters.others().items() if number in ("2.7", "3.6", "3.9")}
    if not old:
        pytest.skip("no Python older than 3.10 is here")
    for number, path in old.items():
        with pytest.raises(ProbeError, match=rf": is Python {number}\.\d+, too old: 3.10 is the oldest"):
            probe(path, bare(), {})


def test_a_python_that_dies_while_it_starts_is_no_traceback(worker: Environment, tmp_path: Path) -> None:
    worker.write("dies.pth", "import os; os._exit(3)\n")
    assert look(worker, tmp_path)["interpreter"].found == (
        f"{worker.python}: is not a Python, or one that cannot start (left with exit code 3)"
    )


def test_without_a_place_for_temporary_files_the_probe_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ProbeError, match="could not be started from a temporary folder") as raised:
        probe(sys.executable, bare(), {})
    assert "TMPDIR" in raised.value.cure


# Who was first


def test_a_library_imported_before_us_is_named_with_the_file_that_imported_it(
    armed: Environment, tmp_path: Path
) -> None:
    line = armed.write("a_first.pth", "import requests\n")
    found = look(armed, tmp_path)
    start = found["imported at start"]
    assert start.level is Level.NOTE
    assert start.found == f"before us: urllib3 (from {line}), requests (from {line})"
    assert start.cure.startswith("hooked all the same")
    assert found["hook"].level is Level.OK


def test_a_library_imported_by_a_sitecustomize_after_us_is_named_too(armed: Environment, tmp_path: Path) -> None:
    theirs = armed.write("sitecustomize.py", "import requests\n")
    found = look(armed, tmp_path)
    assert told(found["imported at start"]) == (
        "note", "urllib3 (from sitecustomize), requests (from sitecustomize)"
    )  # fmt: skip
    assert told(found["sitecustomize"]) == ("ok", f"{theirs} is run")


@pytest.mark.parametrize("number", ["3.10", "3.12", "3.13"])
def test_the_start_of_other_pythons_is_followed_too(tmp_path: Path, number: str) -> None:
    base = interpreters.others().get(number)
    if base is None:
        pytest.skip(f"Python {number} is not here")
    other = interpreters.make(tmp_path / "env", base)
    other.install()
    line = other.write("a_first.pth", "import requests\n")
    found = look(other, tmp_path)
    assert found["hook"].level is Level.OK
    assert found["imported at start"].found == f"before us: urllib3 (from {line}), requests (from {line})"


def test_a_line_that_looks_where_it_is_being_run_does_not_hinder_the_search(armed: Environment, tmp_path: Path) -> None:
    code = "import sys; assert (sitedir, sys._getframe(1).f_locals['sitedir']) == ({0!r}, {0!r}); import wrapt\n"
    line = armed.write("a_second.pth", code.format(str(armed.packages)))
    assert look(armed, tmp_path)["imported at start"].found == f"before us: wrapt (from {line})"


FINDER = "import sys\nclass Finder:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n{body}"
PUT_FIRST = "sys.meta_path.insert(0, Finder)\n"


def test_a_finder_before_ours_is_named_with_its_file_and_harmless_if_the_hook_is_there(
    armed: Environment, tmp_path: Path
) -> None:
    armed.write("tracer.py", FINDER.format(body="        return None\n") + PUT_FIRST)
    line = armed.write("zz_tracer.pth", "import tracer\n")
    first = look(armed, tmp_path)["first in line"]
    assert told(first) == ("note", f"asked before ours: tracer.Finder (from {line})")
    assert first.cure == "nothing: the hook is in place all the same"


def test_a_finder_that_answers_in_our_place_is_bad(armed: Environment, tmp_path: Path) -> None:
    body = "        return PathFinder.find_spec(name, path) if name == 'requests.sessions' else None\n"
    armed.write("tracer.py", "from importlib.machinery import PathFinder\n" + FINDER.format(body=body) + PUT_FIRST)
    armed.write("zz_tracer.pth", "import tracer\n")
    found = look(armed, tmp_path)
    assert told(found["hook"]) == ("bad", "not put in place: http")
    assert found["first in line"].level is Level.BAD
    assert "start the worker without it" in found["first in line"].cure


def test_a_finder_that_is_gone_is_bad(armed: Environment, tmp_path: Path) -> None:
    armed.write("zz_empty.pth", "import sys; sys.meta_path[:] = [f for f in sys.meta_path if isinstance(f, type)]\n")
    assert told(look(armed, tmp_path)["first in line"]) == ("bad", "our finder is gone from sys.meta_path")


# Who else has wrapped


def test_an_apm_that_wraps_after_us_is_outside_and_is_told_with_its_switch(armed: Environment, tmp_path: Path) -> None:
    home = armed.write("ddtrace/__init__.py", f"{WRAPS}\nimport requests\nwrap(requests.Session, 'send')\n")
    armed.write("zz_apm.pth", "import ddtrace\n")
    found = look(armed, tmp_path)
    assert told(found[SEND]) == ("note", f"outside us: Datadog, ddtrace ({home})")
    assert found[SEND].cure == (
        "harmless: what is outside sees our faults as real failures, and reports them as such; "
        "to keep it out of the test: DD_TRACE_ENABLED=false"
    )
    assert told(found[OPEN]) == ("ok", "ours alone")


def test_an_apm_that_wraps_before_us_is_inside(armed: Environment, tmp_path: Path) -> None:
    home = armed.write("tracer.py", f"{WRAPS}\nimport requests\nwrap(requests.Session, 'send')\n")
    armed.write("a_apm.pth", "import tracer\n")
    found = look(armed, tmp_path)
    assert told(found[SEND]) == ("note", f"inside us: tracer ({home})")
    assert found[SEND].cure == "harmless: what is inside is called by us, and sees what a struck call really did"


@pytest.mark.parametrize(
    "code",
    [
        "original = PIL.Image.open\ndef traced(fp):\n    return original(fp)\nPIL.Image.open = traced\n",
        "def put(original):\n    def traced(fp):\n        return original(fp)\n    PIL.Image.open = traced\n"
        "put(PIL.Image.open)\n",
        "class Traced:\n    def __init__(self, real):\n        self.real = real\n    def __call__(self, fp):\n"
        "        return self.real(fp)\nPIL.Image.open = Traced(PIL.Image.open)\n",
        "import wrapt\nwrapt.wrap_function_wrapper('PIL.Image', 'open', lambda w, i, a, k: w(*a, **k))\n",
    ],
    ids=["global", "closure", "attribute", "wrapt"],
)
def test_a_wrapper_is_seen_through_however_it_keeps_what_it_calls(
    armed: Environment, tmp_path: Path, code: str
) -> None:
    home = armed.write("tracer.py", f"import PIL.Image\n{code}")
    armed.write("zz_apm.pth", "import tracer\n")
    assert told(look(armed, tmp_path)[OPEN]) == ("note", f"outside us: tracer ({home})")


def test_a_function_that_has_taken_the_place_of_ours_is_bad(armed: Environment, tmp_path: Path) -> None:
    home = armed.write("replacer.py", "import PIL.Image\nPIL.Image.open = lambda fp: None\n")
    armed.write("zz_replacer.pth", "import replacer\n")
    opened = look(armed, tmp_path)[OPEN]
    assert told(opened) == ("bad", f"replacer ({home}) has taken its place")
    assert "faults may never strike here" in opened.cure


# sitecustomize


def test_the_folder_of_our_sitecustomize_is_enough_and_says_so(worker: Environment, tmp_path: Path) -> None:
    worker.link("wrapt", "dotenv")
    theirs = worker.write("sitecustomize.py", "")
    folder = interpreters.ROOT / "ami_fault_site" / "site"
    found = look(worker, tmp_path, PYTHONPATH=str(folder))
    assert found["hook"].level is Level.OK
    ours = folder / "sitecustomize.py"
    assert told(found["sitecustomize"]) == ("ok", f"{ours} (ours) is run; {theirs} is run by ours")


def test_a_sitecustomize_before_ours_that_imports_requests_keeps_us_out(worker: Environment, tmp_path: Path) -> None:
    worker.link("wrapt", "dotenv")
    (tmp_path / "theirs").mkdir()
    theirs = tmp_path / "theirs" / "sitecustomize.py"
    theirs.write_text("import requests\n")
    folder = interpreters.ROOT / "ami_fault_site" / "site"
    found = look(worker, tmp_path, PYTHONPATH=f"{theirs.parent}:{folder}:{interpreters.ROOT}")
    assert found["hook"].found.endswith(f"{theirs} hides our sitecustomize: ours must come first on PYTHONPATH")
    assert told(found["sitecustomize"]) == (
        "bad", f"{theirs} is run; {folder / 'sitecustomize.py'} (ours) is hidden by {theirs}"
    )  # fmt: skip
    assert found["sitecustomize"].cure == f"put ours first on PYTHONPATH, before the folder of {theirs}"
    assert found["imported at start"].level is Level.NOTE


# Versions and loops


def test_another_version_of_ours_there_is_bad(worker: Environment, tmp_path: Path) -> None:
    worker.write("ami_fault_site/__init__.py", '__version__ = "0.0.9"\n')
    versions = look(worker, tmp_path)["versions"]
    assert versions.level is Level.BAD
    assert versions.found.startswith(f"ami-fault-site 0.0.9 there and {__version__} here; Python 3.")


def test_a_wrapt_without_its_compiled_part_is_called_pure(armed: Environment, tmp_path: Path) -> None:
    assert ", wrapt " in look(armed, tmp_path)["versions"].found
    pure = look(armed, tmp_path, WRAPT_DISABLE_EXTENSIONS="1")["versions"].found
    assert f"wrapt {version('wrapt')} (pure Python)" in pure


LOOP = "import no_such_models\ndef _process_job():\n    pass\n"


def test_the_loop_of_that_environments_worker_is_found_without_importing_it(armed: Environment, tmp_path: Path) -> None:
    for name in ("trapdata/__init__.py", "trapdata/antenna/__init__.py"):
        armed.write(name, "raise RuntimeError('imported')\n")
    armed.write("trapdata/antenna/worker.py", LOOP)
    assert told(look(armed, tmp_path)["task loop"]) == ("ok", "trapdata.antenna.worker:_process_job")
    armed.write("mine.py", "def loop(): pass\n")
    assert told(look(armed, tmp_path, AMI_TEST_TASK_LOOP="mine:loop")["task loop"]) == ("ok", "mine:loop")


def test_only_the_sample_worker_is_a_remark_and_a_named_one_is_as_it_should_be(
    armed: Environment, tmp_path: Path
) -> None:
    only = "only the sample worker is here, which is all a sandbox needs"
    assert told(look(armed, tmp_path)["task loop"]) == ("note", only)
    named = "ami_fault_site.sandbox.worker.loop:process_batch"
    assert told(look(armed, tmp_path, AMI_TEST_TASK_LOOP=named)["task loop"]) == ("ok", named)


def test_no_worker_and_a_named_loop_that_is_not_there_are_bad(worker: Environment, tmp_path: Path) -> None:
    assert told(look(worker, tmp_path)["task loop"]) == ("bad", "no known worker is installed there")
    worker.write("mine.py", "def another(): pass\n")
    for name in ("mine:loop", "no.such:loop"):
        loop = look(worker, tmp_path, AMI_TEST_TASK_LOOP=name)["task loop"]
        assert told(loop) == ("bad", f"AMI_TEST_TASK_LOOP={name!r}: there is no such function")


# How the worker is started


def test_a_worker_script_that_starts_without_site_is_bad_although_the_probe_is_well(
    armed: Environment, tmp_path: Path
) -> None:
    script = armed.script("ami", f"#!{armed.python} -S")
    done = subprocess.run([str(script)], env=bare(), capture_output=True, text=True, check=True)
    assert done.stdout == "working\n"
    found = look(armed, tmp_path)
    assert found["hook"].level is Level.OK
    started = found[f"started by {script}"]
    assert told(started) == (
        "bad", f"{armed.python} -S: with -S Python reads no .pth file and no sitecustomize"
    )  # fmt: skip
    assert started.cure == f"start it without -S: {armed.python} {script}"


# The target


def test_a_target_without_token_is_a_remark_and_a_wrong_address_is_bad(armed: Environment, tmp_path: Path) -> None:
    assert told(look(armed, tmp_path)["target"]) == ("note", "localhost:8000 (default); no token; no name")
    full = {"AMI_ANTENNA_API_AUTH_TOKEN": "secret", "AMI_ANTENNA_SERVICE_NAME": "me"}
    assert told(look(armed, tmp_path, **full)["target"]) == ("ok", "localhost:8000 (default); token found")
    wrong = look(armed, tmp_path, AMI_ANTENNA_API_BASE_URL="antenna")["target"]
    assert told(wrong) == ("bad", "AMI_ANTENNA_API_BASE_URL='antenna': is a URL such as http://localhost:8000/api/v2")
