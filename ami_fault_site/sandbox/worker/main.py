"""Start the sample worker from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ami_fault_site.sandbox.worker.client import register_pipelines
from ami_fault_site.sandbox.worker.interrupts import lasting_interrupts
from ami_fault_site.sandbox.worker.loop import run_worker
from ami_fault_site.sandbox.worker.misbehaviour import MISBEHAVIOURS
from ami_fault_site.sandbox.worker.pipelines import PIPELINES
from ami_fault_site.sandbox.worker.settings import MISBEHAVE, SettingsError, read_settings

REGISTER = "register"
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Work until interrupted (130), or register and leave (0); 2 if what was asked for is wrong or is refused."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(processName)s[%(process)d] %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    pipelines = list(dict.fromkeys(arguments.pipeline or PIPELINES))
    try:
        settings = read_settings(_environ(arguments.misbehave), Path.cwd())
        if settings.misbehave:
            meaning = MISBEHAVIOURS[settings.misbehave].meaning
            logging.getLogger(__name__).warning("Misbehaving on purpose, %s: %s", settings.misbehave, meaning)
        if arguments.command == REGISTER:
            done = [register_pipelines(settings, project, pipelines) for project in arguments.project]
            return 0 if all(done) else EXIT_USAGE
        with lasting_interrupts():
            run_worker(settings, pipelines)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    except KeyboardInterrupt:
        # Who presses Ctrl-C again, while the last posts end, means it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        logging.getLogger(__name__).info("Interrupted")
        return EXIT_INTERRUPTED
    return 0  # not reached: the worker never ends by itself


def _environ(misbehave: str | None) -> dict[str, str]:
    """Return the environment as if the option had been set there, in whatever case the variable stands there."""
    if misbehave is None:
        return dict(os.environ)
    others = {name: value for name, value in os.environ.items() if name.upper() != MISBEHAVE}
    return {**others, MISBEHAVE: misbehave}


def _parser() -> argparse.ArgumentParser:
    meanings = [f"  {name:<22}{one.meaning}" for name, one in MISBEHAVIOURS.items()]
    parser = argparse.ArgumentParser(
        prog="ami-sample-worker",
        description=__doc__,
        epilog="\n".join(["misbehaviours:", *meanings]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_pipeline(parser, None)
    parser.add_argument(
        "--misbehave",
        choices=MISBEHAVIOURS,
        metavar="NAME",
        help=f"do something wrong, see below; comes before {MISBEHAVE}",
    )
    commands = parser.add_subparsers(dest="command", title="instead of working")
    register = commands.add_parser(REGISTER, help="tell a project about the pipelines and their algorithms, and leave")
    register.add_argument("--project", action="append", required=True, type=int, metavar="NUMBER", help="repeatable")
    _add_pipeline(register, argparse.SUPPRESS)
    return parser


def _add_pipeline(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--pipeline",
        action="append",
        choices=PIPELINES,
        default=default,
        metavar="NAME",
        help=f"only this pipeline; may be repeated (default: {', '.join(PIPELINES)})",
    )


if __name__ == "__main__":
    sys.exit(main())
