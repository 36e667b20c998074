"""Look whether the hook is there and works in this environment, and what it would do to the worker."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from ami_fault_site.hooks import TASK_LOOPS
from ami_fault_site.hosts import protected_by
from ami_fault_site.profiles import Effective, resolve
from ami_fault_site.settings import TABLE, Settings, SettingsError, plain
from ami_fault_site.target import Target

_PROBE = """
import json
import requests, PIL.Image
from ami_fault_site import hooks
print(json.dumps(hooks.installed()))
"""
_PROBE_SECONDS = 60


@dataclass(frozen=True)
class Examined:
    """One thing looked at: whether it is as it should be, what was found, and what to do if it is not."""

    name: str
    good: bool
    found: str
    cure: str = ""


def examine(environ: Mapping[str, str], target: Target) -> list[Examined]:
    """Look at everything, in the order in which a fault would need it."""
    return [_probe(environ), _task_loop(environ), _settings(environ), _target(environ, target)]


def effective_lines(effective: Effective) -> list[tuple[str, str, str]]:
    """Return every setting in force as (name, value, source)."""
    rows = []
    for row in TABLE:
        value = getattr(effective.settings, row.field)
        parts = sorted(value) if isinstance(value, frozenset) else value
        shown = (
            ", ".join(map(plain, parts)) if isinstance(parts, (tuple, list)) else str(getattr(value, "value", value))
        )
        unset = value is None or shown == "" or (row.field == "seed" and not effective.settings.has_seed)
        rows.append((row.name, "-" if unset else shown, effective.sources[row.name]))
    return rows


def _probe(environ: Mapping[str, str]) -> Examined:
    """Start this Python as a worker would be started, and ask it what is hooked."""
    name = f"hook in {sys.executable}"
    clean = {key: value for key, value in environ.items() if not key.startswith("AMI_TEST_")}
    with tempfile.TemporaryDirectory() as folder:
        clean |= {"AMI_TEST_FAULT_INJECTION_ENABLED": "true", "AMI_TEST_RUN_DIR": os.path.join(folder, "run")}
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=clean,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        return Examined(name, False, (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1], _CURE)
    seams = json.loads(done.stdout)
    if not {"http", "image"} <= seams.keys():
        return Examined(name, False, "not active: ami_fault_site.pth is missing or not read", _CURE)
    found = ", ".join(f"{seam} ({where})" for seam, where in sorted(seams.items()))
    return Examined(name, True, found)


_CURE = "pip install ami-fault-site into it, or put the folder printed by `ami-fault site-dir` on PYTHONPATH"


def _task_loop(environ: Mapping[str, str]) -> Examined:
    """Find the loop in the installed worker by reading its source: importing it would load its models' libraries."""
    try:
        named = resolve(environ).settings.task_loop
    except SettingsError:
        named = ""
    loops = {named.partition(":")[0]: (named.partition(":")[2],)} if named else TASK_LOOPS
    found = [f"{module}:{function}" for module, names in loops.items() if (function := _first_function(module, names))]
    own = [one for one in found if one.startswith(_SAMPLE)]
    if found != own or (own and named):
        return Examined("task loop", True, ", ".join(one for one in found if named or one not in own))
    cure = "install this package where the worker is, or name the loop: AMI_TEST_TASK_LOOP=module:function"
    besides = ", only the sample worker" if own else ""
    return Examined("task loop", False, f"no known worker is installed here{besides}", cure)


_SAMPLE = "ami_fault_site."


def _first_function(module: str, names: tuple[str, ...]) -> str:
    source = _source(module)
    if source is None:
        return ""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    defined = {node.name for node in ast.parse(source).body if isinstance(node, functions)}
    return next((name for name in names if name in defined), "")


def _source(module: str) -> str | None:
    """Read a module's source without importing its packages; the first of them is found as an import would find it."""
    first, *rest = module.split(".")
    spec = find_spec(first)
    for depth in range(1, len(rest) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([first, *rest[:depth]]), list(spec.submodule_search_locations))
    return Path(spec.origin).read_text(encoding="utf-8") if spec is not None and spec.origin else None


def _settings(environ: Mapping[str, str]) -> Examined:
    try:
        effective = resolve(environ)
    except SettingsError as error:
        return Examined("settings", False, "; ".join(error.problems), "correct them; a worker stops with exit code 78")
    given = [f"{name}={value}" for name, value, source in effective_lines(effective) if source != "default"]
    return Examined("settings", True, ", ".join(given) or "none set: choose a profile")


def _target(environ: Mapping[str, str], target: Target) -> Examined:
    try:
        protected = resolve(environ).settings.protected_hosts
    except SettingsError:
        protected = Settings().protected_hosts
    entry = protected_by(target.hostname, protected)
    found = f"{target.host} ({target.sources['AMI_ANTENNA_API_BASE_URL']})"
    if entry:
        return Examined(
            "target", False, f"{found} is protected by AMI_TEST_PROTECTED_HOSTS={entry}", "test another service"
        )
    token = "token found" if target.token else "no token"
    return Examined("target", True, f"{found}, {token}")
