"""Say what sandbox is wanted, and what sandbox is running."""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ami_fault_site.sandbox.sabotage import SABOTAGES

DEFAULT_TOKEN = "5a4db0c5a11ab1e0f0a1c2e3d4b5a69788796a5b"
"""The token of every sandbox unless another is given: published here, and good for nothing but a sandbox."""

SERVICE_NAME = "sandbox"
FAIL_THRESHOLD = 0.5
"""A job ends in FAILURE when more than this share of its images failed."""

SABOTAGE_MEANINGS = {name: sabotage.meaning for name, sabotage in SABOTAGES.items()}
"""What a sandbox can be told to do wrong, by name, and in a sentence each."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]+")  # visible ASCII: it travels in an HTTP header, split on spaces
_HIGHEST_PORT = 65535
_MOST_IMAGES = 1_000_000  # each is a task in the queue, and a picture that can be asked for


class SandboxError(Exception):
    """A sandbox that could not be started, found or kept running; the text says why and what helps."""


class SandboxOptionError(ValueError):
    """Everything that is wrong with the options, one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class SandboxOptions:
    """What a sandbox is asked to be. Durations are in seconds; port 0 lets the kernel choose.

    Each of the `jobs` has `images` images; jobs are dealt to the pipelines in turn. `image_dir` serves the pictures of
    that folder in place of made ones. `nats_url` uses a NATS server that is running already, and leaves it running.
    `sabotage` names the way in which the sandbox misbehaves, "" is a healthy one. Raises SandboxOptionError.
    """

    images: int = 200
    jobs: int = 1
    pipelines: tuple[str, ...] = ("moth_binary",)
    ack_wait: float = 10.0
    max_deliver: int = 2
    max_ack_pending: int = 1000
    reaper_interval: float = 900.0
    reaper_idle: float = 600.0
    image_dir: str | None = None
    nats_url: str | None = None
    port: int = 0
    token: str = DEFAULT_TOKEN
    fail_threshold: float = FAIL_THRESHOLD
    sabotage: str = ""

    def __post_init__(self) -> None:
        """Check every option, so that all problems are told at once."""
        problems = [*self._counts(), *self._durations(), *self._names()]
        if problems:
            raise SandboxOptionError(problems)

    def _counts(self) -> list[str]:
        least = {"images": 1, "jobs": 0, "max_deliver": 1, "max_ack_pending": 1, "port": 0}
        problems = [
            f"{name}={getattr(self, name)!r}: is a whole number, {low} or more"
            for name, low in least.items()
            if not _is_whole(getattr(self, name)) or getattr(self, name) < low
        ]
        if _is_whole(self.images) and self.images > _MOST_IMAGES:
            problems.append(f"images={self.images}: is a whole number, {_MOST_IMAGES} at most")
        if _is_whole(self.port) and self.port > _HIGHEST_PORT:
            problems.append(f"port={self.port}: is a port from 0 (any free one) to {_HIGHEST_PORT}")
        return problems

    def _durations(self) -> list[str]:
        problems = [
            f"{name}={getattr(self, name)!r}: is a number of seconds above 0"
            for name in ("ack_wait", "reaper_interval", "reaper_idle")
            if not 0.0 < _number(getattr(self, name)) < math.inf
        ]
        if not 0.0 <= _number(self.fail_threshold) <= 1.0:
            problems.append(f"fail_threshold={self.fail_threshold!r}: is a number from 0 to 1")
        return problems

    def _names(self) -> list[str]:
        problems = [
            f"pipelines={slug!r}: a pipeline is named by letters, digits, '_' and '-', such as moth_binary"
            for slug in self.pipelines
            if not _SLUG.fullmatch(slug)
        ]
        if not self.pipelines:
            problems.append("pipelines=(): at least one pipeline is needed, such as moth_binary")
        if len(set(self.pipelines)) != len(self.pipelines):
            problems.append(f"pipelines={','.join(self.pipelines)!r}: each pipeline is named once")
        if not _TOKEN.fullmatch(self.token):
            problems.append("token: is visible ASCII without spaces, because it travels in an HTTP header")
        if self.image_dir is not None and not Path(self.image_dir).is_dir():
            problems.append(f"image_dir={self.image_dir!r}: is a folder of pictures that exists")
        if self.nats_url is not None and not self.nats_url.startswith(("nats://", "tls://", "ws://", "wss://")):
            problems.append(f"nats_url={self.nats_url!r}: is a URL such as nats://127.0.0.1:4222")
        if self.sabotage and self.sabotage not in SABOTAGES:
            close = difflib.get_close_matches(self.sabotage, SABOTAGES, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            problems.append(f"sabotage={self.sabotage!r}: is one of {', '.join(SABOTAGES)}{hint}")
        return problems


@dataclass(frozen=True)
class SandboxInfo:
    """A running sandbox: where it is, how to enter, and what its queue is set to."""

    base_url: str
    token: str
    service_name: str
    ack_wait: float
    max_deliver: int
    jobs: tuple[int, ...]
    pipelines: tuple[str, ...]
    nats_url: str
    pid: int

    def as_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps(asdict(self))


def info_from_json(text: str) -> SandboxInfo:
    """Read what `SandboxInfo.as_json` wrote; raise SandboxError for anything else. Unknown keys are ignored."""
    try:
        parsed = json.loads(text)
        known = {field.name: parsed[field.name] for field in fields(SandboxInfo)}
        known |= {name: tuple(known[name]) for name in ("jobs", "pipelines")}
    except (ValueError, KeyError, TypeError) as error:
        raise SandboxError(f"this is not what a sandbox says of itself: {text[:200]!r}") from error
    return SandboxInfo(**known)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
