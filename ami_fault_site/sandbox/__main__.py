"""Start a sandbox from the command line: python -m ami_fault_site.sandbox."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from ami_fault_site.sandbox.options import SABOTAGE_MEANINGS, SandboxError, SandboxOptionError, SandboxOptions

_FAILED, _USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sandbox until it is told to stop; 0 if it was, 2 for wrong options or a port in use, 1 otherwise."""
    parsed = _parser().parse_args(argv)
    known = vars(SandboxOptions())
    given = {name: value for name, value in vars(parsed).items() if name in known and value is not None}
    if parsed.pipelines:
        given["pipelines"] = tuple(parsed.pipelines)
    if len(parsed.sabotages) > 1:
        return _complain(f"--sabotage: one at a time, not {' and '.join(parsed.sabotages)}", _USAGE)
    if parsed.sabotages:
        given["sabotage"] = parsed.sabotages[0]
    try:
        options = replace(SandboxOptions(), **given)
    except SandboxOptionError as error:
        return _complain(str(error), _USAGE)
    return _serve(options, parsed.watch_stdin)


def _serve(options: SandboxOptions, watch_stdin: bool) -> int:
    try:
        from ami_fault_site.sandbox.server import PortInUseError, serve
    except ModuleNotFoundError as error:
        return _complain(f"the sandbox needs {error.name}: pip install 'ami-fault-site[sandbox]'", _FAILED)
    try:
        asyncio.run(serve(options, watch_stdin))
    except PortInUseError as error:
        return _complain(str(error), _USAGE)
    except SandboxError as error:
        return _complain(str(error), _FAILED)
    except KeyboardInterrupt:  # before the sandbox had begun to listen to signals
        return 130
    return 0


def _complain(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ami_fault_site.sandbox",
        description=__doc__,
        epilog="\n".join(["sabotages:", *(f"  {name:<23}{text}" for name, text in SABOTAGE_MEANINGS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--images", type=int, metavar="N", help="images a job")
    add("--jobs", type=int, metavar="N", help="jobs that are started at once")
    add("--pipeline", action="append", dest="pipelines", metavar="NAME", help="a pipeline; may be given repeatedly")
    add("--ack-wait", type=float, metavar="S", help="seconds after which an unanswered task comes back")
    add("--max-deliver", type=int, metavar="N", help="how often a task is handed out at most")
    add("--max-ack-pending", type=int, metavar="N", help="how many tasks of a job may be out at once")
    add("--reaper-interval", type=float, metavar="S", help="seconds between two looks of the reaper")
    add("--reaper-idle", type=float, metavar="S", help="seconds without an answer after which it gives a job up")
    add("--fail-threshold", type=float, metavar="X", help="a job fails if more than this share of its images did")
    add("--image-dir", metavar="D", help="serve the pictures of this folder")
    add("--nats-url", metavar="U", help="use this NATS server, which is left running")
    add("--port", type=int, metavar="P", help="listen on this port of 127.0.0.1; 0 takes any free one")
    add("--token", metavar="T", help="let in this token")
    add("--sabotage", action="append", default=[], dest="sabotages", metavar="NAME", help="misbehave; see below")
    add("--watch-stdin", action="store_true", help="stop at the end of stdin")
    return parser


if __name__ == "__main__":
    sys.exit(main())
