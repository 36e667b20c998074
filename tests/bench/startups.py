"""What the start of an interpreter costs with this package off and on, and under what people use in its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.environments import ON, PEERS, Environments, InstallError
from tests.bench.pairs import Contender, ContenderError, durations
from tests.bench.rows import Goal, Row, paired, spread

OFF_START = "off: start of the interpreter"
ON_START = "on: start of the interpreter, before a seam is imported"
ON_IMPORT = "on: start of a worker that imports requests and Pillow"
_PASS, _IMPORT = "pass", "import requests, PIL.Image"
_OFF_GOAL = Goal("at most 1.03 of bare", "ratio", most=1.03)
_ON_GOAL = Goal("at most 1.25 of bare", "ratio", most=1.25)
_IMPORT_GOAL = Goal("at most 45 ms more than off", "added", most=45.0)


def rows(environments: Environments, scratch: Path, rounds: int, with_peers: bool) -> Iterator[Row]:
    """Measure the starts, with `rounds` of each beside each other."""
    bare = Contender("bare", [environments.bare, "-c", _PASS])
    off = Contender("off", [environments.ours, "-c", _PASS])
    on = Contender("on", [environments.ours, "-c", _PASS], ON)
    found = durations([bare, off, on], rounds)
    against = ("bare", found["bare"])
    yield Row(OFF_START, "an environment with requests and Pillow", "ms", spread(found["bare"]))
    yield paired(OFF_START, "with this package, off", "ms", found["off"], against, _OFF_GOAL)
    yield paired(ON_START, "with this package, on", "ms", found["on"], against, _ON_GOAL)
    if with_peers:
        yield from _peers(environments, bare, -(-rounds // 4))
    worker = [
        Contender("off", [environments.ours, "-c", _IMPORT]),
        Contender("wrapt", [environments.ours, "-c", f"{_IMPORT}, wrapt"]),
        Contender("on", [environments.ours, "-c", _IMPORT], {**ON, "AMI_TEST_RUN_DIR": str(scratch / "run")}),
    ]
    found = durations(worker, -(-rounds // 2))
    against = ("off", found["off"])
    yield Row(ON_IMPORT, "with this package, off", "ms", spread(found["off"]))
    yield paired(ON_IMPORT, "with this package, on", "ms", found["on"], against, _IMPORT_GOAL)
    yield paired(ON_IMPORT, "off, and imports wrapt as well", "ms", found["wrapt"], against)


def _peers(environments: Environments, bare: Contender, rounds: int) -> Iterator[Row]:
    for peer in PEERS:
        try:
            one = environments.peer(peer, "-c", _PASS)
            found = durations([bare, one], rounds)
        except (InstallError, ContenderError) as why:
            yield Row(ON_START, peer.name, "ms", note=f"could not be measured: {why}")
        else:
            yield paired(ON_START, peer.name, "ms", found[one.name], ("bare", found["bare"]))


def identities(environments: Environments) -> Iterator[Row]:
    """Look whether the functions that the hook would replace are the originals while it is off."""
    code = (
        "import sys, requests, PIL.Image, types; "
        "whole = all(type(f) is types.FunctionType and f.__module__ == m and not hasattr(f, '__wrapped__') for f, m in "
        "((requests.Session.send, 'requests.sessions'), (PIL.Image.open, 'PIL.Image'))); "
        "sys.exit(not whole or any(name.startswith('ami_fault_site') for name in sys.modules))"
    )
    goal = Goal("identical objects", "median", least=1.0)
    for name, python in (("an environment without this package", environments.bare), ("off", environments.ours)):
        yield Row(
            "off: the worker's calls", name, "", spread([float(_ends_well(name, [python, "-c", code]))]), goal=goal
        )


def _ends_well(name: str, command: Sequence[str | Path]) -> bool:
    try:
        durations([Contender(name, command)], 1)
    except ContenderError as why:
        print(why, file=sys.stderr)
        return False
    return True
