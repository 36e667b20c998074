"""Root for the operator: run | doctor | stop | sandbox | site-dir."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

import ami_fault_site
from ami_fault_site import display, doctor, profiles, report, runfolder, target
from ami_fault_site.profiles import Effective
from ami_fault_site.redaction import redact
from ami_fault_site.sandbox.launch import info_of, running
from ami_fault_site.sandbox.options import SandboxError, SandboxInfo, SandboxOptionError, SandboxOptions
from ami_fault_site.service import JobWatch, Service, ServiceError
from ami_fault_site.settings import SCENARIO, Settings, SettingsError, protected_by
from ami_fault_site.supervisor import CannotStartError, Options, Outcome, Supervisor, Until, child_environ
from ami_fault_site.target import Target, TargetError

app = typer.Typer(
    name="ami-fault",
    help="Test queue workers by making them fail on purpose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
USAGE, SETTINGS_WRONG, INTERRUPTED = 2, 78, 130
SANDBOX_PORT = 8765
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


class RefusedError(Exception):
    """Why a command cannot be carried out, and the exit code that says so."""

    def __init__(self, problems: str, code: int = USAGE) -> None:
        super().__init__(problems)
        self.code = code


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(ami_fault_site.__version__)  # noqa: T201  a result
        raise typer.Exit


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
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds after which the run ends with 3.")] = None,
    run_dir: Annotated[str, typer.Option(help="The run folder; default ./ami-fault-runs/<UTC>-<seed>.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Start a sandbox Antenna and test that.")] = False,
    images: Annotated[str, typer.Option(help="With --sandbox: how many images, or a folder of pictures; 200.")] = "",
    ack_wait: Annotated[float | None, typer.Option(help="With --sandbox: its ack_wait in seconds, 10.")] = None,
    max_deliver: Annotated[int | None, typer.Option(min=1, help="With --sandbox: its max_deliver, 2.")] = None,
) -> None:
    """Run a worker under faults, start it again when it crashes, and say what became of its tasks."""
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
    if not sandbox:
        stray = [
            name for name, value in (("images", images), ("ack-wait", ack_wait), ("max-deliver", max_deliver)) if value
        ]
        if stray:
            raise RefusedError(f"--{stray[0]} goes with --sandbox")
        raise typer.Exit(_run(_Asked(over, dict(os.environ), options, command or [], pipeline or [], None, as_json)))
    asked = _pictures(SandboxOptions(pipelines=tuple(pipeline or ["moth_binary"])), images)
    asked = replace(asked, ack_wait=ack_wait or asked.ack_wait, max_deliver=max_deliver or asked.max_deliver)
    with running(asked) as info:
        environ = {**SAMPLE_DEFAULTS, **os.environ, **_exports(info)}
        code = _run(_Asked(over, environ, options, command or [], pipeline or [], info, as_json))
    raise typer.Exit(code)


@app.command("doctor")
def doctor_command() -> None:
    """Look whether the hook works in this environment, and what it would do."""
    console = Console(highlight=False)
    found = doctor.examine(os.environ, target.find(os.environ, Path.cwd()))
    for one in found:
        console.print(f"{'good' if one.good else 'BAD '}  {one.name}: {one.found}", markup=False, soft_wrap=True)
        if not one.good and one.cure:
            console.print(f"      {one.cure}", markup=False, soft_wrap=True)
    try:
        for name, value, source in doctor.effective_lines(profiles.resolve(os.environ)):
            console.print(f"      {name} = {value}  ({source})", markup=False, soft_wrap=True)
    except SettingsError:
        console.print("      the settings in force can be shown once the problems above are mended")
    raise typer.Exit(0 if all(one.good for one in found) else SETTINGS_WRONG)


@app.command()
def stop(run_name: Annotated[str, typer.Argument(metavar="RUN")] = runfolder.LATEST) -> None:
    """End fault injection in a run, in every process, at its next decision; the worker goes on."""
    try:
        path = runfolder.find(run_name, Path.cwd() / runfolder.HOME)
        runfolder.RunFolder(path).stop_file.touch()
    except FileNotFoundError as error:
        raise RefusedError(str(error)) from error
    except OSError as error:
        raise RefusedError(f"{error.filename}: cannot be written: {error.strerror}") from error
    print(f"no more faults in {path}")  # noqa: T201  a result


@app.command("sandbox")
def sandbox_command(
    env: Annotated[bool, typer.Option("--env", help="Print the exports for a running sandbox, and leave.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes any free one.")] = SANDBOX_PORT,
    images: Annotated[str, typer.Option(help="How many images a job has, or a folder of pictures.")] = "200",
    jobs: Annotated[int, typer.Option(min=1)] = 1,
    pipeline: Annotated[list[str] | None, typer.Option(help="May be repeated; jobs are dealt out over them.")] = None,
    ack_wait: Annotated[float, typer.Option(help="Seconds until an unanswered task is handed out again.")] = 10.0,
    max_deliver: Annotated[int, typer.Option(min=1, help="How often a task is handed out at most.")] = 2,
    reaper_interval: Annotated[float, typer.Option(help="Seconds between the reaper's looks.")] = 900.0,
    reaper_idle: Annotated[float, typer.Option(help="Seconds after which the reaper takes an idle job.")] = 600.0,
    nats_url: Annotated[str | None, typer.Option(help="An existing NATS server with JetStream.")] = None,
) -> None:
    """Start a sandbox Antenna and keep it until Ctrl-C, or print the exports for one that runs."""
    if env:
        for name, value in _exports(info_of(port)).items():
            print(f"export {name}={shlex.quote(value)}")  # noqa: T201  a result
        return
    asked = SandboxOptions(
        jobs=jobs,
        pipelines=tuple(pipeline or ["moth_binary"]),
        ack_wait=ack_wait,
        max_deliver=max_deliver,
        reaper_interval=reaper_interval,
        reaper_idle=reaper_idle,
        nats_url=nats_url,
        port=port,
    )
    with running(_pictures(asked, images)) as info:
        _say(f"a sandbox Antenna at {info.base_url}, jobs {', '.join(map(str, info.jobs))}; Ctrl-C ends it")
        taken = urlsplit(info.base_url).port
        which = "" if taken == SANDBOX_PORT else f" --port {taken}"
        _say(f'in another shell: eval "$(ami-fault sandbox --env{which})"')
        _wait_for_interrupt()


@app.command("site-dir")
def site_dir() -> None:
    """Print the folder that goes on PYTHONPATH where nothing can be installed."""
    print(Path(ami_fault_site.__file__).resolve().parent / "site")  # noqa: T201  a result


@dataclass(frozen=True)
class _Asked:
    """What `run` was asked for."""

    over: dict[str, str]
    environ: dict[str, str]
    options: Options
    command: list[str]
    pipelines: list[str]
    sandbox: SandboxInfo | None
    as_json: bool


def _run(asked: _Asked) -> int:
    effective = _effective(asked)
    where = target.find(asked.environ, Path.cwd())
    for remark in where.remarks:
        _say(remark)
    entry = protected_by(where.hostname, effective.settings.protected_hosts)
    if entry:
        raise RefusedError(
            f"{where.host} is a protected host (AMI_TEST_PROTECTED_HOSTS={entry}): never tested", SETTINGS_WRONG
        )
    command = _command(asked, effective, where)
    service = Service(where)
    if asked.options.until is Until.DRAINED:
        service.probe()
    joined = runfolder.join(effective.settings, Path.cwd() / runfolder.HOME)
    run_folder, settings = joined.run, joined.settings
    if run_folder.holds_a_run():
        raise RefusedError(f"AMI_TEST_RUN_DIR={str(run_folder.path)!r}: holds a run already", SETTINGS_WRONG)
    environ = _environ(asked, settings, run_folder)
    console = Console(stderr=True, highlight=False)
    watch = JobWatch(service, run_folder.jobs, (where.token,), every=1.0 if asked.sandbox else 3.0)
    with display.choose(console) as shown:
        options = replace(asked.options, ack_wait=settings.ack_wait)
        supervisor = Supervisor(
            command, environ, run_folder, where, watch, options, shown, lambda: _has_ended(asked.sandbox)
        )
        shown.line(f"run folder {run_folder.path}, seed {settings.seed}, target {where.host}")
        shown.line(f"starting {shlex.join(command)}; waiting for {supervisor.waiting_for()}")
        outcome = supervisor.run()
        details = watch.finish(**_FINISH.get(outcome, {"settle": 0.2}))
    summary = report.summarize(
        outcome,
        supervisor.history,
        settings,
        details,
        run_folder.path,
        supervisor.reader.damage,
        run_folder.is_incomplete(),
    )
    try:
        if asked.as_json:
            print(report.as_json(summary), flush=True)  # noqa: T201  the result
        else:
            report.to_terminal(summary, Console(highlight=False))
    except OSError as error:
        # Nobody reads, or nothing can be written: the exit code still says how the run went.
        _say(f"the summary cannot be printed: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return summary.code


# A drained run is worth waiting for; an operator who has pressed Ctrl-C is not kept.
_FINISH: dict[Outcome, dict[str, float]] = {
    Outcome.DRAINED: {"settle": 1.0},
    Outcome.INTERRUPTED: {"settle": 0.0, "patience": 3.0},
}


def _environ(asked: _Asked, settings: Settings, run_folder: runfolder.RunFolder) -> dict[str, str]:
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


def _exports(info: SandboxInfo) -> dict[str, str]:
    return {
        target.BASE_URL: info.base_url,
        target.TOKEN: info.token,
        target.SERVICE_NAME: info.service_name,
        "AMI_TEST_ACK_WAIT": f"{info.ack_wait:g}",
        "AMI_TEST_MAX_DELIVER": str(info.max_deliver),
    }


def _has_ended(sandbox: SandboxInfo | None) -> bool:
    """Say whether our own sandbox, a child of ours, has ended; False where that cannot be asked (older macOS)."""
    if sandbox is None or not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, sandbox.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _pictures(options: SandboxOptions, images: str) -> SandboxOptions:
    """Read --images, which is a number of made images or a folder of pictures."""
    if not images:
        return options
    if images.isascii() and images.isdigit() and int(images) > 0:
        return replace(options, images=int(images))
    if Path(images).is_dir():
        return replace(options, image_dir=images)
    raise RefusedError(f"--images={images!r}: is a number of images above 0, or a folder of pictures")


def _wait_for_interrupt() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(0.5):
        continue


def _say(text: str) -> None:
    print(f"ami-fault: {redact(text, (os.environ.get(target.TOKEN, ''),))}", file=sys.stderr)  # noqa: T201


def main(argv: list[str] | None = None) -> int:
    """Carry out a command and return its exit code: 0 drained, 2 usage, and those of the run (see `ami-fault run`)."""
    _fill_standard_streams()
    try:
        app(args=argv, prog_name="ami-fault")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except SettingsError as error:
        return _refuse(error, SETTINGS_WRONG)
    except RefusedError as error:
        return _refuse(error, error.code)
    except (TargetError, ServiceError, SandboxError, SandboxOptionError, CannotStartError) as error:
        return _refuse(error, USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _fill_standard_streams() -> None:
    """Put the null device where a standard stream is closed, before some socket gets its number and our words."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _refuse(error: Exception, code: int) -> int:
    for problem in str(error).splitlines():
        _say(problem)
    return code
