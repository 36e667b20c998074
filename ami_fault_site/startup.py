"""Root inside the worker: put the import finder in place, and do nothing else.

Called by ``ami_fault_site.pth`` (or ``site/sitecustomize.py``) while the interpreter starts, so it imports `os` and
`sys` only: everything costlier waits until the worker itself imports the library of a seam.
"""

import os
import sys

ENABLED = "AMI_TEST_FAULT_INJECTION_ENABLED"
_OFF = ("", "false", "0", "no", "off")
# Set by pyproject-hooks in the processes that build a package in isolation: pip and build use it, uv does not need it.
_BUILD_MARKS = ("_PYPROJECT_HOOKS_BUILD_BACKEND", "PEP517_BUILD_BACKEND")


def activate() -> None:
    """Watch for the worker's imports, once; let nothing escape and never write to stdout.

    An exception out of a ``.pth`` line is printed and forgotten, but a BaseException that is not an Exception ends the
    interpreter before it has started. A process that imports no seam's library is not disturbed at all.
    """
    try:
        if os.environ.get(ENABLED, "").strip().lower() in _OFF or any(mark in os.environ for mark in _BUILD_MARKS):
            return
        from ami_fault_site import hooks

        hooks.watch_imports()
    except BaseException as error:
        # Started without the faults that were asked for: the supervisor sees that `armed` is missing and says so.
        if sys.stderr is not None:
            try:
                sys.stderr.write(f"ami-fault-site: could not start: {type(error).__name__}: {error}\n")
            except (OSError, ValueError):
                return
