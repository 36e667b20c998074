"""Read run folders back: ledgers, settings and the service's own words -> a history and the facts beside it."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ami_fault_site import ledger
from ami_fault_site.history import History
from ami_fault_site.jobdetail import job_detail
from ami_fault_site.joblog import JobLog, given_up
from ami_fault_site.ledger import Reader
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.settings import Settings, SettingsError, parse
from ami_fault_site.verdict.facts import Facts, JobWitness, Parameters

_SETTLED = "settled"  # a snapshot that was made when nothing changed any more


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Hold the garbage collector: of the millions of small things that are made here, all live on to the end.

    Nor are they looked through afterwards, when the process ends at the latest.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.freeze()
            gc.enable()


class RunError(Exception):
    """A folder that cannot be read as a run."""


@dataclass(frozen=True)
class Overrides:
    """What the operator knows of the service: `ack_wait` in seconds, `max_deliver` in deliveries; None is not known."""

    ack_wait: float | None = None
    max_deliver: int | None = None
    baseline: float | None = None


@dataclass
class _Job:
    """What the snapshots of one job tell, read in the order of their making."""

    log: JobLog = field(default_factory=JobLog)
    last: Mapping[str, object] = field(default_factory=dict)
    wall: float = 0.0
    settled: bool = False


def read(paths: Sequence[Path], overrides: Overrides = Overrides()) -> tuple[History, Facts]:
    """Read one or many run folders as one history.

    Folders that are named twice are read once. With several, each event says by its folder's name which run it is of.
    Raises RunError for a folder without settings.
    """
    folders = list(dict.fromkeys(path.resolve() for path in paths))
    history, damage = History(), []
    settings: list[Settings] = []
    jobs: dict[int, list[_Job]] = {}
    for folder, name in zip(folders, names(folders), strict=True):
        run = RunFolder(folder)
        reader = Reader(run.ledger, name, _decoder())
        history.add(reader.new())
        read_settings, problems = _settings(folder)
        settings.append(read_settings)
        found, more = _read_snapshots(run.jobs)
        for number, job in found.items():
            jobs.setdefault(number, []).append(job)
        problems += [f"{one.path.name}:{one.line}: {one.problem}" for one in reader.damage] + more
        if run.is_incomplete():
            problems.append("a process could not book everything")
        damage += [f"{name}/{problem}" if name else problem for problem in problems]
    damage += [f"{history.place(ref)}: cannot be understood: {problem}" for ref, problem in history.unreadable]
    damage += [f"{place}: cut short, {lines} lines had been counted" for place, lines in history.shortened()]
    merged = {number: _merged(some) for number, some in jobs.items()}
    return history, _facts(history, settings, merged, damage, overrides)


def gaps(history: History) -> list[str]:
    """Say what a ledger must have and has not, one thing a line: its supervisor's file, that file's end, anything."""
    if all(process.is_bystander for process in history.processes):
        return ["the ledger is empty: nothing was booked, or its files are gone"]
    return [f"{run}/{what}" if run else what for run, what in history.unfinished()]


def refuse_copies(folders: Sequence[Path]) -> None:
    """Raise RunError if two folders hold one and the same ledger file: everything in it would be judged twice."""
    owners: dict[str, Path] = {}
    for folder in dict.fromkeys(path.resolve() for path in folders):
        for path in sorted(RunFolder(folder).ledger.glob("*.jsonl")):
            owner = owners.setdefault(path.name, folder)
            if owner != folder:
                raise RunError(f"RUN={str(folder)!r}: a copy of {str(owner)!r}: both hold the ledger {path.name}")


def _merged(jobs: Sequence[_Job]) -> _Job:
    """Join what several runs kept of one job: the last word, and the log that misses nothing.

    Their clocks may differ by minutes; but a job that has ended for one has ended.
    """
    last = max(jobs, key=lambda one: (job_detail(one.last).is_final, one.wall))
    log = max((one.log for one in jobs), key=lambda one: (one.is_whole, one.delivered))
    return _Job(log if log.is_whole else last.log, last.last, last.wall, last.settled)


def _decoder() -> Callable[[bytes], object]:
    """Return what reads lines of JSON: orjson where it is installed, which takes a third of the time, else Python's."""
    try:
        import orjson
    except ImportError:
        return ledger.decode
    loads = orjson.loads

    def decode(line: bytes) -> object:
        try:
            return loads(line)
        except ValueError:  # it refuses lone surrogates, which stand for the bytes of odd file names
            return ledger.decode(line)

    return decode


def names(folders: Sequence[Path]) -> list[str]:
    """Name each folder so that no two are alike; a single one needs no name."""
    if len(folders) == 1:
        return [""]
    short = [folder.name for folder in folders]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]


def _settings(folder: Path) -> tuple[Settings, list[str]]:
    path = folder / "settings.json"
    try:
        recorded = json.loads(path.read_bytes())["settings"]
        return parse({str(name): str(text) for name, text in recorded.items()}), []
    except FileNotFoundError as error:
        raise RunError(f"RUN={str(folder)!r}: not a run folder, it has no settings.json") from error
    except SettingsError as error:
        return Settings(), [f"{path.name}: {problem}" for problem in error.problems]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Settings(), [f"{path.name}: cannot be read: {error}"]


def _read_snapshots(folder: Path) -> tuple[dict[int, _Job], list[str]]:
    """Read what one run kept of its jobs, and say which files cannot be read."""
    jobs: dict[int, _Job] = {}
    damage = []
    for path in sorted(folder.glob("*.json"), key=_moment):
        try:
            parsed = json.loads(path.read_bytes())
            number = int(parsed["id"])
            made = path.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError) as error:
            damage.append(f"jobs/{path.name}:1: cannot be read: {error}")
            continue
        logs = parsed.get("logs")
        lines = logs.get("stdout") if isinstance(logs, dict) else None
        job = jobs.setdefault(number, _Job())
        job.log.add(lines if isinstance(lines, list) else [])
        job.last, job.wall = parsed, _wall(path, made)
        job.settled = path.stem.rpartition("-")[2] == _SETTLED
    return jobs, damage


def _moment(path: Path) -> tuple[str, str]:
    """Order snapshots by their making: the name is job-time-number-why."""
    parts = path.stem.split("-")
    return (parts[1], parts[2]) if len(parts) >= 4 else ("", path.stem)


def _wall(path: Path, otherwise: float) -> float:
    """Return when a snapshot was made, in seconds since 1970, from its name; a copied file has another time."""
    import calendar
    import time

    try:
        return float(calendar.timegm(time.strptime(path.stem.split("-")[1], "%Y%m%dT%H%M%SZ")))
    except (IndexError, ValueError):
        return otherwise


def _facts(
    history: History, settings: Sequence[Settings], jobs: Mapping[int, _Job], damage: Sequence[str], over: Overrides
) -> Facts:
    witnesses = {number: _witness(job) for number, job in sorted(jobs.items())}
    missing = "" if witnesses else (_why_missing(history) or "the run folder holds nothing that the service said")
    return Facts(tuple(settings), parameters(settings, jobs, over), witnesses, tuple(damage), missing, over.baseline)


def _why_missing(history: History) -> str:
    return next((why for why in history.unwitnessed.values() if why), "")


def _witness(job: _Job) -> JobWitness:
    detail, log = job_detail(job.last), job.log
    whole = log.is_whole
    return JobWitness(
        detail=detail,
        wall=job.wall,
        settled=job.settled,
        recorded=frozenset(log.recorded) if whole else None,
        unsaved=frozenset(log.unsaved),
        undeclared=dict(log.undeclared),
        delivered=log.delivered if whole and log.delivered else None,
        given_up=given_up(detail.errors),
        restarted=log.restarted,
        queued=log.queued,
    )


def parameters(settings: Sequence[Settings], jobs: Mapping[int, _Job], over: Overrides) -> Parameters:
    """Find how the service is set: an option wins over a setting, a setting over a job's log."""
    logs = [(number, job.log.consumer) for number, job in sorted(jobs.items()) if job.log.consumer]
    sources: dict[str, str] = {}

    def find(name: str, option: float | None, given: Sequence[float | None]) -> float | None:
        setting = next((value for value in given if value is not None), None)
        logged = next(((number, log[name]) for number, log in logs if name in log), None)
        if option is not None:
            sources[name] = f"--{name.replace('_', '-')}"
            return option
        if setting is not None:
            sources[name] = f"AMI_TEST_{name.upper()}"
            return setting
        if logged is not None:
            sources[name] = f"the log of job {logged[0]}"
            return logged[1]
        return None

    wait = find("ack_wait", over.ack_wait, [one.ack_wait for one in settings])
    most = find("max_deliver", over.max_deliver, [one.max_deliver or None for one in settings])
    return Parameters(wait, None if most is None else int(most), sources)
