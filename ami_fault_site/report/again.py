"""Say how a run is named here, and which line does it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ami_fault_site.report.contents import RunRow
from ami_fault_site.runfolder import HOME, LATEST
from ami_fault_site.runs import names
from ami_fault_site.settings import SCENARIO, Settings, as_text
from ami_fault_site.verdict.case import Case

_NOT_IN_A_PROFILE = ("AMI_TEST_MAX_FAULTS", "AMI_TEST_TASK_LOOP")


def run_rows(case: Case, paths: Sequence[Path]) -> tuple[RunRow, ...]:
    """Say of each run folder what it is; the settings of the case come in the same order."""
    folders = list(dict.fromkeys(path.resolve() for path in paths))
    settings = [*case.facts.settings, *(Settings() for _ in folders)]
    rows = []
    for folder, name, one in zip(folders, names(folders) if folders else [], settings, strict=False):
        again = case.history.invocations.get(name, "") or rebuilt(one)
        outcome = case.history.outcomes.get(name, "")
        places = (str(folder), near(folder), name, typed(folder))
        rows.append(RunRow(*places, one.seed, one.profile, outcome, again))
    return tuple(rows)


def typed(folder: Path) -> str:
    """Return how one types a run folder's name here: `latest`, its name among the runs, or its path."""
    here = Path.cwd()
    home = here / HOME
    if folder.parent == home.resolve():
        return LATEST if (home / LATEST).resolve() == folder else folder.name
    return near(folder)


def near(folder: Path) -> str:
    """Return a path as one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def rebuilt(settings: Settings) -> str:
    """Return the line for a run whose supervisor has left none: by its profile, or else by every rate that was set."""
    texts = as_text(settings)
    wanted = _NOT_IN_A_PROFILE if settings.profile else (*SCENARIO, *_NOT_IN_A_PROFILE)
    words = ["ami-fault", "run"]
    if settings.profile:
        words += ["--profile", settings.profile]
    if settings.has_seed:
        words += ["--seed", str(settings.seed)]
    words += [word for job in sorted(settings.jobs) for word in ("--job", str(job))]
    given = [f"{name}={shlex.quote(texts[name])}" for name in wanted if name in texts]
    return " ".join([*given, shlex.join(words)])
