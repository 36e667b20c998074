"""What is in the distributions, and how installing them changes an environment."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

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

PTH = (
    b'import os; os.environ.get("AMI_TEST_FAULT_INJECTION_ENABLED") and '
    b'__import__("ami_fault_site.startup").startup.activate()\n'
)
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


def test_the_wheel_holds_the_start_up_line_at_its_top_and_the_profiles_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read("ami_fault_site.pth") == PTH
    assert "ami_fault_site/ami_fault_site.pth" not in names
    assert {name.partition("/")[0] for name in names} == {
        "ami_fault_site.pth", "ami_fault_site", next(name for name in names if ".dist-info" in name).partition("/")[0],
    }  # fmt: skip
    profiles = sorted(Path(name).name for name in names if name.startswith("ami_fault_site/envs/"))
    assert profiles == sorted(path.name for path in (ROOT / "envs").glob("*.env"))
    assert {"ami_fault_site/py.typed", "ami_fault_site/site/sitecustomize.py"} <= set(names)


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


def test_an_editable_install_is_active_and_uninstalling_takes_all_of_it_away(
    workers: Workers, copied_python: Path
) -> None:
    site = site_packages(copied_python)
    pip(copied_python, "uninstall", "-y", "ami-fault-site")
    assert list(site.glob("ami_fault_site*")) == []
    assert workers.run(IS_ACTIVE, copied_python, **ON).stdout == "False\n"

    pip(copied_python, "install", "--no-deps", "-e", ROOT)
    assert (site / "ami_fault_site.pth").read_bytes() == PTH
    settings = workers.on(PYTHONDONTWRITEBYTECODE="1", AMI_TEST_PROFILE="light")
    code = "import requests, ami_fault_site; print(ami_fault_site.__file__)"
    assert workers.run(code, copied_python, **settings).stdout == f"{ROOT / 'ami_fault_site' / '__init__.py'}\n"
    assert workers.kinds() == ["armed", "end", "start"]

    pip(copied_python, "uninstall", "-y", "ami-fault-site")
    assert [path for path in site.rglob("*ami_fault_site*") if path.is_file()] == []


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
