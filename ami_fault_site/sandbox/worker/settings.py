"""Read the worker's settings: the environment, then `.env` in the working directory, then the defaults."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from ami_fault_site.sandbox.worker.misbehaviour import MISBEHAVIOURS

BASE_URL = "AMI_ANTENNA_API_BASE_URL"
TOKEN = "AMI_ANTENNA_API_AUTH_TOKEN"
SERVICE_NAME = "AMI_ANTENNA_SERVICE_NAME"
BATCH_SIZE = "AMI_ANTENNA_API_BATCH_SIZE"
NUM_WORKERS = "AMI_NUM_WORKERS"
MODEL_DELAY = "AMI_SAMPLE_MODEL_DELAY"
IDLE_SLEEP = "AMI_SAMPLE_IDLE_SLEEP"
PREFETCH = "AMI_SAMPLE_PREFETCH"
THREADS = "AMI_SAMPLE_THREADS"
MISBEHAVE = "AMI_SAMPLE_MISBEHAVE"

_DEFAULTS = {
    BASE_URL: "http://localhost:8000/api/v2",
    TOKEN: "",
    SERVICE_NAME: "AMI sample worker",
    BATCH_SIZE: "24",
    NUM_WORKERS: "4",
    MODEL_DELAY: "0.0",
    IDLE_SLEEP: "5",
    PREFETCH: "4",
    THREADS: "8",
    MISBEHAVE: "",
}


class SettingsError(Exception):
    """What is wrong with the settings, one problem a line."""


@dataclass(frozen=True)
class Settings:
    """All that the worker can be told. Delay (an image) and sleep in seconds, prefetch in batches a loader.

    `misbehave` names what the worker does wrong, "" is a good one.
    """

    base_url: str
    token: str = field(repr=False)
    service_name: str
    batch_size: int
    num_workers: int
    model_delay: float
    idle_sleep: float
    prefetch: int
    threads: int
    misbehave: str = ""


def read_settings(environ: Mapping[str, str], folder: Path) -> Settings:
    """Return the settings, names in any case; raises SettingsError with every problem at once.

    What stands in `.env` is used and never exported: a value there reaches no subprocess through its environment.
    """
    layers = (_upper(_dotenv(folder / ".env")), _upper(environ))
    texts = dict(_DEFAULTS)
    for layer in layers:
        texts.update((name, layer[name].strip()) for name in _DEFAULTS if name in layer)
    problems: list[str] = []

    def value(name: str, parse: Callable[[str, str], float]) -> float:
        try:
            return parse(name, texts[name])
        except SettingsError as error:
            problems.append(str(error))
            return 0

    problems += _problems_of_texts(texts)
    settings = Settings(
        base_url=texts[BASE_URL].rstrip("/"),
        token=texts[TOKEN],
        service_name=texts[SERVICE_NAME],
        batch_size=int(value(BATCH_SIZE, _whole(1, 10_000))),
        num_workers=int(value(NUM_WORKERS, _whole(0, 64))),
        model_delay=value(MODEL_DELAY, _seconds),
        idle_sleep=value(IDLE_SLEEP, _seconds),
        prefetch=int(value(PREFETCH, _whole(1, 100))),
        threads=int(value(THREADS, _whole(1, 64))),
        misbehave=texts[MISBEHAVE],
    )
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _problems_of_texts(texts: Mapping[str, str]) -> list[str]:
    problems = []
    if not _is_url(texts[BASE_URL]):
        problems.append(f"{BASE_URL}={texts[BASE_URL]!r}: is a URL such as {_DEFAULTS[BASE_URL]}")
    if not texts[TOKEN]:
        problems.append(f"{TOKEN}: must be set, in the environment or in .env in the working directory")
    elif not all("!" <= character <= "~" for character in texts[TOKEN]):
        # A token is a secret: its value is never shown, not even a wrong one.
        problems.append(f"{TOKEN}: is printable ASCII without blanks")
    if not texts[SERVICE_NAME]:
        problems.append(f"{SERVICE_NAME}={texts[SERVICE_NAME]!r}: is a name that is not blank")
    wanted = texts[MISBEHAVE]
    if wanted and wanted not in MISBEHAVIOURS:
        close = difflib.get_close_matches(wanted, MISBEHAVIOURS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        problems.append(f"{MISBEHAVE}={wanted!r}: is one of {', '.join(MISBEHAVIOURS)}{hint}")
    return problems


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _whole(least: int, most: int) -> Callable[[str, str], float]:
    def parse(name: str, text: str) -> float:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise SettingsError(f"{name}={text!r}: is a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 3600:
        raise SettingsError(f"{name}={text!r}: is a number of seconds from 0 to 3600")
    return seconds


def _upper(values: Mapping[str, str]) -> dict[str, str]:
    return {name.upper(): value for name, value in values.items()}


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError(f"{path}: cannot be read: {reason}") from error
