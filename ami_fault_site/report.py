"""Say how a run went: summary -> terminal and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ami_fault_site.antenna import JobDetail
from ami_fault_site.faults import Effect
from ami_fault_site.history import History, Life
from ami_fault_site.ledger import Damage
from ami_fault_site.settings import Settings
from ami_fault_site.supervisor import Outcome, exit_text

_SET_RATES = {
    Effect.CRASH: "worker_crash_rate",
    Effect.NETWORK: "network_error_rate",
    Effect.CORRUPT: "corrupt_image_rate",
    Effect.IMAGE_404: "image_404_rate",
    Effect.TRANSIENT: "transient_error_rate",
}
_ENDINGS = {
    Outcome.DRAINED: "every job has ended",
    Outcome.IDLE: "nothing was handed out or answered any more",
    Outcome.EXITED: "the worker ended by itself",
    Outcome.TIMEOUT: "the time was up",
    Outcome.RESTARTS_EXHAUSTED: "the worker ended more often than it may be restarted",
    Outcome.SERVICE_GONE: "the sandbox has ended",
    Outcome.NOT_ARMED: "the worker ran without the hook: no fault could strike",
    Outcome.SETTINGS: "the worker refused its settings",
    Outcome.INTERRUPTED: "stopped by the operator",
}
NOT_ARMED_CURE = (
    "install ami-fault-site into the environment that the worker's Python uses (ami-fault doctor looks at this one), "
    "start that Python without -S, or put the folder printed by `ami-fault site-dir` on PYTHONPATH"
)


@dataclass(frozen=True)
class FaultRow:
    """One kind of fault: how often it was set to strike, could have struck, and struck."""

    effect: str
    set_rate: float
    eligible: int
    injected: int
    observed_rate: float | None


@dataclass(frozen=True)
class Summary:
    """What a run says of itself at its end."""

    outcome: str
    code: int
    seed: int
    run: str
    incarnations: int
    injected_exits: int
    organic_exits: list[dict[str, object]]
    faults: list[FaultRow]
    kinds: dict[str, int]
    withheld: dict[str, int]
    handed_out: int
    answered: int
    answered_with_error: int
    came_back: int
    unheard: int
    still_out: int
    jobs: list[dict[str, object]]
    ledger_problems: list[str]


def exit_code(outcome: Outcome, history: History, settings: Settings, complete: bool) -> int:
    """Return 0 drained, 3 unknown, 4 nothing fired, 6 restarts exhausted, 78 not armed, 130 interrupted."""
    fixed = {
        Outcome.INTERRUPTED: 130,
        Outcome.NOT_ARMED: 78,
        Outcome.SETTINGS: 78,
        Outcome.RESTARTS_EXHAUSTED: 6,
        Outcome.TIMEOUT: 3,
        Outcome.SERVICE_GONE: 3,
    }
    if outcome in fixed:
        return fixed[outcome]
    if history.out or not complete or (history.unheard and outcome is not Outcome.DRAINED):
        return 3
    return 4 if _is_set(settings) and not sum(history.injected.values()) else 0


def summarize(
    outcome: Outcome,
    history: History,
    settings: Settings,
    details: Mapping[int, JobDetail],
    run: Path,
    damage: list[Damage],
    incomplete: bool,
) -> Summary:
    """Join what the ledger and the service say."""
    problems = [f"{d.path.name}:{d.line}: {d.problem}" for d in damage]
    if incomplete:
        problems.append("a process could not book everything")
    lives = [life for life in history.lives.values() if life.number > 0]
    tasks = history.tasks.values()
    return Summary(
        outcome=outcome.value,
        code=exit_code(outcome, history, settings, not problems),
        seed=settings.seed,
        run=str(run),
        incarnations=len(lives),
        injected_exits=sum(life.kind == "injected" for life in lives),
        organic_exits=[_organic(life) for life in lives if life.kind == "organic"],
        faults=_fault_rows(history, settings),
        kinds=dict(sorted(history.kinds.items())),
        withheld=dict(history.withheld),
        handed_out=sum(1 for task in tasks if task.leases),
        answered=sum(1 for task in tasks if task.is_answered),
        answered_with_error=sum(1 for task in tasks if task.errors),
        came_back=sum(1 for task in tasks if task.leases > 1),
        unheard=len(history.unheard),
        still_out=len(history.out),
        jobs=[asdict(details[job]) for job in sorted(details)],
        ledger_problems=problems,
    )


def as_json(summary: Summary) -> str:
    """Return the summary for a machine."""
    return json.dumps(asdict(summary), indent=1)


def headline(summary: Summary) -> str:
    """Say in one sentence how the run ended, and why its exit code is what it is."""
    reason = ""
    if summary.code == 3 and summary.still_out:
        reason = f", but {summary.still_out} tasks are still out"
    elif summary.code == 3 and summary.ledger_problems:
        reason = ", but the ledger is not complete"
    elif summary.code == 3 and summary.unheard:
        reason = f", but of {summary.unheard} answers nobody knows what became"
    elif summary.code == 4:
        reason = ", but no fault ever struck: this run shows nothing"
    unhappy = [f"job {job['job']} with {job['status']}" for job in summary.jobs if job["status"] != "SUCCESS"]
    how = f", {', '.join(unhappy)}" if unhappy and summary.outcome == Outcome.DRAINED.value else ""
    return f"{summary.outcome}: {_ENDINGS[Outcome(summary.outcome)]}{how}{reason} (exit code {summary.code})"


def to_terminal(summary: Summary, console: Console) -> None:
    """Print the summary in plain words."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    say(headline(summary), style="bold green" if summary.code == 0 else "bold red")
    organic = len(summary.organic_exits)
    say(
        f"worker    {_counted(summary.incarnations, 'incarnation')}: "
        f"{_counted(summary.injected_exits, 'injected crash', 'es')}, {_counted(organic, 'exit')} of its own"
    )
    for exit_ in summary.organic_exits:
        say(f"          incarnation {exit_['incarnation']}: {exit_['exit']}; its last words:")
        for line in exit_["last_words"] if isinstance(exit_["last_words"], list) else []:
            say(f"          | {line}")
    _print_faults(summary, console)
    for why, times in summary.withheld.items():
        say(f"          {times} withheld: {why}")
    say(
        f"tasks     {summary.handed_out} handed out, {summary.answered} answered "
        f"({summary.answered_with_error} of them with an error), {summary.came_back} came back, "
        f"{summary.still_out} still out"
    )
    if summary.unheard:
        say(f"          {summary.unheard} more answered, but the reply was never heard: only the service knows")
    for job in summary.jobs:
        counts = ", ".join(f"{_count(job[key])} {key}" for key in ("processed", "failed", "remaining"))
        say(f"service   job {job['job']}: {job['status']}; {counts}")
    for problem in summary.ledger_problems[:10]:
        say(f"ledger    {problem}")
    if summary.outcome == Outcome.NOT_ARMED.value:
        say(f"cure      {NOT_ARMED_CURE}")
    say(f"run       {_near(Path(summary.run))}, seed {summary.seed}")


def _print_faults(summary: Summary, console: Console) -> None:
    if not summary.faults:
        console.print("faults    none were set")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("faults   ", "set", "observed", "injected", "of"):
        table.add_column(name, justify="left" if name.startswith("faults") else "right")
    for row in summary.faults:
        observed = "-" if row.observed_rate is None else f"{row.observed_rate:.3f}"
        table.add_row(f"  {row.effect}", f"{row.set_rate:g}", observed, str(row.injected), str(row.eligible))
    console.print(table)


def _near(path: Path) -> Path:
    """Return the path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _counted(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"


def _count(value: object) -> str:
    return "?" if value is None else str(value)


def _organic(life: Life) -> dict[str, object]:
    return {
        "incarnation": life.number,
        "exit": exit_text(life.code if life.code is not None else 0),
        "last_words": life.last_words,
    }


def _fault_rows(history: History, settings: Settings) -> list[FaultRow]:
    rows = []
    for effect, name in _SET_RATES.items():
        rate, injected = float(getattr(settings, name)), history.injected[effect.value]
        if rate or injected:
            eligible = history.eligible[effect.value]
            rows.append(FaultRow(effect.value, rate, eligible, injected, history.observed_rate(effect)))
    return rows


def _is_set(settings: Settings) -> bool:
    return bool(settings.permanent_error_images) or any(getattr(settings, name) for name in _SET_RATES.values())
