"""Look whether the hook is there and works in an environment, and what it would do to the worker."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ami_fault_site import target
from ami_fault_site.doctor import hooked
from ami_fault_site.doctor.command import examine_commands
from ami_fault_site.doctor.place import examine_place
from ami_fault_site.doctor.probe import ProbeError, probe
from ami_fault_site.doctor.terms import Examined, Level, bad, note, ok
from ami_fault_site.hooks import TASK_LOOPS
from ami_fault_site.hosts import refused_host
from ami_fault_site.profiles import Effective, resolve
from ami_fault_site.runfolder import HOME
from ami_fault_site.settings import TABLE, Settings, SettingsError, plain

__all__ = ["Examined", "Level", "effective_lines", "examine"]


def examine(environ: Mapping[str, str], folder: Path, python: str = sys.executable) -> list[Examined]:
    """Look at everything, in the order in which a fault would need it.

    `folder` is where the worker would be started, `python` its interpreter: a path, or a name on PATH.
    """
    try:
        settings: Settings | None = resolve(environ).settings
        problems: tuple[str, ...] = ()
    except SettingsError as error:
        settings, problems = None, tuple(error.problems)
    named = settings.task_loop if settings else ""
    run_dir = settings.run_dir if settings else environ.get("AMI_TEST_RUN_DIR", "").strip()
    return [
        *_of_interpreter(python, environ, named),
        examine_place(folder / (run_dir or HOME)),
        _settings(environ, problems),
        _target(environ, folder, settings or Settings()),
    ]


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


def _of_interpreter(python: str, environ: Mapping[str, str], named: str) -> Iterator[Examined]:
    module, _, function = named.partition(":")
    try:
        probed = probe(python, environ, {module: (function,)} if named else TASK_LOOPS)
    except ProbeError as error:
        yield bad("interpreter", str(error), error.cure)
        return
    yield ok("interpreter", f"{probed.python}, Python {probed.version}")
    yield hooked.examine_hook(probed)
    yield from hooked.examine_line(probed)
    yield hooked.examine_start(probed)
    yield from hooked.examine_wrappers(probed)
    yield hooked.examine_customizers(probed)
    yield from examine_commands(probed, environ)
    yield hooked.examine_versions(probed)
    yield hooked.examine_task_loop(probed, named)


def _settings(environ: Mapping[str, str], problems: tuple[str, ...]) -> Examined:
    if problems:
        return bad("settings", "; ".join(problems), "correct them; a worker stops with exit code 78")
    given = [f"{name}={value}" for name, value, source in effective_lines(resolve(environ)) if source != "default"]
    return ok("settings", ", ".join(given) or "none set: choose a profile")


def _target(environ: Mapping[str, str], folder: Path, settings: Settings) -> Examined:
    try:
        found = target.find(environ, folder)
    except target.TargetError as error:
        return bad("target", "; ".join(str(error).splitlines()), "correct it, in the environment or in .env")
    where = f"{found.host} ({found.sources[target.BASE_URL]})"
    why = refused_host(found.hostname, settings)
    if why:
        return bad("target", f"{where}: {why}", "test another service")
    missing = [
        (word, name)
        for word, name, value in (
            ("token", target.TOKEN, found.token),
            ("name", target.SERVICE_NAME, found.service_name),
        )
        if not value
    ]
    said = "; ".join([where, *(f"no {word}" for word, _ in missing), *found.remarks])
    if missing or found.remarks:
        wanted = ", ".join(name for _, name in missing)
        cure = f"the real worker needs {wanted}; a sandbox sets it itself" if missing else "mend .env"
        return note("target", said, cure)
    return ok("target", f"{said}; token found")
