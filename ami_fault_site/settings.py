"""Read AMI_TEST_* into Settings, or report every problem at once; the one table of names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from ami_fault_site.faults import LOOP_SITES, POINTS_AT, Layer, Mode, Point, Role
from ami_fault_site.grammar import parse_rules
from ami_fault_site.nearest import nearest
from ami_fault_site.rules import CRASH, HarmTemplate, Rule
from ami_fault_site.values import (
    one_of,
    read_bool,
    read_function,
    read_hosts,
    read_jobs,
    read_names,
    read_network_kinds,
    read_points,
    read_rate,
    read_roles,
    read_seconds,
    read_sentry,
    read_text,
    whole,
)

PREFIX = "AMI_TEST_"
ENABLED = "AMI_TEST_FAULT_INJECTION_ENABLED"
LOOP_POINTS = frozenset(point for site in LOOP_SITES for point in POINTS_AT[site])
LOADER_POINTS = frozenset({Point.AFTER_FETCH, Point.DOWNLOADING})
"""The points that a loader process passes; with loaders, the main process passes all others."""


class SettingsError(Exception):
    """Everything that is wrong with the settings, one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Setting(NamedTuple):
    """One row of the table: how a name is read, and what it means."""

    name: str
    field: str
    read: Callable[[str], object]
    meaning: str
    fault: bool = False  # part of what a run *is*: processes that disagree on it cannot share a run folder

    @property
    def default(self) -> object:
        """What holds if it is unset."""
        return Settings._field_defaults[self.field]


class Settings(NamedTuple):
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
    allowed_hosts: tuple[str, ...] = ()
    ack_wait: float | None = None
    max_deliver: int | None = None
    network_layer: Layer = Layer.CALL
    network_kinds: tuple[HarmTemplate, ...] = ()
    crash_mode: Mode = Mode.EXIT
    crash_points: tuple[Point, ...] = (Point.BEFORE_BATCH, Point.AFTER_BATCH)
    crash_process: tuple[Role, ...] = tuple(Role)
    rules: tuple[Rule, ...] = ()
    exhaust: tuple[str, ...] = ()
    start_after: float | None = None
    start_after_tasks: int | None = None
    stop_after: float | None = None
    dry_run: bool = False
    sentry: str = "tag"

    @property
    def has_seed(self) -> bool:
        """Whether a seed was given; without one the run folder draws it."""
        return self.seed >= 0

    def with_seed(self, seed: int) -> Settings:
        """Return the same settings with the seed that the run has drawn."""
        return self._replace(seed=seed)


TABLE: tuple[Setting, ...] = (
    Setting(ENABLED, "enabled", read_bool, "the switch; counts only in the real environment"),
    Setting(
        "AMI_TEST_WORKER_CRASH_RATE",
        "worker_crash_rate",
        read_rate,
        "the worker process dies (os._exit), per batch",
        True,
    ),
    Setting(
        "AMI_TEST_NETWORK_ERROR_RATE",
        "network_error_rate",
        read_rate,
        "an API call fails: refused, timed out or 5xx, per call",
        True,
    ),
    Setting(
        "AMI_TEST_CORRUPT_IMAGE_RATE",
        "corrupt_image_rate",
        read_rate,
        "an image is damaged when it is opened, per image",
        True,
    ),
    Setting(
        "AMI_TEST_IMAGE_404_RATE",
        "image_404_rate",
        read_rate,
        "an image download answers 404, per image",
        True,
    ),
    Setting(
        "AMI_TEST_TRANSIENT_ERROR_RATE",
        "transient_error_rate",
        read_rate,
        "an exception leaves the task loop, per batch",
        True,
    ),
    Setting(
        "AMI_TEST_PERMANENT_ERROR_IMAGES",
        "permanent_error_images",
        read_names,
        "images that always fail: image id, file name or URL; comma-separated, a comma inside is %2C",
        True,
    ),
    Setting("AMI_TEST_PROFILE", "profile", read_text, "a profile's name, or the path of a dotenv file"),
    Setting("AMI_TEST_SEED", "seed", whole(0), "the same seed gives the same faults; drawn if unset", True),
    Setting("AMI_TEST_RUN_DIR", "run_dir", read_text, "the run folder; made under ./ami-fault-runs if unset"),
    Setting(
        "AMI_TEST_INCARNATION",
        "incarnation",
        whole(0),
        "which life of the worker this is; set by the supervisor",
    ),
    Setting(
        "AMI_TEST_TASK_LOOP",
        "task_loop",
        read_function,
        "module:function to strike instead of the known task loops",
    ),
    Setting(
        "AMI_TEST_WORKER_COMMAND",
        "worker_command",
        read_text,
        "what test_worker_robustness.sh starts instead of ami worker",
    ),
    Setting("AMI_TEST_JOBS", "jobs", read_jobs, "strike only these job ids, comma-separated", True),
    Setting("AMI_TEST_MAX_FAULTS", "max_faults", whole(0), "strike at most so often in the whole run", True),
    Setting(
        "AMI_TEST_PROTECTED_HOSTS",
        "protected_hosts",
        read_hosts,
        "hosts that are never tested; they and their subdomains are refused",
    ),
    Setting(
        "AMI_TEST_ALLOWED_HOSTS",
        "allowed_hosts",
        read_hosts,
        "test these hosts and their subdomains only; unset: any that is not protected",
    ),
    Setting(
        "AMI_TEST_ACK_WAIT",
        "ack_wait",
        read_seconds,
        "seconds after which the service hands an unanswered task out again; not on the wire",
    ),
    Setting(
        "AMI_TEST_MAX_DELIVER",
        "max_deliver",
        whole(0),
        "how often the service hands a task out at most; not on the wire. No fault takes the last delivery; 0: any may",
    ),
    Setting(
        "AMI_TEST_NETWORK_LAYER",
        "network_layer",
        one_of(Layer),
        "what a network fault strikes, call or attempt: the whole call, or each try below the worker's own retries",
        True,
    ),
    Setting(
        "AMI_TEST_NETWORK_KINDS",
        "network_kinds",
        read_network_kinds,
        "how API calls fail by the network rate: effects of AMI_TEST_RULES, such as refused,reset@after,status(503)",
        True,
    ),
    Setting(
        "AMI_TEST_CRASH_MODE",
        "crash_mode",
        one_of(Mode),
        "how a process dies by the crash rate: exit, kill, segv, abort, hang, sysexit",
        True,
    ),
    Setting(
        "AMI_TEST_CRASH_POINTS",
        "crash_points",
        read_points,
        "where it dies by the crash rate, comma-separated: after-fetch, downloading, before-batch, in-batch, "
        "after-batch, posting-unsent, posting-unheard, after-post, idle",
        True,
    ),
    Setting(
        "AMI_TEST_CRASH_PROCESS",
        "crash_process",
        read_roles,
        "which of the worker's processes die by the crash rate: main, loader, any",
        True,
    ),
    Setting(
        "AMI_TEST_RULES",
        "rules",
        parse_rules,
        "what rates cannot say, such as result[job=7]: 3*off -> 1*reset@after -> off; several are separated by ;",
        True,
    ),
    Setting(
        "AMI_TEST_EXHAUST",
        "exhaust",
        read_names,
        "images whose tasks are kept from the worker at every delivery, until none is left, to test the reaper",
        True,
    ),
    Setting(
        "AMI_TEST_START_AFTER",
        "start_after",
        read_seconds,
        "strike only so many seconds into the run",
        True,
    ),
    Setting(
        "AMI_TEST_START_AFTER_TASKS",
        "start_after_tasks",
        whole(1),
        "strike only once so many tasks were handed out",
        True,
    ),
    Setting(
        "AMI_TEST_STOP_AFTER",
        "stop_after",
        read_seconds,
        "strike no more so many seconds into the run",
        True,
    ),
    Setting("AMI_TEST_DRY_RUN", "dry_run", read_bool, "book what would have struck, and touch nothing", True),
    Setting(
        "AMI_TEST_SENTRY",
        "sentry",
        read_sentry,
        "tag marks injected errors in the worker's Sentry, silent sends it no event in this run",
    ),
)
NAMES = tuple(row.name for row in TABLE)
SCENARIO = (
    *(name for name in NAMES if name.endswith("_RATE")),
    "AMI_TEST_PERMANENT_ERROR_IMAGES",
    "AMI_TEST_RULES",
    "AMI_TEST_EXHAUST",
)
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
    problems += _impossible(read, given)
    if problems:
        raise SettingsError(problems)
    return Settings(**read)  # type: ignore[arg-type]


def fingerprint(settings: Settings) -> dict[str, str]:
    """Return what makes two processes part of the same run: every setting that decides which faults strike."""
    return {row.name: plain(getattr(settings, row.field)) for row in TABLE if row.fault}


def as_text(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from their defaults as a mapping that `parse` reads back."""
    return {row.name: plain(value) for row in TABLE if (value := getattr(settings, row.field)) != row.default}


def plain(value: object) -> str:
    """Return a setting's value as the text that is read back as the same."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, frozenset):
        return ",".join(str(item) for item in sorted(value))
    if isinstance(value, tuple) and value and isinstance(value[0], Rule):
        return "; ".join(map(str, value))
    if isinstance(value, tuple) and value and isinstance(value[0], HarmTemplate):
        return ",".join(map(str, value))
    if isinstance(value, tuple):
        return ",".join(plain(item).replace(",", "%2C") for item in value)
    return str(value)


def _nearest(name: str) -> str:
    # Without the prefix that all share, or every short name would resemble every other.
    known, bare = [one.removeprefix(PREFIX) for one in NAMES], name.removeprefix(PREFIX)
    longer = [one for one in known if set(bare.split("_")) <= set(one.split("_"))]
    close = nearest(bare, longer or known)
    return f" (did you mean {PREFIX}{close}?)" if close else ""


def _located(where: Mapping[str, str], name: str, problem: str) -> str:
    return f"{where[name]}: {problem}" if name in where else problem


def _impossible(read: Mapping[str, object], given: Mapping[str, str]) -> list[str]:
    """Say what cannot go together: rates that share a roll and exceed 1, points that the process never passes."""
    settings = Settings(**read)  # type: ignore[arg-type]
    problems = []
    total = math.fsum((settings.worker_crash_rate, settings.transient_error_rate))
    if LOOP_POINTS & set(settings.crash_points) and total > 1.0 and not math.isclose(total, 1.0):
        problems.append(
            f"AMI_TEST_WORKER_CRASH_RATE={given['AMI_TEST_WORKER_CRASH_RATE']!r} and "
            f"AMI_TEST_TRANSIENT_ERROR_RATE={given['AMI_TEST_TRANSIENT_ERROR_RATE']!r}: "
            f"together at most 1, since both strike a batch, not {total:g}"
        )
    if settings.crash_process == (Role.LOADER,) and not LOADER_POINTS & set(settings.crash_points):
        points = ",".join(point.value for point in settings.crash_points)
        problems.append(
            f"AMI_TEST_CRASH_PROCESS='loader': a loader passes after-fetch and downloading only, not {points} "
            "(AMI_TEST_CRASH_POINTS)"
        )
    problems += [
        f"AMI_TEST_RULES: {rule}: a loader passes after-fetch and downloading only: name one, as point=downloading"
        for rule in settings.rules
        if rule.site == CRASH
        and rule.match.roles == {Role.LOADER}
        and not LOADER_POINTS & (rule.points or set(settings.crash_points))
    ]
    start, stop = settings.start_after, settings.stop_after
    if start is not None and stop is not None and start >= stop:
        problems.append(f"AMI_TEST_START_AFTER={start:g} and AMI_TEST_STOP_AFTER={stop:g}: it stops before it starts")
    return [*problems, *_unresolved(settings)]


def _unresolved(settings: Settings) -> list[str]:
    """Say which durations need an ack_wait that is not known."""
    problems = []
    rules = [(str(rule), term.harm) for rule in settings.rules for term in rule.terms if term.harm is not None]
    kinds = [(str(harm), harm) for harm in settings.network_kinds]
    for name, written, harm in [
        *(("AMI_TEST_RULES", *one) for one in rules),
        *(("AMI_TEST_NETWORK_KINDS", *one) for one in kinds),
    ]:
        try:
            harm.harm(settings.ack_wait)
        except ValueError as error:
            problems.append(f"{name}: {written}: {error}")
    return list(dict.fromkeys(problems))  # several terms of a rule may need the same
