"""Say which libraries are in force, and end with 1 if these are not the corner's: python -m tests.corners CORNER."""

from __future__ import annotations

import sys

import PIL
import requests
import urllib3
import wrapt
from packaging.specifiers import SpecifierSet

PYTHONS = ("py310", "py313")
OLD = {"requests": "==2.28.*", "urllib3": "==1.26.*", "PIL": "==10.*", "wrapt": "==1.16.*"}
NEW = {"requests": ">=2.32", "urllib3": ">=2.5", "PIL": ">=12", "wrapt": ">=2"}
CORNERS = {
    "oldest": OLD,
    "urllib3v2": {**OLD, "requests": "==2.30.*", "urllib3": "==2.0.*"},
    "newest": NEW,
    "pure": NEW,
}
IS_COMPILED = "wrapt._wrappers" in sys.modules


def in_force() -> dict[str, str]:
    """Return the version of each library as it is imported here."""
    return {module.__name__: module.__version__ for module in (requests, urllib3, PIL, wrapt)}


def differences(corner: str) -> list[str]:
    """Return what is not as the corner wants it."""
    python, libraries = corner.split("-")
    found = in_force()
    wrong = [
        f"{name} {found[name]} is not {wanted}"
        for name, wanted in CORNERS[libraries].items()
        if found[name] not in SpecifierSet(wanted)
    ]
    if python != "py{}{}".format(*sys.version_info):
        wrong.append(f"Python {sys.version} is not {python}")
    if IS_COMPILED and libraries == "pure":
        wrong.append("wrapt is compiled")
    if libraries == "newest" and not IS_COMPILED:
        wrong.append("wrapt is pure Python")
    return wrong


def main() -> int:
    """Print the versions, and what is wrong with them on stderr."""
    (corner,) = sys.argv[1:]
    told = [f"{name} {version}" for name, version in in_force().items()]
    print(f"{corner}: Python {sys.version.split()[0]}", *told, "compiled" if IS_COMPILED else "pure Python", sep=", ")
    wrong = differences(corner)
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
