"""The promises of a bundle: one folder on PYTHONPATH arms any Python, and nothing of the worker's is replaced."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from ami_fault_site import bundle, profiles
from ami_fault_site.doctor import Level, examine
from tests import interpreters
from tests.interpreters import Environment, bare

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
SAY = """
import json, sys
import requests, PIL.Image
import wrapt, dotenv
from ami_fault_site import hooks
files = {name: sys.modules[name].__file__ for name in ("ami_fault_site", "wrapt", "dotenv", "requests")}
print(json.dumps([hooks.installed(), files, "wrapt._wrappers" in sys.modules, type(PIL.Image.open).__name__]))
"""


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "faults"
    bundle.write(folder)
    return folder


def say(at: Environment, folder: Path, **variables: str) -> tuple[dict[str, str], dict[str, str], bool, str]:
    environ = bare(**variables, AMI_TEST_FAULT_INJECTION_ENABLED="true", AMI_TEST_RUN_DIR=str(folder / "run"))
    command = [at.python, "-W", "error", "-c", SAY]
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seams, files, compiled, kind = json.loads(done.stdout)
    return seams, files, compiled, kind


@pytest.mark.parametrize("version", SUPPORTED)
def test_the_folder_on_the_path_arms_an_environment_that_has_nothing_of_ours(
    bundled: Path, tmp_path: Path, version: str
) -> None:
    base = interpreters.others().get(version)
    if base is None:
        pytest.skip(f"Python {version} is not here")
    worker = interpreters.make(tmp_path / "env", base)
    seams, files, compiled, kind = say(worker, tmp_path, PYTHONPATH=str(bundled), AMI_TEST_PROFILE="medium")
    assert seams == {"http": "requests.Session.send", "image": "PIL.Image.open"}
    assert (compiled, kind) == (False, "Hook")
    packages = bundled / bundle.PACKAGES
    assert {name: Path(file).parent.parent for name, file in files.items()} == {
        "ami_fault_site": packages, "wrapt": packages, "dotenv": packages, "requests": worker.packages,
    }  # fmt: skip


def test_the_doctor_finds_nothing_bad_of_it_and_calls_wrapt_pure(bundled: Path, tmp_path: Path) -> None:
    worker = interpreters.make(tmp_path / "env")
    worker.write("trapdata/antenna/worker.py", "def _process_job(): pass\n")
    found = {one.name: one for one in examine(bare(PYTHONPATH=str(bundled)), tmp_path, worker.python)}
    assert [one for one in found.values() if one.level is Level.BAD] == []
    assert found["hook"].found.endswith(f"from {bundled / bundle.PACKAGES / 'ami_fault_site'}")
    assert " (pure Python), python-dotenv " in found["versions"].found
    assert found["sitecustomize"].found == f"{bundled / 'sitecustomize.py'} (ours) is run"


def test_the_workers_own_libraries_win(bundled: Path, tmp_path: Path) -> None:
    worker = interpreters.make(tmp_path / "env")
    worker.link("wrapt", "dotenv")
    _, files, _, _ = say(worker, tmp_path, PYTHONPATH=str(bundled))
    own = worker.packages
    assert [Path(files[name]).parent.parent for name in ("wrapt", "dotenv", "requests")] == [own, own, own]


def test_off_the_folder_puts_nothing_on_the_path(bundled: Path, tmp_path: Path) -> None:
    worker = interpreters.make(tmp_path / "env")
    code = "import sys; print([path for path in sys.path if 'faults' in path], 'wrapt' in sys.modules)"
    done = subprocess.run(
        [worker.python, "-c", code], env=bare(PYTHONPATH=str(bundled)), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"[{str(bundled)!r}] False\n", "")


def test_it_holds_the_package_two_libraries_their_licences_and_nothing_compiled(tmp_path: Path) -> None:
    bundled = tmp_path / "faults"
    bundle.write(bundled)
    assert sorted(path.name for path in bundled.iterdir()) == [bundle.PACKAGES, "sitecustomize.py"]
    packages = bundled / bundle.PACKAGES
    tops = {path.name for path in packages.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"ami_fault_site", "wrapt", "dotenv"}
    records = {path.name.partition("-")[0]: path for path in packages.glob("*.dist-info")}
    assert records.keys() == {"wrapt", "python_dotenv"}
    assert all(list(record.rglob("LICEN*")) and (record / "METADATA").is_file() for record in records.values())
    suffixes = {path.suffix for path in bundled.rglob("*") if path.is_file() and ".dist-info" not in str(path)}
    assert suffixes <= {".py", ".env", ".typed", ""}
    assert "Permission is hereby granted" in (packages / "ami_fault_site" / "LICENSE").read_text()
    shipped = {path.stem for path in (packages / "ami_fault_site" / "envs").iterdir()}
    assert shipped == set(profiles.available())


def test_everybody_may_read_it_whatever_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        bundle.write(tmp_path / "faults")
    finally:
        os.umask(mask)
    for path in ((tmp_path / "faults"), *(tmp_path / "faults").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


def test_an_empty_folder_is_filled_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    bundle.write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "sitecustomize.py").is_file()


@pytest.mark.parametrize("kind", ["bundle", "file", "folder", "dangling"])
def test_what_is_there_is_left_alone(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "faults"
    if kind == "file":
        folder.write_text("mine")
    elif kind == "dangling":
        folder.symlink_to("nowhere")
    else:
        folder.mkdir()
        (folder / "kept").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(bundle.BundleError) as raised:
        bundle.write(folder)
    said = "there is something already; a bundle is written into a new or an empty folder"
    assert str(raised.value) == f"{folder}: {said}"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(bundle.BundleError, match="nowhere/faults: cannot be made: No such file or directory"):
        bundle.write(tmp_path / "nowhere" / "faults")
    assert list(tmp_path.iterdir()) == []


def test_without_a_licence_text_there_is_no_bundle_and_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrapt-9.dist-info").mkdir()
    (tmp_path / "wrapt-9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: wrapt\nVersion: 9\n")
    (tmp_path / "wrapt-9.dist-info" / "RECORD").write_text("wrapt-9.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(bundle.BundleError) as raised:
        bundle.write(tmp_path / "out" / "faults")
    assert str(raised.value) == "wrapt: its licence text is not here, and it cannot go without: install it with pip"
    assert list((tmp_path / "out").iterdir()) == []
