"""Run a worker under faults until its job has ended, and end with the verdict."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ami_fault_site import display, profiles, runfolder, target
from ami_fault_site.cli import verdicts
from ami_fault_site.cli.sandboxing import exports, pictures
from ami_fault_site.cli.speaking import SETTINGS_WRONG, RefusedError, app, say
from ami_fault_site.endings import Options, Outcome, Until
from ami_fault_site.hosts import refused_host
from ami_fault_site.profiles import Effective
from ami_fault_site.runfolder import RunFolder
from ami_fault_site.sandbox.launch import running
from ami_fault_site.sandbox.options import SandboxInfo, SandboxOptions
from ami_fault_site.service import JobWatch, Service
from ami_fault_site.settings import SCENARIO, Settings
from ami_fault_site.supervisor import Supervisor, child_environ
from ami_fault_site.target import Target
from ami_fault_site.verdict.terms import Gate

SANDBOX_PROFILE = "medium"
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
    command: Annotated[list[str] | None, typer.Argument(help="The worker, after --; default: ami worker.")] = None,
    profile: Annotated[str, typer.Option(help="A profile's name or path.")] = "",
    seed: Annotated[str, typer.Option(help="The same seed gives the same faults.")] = "",
    job: Annotated[list[int] | None, typer.Option(help="Strike only this job; may be repeated.")] = None,
    pipeline: Annotated[
        list[str] | None, typer.Option(help="Passed on to the worker as --pipeline; may be repeated.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, envvar="MAX_RESTARTS", help="How often to start the worker again.")
    ] = 50,
    restart_delay: Annotated[
        float | None, typer.Option(min=0, envvar="RESTART_DELAY", help="Seconds; 5, with --sandbox 1.")
    ] = None,
    until: Annotated[Until, typer.Option(help="What to wait for.")] = Until.DRAINED,
    idle_after: Annotated[float | None, typer.Option(min=0, help="Seconds; twice ack_wait, else 330.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which the run ends, at best with 3.")
    ] = None,
    run_dir: Annotated[str, typer.Option(help="The run folder; default ./ami-fault-runs/<UTC>-<seed>.")] = "",
    gate: verdicts.GateOption = Gate.ALL,
    known: verdicts.KnownOption = None,
    strict: verdicts.StrictOption = False,
    baseline: verdicts.BaselineOption = "",
    as_json: verdicts.JsonOption = False,
    junit: verdicts.JunitOption = None,
    markdown: verdicts.MarkdownOption = None,
    verbose: verdicts.VerboseOption = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Start a sandbox Antenna and test that.")] = False,
    images: Annotated[str, typer.Option(help="With --sandbox: how many images, or a folder of pictures; 200.")] = "",
    jobs: Annotated[int | None, typer.Option(min=1, help="With --sandbox: how many jobs, 1.")] = None,
    ack_wait: Annotated[float | None, typer.Option(help="With --sandbox: its ack_wait in seconds, 10.")] = None,
    max_deliver: Annotated[int | None, typer.Option(min=1, help="With --sandbox: its max_deliver, 2.")] = None,
    reaper: Annotated[
        float | None, typer.Option(help="With --sandbox: seconds after which it reaps an idle job, 600.")
    ] = None,
    sabotage: Annotated[str, typer.Option(help="With --sandbox: one way in which it shall misbehave.")] = "",
) -> None:
    """Run a worker under faults, start it again when it crashes, and say whether the service lost anything."""
    judged = verdicts.Asked(gate, verdicts.read_known(known or []), strict, as_json, junit, markdown, baseline, verbose)
    over = {
        "AMI_TEST_PROFILE": profile,
        "AMI_TEST_SEED": seed,
        "AMI_TEST_JOBS": ",".join(str(number) for number in job or []),
        "AMI_TEST_RUN_DIR": run_dir,
    }
    delay = restart_delay if restart_delay is not None else (1.0 if sandbox else 5.0)
    options = Options(until, max_restarts, delay, idle_after, timeout)
    if command and pipeline:
        raise RefusedError("--pipeline goes with the worker's own command; after -- write the whole command")
    only_sandbox = {
        "images": images, "jobs": jobs, "ack-wait": ack_wait, "max-deliver": max_deliver, "reaper": reaper,
        "sabotage": sabotage,
    }  # fmt: skip
    verdicts.require_finite("--ack-wait", ack_wait)
    verdicts.require_finite("--reaper", reaper)
    verdicts.require_writable(judged)
    stray = [name for name, value in only_sandbox.items() if value]
    if stray and not sandbox:
        raise RefusedError(f"--{stray[0]} goes with --sandbox")
    asked = _Asked(over, dict(os.environ), options, command or [], pipeline or [], None, only_sandbox, judged)
    if not sandbox:
        raise typer.Exit(_run(asked))
    wanted = pictures(SandboxOptions(pipelines=tuple(pipeline or ["moth_binary"]), sabotage=sabotage), images)
    wanted = replace(wanted, ack_wait=ack_wait or wanted.ack_wait, max_deliver=max_deliver or wanted.max_deliver)
    wanted = replace(wanted, jobs=jobs or wanted.jobs)
    if reaper is not None:
        wanted = replace(wanted, reaper_idle=reaper, reaper_interval=min(wanted.reaper_interval, reaper / 2))
    with running(wanted) as info:
        environ = {**SAMPLE_DEFAULTS, **os.environ, **exports(info)}
        code = _run(replace(asked, environ=environ, sandbox=info))
    raise typer.Exit(code)


@dataclass(frozen=True)
class _Asked:
    """What `run` was asked for. `sandboxed` are the options that go with --sandbox, as given."""

    over: dict[str, str]
    environ: dict[str, str]
    options: Options
    command: list[str]
    pipelines: list[str]
    sandbox: SandboxInfo | None
    sandboxed: Mapping[str, object]
    judged: verdicts.Asked


def _run(asked: _Asked) -> int:
    effective = _effective(asked)
    where = _target(asked, effective)
    command = _command(asked, effective, where)
    service = Service(where)
    if asked.options.until is Until.DRAINED:
        service.probe()
    if asked.judged.baseline:
        verdicts.find([asked.judged.baseline])  # a name that is wrong is told before the run, not after it
    joined = runfolder.join(effective.settings, Path.cwd() / runfolder.HOME)
    run_folder, settings = joined.run, joined.settings
    if run_folder.holds_a_run():
        raise RefusedError(f"AMI_TEST_RUN_DIR={str(run_folder.path)!r}: holds a run already", SETTINGS_WRONG)
    outcome = _supervise(asked, command, where, service, run_folder, settings)
    return verdicts.deliver([run_folder.path], asked.judged, outcome)


def _supervise(
    asked: _Asked, command: list[str], where: Target, service: Service, run_folder: RunFolder, settings: Settings
) -> Outcome:
    environ = _environ(asked, settings, run_folder)
    console = Console(stderr=True, highlight=False)
    watch = JobWatch(service, run_folder.jobs, (where.token,), every=1.0 if asked.sandbox else 3.0)
    with display.choose(console) as shown:
        options = replace(asked.options, ack_wait=settings.ack_wait)
        supervisor = Supervisor(
            command, environ, run_folder, where, watch, options, shown,
            lambda: _has_ended(asked.sandbox), _invocation(asked, settings),
        )  # fmt: skip
        shown.line(f"run folder {run_folder.path}, seed {settings.seed}, target {where.host}")
        shown.line(f"starting {shlex.join(command)}; waiting for {supervisor.waiting_for()}")
        outcome = supervisor.run()
        watch.finish(**_FINISH.get(outcome, {"settle": 0.2}))
        supervisor.conclude(outcome)
    return outcome


def _invocation(asked: _Asked, settings: Settings) -> str:
    """Return the line that does the same run again; the worker's command may hold a token, and is not kept."""
    words = ["ami-fault", "run"]
    if asked.sandbox is not None:
        words.append("--sandbox")
    if settings.profile:
        words += ["--profile", settings.profile]
    words += ["--seed", str(settings.seed)]
    if asked.sandbox is None:
        words += [part for number in sorted(settings.jobs) for part in ("--job", str(number))]
    else:
        given = [(name, value) for name, value in asked.sandboxed.items() if value]
        words += [p for name, v in given for p in (f"--{name}", f"{v:g}" if isinstance(v, float) else str(v))]
    if asked.options.until is not Until.DRAINED:
        words += ["--until", asked.options.until.value]
    words += [part for name in asked.pipelines for part in ("--pipeline", name)]
    return shlex.join(words) + (" -- WORKER..." if asked.command else "")


def _target(asked: _Asked, effective: Effective) -> Target:
    where = target.find(asked.environ, Path.cwd())
    for remark in where.remarks:
        say(remark)
    why = refused_host(where.hostname, effective.settings)
    if why:
        raise RefusedError(why, SETTINGS_WRONG)
    return where


def _environ(asked: _Asked, settings: Settings, run_folder: RunFolder) -> dict[str, str]:
    """Return the worker's environment, with absolute paths: it may work in another folder."""
    values = {name: text for name, text in asked.over.items() if text}
    if settings.profile not in ("", *profiles.available()):
        values["AMI_TEST_PROFILE"] = str(Path(settings.profile).absolute())
    values |= {"AMI_TEST_RUN_DIR": str(run_folder.path), "AMI_TEST_SEED": str(settings.seed)}
    return child_environ(asked.environ, values)


def _effective(asked: _Asked) -> Effective:
    effective = profiles.resolve(asked.environ, asked.over)
    if any(source != "default" for name, source in effective.sources.items() if name in SCENARIO):
        return effective
    if asked.sandbox:
        asked.over["AMI_TEST_PROFILE"] = SANDBOX_PROFILE
        return profiles.resolve(asked.environ, asked.over)
    names = ", ".join(profiles.available())
    raise RefusedError(f"no scenario chosen: --profile or AMI_TEST_PROFILE takes one of {names}, or a path")


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
