"""Write a folder that starts the hook from PYTHONPATH alone: this package, a pure-Python wrapt, and python-dotenv."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import ami_fault_site
from ami_fault_site import profiles

PACKAGES = "packages"
"""The folder in a bundle that goes to the end of the worker's path: the worker's own libraries win."""

# Of these only what is written in Python: wrapt does without its compiled part. The rest is the worker's own.
_LIBRARIES = {"wrapt": "wrapt", "python-dotenv": "dotenv"}
_KEPT = (".py", ".typed", ".env")
_LICENCES = ("licen", "copying", "notice")


class BundleError(Exception):
    """Why no bundle can be written."""


def write(folder: Path) -> None:
    """Write a bundle where nothing is yet; raises BundleError, and leaves nothing half-done behind."""
    folder = folder.absolute()
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder}: there is something already; a bundle is written into a new or an empty folder")
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"{folder}: cannot be made: {error.strerror}") from error
    try:
        _fill(draft)
        os.rename(draft, folder.resolve())
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(draft: Path) -> None:
    packages = draft / PACKAGES
    own = Path(ami_fault_site.__file__).resolve().parent
    _copy(own, packages / own.name)
    for path in profiles.available().values():
        _place(path, packages / own.name / "envs" / path.name)
    _place(own / "site" / "sitecustomize.py", draft / "sitecustomize.py")
    licence = own.parent / "LICENSE"  # in a checkout; an install keeps it in its record
    if licence.is_file():
        _place(licence, packages / own.name / "LICENSE")
    else:
        _copy_record(_distribution("ami-fault-site"), packages)
    for name, module in _LIBRARIES.items():
        _copy(_folder_of(module), packages / module)
        _copy_record(_distribution(name), packages)
    for path in (draft, *draft.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # a container's user may be anybody


def _folder_of(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.origin:
        raise BundleError(f"{module}: is not installed here: pip install ami-fault-site brings it")
    return Path(spec.origin).parent


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise BundleError(f"{name}: its licence text is not here, and it cannot go without: pip install it") from error


def _copy(source: Path, goal: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.suffix in _KEPT and path.is_file():
            _place(path, goal / path.relative_to(source))


def _place(source: Path, goal: Path) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, goal)


def _copy_record(found: Distribution, packages: Path) -> None:
    """Copy what names a library, its version and its licence."""
    kept = list(_record(found))
    if not any(_is_licence(path) for path in kept):
        name = found.metadata["Name"]
        raise BundleError(f"{name}: its licence text is not here, and it cannot go without: install it with pip")
    for path in kept:
        inner = next(at for at, part in enumerate(path.parts) if part.endswith(".dist-info"))
        _place(path, packages.joinpath(*path.parts[inner:]))


def _record(found: Distribution) -> Iterator[Path]:
    for file in found.files or ():
        path = Path(str(found.locate_file(file)))
        inside = any(part.endswith(".dist-info") for part in file.parts)
        if inside and path.is_file() and (path.name == "METADATA" or _is_licence(path)):
            yield path


def _is_licence(path: Path) -> bool:
    return path.name.lower().startswith(_LICENCES)
