"""End the worker when the supervisor itself is killed: a shell that waits for its pipe to close."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from types import TracebackType

# Each line names the process groups that must not outlive us, an empty one that there are none just now. SIGKILL of the
# supervisor closes the pipe as every other end does.
_SCRIPT = """
trap '' INT TERM HUP
groups=
while read -r line; do groups=$line; done
left=
for group in $groups; do kill -TERM "-$group" 2>/dev/null && left="$left $group"; done
[ -n "$left" ] || exit 0
sleep 5
for group in $left; do kill -KILL "-$group" 2>/dev/null; done
"""


class Guardian:
    """Watches over process groups, from a session of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, groups: Sequence[int]) -> None:
        """Name the groups that must end with us."""
        if self._process.stdin is None:
            return
        try:
            self._process.stdin.write(b" ".join(b"%d" % group for group in groups) + b"\n")
            self._process.stdin.flush()
        except OSError:  # somebody has killed it: then nobody guards
            return

    def __enter__(self) -> Guardian:
        """Watch over nobody yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave, after the groups have been ended in order."""
        self.watch(())
        self._process.communicate()
