"""Read AMI_TEST_* into Settings, or report every problem at once; the one table of names."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Generic, TypeVar

PREFIX = "AMI_TEST_"
ENABLED = "AMI_TEST_FAULT_INJECTION_ENABLED"
TRUE_WORDS = ("true", "1", "yes", "on")
FALSE_WORDS = ("false", "0", "no", "off")

T = TypeVar("T")


class SettingsError(Exception):
    """Everything that is wrong with the settings, one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One row of the table: how a name is read, what it means, and what holds if it is unset."""

    name: str
    field: str
    read: Callable[[str], T]
    default: T
    meaning: str
    fault: bool = False  # part of what a run *is*: processes that disagree on it cannot share a run folder


def read_bool(text: str) -> bool:
    """Read true/1/yes/on or false/0/no/off in any case; raise ValueError that says what is allowed."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(f"is true or false ({'/'.join(TRUE_WORDS)} or {'/'.join(FALSE_WORDS)})")


def read_rate(text: str) -> float:
    """Read a probability from 0 to 1; raise ValueError with the likely meaning of anything else."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if 0.0 <= rate <= 1.0:
        return rate
    raise ValueError(f"a rate is a number from 0 to 1{_rate_hint(text, rate)}")


def _rate_hint(text: str, rate: float) -> str:
    if math.isnan(rate) and text.endswith("%"):
        try:
            rate = float(text[:-1])
        except ValueError:
            return ""
    elif not rate > 1.0:
        return ""
    if math.isinf(rate) or math.isnan(rate) or rate < 0:
        return ""
    return f" (did you mean {min(rate / 100, 1.0)}?)"


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ValueError(f"is a whole number, {least} or more")
        return int(text)

    return read


def read_seconds(text: str) -> float:
    """Read a duration in seconds, above 0 and finite; raise ValueError otherwise."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise ValueError("is a number of seconds above 0")
    return seconds


def read_names(text: str) -> tuple[str, ...]:
    """Read comma-separated names; a comma inside a name is written %2C."""
    return tuple(part.strip().replace("%2C", ",").replace("%2c", ",") for part in text.split(",") if part.strip())


def read_hosts(text: str) -> tuple[str, ...]:
    """Read comma-separated host names; raise ValueError if there is none: the guard cannot be switched off."""
    names = tuple(name.rstrip(".").strip("[]").lower() for name in read_names(text))
    # A port or a scheme would make the entry protect nothing; colons are right in an IPv6 address only.
    if not names or not all(names) or any("/" in name or name.count(":") == 1 for name in names):
        raise ValueError("is a list of host names separated by commas, at least one, without scheme and port")
    return names


def read_jobs(text: str) -> frozenset[int]:
    """Read comma-separated job ids; raise ValueError if one is not a whole number."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("is a list of job ids, whole numbers separated by commas")
    return frozenset(int(part) for part in parts)


def read_function(text: str) -> str:
    """Read module:function; raise ValueError if it is not of that form."""
    module, colon, function = text.partition(":")
    if not colon or not all(part.isidentifier() for part in module.split(".")) or not function.isidentifier():
        raise ValueError("is module:function, such as my_worker.loop:process_batch")
    return text


def _text(text: str) -> str:
    return text


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do. Rates are probabilities from 0 to 1, durations seconds; None means not known."""

    enabled: bool = False
    worker_crash_rate: float = 0.0
    network_error_rate: float = 0.0
    corrupt_image_rate: float = 0.0
    image_404_rate: float = 0.0
    transient_error_rate: float = 0.0
    permanent_error_images: tuple[str, ...] = ()
    profile: str = ""
    seed: int = -1
    run_dir: str = ""
    incarnation: int = 0
    task_loop: str = ""
    worker_command: str = ""
    jobs: frozenset[int] = frozenset()
    max_faults: int | None = None
    protected_hosts: tuple[str, ...] = ("antenna.insectai.org",)
    ack_wait: float | None = None
    max_deliver: int | None = None

    @property
    def has_seed(self) -> bool:
        """Whether a seed was given; without one the run folder draws it."""
        return self.seed >= 0

    def with_seed(self, seed: int) -> Settings:
        """Return the same settings with the seed that the run has drawn."""
        return replace(self, seed=seed)


D = Settings()
TABLE: tuple[Setting[object], ...] = (
    Setting(ENABLED, "enabled", read_bool, D.enabled, "the switch; counts only in the real environment"),
    Setting(
        "AMI_TEST_WORKER_CRASH_RATE",
        "worker_crash_rate",
        read_rate,
        D.worker_crash_rate,
        "the worker process dies (os._exit), per batch",
        True,
    ),
    Setting(
        "AMI_TEST_NETWORK_ERROR_RATE",
        "network_error_rate",
        read_rate,
        D.network_error_rate,
        "an API call fails: refused, timed out or 5xx, per call",
        True,
    ),
    Setting(
        "AMI_TEST_CORRUPT_IMAGE_RATE",
        "corrupt_image_rate",
        read_rate,
        D.corrupt_image_rate,
        "an image is damaged when it is opened, per image",
        True,
    ),
    Setting(
        "AMI_TEST_IMAGE_404_RATE",
        "image_404_rate",
        read_rate,
        D.image_404_rate,
        "an image download answers 404, per image",
        True,
    ),
    Setting(
        "AMI_TEST_TRANSIENT_ERROR_RATE",
        "transient_error_rate",
        read_rate,
        D.transient_error_rate,
        "an exception leaves the task loop, per batch",
        True,
    ),
    Setting(
        "AMI_TEST_PERMANENT_ERROR_IMAGES",
        "permanent_error_images",
        read_names,
        D.permanent_error_images,
        "images that always fail: image id, file name or URL; comma-separated, a comma inside is %2C",
        True,
    ),
    Setting("AMI_TEST_PROFILE", "profile", _text, D.profile, "a profile's name, or the path of a dotenv file"),
    Setting("AMI_TEST_SEED", "seed", _whole(0), D.seed, "the same seed gives the same faults; drawn if unset", True),
    Setting("AMI_TEST_RUN_DIR", "run_dir", _text, D.run_dir, "the run folder; made under ./ami-fault-runs if unset"),
    Setting(
        "AMI_TEST_INCARNATION",
        "incarnation",
        _whole(0),
        D.incarnation,
        "which life of the worker this is; set by the supervisor",
    ),
    Setting(
        "AMI_TEST_TASK_LOOP",
        "task_loop",
        read_function,
        D.task_loop,
        "module:function to strike instead of the known task loops",
    ),
    Setting(
        "AMI_TEST_WORKER_COMMAND",
        "worker_command",
        _text,
        D.worker_command,
        "what test_worker_robustness.sh starts instead of ami worker",
    ),
    Setting("AMI_TEST_JOBS", "jobs", read_jobs, D.jobs, "strike only these job ids, comma-separated", True),
    Setting(
        "AMI_TEST_MAX_FAULTS", "max_faults", _whole(0), D.max_faults, "strike at most so often in the whole run", True
    ),
    Setting(
        "AMI_TEST_PROTECTED_HOSTS",
        "protected_hosts",
        read_hosts,
        D.protected_hosts,
        "hosts that are never tested; they and their subdomains are refused",
    ),
    Setting(
        "AMI_TEST_ACK_WAIT",
        "ack_wait",
        read_seconds,
        D.ack_wait,
        "seconds after which the service hands an unanswered task out again; not on the wire",
    ),
    Setting(
        "AMI_TEST_MAX_DELIVER",
        "max_deliver",
        _whole(1),
        D.max_deliver,
        "how often the service hands a task out at most; not on the wire",
    ),
)
NAMES = tuple(row.name for row in TABLE)
SCENARIO = tuple(name for name in NAMES if name.endswith("_RATE") or name == "AMI_TEST_PERMANENT_ERROR_IMAGES")
"""The settings of which one must be given before a run has anything to do, be it a rate of 0."""


def parse(values: Mapping[str, str], sources: Mapping[str, str] | None = None) -> Settings:
    """Read the AMI_TEST_* of a mapping; other names are left alone and an empty value means unset.

    `sources` says where a value came from (`medium.env:3`), for the problems. Raises SettingsError with all of them.
    """
    where = sources or {}
    problems: list[str] = []
    read: dict[str, object] = {}
    given = {name: text.strip() for name, text in values.items() if name.startswith(PREFIX)}
    unknown = sorted(given.keys() - set(NAMES))
    problems += [_located(where, name, f"{name}: unknown setting{_nearest(name)}") for name in unknown]
    for row in TABLE:
        text = given.get(row.name, "")
        if not text:
            continue
        try:
            read[row.field] = row.read(text)
        except ValueError as error:
            problems.append(_located(where, row.name, f"{row.name}={text!r}: {error}"))
    problems += _impossible_sums(read, given)
    if problems:
        raise SettingsError(problems)
    return Settings(**{f.name: read[f.name] for f in fields(Settings) if f.name in read})  # type: ignore[arg-type]


def fingerprint(settings: Settings) -> dict[str, str]:
    """Return what makes two processes part of the same run: every setting that decides which faults strike."""
    return {row.name: _plain(getattr(settings, row.field)) for row in TABLE if row.fault}


def as_text(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from their defaults as a mapping that `parse` reads back."""
    return {row.name: _plain(value) for row in TABLE if (value := getattr(settings, row.field)) != row.default}


def protected_by(host: str, protected: tuple[str, ...]) -> str:
    """Return the entry of the protected hosts that covers `host` (itself or a parent domain), or ""."""
    bare = host.lower().rstrip(".")
    return next((p for p in protected if bare == p.lower() or bare.endswith("." + p.lower())), "")


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, frozenset):
        return ",".join(str(item) for item in sorted(value))
    if isinstance(value, tuple):
        return ",".join(str(item).replace(",", "%2C") for item in value)
    return str(value)


def _nearest(name: str) -> str:
    # Without the prefix that all share, or every short name would resemble every other.
    known = [one.removeprefix(PREFIX) for one in NAMES]
    close = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
    return f" (did you mean {PREFIX}{close[0]}?)" if close else ""


def _located(where: Mapping[str, str], name: str, problem: str) -> str:
    return f"{where[name]}: {problem}" if name in where else problem


def _impossible_sums(read: Mapping[str, object], given: Mapping[str, str]) -> list[str]:
    """Two faults share the one roll of a batch; their rates must fit into it."""
    pair = ("worker_crash_rate", "transient_error_rate")
    total = math.fsum(float(str(read.get(name, 0.0))) for name in pair)
    if total <= 1.0 or math.isclose(total, 1.0):
        return []
    return [
        f"AMI_TEST_WORKER_CRASH_RATE={given['AMI_TEST_WORKER_CRASH_RATE']!r} and "
        f"AMI_TEST_TRANSIENT_ERROR_RATE={given['AMI_TEST_TRANSIENT_ERROR_RATE']!r}: "
        f"together at most 1, since both strike a batch, not {total:g}"
    ]
