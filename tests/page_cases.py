"""Run folders of every sort for the page that shows them: modelled, booked by hand, several as one, empty, damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ami_fault_site import report, runfolder
from ami_fault_site.cli import pages, verdicts
from ami_fault_site.report import Report
from ami_fault_site.settings import Settings
from ami_fault_site.verdict import Case, judge
from ami_fault_site.verdict.terms import Gate, Status
from tests.booked import Books
from tests.model import Misbehaviour, Sabotage, Scenario, misbehaving, play, sabotaged, wild, write
from tests.model.booking import as_line
from tests.model.scenarios import PROFILES
from tests.report_cases import ENDED, LOST, NOT_STARVED, SETTINGS, dry_run, facts, finding, report_of, short_run

BUSY = Scenario(
    seed=5, jobs=2, images=40, batch=4, ack_wait=6.0, max_deliver=25, restart_delay=1.0, settings=PROFILES["heavy"]
)
"""Two jobs under all faults: crashes, redeliveries, missing and damaged images."""


def shelve(books: Books, path: Path, settings: Settings, *jobs: Mapping[str, object]) -> Path:
    """Write what was booked to a run folder, with what the service said last of its jobs."""
    run = runfolder.join(settings._replace(run_dir=str(path)), path.parent).run
    for process in books.processes:
        numbered = (event._replace(sequence=number) for number, event in enumerate(process.events, 1))
        (run.ledger / process.file).write_text("".join(map(as_line, numbered)))
    for job in jobs:
        (run.jobs / f"{job['id']}-20261123T083731Z-0001-settled.json").write_text(json.dumps(job))
    return run.path


def job_detail(number: int, status: str, *errors: str, lines: Sequence[str] = (), **counts: int) -> dict[str, object]:
    """Return what the service says of a job."""
    params = [{"key": key, "value": value} for key, value in counts.items()]
    progress = {"stages": [{"key": "process", "params": params}], "errors": list(errors)}
    return {"id": number, "status": status, "progress": progress, "logs": {"stdout": list(lines)}}


def modelled(scenario: Scenario) -> Callable[[Path], list[Path]]:
    """Return what writes the runs of a scenario."""
    return lambda folder: list(write(play(scenario), folder).values())


def dry(folder: Path) -> list[Path]:
    """Write a run in which nothing was touched."""
    books = dry_run().books
    ended = job_detail(7, "SUCCESS", processed=4, remaining=0, failed=1)
    return [shelve(books, folder / "dry", SETTINGS._replace(dry_run=True), ended)]


def refilled(folder: Path) -> list[Path]:
    """Write a run in which a job was run again, and of which the operator has noted something."""
    run = short_run()
    run.books.refill(7)
    run.second.fetch(20.0, 7, (1, 1), (2, 1))
    run.second.post(20.5, 7, (1, 1), (2, 1))
    run.books.process(90, 0).book("note", 1.6, text="killed celeryworker", ago=0.0)
    ended = job_detail(7, "SUCCESS", processed=2, remaining=0, failed=0)
    return [shelve(run.books, folder / "refilled", SETTINGS, ended)]


def empty(folder: Path) -> list[Path]:
    """Write a run folder in which nothing stands."""
    return [shelve(Books(), folder / "empty", SETTINGS)]


def damaged(folder: Path) -> list[Path]:
    """Write a run of which lines are torn, and one file is cut short."""
    paths = modelled(BUSY)(folder)
    longest = max((paths[0] / "ledger").iterdir(), key=lambda path: path.stat().st_size)
    lines = longest.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:20] + b"\n"
    longest.write_bytes(b"".join(lines[:-5]))
    return paths


RUNS: Mapping[str, Callable[[Path], list[Path]]] = {
    "busy": modelled(BUSY),
    "several": modelled(replace(BUSY, seed=6, hosts=2, workers=3, organic_crash=0.1)),
    "unsupervised": modelled(replace(BUSY, seed=7, unsupervised=True)),
    "calm": modelled(replace(BUSY, settings=PROFILES["none"])),
    "stopped": modelled(replace(BUSY, seed=8, stop_after=12.0, token=False, knows_parameters=False)),
    "wild": modelled(replace(wild(11), token=True)),
    "loses": modelled(sabotaged(Sabotage.NEVER_REDELIVERS, 1)),
    "miscounts": modelled(sabotaged(Sabotage.ERROR_AS_SUCCESS, 2)),
    "hands out twice": modelled(sabotaged(Sabotage.HANDS_OUT_TWICE, 3)),
    "forgets": modelled(sabotaged(Sabotage.FORGETS_EXHAUSTED, 4)),
    "drops posts": modelled(misbehaving(Misbehaviour.DROPS_POSTS, 1)),
    "dry": dry,
    "refilled": refilled,
    "empty": empty,
    "damaged": damaged,
}
"""By name, what writes the run folders that are shown as one page."""


OPEN_TOO = finding("no-early-success", Status.UNKNOWN, "it cannot be told", tasks=(4,))
EXPECTED = finding("failure-counts-accurate", Status.FAIL, "job 7 counts 2 failed", known="it is being mended")
WARNED = finding("requeued-in-time", text="2 redeliveries", warnings=("the clock of one host jumped",))


@dataclass(frozen=True)
class Page:
    """A page as a file, and what it shows."""

    path: Path
    case: Case
    report: Report


def page_of(paths: Sequence[Path], path: Path, compared: Mapping[str, Case] | None = None) -> Page:
    """Write the page of some run folders, perhaps with others compared."""
    case = verdicts.case_of(paths, verdicts.Asked())
    made = report.build(case, judge(case), paths, gate=Gate.ALL, strict=False, outcome=None)
    pages.write(path, case, made, compared)
    return Page(path, case, made)


def gallery(path: Path) -> Page:
    """Write a page on which there is one of everything: each state of a finding, damage, a note, last words."""
    run = short_run()
    run.books.process(90, 0).book("note", 1.6, text="killed celeryworker", ago=0.0)
    run.supervisor.exit(12.3, 3, "organic", code=1)
    case = run.books.case(facts(ENDED, damage=("ledger/h-0001-11-1.jsonl:9: cannot be read",)))
    case.history.lives["", 3].last_words = ["Traceback (most recent call last):", "RuntimeError: out of memory"]
    made = report_of(LOST, OPEN_TOO, EXPECTED, WARNED, NOT_STARVED, case=case)
    pages.write(path, case, made)
    return Page(path, case, made)
