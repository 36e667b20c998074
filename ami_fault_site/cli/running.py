"""Run a worker under faults until its job has ended, and end with the verdict."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer
from rich.console import Console

from ami_fault_site import display, profiles, runfolder, runs, target
from ami_fault_site.cli import options, verdicts
from ami_fault_site.cli.sandboxing import exports
from ami_fault_site.cli.speaking import INTERRUPTED, SETTINGS_WRONG, USAGE, RefusedError, app, say
from ami_fault_site.endings import Options, Outcome, Until
from ami_fault_site.hosts import refused_host
from ami_fault_site.profiles import Effective
from ami_fault_site.redaction import redact
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxInfo
from ami_fault_site.service import JobWatch, Service, ServiceError
from ami_fault_site.settings import ENABLED, NAMES, Settings
from ami_fault_site.supervisor import Supervisor, child_environ
from ami_fault_site.target import Target
from ami_fault_site.verdict.terms import Gate

WORKER, SAMPLE_WORKER = "ami worker", "ami-sample-worker"
# What makes a sandbox run short: small batches and few tasks held, so that a crash costs little time.
SAMPLE_DEFAULTS = {
    "AMI_ANTENNA_API_BATCH_SIZE": "8",
    "AMI_NUM_WORKERS": "2",
    "AMI_SAMPLE_PREFETCH": "1",
    "AMI_SAMPLE_IDLE_SLEEP": "1",
    "AMI_SAMPLE_MODEL_DELAY": "0.01",
}
# A drained run is worth waiting for; an operator who has pressed Ctrl-C is not kept.
_FINISH: dict[Outcome, dict[str, float]] = {
    Outcome.DRAINED: {"settle": 2.0},
    Outcome.INTERRUPTED: {"settle": 0.0, "patience": 3.0},
}


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    command: options.CommandArgument = None,
    profile: options.ProfileOption = "",
    seed: options.SeedOption = "",
    job: options.JobOption = None,
    at: options.AtOption = None,
    task: options.TaskOption = "",
    mode: options.ModeOption = None,
    times: options.TimesOption = None,
    rule: options.RuleOption = None,
    dry_run: options.DryRunOption = False,
    pipeline: options.PipelineOption = None,
    max_restarts: options.MaxRestartsOption = 50,
    restart_delay: options.RestartDelayOption = None,
    until: options.UntilOption = Until.DRAINED,
    idle_after: options.IdleAfterOption = None,
    timeout: options.TimeoutOption = None,
    time_limit: options.TimeLimitOption = "",
    workers: options.WorkersOption = 1,
    run_dir: options.RunDirOption = "",
    gate: verdicts.GateOption = Gate.ALL,
    known: verdicts.KnownOption = None,
    strict: verdicts.StrictOption = False,
    baseline: options.BaselineOption = False,
    as_json: verdicts.JsonOption = False,
    junit: verdicts.JunitOption = None,
    markdown: verdicts.MarkdownOption = None,
    verbose: verdicts.VerboseOption = False,
    sandbox: options.SandboxOption = False,
    images: options.ImagesOption = "",
    jobs: options.JobsOption = None,
    ack_wait: options.AckWaitOption = None,
    max_deliver: options.MaxDeliverOption = None,
    reaper: options.ReaperOption = None,
    sabotage: options.SabotageOption = "",
) -> None:
    """Run a worker under faults, start it again when it crashes, and say whether the service lost anything."""
    judged = verdicts.Asked(gate, verdicts.read_known(known or []), strict, as_json, junit, markdown, verbose=verbose)
    placed = options.Placed(at, task, mode, times)
    chosen = options.Chosen(profile, seed, tuple(job or ()), run_dir, placed, tuple(rule or ()), dry_run, time_limit)
    delay = _restart_delay(sandbox) if restart_delay is None else restart_delay
    ending = Options(until, max_restarts, delay, idle_after, timeout, workers=workers)
    given = {"images": images, "jobs": jobs, "ack-wait": ack_wait, "max-deliver": max_deliver, "reaper": reaper}
    asked = _Asked(chosen, ending, command or [], pipeline or [], {**given, "sabotage": sabotage}, judged, baseline)
    raise typer.Exit(_in_sandbox(asked) if sandbox else _anywhere(asked))


def _restart_delay(sandbox: bool) -> float:
    return 1.0 if sandbox else 5.0


@dataclass(frozen=True)
class _Asked:
    """What `run` was asked for. `sandboxed` are the options that go with --sandbox, as given."""

    chosen: options.Chosen
    options: Options
    command: list[str]
    pipelines: list[str]
    sandboxed: Mapping[str, object]
    judged: verdicts.Asked
    with_baseline: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    sandbox: SandboxInfo | None = None

    def __post_init__(self) -> None:
        """Refuse what can be seen to be wrong before anything is begun."""
        if self.command and self.pipelines:
            raise RefusedError("--pipeline goes with the worker's own command; after -- write the whole command")
        for name in ("ack-wait", "reaper"):
            value = self.sandboxed[name]
            verdicts.require_finite(f"--{name}", value if isinstance(value, float) else None)
        verdicts.require_writable(self.judged)
        self.chosen.placed.rule()


def _in_sandbox(asked: _Asked) -> int:
    with running(options.sandbox_options(asked.pipelines, asked.sandboxed)) as info:
        own = exports(info)
        for name, option in _OF_A_SANDBOX.items():
            given = os.environ.get(name, own[name])
            if given != own[name]:
                say(f"{name}={given!r} is not heeded: this sandbox's is {own[name]}, and {option} sets it")
        environ = {**SAMPLE_DEFAULTS, **os.environ, **own}
        return _run(replace(asked, environ=environ, sandbox=info))


def _anywhere(asked: _Asked) -> int:
    stray = [name for name, value in asked.sandboxed.items() if value]
    if stray:
        raise RefusedError(f"--{stray[0]} goes with --sandbox")
    return _run(asked)


def _run(asked: _Asked) -> int:
    if asked.with_baseline:
        baseline = _without_faults(asked)
        asked = replace(asked, judged=replace(asked.judged, baseline=str(baseline)))
    folder, outcome = _conduct(asked)
    return verdicts.deliver([folder], asked.judged, outcome)


def _without_faults(asked: _Asked) -> Path:
    """Do the job once without faults, have it run again, and return the folder; raises RefusedError if it cannot be.

    Whatever the run itself waits for, this one waits for the job's end: only then can the service run it again.
    """
    # What is wrong is told before it begins.
    settings = options.settle(asked.chosen, asked.environ, asked.sandbox is not None).effective.settings
    where = target_of(asked.environ, settings)
    if not where.token:
        raise RefusedError(f"--baseline: needs {target.TOKEN}, with which the service runs a job again")
    if settings.run_dir and RunFolder(Path(settings.run_dir)).holds_a_run():
        raise RefusedError(f"AMI_TEST_RUN_DIR={settings.run_dir!r}: holds a run already", SETTINGS_WRONG)
    say("the same job without faults first")
    chosen, environ = options.without_faults(settings, asked.environ)
    to_the_end = replace(asked.options, until=Until.DRAINED)
    folder, outcome = _conduct(replace(asked, chosen=chosen, options=to_the_end, environ=environ))
    if outcome is not Outcome.DRAINED:
        code = INTERRUPTED if outcome is Outcome.INTERRUPTED else USAGE
        raise RefusedError(
            f"--baseline: without faults the run did not come to its end ({outcome.value}): {folder}", code
        )
    history, _ = runs.read([folder])
    service = Service(where)
    for job in sorted(history.jobs):
        try:
            service.retry(job)
        except ServiceError as error:
            raise RefusedError(f"--baseline: {error}; without faults it has been done: {folder}") from error
        say(f"job {job} has been done without faults ({folder}), and is run again with them")
    return folder


def _conduct(asked: _Asked) -> tuple[Path, Outcome]:
    """Supervise one run, and return its folder and how it ended."""
    settled = options.settle(asked.chosen, asked.environ, asked.sandbox is not None)
    effective = settled.effective
    where = target_of(asked.environ, effective.settings)
    command = _command(asked, effective, where)
    service = Service(where)
    if asked.options.until is Until.DRAINED:
        service.probe()
    joined = runfolder.join(effective.settings, Path.cwd() / runfolder.HOME)
    run_folder, settings = joined.run, joined.settings
    first = run_folder.take_charge()
    if first:
        raise RefusedError(f"AMI_TEST_RUN_DIR={str(run_folder.path)!r}: {first} supervises this run", SETTINGS_WRONG)
    if run_folder.holds_a_run():
        raise RefusedError(f"AMI_TEST_RUN_DIR={str(run_folder.path)!r}: holds a run already", SETTINGS_WRONG)
    environ = _environ(asked.environ, settled.over, settings, run_folder)
    return run_folder.path, _supervise(asked, command, where, service, run_folder, settings, environ)


def _supervise(
    asked: _Asked,
    command: list[str],
    where: Target,
    service: Service,
    run_folder: RunFolder,
    settings: Settings,
    environ: Mapping[str, str],
) -> Outcome:
    console = Console(stderr=True, highlight=False)
    watch = JobWatch(service, run_folder.jobs, (where.token,), every=1.0 if asked.sandbox else 3.0)
    with display.choose(console) as shown:
        limits = [limit for limit in (asked.options.timeout, asked.chosen.seconds) if limit is not None]
        ending = replace(asked.options, ack_wait=settings.ack_wait, timeout=min(limits, default=None))
        supervisor = Supervisor(
            command, environ, run_folder, where, watch, ending, shown,
            lambda: _has_ended(asked.sandbox), _invocation(asked, settings),
        )  # fmt: skip
        shown.line(f"run folder {run_folder.path}, seed {settings.seed}, target {where.host}")
        side_by_side = "" if asked.options.workers == 1 else f" {asked.options.workers} times"
        shown.line(f"starting {shlex.join(command)}{side_by_side}; waiting for {supervisor.waiting_for()}")
        outcome = supervisor.run()
        watch.finish(**_FINISH.get(outcome, {"settle": 0.2}))
        supervisor.conclude(outcome)
    return outcome


_TOLD_OTHERWISE = (ENABLED, "AMI_TEST_PROFILE", "AMI_TEST_SEED", "AMI_TEST_RUN_DIR", "AMI_TEST_INCARNATION")
_OF_A_SANDBOX = {"AMI_TEST_ACK_WAIT": "--ack-wait", "AMI_TEST_MAX_DELIVER": "--max-deliver"}


def _from_environment(asked: _Asked) -> list[str]:
    """Return the settings that the environment gave, as one writes them before a command."""
    left_out = {*_TOLD_OTHERWISE, "AMI_TEST_WORKER_COMMAND"}  # which may hold a token
    left_out |= {"AMI_TEST_JOBS"} if asked.sandbox is None else set(_OF_A_SANDBOX)
    given = {name: text for name in NAMES if name not in left_out and (text := asked.environ.get(name, "").strip())}
    return [f"{name}={shlex.quote(redact(text))}" for name, text in given.items()]


def _invocation(asked: _Asked, settings: Settings) -> str:
    """Return the line that does the same run again; the worker's command may hold a token, and is not kept."""
    words = ["ami-fault", "run"]
    if asked.sandbox is not None:
        words.append("--sandbox")
    if settings.profile:
        words += ["--profile", settings.profile]
    words += ["--seed", str(settings.seed), *asked.chosen.words()]
    if asked.sandbox is None:
        words += [part for number in sorted(settings.jobs) for part in ("--job", str(number))]
    else:
        given = [(name, value) for name, value in asked.sandboxed.items() if value]
        words += [p for name, v in given for p in (f"--{name}", f"{v:g}" if isinstance(v, float) else str(v))]
    if asked.options.until is not Until.DRAINED:
        words += ["--until", asked.options.until.value]
    if asked.options.timeout is not None:
        words += ["--timeout", f"{asked.options.timeout:g}"]
    if asked.options.restart_delay != _restart_delay(asked.sandbox is not None):
        words += ["--restart-delay", f"{asked.options.restart_delay:g}"]
    if asked.with_baseline:
        words.append("--baseline")
    if asked.options.workers > 1:
        words += ["--workers", str(asked.options.workers)]
    words += [part for name in asked.pipelines for part in ("--pipeline", name)]
    line = " ".join([*_from_environment(asked), shlex.join(words)])
    return line + (" -- WORKER..." if asked.command else "")


def target_of(environ: Mapping[str, str], settings: Settings) -> Target:
    """Find the service as the worker does; raises RefusedError if it must not be tested, TargetError if it is none."""
    where = target.find(environ, Path.cwd())
    for remark in where.remarks:
        say(remark)
    why = refused_host(where.hostname, settings)
    if why:
        raise RefusedError(why, SETTINGS_WRONG)
    return where


def _environ(
    environ: Mapping[str, str], over: Mapping[str, str], settings: Settings, run_folder: RunFolder
) -> dict[str, str]:
    """Return the worker's environment, with absolute paths: it may work in another folder."""
    values = dict(over)
    if settings.profile not in ("", *profiles.available()):
        values["AMI_TEST_PROFILE"] = str(Path(settings.profile).absolute())
    values |= {"AMI_TEST_RUN_DIR": str(run_folder.path), "AMI_TEST_SEED": str(settings.seed)}
    return child_environ(environ, values)


def _command(asked: _Asked, effective: Effective, where: Target) -> list[str]:
    """Return what to start: what was given, else AMI_TEST_WORKER_COMMAND, else the real or the sample worker."""
    if asked.command:
        return asked.command
    named = effective.settings.worker_command
    if asked.sandbox and not named:
        base = [str(Path(sys.executable).with_name(SAMPLE_WORKER))]
    else:
        target.require(where)
        base = shlex.split(named or WORKER)
    return [*base, *(part for name in asked.pipelines for part in ("--pipeline", name))]


def _has_ended(sandbox: SandboxInfo | None) -> bool:
    """Say whether our own sandbox, a child of ours, has ended; False where that cannot be asked (older macOS)."""
    if sandbox is None or not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, sandbox.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
