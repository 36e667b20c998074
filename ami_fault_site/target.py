"""Find the service as the worker finds it: the environment, then `.env` in the working directory, then its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

BASE_URL = "AMI_ANTENNA_API_BASE_URL"
TOKEN = "AMI_ANTENNA_API_AUTH_TOKEN"
SERVICE_NAME = "AMI_ANTENNA_SERVICE_NAME"
DEFAULT_BASE_URL = "http://localhost:8000/api/v2"
"""What the real worker assumes if nobody says otherwise."""


class TargetError(Exception):
    """What is missing or wrong about the service's address, token or name, one problem a line."""


@dataclass(frozen=True)
class Target:
    """The service under test. `sources` says where each value came from."""

    base_url: str
    token: str
    service_name: str
    sources: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """Host and port, as people name the service."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    @property
    def hostname(self) -> str:
        """The host alone."""
        return urlsplit(self.base_url).hostname or ""


def find(environ: Mapping[str, str], folder: Path) -> Target:
    """Look where the worker looks, with names in any case; raises TargetError if the URL is not an HTTP URL."""
    in_file, remarks = _dotenv(folder / ".env")
    layers = ((_upper(environ), "environment"), (_upper(in_file), ".env"))
    found: dict[str, str] = {}
    sources: dict[str, str] = {}
    for name, default in ((BASE_URL, DEFAULT_BASE_URL), (TOKEN, ""), (SERVICE_NAME, "")):
        # Blank counts, as it does for the worker: a blank variable hides what .env says.
        layer = next(((values, source) for values, source in layers if name in values), None)
        found[name] = layer[0][name].strip() if layer else default
        sources[name] = layer[1] if layer else "default"
    try:
        parts = urlsplit(found[BASE_URL])
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise TargetError(f"{BASE_URL}={found[BASE_URL]!r}: is a URL such as {DEFAULT_BASE_URL}")
    return Target(found[BASE_URL].rstrip("/"), found[TOKEN], found[SERVICE_NAME], sources, remarks)


def require(target: Target) -> None:
    """Raise TargetError naming what `ami worker` cannot start without."""
    missing = [name for name, value in ((TOKEN, target.token), (SERVICE_NAME, target.service_name)) if not value]
    if missing:
        lines = [f"{name}: is required, in the environment or in .env in the working directory" for name in missing]
        raise TargetError("\n".join([*lines, *target.remarks]))


def _upper(values: Mapping[str, str]) -> dict[str, str]:
    return {name.upper(): value for name, value in values.items()}


def _dotenv(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read the worker's own file, whose bad lines the worker ignores: so do we, and say which."""
    if not path.is_file():
        return {}, ()
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as stream:
            bad = [binding.original for binding in parse_stream(stream) if binding.error]
            broken = [original.line + _blank(original.string) for original in bad]
        values = {name: value for name, value in dotenv_values(path, verbose=False).items() if value is not None}
    except (OSError, UnicodeError) as error:
        raise TargetError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    return values, tuple(f"{path}:{line}: not NAME=value, ignored as the worker ignores it" for line in broken)


def _blank(text: str) -> int:
    """Count the blank lines that a binding carries before its own."""
    return text[: len(text) - len(text.lstrip())].count("\n")
