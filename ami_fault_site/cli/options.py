"""What `run` can be asked for: its options, and the settings that they come to."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from ami_fault_site import profiles
from ami_fault_site.cli.sandboxing import pictures
from ami_fault_site.cli.speaking import RefusedError
from ami_fault_site.endings import Until
from ami_fault_site.faults import Mode, Point
from ami_fault_site.profiles import Effective
from ami_fault_site.rules import CRASH, keys_at, plain, quoted
from ami_fault_site.runfolder import HOME
from ami_fault_site.sandbox.options import SandboxOptions
from ami_fault_site.settings import PREFIX, SCENARIO, Settings, as_text
from ami_fault_site.settings import plain as setting_text

SANDBOX_PROFILE = "medium"

CommandArgument = Annotated[
    list[str] | None, typer.Argument(help="The worker, after --; ami worker, with --sandbox ami-sample-worker.")
]
ProfileOption = Annotated[str, typer.Option(help="A profile's name or path.")]
SeedOption = Annotated[str, typer.Option(help="The same seed gives the same faults.")]
JobOption = Annotated[list[int] | None, typer.Option(help="Strike only this job; may be repeated.")]
AtOption = Annotated[Point | None, typer.Option(help="Crash the worker here, before all other rules.")]
TaskOption = Annotated[
    str, typer.Option(metavar="[JOB/]SEQUENCE", help="With --at: only with this task; at downloading also an image.")
]
ModeOption = Annotated[Mode | None, typer.Option(help="With --at: how it dies; kill.")]
TimesOption = Annotated[int | None, typer.Option(min=1, help="With --at: how often; 1.")]
RuleOption = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="As in AMI_TEST_RULES, before those there; see `ami-fault grammar`. Repeatable."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Book what would have struck, and touch nothing.")]
PipelineOption = Annotated[
    list[str] | None, typer.Option(help="Passed on to the worker as --pipeline; may be repeated.")
]
MaxRestartsOption = Annotated[
    int, typer.Option(min=0, envvar="MAX_RESTARTS", help="How often to start the worker again.")
]
RestartDelayOption = Annotated[
    float | None, typer.Option(min=0, envvar="RESTART_DELAY", help="Seconds; 5, with --sandbox 1.")
]
UntilOption = Annotated[Until, typer.Option(help="What to wait for.")]
IdleAfterOption = Annotated[float | None, typer.Option(min=0, help="Seconds; twice ack_wait, else 330.")]
TimeoutOption = Annotated[float | None, typer.Option(min=0, help="Seconds after which the run ends, at best with 3.")]
TimeLimitOption = Annotated[
    str,
    typer.Option(
        metavar="SECONDS|90m|2h",
        help="As --timeout, and the last ack_wait of it without faults, so that they can heal.",
    ),
]
BaselineOption = Annotated[
    bool,
    typer.Option(
        "--baseline", help="Do the same job to its end without faults first: what fails there too is told apart."
    ),
]
WorkersOption = Annotated[int, typer.Option(min=1, help="How many workers to run side by side.")]
RunDirOption = Annotated[str, typer.Option(help="The run folder; default ./ami-fault-runs/<UTC>-<seed>.")]
SandboxOption = Annotated[bool, typer.Option("--sandbox", help="Start a sandbox Antenna and test that.")]
ImagesOption = Annotated[str, typer.Option(help="With --sandbox: how many images, or a folder of them; 200.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="With --sandbox: how many jobs, 1.")]
AckWaitOption = Annotated[float | None, typer.Option(help="With --sandbox: its ack_wait in seconds, 10.")]
MaxDeliverOption = Annotated[int | None, typer.Option(min=1, help="With --sandbox: its max_deliver, 2.")]
ReaperOption = Annotated[
    float | None, typer.Option(help="With --sandbox: seconds after which it reaps an idle job, 600.")
]
SabotageOption = Annotated[str, typer.Option(help="With --sandbox: one way in which it shall misbehave.")]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_TASK = re.compile(r"(?:([0-9]+)/)?([0-9]+)")


@dataclass(frozen=True)
class Placed:
    """A crash that was placed exactly, as given: where, with which task, how, how often."""

    at: Point | None = None
    task: str = ""
    mode: Mode | None = None
    times: int | None = None

    def rule(self) -> str:
        """Return it as a rule, "" if none was placed; raise RefusedError if that cannot be."""
        if self.at is None:
            given = {"task": self.task, "mode": self.mode, "times": self.times}
            stray = next((name for name, value in given.items() if value), None)
            if stray:
                raise RefusedError(f"--{stray} goes with --at")
            return ""
        match = ", ".join([f"point={self.at.value}", *self._matched(self.at)])
        return f"{CRASH}[{match}]: {self.times or 1}*{(self.mode or Mode.KILL).value}"

    def words(self) -> list[str]:
        """Return it as options of the command line."""
        at, mode = self.at.value if self.at else "", self.mode.value if self.mode else ""
        return _words({"at": at, "task": self.task, "mode": mode, "times": self.times})

    def _matched(self, at: Point) -> list[str]:
        if not self.task:
            return []
        known = keys_at(CRASH, frozenset({at}))
        if "task" not in known:
            raise RefusedError(f"--task={self.task!r}: at {at.value} the worker holds no task")
        found = _TASK.fullmatch(self.task)
        if found:
            job, sequence = found.groups()
            return [f"job={job}", f"task={sequence}"] if job else [f"task={sequence}"]
        if "name" not in known:
            raise RefusedError(
                f"--task={self.task!r}: at {at.value} a task is SEQUENCE or JOB/SEQUENCE; "
                f"an image's name is known only at {Point.DOWNLOADING.value}"
            )
        if '"' in self.task or "\n" in self.task:
            raise RefusedError(f"--task={self.task!r}: a name cannot hold a double quote or the end of a line")
        return [f"name={quoted(self.task)}"]


@dataclass(frozen=True)
class Chosen:
    """Which faults were asked for on the command line, as given. `time_limit` is "" if there is none."""

    profile: str = ""
    seed: str = ""
    jobs: tuple[int, ...] = ()
    run_dir: str = ""
    placed: Placed = field(default_factory=Placed)
    rules: tuple[str, ...] = ()
    dry_run: bool = False
    time_limit: str = ""

    def words(self) -> list[str]:
        """Return, as options of the command line, what makes a run the same again, beside profile, seed and jobs."""
        rules = [word for rule in self.rules for word in ("--rule", rule)]
        dry = ["--dry-run"] if self.dry_run else []
        return [*self.placed.words(), *rules, *dry, *_words({"time-limit": self.time_limit})]

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds; raise RefusedError if it is none."""
        if not self.time_limit:
            return None
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", self.time_limit)
        seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
        if not seconds:
            raise RefusedError(f"--time-limit={self.time_limit!r}: is a duration above 0, such as 5400, 90m or 2h")
        return seconds


_LASTING = (
    "AMI_TEST_PROTECTED_HOSTS", "AMI_TEST_ALLOWED_HOSTS", "AMI_TEST_ACK_WAIT", "AMI_TEST_MAX_DELIVER",
    "AMI_TEST_JOBS", "AMI_TEST_TASK_LOOP", "AMI_TEST_WORKER_COMMAND", "AMI_TEST_SENTRY",
)  # fmt: skip
"""The settings that hold without faults, too."""


def without_faults(settings: Settings, environ: Mapping[str, str]) -> tuple[Chosen, dict[str, str]]:
    """Return the choice and the environment of the same run with nothing that strikes, and a folder of its own.

    `settings` are those in force: what holds without faults, too, may stand in the profile, which is left out.
    """
    kept = {name: text for name, text in environ.items() if not name.startswith(PREFIX)}
    kept |= {name: text for name, text in as_text(settings).items() if name in _LASTING}
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = f"{settings.run_dir or Path(HOME) / stamp}-baseline"
    seed = str(settings.seed) if settings.has_seed else ""
    return Chosen(seed=seed, run_dir=folder), {**kept, SCENARIO[0]: "0"}


@dataclass(frozen=True)
class Settled:
    """What the choice comes to: `over` are the settings that the worker must have beside its environment."""

    effective: Effective
    over: Mapping[str, str]


def settle(chosen: Chosen, environ: Mapping[str, str], in_sandbox: bool) -> Settled:
    """Join the choice with the environment and the profile; raise RefusedError or SettingsError if that cannot be."""
    over = {
        "AMI_TEST_PROFILE": chosen.profile,
        "AMI_TEST_SEED": chosen.seed,
        "AMI_TEST_JOBS": ",".join(map(str, chosen.jobs)),
        "AMI_TEST_RUN_DIR": chosen.run_dir,
        "AMI_TEST_DRY_RUN": "true" if chosen.dry_run else "",
    }
    effective = profiles.resolve(environ, over)
    rules = [rule for rule in (chosen.placed.rule(), *chosen.rules) if rule]
    if rules:
        over["AMI_TEST_RULES"] = "\n".join([*rules, setting_text(effective.settings.rules)]).strip()
    elif all(effective.sources[name] == "default" for name in SCENARIO):
        if not in_sandbox:
            names = ", ".join(profiles.available())
            raise RefusedError(f"no scenario chosen: --profile or AMI_TEST_PROFILE takes one of {names}, or a path")
        over["AMI_TEST_PROFILE"] = SANDBOX_PROFILE
    effective = profiles.resolve(environ, over)
    if chosen.seconds is not None:
        over["AMI_TEST_STOP_AFTER"] = plain(_last_fault(chosen.time_limit, chosen.seconds, effective))
        effective = profiles.resolve(environ, over)
    return Settled(effective, {name: text for name, text in over.items() if text})


def _last_fault(written: str, seconds: float, effective: Effective) -> float:
    """Return when injection must end, in seconds into the run: what strikes then is handed out again before the limit.

    Raises RefusedError if the ack_wait is not known, or too long for that.
    """
    ack_wait, stop_after = effective.settings.ack_wait, effective.settings.stop_after
    if ack_wait is None:
        raise RefusedError(
            f"--time-limit={written} needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds: "
            "faults end so long before the limit, that the last can heal"
        )
    if seconds <= ack_wait:
        raise RefusedError(
            f"--time-limit={written}: is not longer than the ack_wait, {ack_wait:g} s: no fault could heal"
        )
    return seconds - ack_wait if stop_after is None else min(seconds - ack_wait, stop_after)


def sandbox_options(pipelines: Sequence[str], given: Mapping[str, object]) -> SandboxOptions:
    """Return what sandbox was asked for; `given` are the options that go with --sandbox, by name, as given."""
    wanted = pictures(SandboxOptions(pipelines=tuple(pipelines or ["moth_binary"])), str(given["images"]))
    named = {"ack-wait": "ack_wait", "max-deliver": "max_deliver", "jobs": "jobs", "sabotage": "sabotage"}
    wanted = replace(wanted, **{field: given[name] for name, field in named.items() if given[name]})  # type: ignore[arg-type]
    reaper = given["reaper"]
    if not isinstance(reaper, float):
        return wanted
    return replace(wanted, reaper_idle=reaper, reaper_interval=min(wanted.reaper_interval, reaper / 2))


def _words(given: Mapping[str, object]) -> list[str]:
    return [word for name, value in given.items() if value for word in (f"--{name}", str(value))]
