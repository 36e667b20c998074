"""Name the settings that a forecast does not cover, and say what each does to its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from ami_fault_site.faults import KILLING, Layer, Role
from ami_fault_site.settings import LOOP_POINTS, Settings


def foreseen(settings: Settings) -> Settings:
    """Return the settings as they are forecast: without a crash rate where no crash by it strikes around a batch."""
    in_loop = LOOP_POINTS & set(settings.crash_points) and Role.MAIN in settings.crash_process
    return settings if in_loop else settings._replace(worker_crash_rate=0.0)


def unforeseen(settings: Settings) -> tuple[str, ...]:
    """Return a line for each setting in force that the forecast does not cover, its name first."""
    return (*_placed(settings), *_windows(settings), *_network(settings), *_crashes(settings))


def strikes_unforeseen(settings: Settings) -> bool:
    """Say whether something may strike that the forecast does not count at all."""
    return bool(settings.rules or settings.exhaust or foreseen(settings) != settings)


def _placed(settings: Settings) -> Iterator[str]:
    if settings.rules:
        yield "AMI_TEST_RULES: what rules strike comes on top, and what they take is not left to the rates"
    if settings.exhaust:
        yield "AMI_TEST_EXHAUST: the tasks of these images are never answered, whatever is said here"


def _windows(settings: Settings) -> Iterator[str]:
    if settings.start_after is not None:
        yield f"AMI_TEST_START_AFTER={settings.start_after:g}: nothing strikes before, so fewer faults than said here"
    if settings.start_after_tasks is not None:
        tasks = settings.start_after_tasks
        yield f"AMI_TEST_START_AFTER_TASKS={tasks}: nothing strikes before, so fewer faults than said here"
    if settings.stop_after is not None:
        yield f"AMI_TEST_STOP_AFTER={settings.stop_after:g}: nothing strikes afterwards, so fewer faults than said here"


def _network(settings: Settings) -> Iterator[str]:
    if not settings.network_error_rate:
        return
    if settings.network_layer is Layer.ATTEMPT:
        yield "AMI_TEST_NETWORK_LAYER=attempt: more is struck, and less fails: a call may go well when tried again"
    if settings.network_kinds:
        yield "AMI_TEST_NETWORK_KINDS: every struck call is taken for one that fails unsent"


def _crashes(settings: Settings) -> Iterator[str]:
    if not settings.worker_crash_rate:
        return
    if foreseen(settings) != settings:
        points = ", ".join(point.value for point in settings.crash_points)
        name = "CRASH_PROCESS=loader" if settings.crash_process == (Role.LOADER,) else "CRASH_POINTS"
        yield f"AMI_TEST_{name}: no crash at {points} is counted, nor what it costs"
    elif elsewhere := [point.value for point in settings.crash_points if point not in LOOP_POINTS]:
        yield f"AMI_TEST_CRASH_POINTS: crashes around a batch are counted, those at {', '.join(elsewhere)} are not"
    if settings.crash_mode not in KILLING:
        mode = settings.crash_mode.value
        yield f"AMI_TEST_CRASH_MODE={mode}: every crash is taken to end the worker, which is then started again"
