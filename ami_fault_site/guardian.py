"""End the worker when the supervisor itself is killed: a shell that waits for its pipe to close."""

from __future__ import annotations

import subprocess
from types import TracebackType

# Each line names the process group that must not outlive us, an empty one that there is none just now. SIGKILL of the
# supervisor closes the pipe as every other end does.
_SCRIPT = """
trap '' INT TERM HUP
group=
while read -r line; do group=$line; done
[ -n "$group" ] || exit 0
kill -TERM "-$group" 2>/dev/null && sleep 5
kill -KILL "-$group" 2>/dev/null
"""


class Guardian:
    """Watches over one process group at a time, from a session of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int | None) -> None:
        """Name the group that must end with us, None if there is none."""
        if self._process.stdin is None:
            return
        try:
            self._process.stdin.write(b"\n" if group is None else b"%d\n" % group)
            self._process.stdin.flush()
        except OSError:  # somebody has killed it: then nobody guards
            return

    def __enter__(self) -> Guardian:
        """Watch over nobody yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave, after the group has been ended in order."""
        self.watch(None)
        self._process.communicate()
