"""One life of the worker: a process group of its own, its output, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from ami_fault_site.redaction import redact

_TAIL_LINES = 2000
_LINE_BYTES = 20_000  # a progress bar may never end its line
_STEP = 0.02


class Incarnation:
    """Starts the command at once. The output is passed through as it comes, and its tail kept without secrets."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        output: Path,
        secrets: tuple[str, ...],
        echo: Callable[[bytes], None],
    ) -> None:
        self.process = subprocess.Popen(
            list(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started = time.monotonic()
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._output = output
        self._secrets = secrets
        self._echo = echo
        self._reader = threading.Thread(target=self._read, name="worker-output", daemon=True)
        self._reader.start()

    @property
    def group(self) -> int:
        """The process group, which outlives its leader as long as orphans are in it."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal) once the worker itself has ended."""
        return self.process.poll()

    def signal_group(self, number: int) -> bool:
        """Send a signal to everyone in the group; False if nobody is left."""
        try:
            os.killpg(self.group, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS: only zombies are left
            return False
        return True

    def end_group(self, steps: Sequence[tuple[int, float]]) -> None:
        """Send each signal in turn and wait so many seconds for the group to be gone; the last should be SIGKILL."""
        end_groups([self], steps)

    def finish(self) -> list[str]:
        """Keep the tail of the output in its file and return its last ten lines."""
        self._reader.join(2.0)  # a process that left the group may hold the pipe open for ever
        lines = list(self.tail)
        self._output.write_text("".join(line + "\n" for line in lines), "utf-8", "replace")
        return [line for line in lines if line.strip()][-10:]

    def is_alive(self) -> bool:
        """Say whether anyone is left in the group."""
        self.process.poll()
        self._reap_orphans()
        return self.signal_group(0)

    def _reap_orphans(self) -> None:
        """Reap members of the group that became our children because we are process 1."""
        if self.process.returncode is None:
            return  # its own exit status must go to `process`
        try:
            while os.waitpid(-self.group, os.WNOHANG) != (0, 0):
                continue
        except ChildProcessError:
            return

    def _read(self) -> None:
        stream: BinaryIO = self.process.stdout  # type: ignore[assignment]
        rest = b""
        while chunk := os.read(stream.fileno(), 65536):
            self._pass_on(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE_BYTES:
                lines, rest = [*lines, rest], b""
            self._keep(lines)
        if rest:
            self._keep([rest])
        stream.close()

    def _pass_on(self, chunk: bytes) -> None:
        try:
            self._echo(chunk)
        except Exception:
            # The terminal is gone. Read on: a full pipe would stop the worker.
            self._echo = _nobody

    def _keep(self, lines: Sequence[bytes]) -> None:
        self.tail.extend(redact(line.decode(errors="replace").rstrip("\r"), self._secrets) for line in lines)


def end_groups(lives: Sequence[Incarnation], steps: Sequence[tuple[int, float]]) -> None:
    """Send each signal in turn to every group, and wait so many seconds for all of them to be gone."""
    left = list(lives)
    for number, patience in steps:
        left = [life for life in left if life.signal_group(number)]
        deadline = time.monotonic() + patience
        while (left := [life for life in left if life.is_alive()]) and time.monotonic() < deadline:
            time.sleep(_STEP)
    for life in lives:
        life.process.wait()


def _nobody(_chunk: bytes) -> None:
    """Pass nothing on."""


END_ORPHANS = ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0))
"""After the worker itself is gone: loaders have nothing left to lose."""

END_WORKER = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""When the run is over."""

END_FOR_OPERATOR = ((signal.SIGINT, 5.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""On Ctrl-C: the real worker swallows SIGINT after its first batch."""
