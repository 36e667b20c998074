"""What is in the distributions, and how installing them changes an environment."""

from __future__ import annotations

import base64
import csv
import hashlib
import shutil
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

import ami_fault_site
from tests.e2e.conftest import (
    ON,
    ROOT,
    Antenna,
    Groundwork,
    Pinned,
    Workers,
    call,
    is_complete,
    must,
    pip,
    python_of,
    site_packages,
)
from tests.thorough import times

PTH = (
    b'import os; os.environ.get("AMI_TEST_FAULT_INJECTION_ENABLED") and '
    b'__import__("ami_fault_site.startup").startup.activate()\n'
)
PAGE = {f"ami_fault_site/report/page/page.{kind}" for kind in ("css", "html.j2", "js")}
ABOUT = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
WRONG = {**ON, "AMI_TEST_NONSENSE": "1"}
IS_ACTIVE = "import sys; print('ami_fault_site.hooks' in sys.modules)"
WHICH_SITECUSTOMIZE = """
    import os
    import sys
    import sitecustomize
    print(os.path.relpath(sitecustomize.__file__), "ami_fault_site.hooks" in sys.modules)
"""


def freeze(python: Path) -> list[str]:
    return pip(python, "freeze").splitlines()


# The distributions


def test_the_wheel_holds_the_package_the_profiles_and_the_start_up_line_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "ami_fault_site"
    about = f"ami_fault_site-{ami_fault_site.__version__}.dist-info"
    modules = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")}
    profiles = {f"ami_fault_site/envs/{path.name}" for path in (ROOT / "envs").iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert sorted(names) == sorted(
            {"ami_fault_site.pth", "ami_fault_site/py.typed", *PAGE, *modules, *profiles}
            | {f"{about}/{name}" for name in ABOUT}
        )
        assert archive.read("ami_fault_site.pth") == PTH
        for name in {*PAGE, *modules, "ami_fault_site/py.typed"}:
            assert archive.read(name) == (ROOT / name).read_bytes()
        for name in profiles:
            assert archive.read(name) == (ROOT / "envs" / Path(name).name).read_bytes()
    assert {Path(name).suffix for name in profiles} == {".env"}


def test_the_record_names_all_that_is_in_the_wheel_with_its_digest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        rows = {name: (digest, size) for name, digest, size in csv.reader(archive.read(record).decode().splitlines())}
        found = {one.filename: (_digest(archive.read(one)), str(one.file_size)) for one in archive.infolist()}
    assert rows == {**found, record: ("", "")}


def _digest(content: bytes) -> str:
    """Return a digest as a RECORD has it."""
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')}"


def test_the_sdist_holds_the_start_up_line(groundwork: Groundwork) -> None:
    with tarfile.open(next(groundwork.distributions.glob("*.tar.gz"))) as archive:
        found = [member for member in archive.getmembers() if member.name.endswith(".pth")]
        assert [member.name.partition("/")[2] for member in found] == ["ami_fault_site/ami_fault_site.pth"]
        stream = archive.extractfile(found[0])
        assert stream is not None
        assert stream.read() == PTH


def test_an_installed_wheel_puts_the_start_up_line_where_python_reads_it(wheel_python: Path) -> None:
    assert (site_packages(wheel_python) / "ami_fault_site.pth").read_bytes() == PTH


# Installing


@pytest.fixture
def own_python(libraries_python: Path, tmp_path: Path) -> Path:
    """The interpreter of a copy of the environment with the libraries only, for a test to change."""
    shutil.copytree(libraries_python.parent.parent, tmp_path / "own-env", symlinks=True)
    return python_of(tmp_path / "own-env")


def contents(python: Path) -> set[Path]:
    """Return all files and folders of an environment but what Python compiles and what uv locks."""
    folder = python.parent.parent
    found = {path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts}
    return found - {Path(".lock")}


def suffered(workers: Workers) -> bool:
    """Whether one worker was armed, was struck by one fault, and ended in order."""
    (events,) = workers.ledgers().values()
    kinds = [event.kind for event in events]
    return is_complete(events) and kinds.count("armed") == 1 and kinds.count("fault") == 1


SUFFER = """
    import client
    print(client.survives(client.poll))
    import ami_fault_site
    print(ami_fault_site.__file__)
"""
ALWAYS = {"AMI_TEST_NETWORK_ERROR_RATE": "1"}


INSTALLS = [("uv pip", "wheel"), ("pip", "wheel"), ("pip", "editable"), ("uv pip", "editable")]


@pytest.mark.parametrize(("installer", "what"), INSTALLS[: times(3, 4)])
def test_an_installed_package_strikes_and_uninstalling_leaves_nothing_of_it(
    workers: Workers, own_python: Path, wheels: dict[str, str], wheel: Path, antenna: Antenna, installer: str, what: str
) -> None:
    uv = workers.python.parent / "uv"
    command: tuple[str | Path, ...] = (own_python, "-m", "pip") if installer == "pip" else (uv, "pip")
    settings = {**wheels, "UV_CACHE_DIR": str(workers.folder / "cache"), "UV_PYTHON": str(own_python)}
    before = contents(own_python)
    must(*command, "install", "--no-deps", *([wheel] if what == "wheel" else ["-e", ROOT]), **settings)
    ended = workers.run(SUFFER, own_python, **workers.on(SERVICE=antenna.url, **ALWAYS))
    place = site_packages(own_python) if what == "wheel" else ROOT
    assert (ended.stdout, ended.returncode) == (f"False\n{place}/ami_fault_site/__init__.py\n", 0), ended.stderr
    assert suffered(workers)
    assert contents(own_python) > before
    must(*command, "uninstall", *(["-y"] if installer == "pip" else []), "ami-fault-site", **settings)
    assert contents(own_python) == before


def test_uv_run_with_the_wheel_strikes_a_script_and_leaves_the_environment_as_it_was(
    workers: Workers, own_python: Path, wheels: dict[str, str], wheel: Path, antenna: Antenna
) -> None:
    script = own_python.with_name("a-worker")
    script.write_text(f"#!{own_python}\n{textwrap.dedent(SUFFER)}")
    script.chmod(0o755)
    before = contents(own_python)
    settings = {**wheels, "UV_CACHE_DIR": str(workers.folder / "cache"), **workers.on(SERVICE=antenna.url, **ALWAYS)}
    run = (workers.python.parent / "uv", "run", "--no-project", "--python", own_python, "--with", wheel, script.name)
    ended = call(workers.folder, *run, **settings, **path_of(workers.folder))
    assert (ended.returncode, ended.stdout.splitlines()[:1]) == (0, ["False"]), ended.stderr
    assert suffered(workers)
    assert contents(own_python) == before


def test_a_folder_that_a_worker_adds_as_a_site_strikes_it(
    workers: Workers, pinned: Pinned, installed_beside: Path, antenna: Antenna
) -> None:
    code = f"""
    import site
    site.addsitedir({str(installed_beside)!r})
    {SUFFER}
    """
    ended = workers.run(code, pinned.python, **workers.on(SERVICE=antenna.url, **ALWAYS))
    assert ended.stdout == f"False\n{installed_beside}/ami_fault_site/__init__.py\n", ended.stderr
    assert suffered(workers)
    assert pip(pinned.python, "freeze").splitlines() == list(pinned.frozen)


def test_a_worker_with_old_pins_keeps_them_and_the_hooks_work_there(
    workers: Workers, pinned: Pinned, wheel: Path, antenna: Antenna, tmp_path: Path
) -> None:
    shutil.copytree(pinned.python.parent.parent, tmp_path / "old-env", symlinks=True)
    python = python_of(tmp_path / "old-env")
    pip(python, "install", "--no-compile", wheel)
    assert set(pinned.frozen) - set(freeze(python)) == set()
    code = """
        import urllib3
        import client
        assert urllib3.__version__.startswith("1.26."), urllib3.__version__
        assert client.requests.__version__.startswith("2.28."), client.requests.__version__
        client.poll()
        for _ in range(20):
            (task,) = client.lease()
            client.survives(client.look, task)
            client.survives(client.answer, task)
    """
    rates = {"AMI_TEST_CORRUPT_IMAGE_RATE": "0.3", "AMI_TEST_IMAGE_404_RATE": "0.3"}
    ended = workers.run(code, python, **workers.on(SERVICE=antenna.url, **rates))
    assert ended.returncode == 0, ended.stderr
    (events,) = workers.ledgers().values()
    assert is_complete(events)
    struck = {event.text("effect") for event in events if event.kind == "fault"}
    assert struck == {"corrupt-image", "image-404"}
    assert sum(event.kind == "answer" for event in events) > 0


# Other tools in an enabled environment


def test_pip_builds_a_package_in_isolation_with_the_hook_enabled_and_wrong(workers: Workers) -> None:
    project = workers.folder / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling", "requests"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1"\n'
    )
    (project / "tiny.py").write_text("")
    (project / "backend.py").write_text("import requests.sessions\nfrom hatchling.build import *\n")
    pip(workers.python, "wheel", "--no-deps", "-w", workers.folder, project, **WRONG)
    assert list(workers.folder.glob("tiny-1-*.whl")) != []


@pytest.mark.parametrize("switch", [ON, WRONG], ids=["on", "wrong"])
def test_uv_lists_and_installs_with_the_hook_enabled(
    workers: Workers, copied_python: Path, switch: dict[str, str]
) -> None:
    uv = workers.python.parent / "uv"
    wheel = tiny_wheel(workers.folder)
    fresh = {"UV_CACHE_DIR": str(workers.folder / "cache")}  # or it remembers what it learnt of the interpreter
    off = must(uv, "pip", "list", "--python", copied_python, **fresh)
    shutil.rmtree(workers.folder / "cache")
    assert must(uv, "pip", "list", "--python", copied_python, **fresh, **switch) == off
    install = call(
        workers.folder, uv, "pip", "install", "--no-index", "--python", copied_python, wheel, **fresh, **switch
    )
    assert (install.returncode, install.stdout) == (0, ""), install.stderr
    assert must(copied_python, "-c", "import tiny; print(tiny.NUMBER)", **switch) == "42\n"


def tiny_wheel(folder: Path) -> Path:
    """Make a wheel with one module, which needs no build."""
    path = folder / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "NUMBER = 42\n")
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr(
            "tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            "tiny-1.dist-info/RECORD", "tiny.py,,\ntiny-1.dist-info/METADATA,,\ntiny-1.dist-info/WHEEL,,\n"
        )
    return path


# Environments that cannot be installed into


@pytest.fixture(scope="session")
def target(installed_beside: Path) -> Path:
    """The folder to put on PYTHONPATH."""
    return installed_beside / "ami_fault_site" / "site"


def path_of(*folders: Path) -> dict[str, str]:
    return {"PYTHONPATH": ":".join(str(folder) for folder in folders)}


def test_a_worker_that_finds_us_on_its_path_is_armed_with_its_own_libraries(
    workers: Workers, pinned: Pinned, target: Path
) -> None:
    code = """
        import requests
        import PIL.Image
        from ami_fault_site import hooks
        print(requests.__version__, PIL.__version__.partition(".")[0], sorted(hooks.installed()))
    """
    ended = workers.run(code, pinned.python, **workers.on(**path_of(target)))
    assert ended.stdout == "2.28.2 10 ['http', 'image']\n", ended.stderr
    (events,) = workers.ledgers().values()
    assert is_complete(events)


@pytest.mark.parametrize("switch", [{}, {"AMI_TEST_FAULT_INJECTION_ENABLED": "false"}], ids=["unset", "false"])
def test_on_the_path_and_off_no_hook_is_there(
    workers: Workers, pinned: Pinned, target: Path, switch: dict[str, str]
) -> None:
    assert workers.run(IS_ACTIVE, pinned.python, **switch, **path_of(target)).stdout == "False\n"


@pytest.mark.parametrize("switch", [{}, ON, WRONG], ids=["off", "on", "wrong"])
def test_the_sitecustomize_that_ours_hides_is_run_too(
    workers: Workers, pinned: Pinned, target: Path, switch: dict[str, str]
) -> None:
    theirs = workers.folder / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text(
        "import sys\nassert sys.modules['sitecustomize'].__file__ == __file__\nprint('theirs', __name__)\n"
    )
    ended = workers.run(WHICH_SITECUSTOMIZE, pinned.python, **switch, **path_of(target, theirs))
    said = f"theirs sitecustomize\ntheirs/sitecustomize.py {switch != {}}\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, said, "")


def test_without_a_hidden_sitecustomize_nothing_is_said(workers: Workers, pinned: Pinned, target: Path) -> None:
    ended = workers.run("import sitecustomize", pinned.python, **ON, **path_of(target))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "raised",
    ["RuntimeError('theirs')", "ImportError('theirs')", "ModuleNotFoundError('x', name='x')", "SystemExit(3)"],
)
def test_a_sitecustomize_that_raises_does_what_it_does_without_us(
    workers: Workers, pinned: Pinned, target: Path, raised: str
) -> None:
    (workers.folder / "sitecustomize.py").write_text(f"raise {raised}\n")
    code = "import sys; print('started', 'sitecustomize' in sys.modules)"
    without = workers.run(code, pinned.python, **path_of(workers.folder))
    for switch in ({}, ON):
        chained = workers.run(code, pinned.python, **switch, **path_of(target, workers.folder))
        assert (chained.returncode, chained.stdout) == (without.returncode, without.stdout)
        assert chained.stderr.splitlines()[-1:] == without.stderr.splitlines()[-1:]


def test_isolated_mode_leaves_the_path_alone_and_so_the_hook_out(
    workers: Workers, pinned: Pinned, target: Path
) -> None:
    ended = workers.run(IS_ACTIVE, pinned.python, ("-I",), **ON, **path_of(target))
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_a_bundle_made_by_the_wheel_arms_a_worker_that_has_nothing_of_ours_and_keeps_its_pins(
    workers: Workers, pinned: Pinned
) -> None:
    bundle = workers.folder / "bundle"
    must(workers.python, "-m", "ami_fault_site", "bundle", bundle)
    assert len(list(bundle.rglob("LICENSE*"))) == 3
    code = """
        import PIL.Image
        import requests
        import sys
        import wrapt
        from ami_fault_site import hooks
        print(requests.__version__, PIL.__version__.partition(".")[0], sorted(hooks.installed()))
        print("wrapt._wrappers" in sys.modules, wrapt.__file__)
    """
    settings = workers.on(AMI_TEST_PROFILE="light", **path_of(bundle))
    ended = workers.run(code, pinned.python, **settings)
    pure = f"False {bundle}/packages/wrapt/__init__.py"
    assert ended.stdout == f"2.28.2 10 ['http', 'image']\n{pure}\n", ended.stderr
    (events,) = workers.ledgers().values()
    assert is_complete(events)
