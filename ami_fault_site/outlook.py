"""Tell a forecast in plain words: the settings in force, what to expect of the run, what to be warned of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict

from ami_fault_site.faults import Effect, Trigger
from ami_fault_site.forecast import NEGLIGIBLE, RATE_FIELDS, Expectation, Forecast
from ami_fault_site.profiles import Effective
from ami_fault_site.settings import TABLE, as_text
from ami_fault_site.unforeseen import strikes_unforeseen, unforeseen

WARNED_IF_NOTHING = 0.05
"""Chance that no fault strikes at all, above which a run is hardly worth its time."""

WARNED_IF_EXHAUSTED = 0.5
"""Expected number of tasks that our own faults use up, from which a run is likely to end with tasks nobody answers."""

_NO_BUDGET = "AMI_TEST_MAX_DELIVER=0"
_NAMES = {row.field: row.name for row in TABLE}
_STRUCK = {
    Effect.CRASH: ("batch", "batches"),
    Effect.TRANSIENT: ("batch", "batches"),
    Effect.NETWORK: ("API call", "API calls"),
    Effect.IMAGE_404: ("image", "images"),
    Effect.CORRUPT: ("image", "images"),
}


def to_text(forecast: Forecast, effective: Effective) -> str:
    """Return the whole outlook as aligned lines, the warnings last, each on a line that begins with `warning:`."""
    told = rows(forecast, effective)
    width = max(len(label) for label, _ in told) + 2
    lines = [f"{label:{width}}{text}".rstrip() for label, text in told]
    return "\n".join([*lines, *(f"warning: {text}" for text in warnings(forecast))])


def as_json(forecast: Forecast, effective: Effective) -> str:
    """Return the outlook for a machine; chances from 0 to 1, durations in seconds, null for what is not known."""
    load = forecast.load
    told = {
        "settings": {name: {"value": value, "source": source} for name, value, source in _in_force(effective)},
        "load": asdict(load),
        "max_deliver": {"value": forecast.max_deliver, "assumed": load.max_deliver is None},
        "budget": forecast.budget,
        "faults": [_plain(each) for each in forecast.faults],
        "calls": asdict(forecast.calls),
        "held": load.held,
        "held_seconds": load.held_seconds if load.seconds_an_image else None,
        "unanswered": forecast.unanswered,
        "exhausted": forecast.exhausted,
        "enough_deliveries": forecast.enough_deliveries,
        "least_seconds": forecast.least_seconds,
        "nothing_fires": forecast.nothing_fires,
        "unforeseen": list(unforeseen(forecast.settings)),
        "warnings": warnings(forecast),
    }
    return json.dumps(told, indent=1)


def rows(forecast: Forecast, effective: Effective) -> list[tuple[str, str]]:
    """Return (label, text) rows, the label empty where a row goes on with what the one above is about."""
    return [
        *_labelled("settings", _settings(effective)),
        ("job", _job(forecast)),
        *_labelled("service", _service(forecast)),
        *_labelled("faults", [*_faults(forecast), _nothing(forecast)]),
        *_labelled("not in it", list(unforeseen(forecast.settings))),
        ("held", _held(forecast)),
        *_labelled("lost", _lost(forecast)),
        *_labelled("time", _time(forecast)),
    ]


def warnings(forecast: Forecast) -> list[str]:
    """Return what would make the run worthless, or lead to a wrong accusation, and what to do about it."""
    return [
        *_about_nothing(forecast),
        *_about_rarity(forecast),
        *_about_exhaustion(forecast),
        *_about_ack_wait(forecast),
        *_about_limits(forecast),
    ]


def _labelled(label: str, texts: list[str]) -> list[tuple[str, str]]:
    return [(label if number == 0 else "", text) for number, text in enumerate(texts)]


def _in_force(effective: Effective) -> list[tuple[str, str, str]]:
    return [(name, value, effective.sources[name]) for name, value in as_text(effective.settings).items()]


def _settings(effective: Effective) -> list[str]:
    """A source is shown without its folder, and not aligned: a list of images or a path may be very long."""
    told = [[name, f"= {value}  ({source.rpartition('/')[2]})"] for name, value, source in _in_force(effective)]
    return _aligned(told) or ["all as by default"]


def _job(forecast: Forecast) -> str:
    load = forecast.load
    batches = (
        f"{_counted(load.images, 'image', 'images')} in {_counted(load.batches, 'batch', 'batches')} of {load.batch}"
    )
    if load.workers == 0:
        return f"{batches}; no loaders, one batch at a time"
    ahead = _counted(load.prefetch, "batch", "batches")
    return f"{batches}; {_counted(load.workers, 'loader', 'loaders')}, each up to {ahead} ahead"


def _service(forecast: Forecast) -> list[str]:
    load, times = forecast.load, _counted(forecast.max_deliver, "time", "times")
    after = "ack_wait, which is not known" if load.ack_wait is None else f"{_seconds(load.ack_wait)} (ack_wait)"
    source = "assumed, max_deliver is not known" if load.max_deliver is None else "max_deliver"
    spared = "; no fault takes the last" if forecast.budget else f"; faults take the last as well ({_NO_BUDGET})"
    return [f"an unanswered task comes back after {after}", f"a task is handed out {times} at most ({source}){spared}"]


def _faults(forecast: Forecast) -> list[str]:
    table = [
        [
            each.effect.value,
            f"{each.rate:g}",
            _amount(each.expected),
            f"expected in {_amount(each.chances)} {_noun(each)},",
            _percent(each.never),
            "chance of none",
        ]
        for each in forecast.faults
        if each.trigger is Trigger.RATE
    ]
    named = [_named(forecast, each) for each in forecast.faults if each.trigger is Trigger.PERMANENT]
    return [*_aligned(table, right=(2, 4)), *named]


def _named(forecast: Forecast, each: Expectation) -> str:
    number = _counted(round(each.expected), "image", "images")
    if forecast.load.named is not None:
        return f"{number} of the job always bad: named in {_NAMES['permanent_error_images']}"
    job_has = "it is" if each.expected == 1 else "they are"
    return f"{number} always bad, if {job_has} in the job: named in {_NAMES['permanent_error_images']}"


def _nothing(forecast: Forecast) -> str:
    """Say how likely it is that nothing strikes; of what is not foreseen that is not known."""
    elsewhere = strikes_unforeseen(forecast.settings)
    if not forecast.faults:
        return "none by a rate around a batch, at a call or at an image" if elsewhere else "none can strike"
    of_these = "none of these strikes" if elsewhere else "nothing strikes at all"
    return f"{_percent(forecast.nothing_fires)} chance that {of_these}{_unless_named(forecast)}"


def _held(forecast: Forecast) -> str:
    load = forecast.load
    how_long = f", the last for {_seconds(load.held_seconds)}" if load.seconds_an_image else ""
    tasks = _counted(load.held, "task", "tasks")
    return f"{tasks} at most by the worker at a time{how_long}; a crash or a transient error leaves all unanswered"


def _lost(forecast: Forecast) -> list[str]:
    if forecast.unanswered < NEGLIGIBLE and strikes_unforeseen(forecast.settings):
        return ["nothing by what is foreseen here"]
    if forecast.unanswered < NEGLIGIBLE:
        return ["nothing: every task is answered the first time it is handed out"]
    left = f"{_amount(forecast.unanswered)} times a task is handed out and not answered"
    if forecast.budget:
        return [left, f"none for good by our own faults: none takes a task's last delivery, unless {_NO_BUDGET}"]
    never = f"{_amount(forecast.exhausted)} of {_counted(forecast.load.images, 'task is', 'tasks are')} never answered"
    return [
        left,
        f"{never}: handed out {_counted(forecast.max_deliver, 'time', 'times')}, in vain",
    ]


def _time(forecast: Forecast) -> list[str]:
    """Say what the time leaves out: most of all what the tester did not tell."""
    load = forecast.load
    unknown = ["what the models take"] if load.seconds_an_image == 0 else []
    if load.ack_wait is None and forecast.unanswered >= NEGLIGIBLE:
        unknown.append("the wait for what comes back")
    least = f"{_duration(forecast.least_seconds)} at least, on average; loading and posting come on top"
    return [least, f"not known, so not counted: {' and '.join(unknown)}"] if unknown else [least]


def _about_nothing(forecast: Forecast) -> Iterator[str]:
    settings = forecast.settings
    if settings.dry_run:
        yield f"{_NAMES['dry_run']}: nothing is touched; what would strike is only written down"
    if settings.max_faults == 0:
        yield f"no fault can strike: {_NAMES['max_faults']}=0"
    elif strikes_unforeseen(settings):
        pass  # nobody knows how often
    elif not forecast.faults:
        yield "no fault can strike: no rate is set and no image is named; choose a profile"
    elif forecast.nothing_fires > WARNED_IF_NOTHING:
        yield (
            f"{_percent(forecast.nothing_fires)} chance that nothing strikes at all{_unless_named(forecast)}, "
            "and that the run shows nothing: give it more images, or raise the rates"
        )
    if settings.network_error_rate >= 1 and settings.max_faults != 0:
        yield f"{_NAMES['network_error_rate']}=1: no call gets through, and no task is handed out at all"


def _about_rarity(forecast: Forecast) -> Iterator[str]:
    by_rule = {term.harm.effect for rule in forecast.settings.rules for term in rule.terms if term.harm is not None}
    rates = [each for each in forecast.faults if each.trigger is Trigger.RATE and each.effect not in by_rule]
    rare = [each for each in rates if each.expected < 1]
    if rare:
        told = ", ".join(f"{each.effect.value} ({_amount(each.expected)})" for each in rare)
        names = ", ".join(_NAMES[RATE_FIELDS[each.effect]] for each in rare)
        yield f"less than one expected: {told}; what does not strike is not tested: raise {names}, or give more images"


def _about_exhaustion(forecast: Forecast) -> Iterator[str]:
    if forecast.exhausted < WARNED_IF_EXHAUSTED:
        return
    deliveries = _counted(forecast.max_deliver, "delivery", "deliveries")
    assumed = " (assumed)" if forecast.load.max_deliver is None else ""
    more = f"raise max_deliver to {forecast.enough_deliveries}, " if forecast.enough_deliveries else ""
    yield (
        f"our own faults use up the {deliveries}{assumed} of {_amount(forecast.exhausted)} tasks, and the job does not "
        f"end by itself: {more}let the worker hold fewer tasks (batch, prefetch, workers), or lower the rates"
    )


def _about_ack_wait(forecast: Forecast) -> Iterator[str]:
    load = forecast.load
    if load.ack_wait is not None and load.ack_wait < load.held_seconds:
        yield (
            f"ack_wait {_seconds(load.ack_wait)} is below the {_seconds(load.held_seconds)} that a lease will be held: "
            "leases expire while held and use up deliveries"
        )


def _about_limits(forecast: Forecast) -> Iterator[str]:
    spared = {Effect.CRASH, Effect.TRANSIENT, Effect.NETWORK} & {each.effect for each in forecast.faults}
    if forecast.budget and forecast.max_deliver == 1 and spared:
        yield (
            "a task's first delivery is its last, and no fault takes that: no crash, no transient error and no failed "
            f"post strikes; raise max_deliver, or let them: {_NO_BUDGET}"
        )
    crashes = sum(each.expected for each in forecast.faults if each.effect is Effect.CRASH)
    if crashes > forecast.load.max_restarts:
        times = _counted(forecast.load.max_restarts, "time", "times")
        yield f"{_amount(crashes)} crashes are expected, but a crashed worker is started again {times} at most"
    total, most = sum(each.expected for each in forecast.faults), forecast.settings.max_faults
    if most is not None and total > most:
        yield (
            f"{_NAMES['max_faults']}={most} is below the {_amount(total)} faults expected: "
            "the rest are withheld, and the numbers above are without this limit"
        )


def _unless_named(forecast: Forecast) -> str:
    """Nobody may know whether the job has the images that are named: the chance is then that of the rates alone."""
    unknown = forecast.settings.permanent_error_images and forecast.load.named is None
    return ", unless the job has an image that is named" if unknown else ""


def _plain(each: Expectation) -> dict[str, object]:
    return {**asdict(each), "effect": each.effect.value, "trigger": each.trigger.value}


def _aligned(table: list[list[str]], right: tuple[int, ...] = ()) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    sides = [">" if number in right else "<" for number in range(len(widths))]
    return [
        "  ".join(f"{c:{side}{w}}" for c, side, w in zip(line, sides, widths, strict=True)).rstrip() for line in table
    ]


def _noun(each: Expectation) -> str:
    one, many = _STRUCK[each.effect]
    return one if each.chances == 1 else many


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _amount(number: float) -> str:
    """Write an expected number with as many digits as it deserves."""
    if math.isclose(number, round(number)):
        return f"{number:.0f}"
    if number < NEGLIGIBLE:
        return f"under {NEGLIGIBLE}"
    return f"{number:.2f}" if number < 1 else f"{number:.1f}" if number < 10 else f"{number:.0f}"


def _percent(chance: float) -> str:
    """Write a chance in per cent; one that is neither certain nor ruled out is not shown as if it were."""
    if chance in (0.0, 1.0):
        return f"{chance:.0%}".replace("%", " %")
    if chance < 0.001:
        return "under 0.1 %"
    if chance > 0.999:
        return "over 99.9 %"
    return f"{100 * chance:.1f} %" if chance < 0.1 or chance > 0.99 else f"{100 * chance:.0f} %"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def _duration(seconds: float) -> str:
    """Write a time that is an estimate: in the unit that people would use."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else _seconds(seconds)
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
