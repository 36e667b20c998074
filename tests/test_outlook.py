from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ami_fault_site.forecast import forecast
from ami_fault_site.load import Load
from ami_fault_site.outlook import as_json, rows, to_text, warnings
from ami_fault_site.profiles import resolve
from ami_fault_site.settings import PREFIX, Settings, parse

SMALL = Load(200, 8, workers=2, prefetch=1, seconds_an_image=0.5)


def text(load: Load, **over: str) -> str:
    effective = resolve({}, {f"{PREFIX}{name}": value for name, value in over.items()})
    return to_text(forecast(effective.settings, load), effective)


def part(label: str, load: Load, **over: str) -> list[str]:
    """Return the texts from this label's row to the next label's."""
    effective = resolve({}, {f"{PREFIX}{name}": value for name, value in over.items()})
    told: dict[str, list[str]] = {}
    name = ""
    for each, line in rows(forecast(effective.settings, load), effective):
        name = each or name
        told.setdefault(name, []).append(line)
    return told[label]


def warned(load: Load, settings: Settings) -> list[str]:
    return warnings(forecast(settings, load))


def test_the_outlook_tells_the_settings_then_the_expectations_then_the_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.env").write_text("# mine\nAMI_TEST_WORKER_CRASH_RATE=0.05\nAMI_TEST_CORRUPT_IMAGE_RATE=0.02\n")
    environ = {"AMI_TEST_NETWORK_ERROR_RATE": "0.05", "AMI_TEST_ACK_WAIT": "8", "AMI_TEST_MAX_DELIVER": "0"}
    effective = resolve(environ, {"AMI_TEST_PROFILE": str(tmp_path / "mine.env")})

    told = to_text(forecast(effective.settings, replace(SMALL, max_deliver=2)), effective)

    assert told.replace(str(tmp_path), "/here") == (
        "settings  AMI_TEST_WORKER_CRASH_RATE   = 0.05  (mine.env:2)\n"
        "          AMI_TEST_NETWORK_ERROR_RATE  = 0.05  (environment)\n"
        "          AMI_TEST_CORRUPT_IMAGE_RATE  = 0.02  (mine.env:3)\n"
        "          AMI_TEST_PROFILE             = /here/mine.env  (command line)\n"
        "          AMI_TEST_ACK_WAIT            = 8.0  (environment)\n"
        "          AMI_TEST_MAX_DELIVER         = 0  (environment)\n"
        "job       200 images in 25 batches of 8; 2 loaders, each up to 1 batch ahead\n"
        "service   an unanswered task comes back after 8 s (ack_wait)\n"
        "          a task is handed out 2 times at most (max_deliver); faults take the last as well "
        "(AMI_TEST_MAX_DELIVER=0)\n"
        "faults    crash          0.05  1.4  expected in 27 batches,     26 %  chance of none\n"
        "          network-error  0.05  3.1  expected in 62 API calls,  5.3 %  chance of none\n"
        "          corrupt-image  0.02    4  expected in 200 images,    1.8 %  chance of none\n"
        "          under 0.1 % chance that nothing strikes at all\n"
        "held      24 tasks at most by the worker at a time, the last for 12 s; "
        "a crash or a transient error leaves all unanswered\n"
        "lost      40 times a task is handed out and not answered\n"
        "          4.6 of 200 tasks are never answered: handed out 2 times, in vain\n"
        "time      110 s at least, on average; loading and posting come on top\n"
        "warning: our own faults use up the 2 deliveries of 4.6 tasks, and the job does not end by itself: raise "
        "max_deliver to 5, let the worker hold fewer tasks (batch, prefetch, workers), or lower the rates\n"
        "warning: ack_wait 8 s is below the 12 s that a lease will be held: "
        "leases expire while held and use up deliveries"
    )


def test_what_is_not_known_is_said_to_be_not_known() -> None:
    load = Load(200, 24)

    assert part("job", load) == ["200 images in 9 batches of 24; 4 loaders, each up to 4 batches ahead"]
    assert part("service", load) == [
        "an unanswered task comes back after ack_wait, which is not known",
        "a task is handed out 2 times at most (assumed, max_deliver is not known); no fault takes the last",
    ]
    assert part("held", load) == [
        "200 tasks at most by the worker at a time; a crash or a transient error leaves all unanswered"
    ]
    assert part("time", load, WORKER_CRASH_RATE="0.05") == [
        "1.8 s at least, on average; loading and posting come on top",
        "not known, so not counted: what the models take and the wait for what comes back",
    ]


def test_a_run_without_faults_has_nothing_to_tell_and_is_warned_of() -> None:
    load = Load(1, 1, workers=0, ack_wait=60, max_deliver=1, seconds_an_image=0.5)

    assert text(load) == (
        "settings  all as by default\n"
        "job       1 image in 1 batch of 1; no loaders, one batch at a time\n"
        "service   an unanswered task comes back after 60 s (ack_wait)\n"
        "          a task is handed out 1 time at most (max_deliver); no fault takes the last\n"
        "faults    none can strike\n"
        "held      1 task at most by the worker at a time, the last for 0.5 s; "
        "a crash or a transient error leaves all unanswered\n"
        "lost      nothing: every task is answered the first time it is handed out\n"
        "time      0.5 s at least, on average; loading and posting come on top\n"
        "warning: no fault can strike: no rate is set and no image is named; choose a profile"
    )


@pytest.mark.parametrize(
    ("seconds_an_image", "told"),
    [(0.25, "2.5 s"), (10, "100 s"), (60, "10 min"), (3600, "10.0 h")],
)
def test_a_time_is_told_in_the_unit_that_people_use(seconds_an_image: float, told: str) -> None:
    load = Load(10, 5, seconds_an_image=seconds_an_image)

    assert part("time", load) == [f"{told} at least, on average; loading and posting come on top"]


def test_named_images_count_as_far_as_it_is_known_that_the_job_has_them() -> None:
    def faults(names: str, named: int | None) -> list[str]:
        return part("faults", Load(100, 10, named=named), PERMANENT_ERROR_IMAGES=names)

    assert faults("3", None) == [
        "1 image always bad, if it is in the job: named in AMI_TEST_PERMANENT_ERROR_IMAGES",
        "100 % chance that nothing strikes at all, unless the job has an image that is named",
    ]
    assert faults("3,17", None)[0] == (
        "2 images always bad, if they are in the job: named in AMI_TEST_PERMANENT_ERROR_IMAGES"
    )
    assert faults("3,17", 1) == [
        "1 image of the job always bad: named in AMI_TEST_PERMANENT_ERROR_IMAGES",
        "0 % chance that nothing strikes at all",
    ]


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (0.0002, "99.8 % chance that nothing strikes at all"),
        (0.00001, "over 99.9 % chance that nothing strikes at all"),
        (0.05, "60 % chance that nothing strikes at all"),
        (0.25, "5.6 % chance that nothing strikes at all"),
        (0.9, "under 0.1 % chance that nothing strikes at all"),
        (1.0, "0 % chance that nothing strikes at all"),
    ],
)
def test_a_chance_is_never_rounded_to_certainty(rate: float, told: str) -> None:
    assert part("faults", Load(10, 1), WORKER_CRASH_RATE=str(rate))[-1] == told


def test_a_chance_above_five_per_cent_that_nothing_fires_is_warned_of() -> None:
    often, rarely = Settings(image_404_rate=0.2), Settings(image_404_rate=0.3)

    assert warned(Load(10, 5), often) == [
        "11 % chance that nothing strikes at all, and that the run shows nothing: "
        "give it more images, or raise the rates"
    ]
    assert warned(Load(10, 5), rarely) == []


def test_a_budget_of_no_faults_is_warned_of_by_its_name() -> None:
    settings = Settings(image_404_rate=0.5, max_faults=0)

    assert warned(Load(10, 5), settings) == ["no fault can strike: AMI_TEST_MAX_FAULTS=0"]


def test_a_budget_below_what_is_expected_is_warned_of() -> None:
    assert warned(Load(100, 5), Settings(image_404_rate=0.5, max_faults=49)) == [
        "AMI_TEST_MAX_FAULTS=49 is below the 50 faults expected: "
        "the rest are withheld, and the numbers above are without this limit"
    ]
    assert warned(Load(100, 5), Settings(image_404_rate=0.5, max_faults=50)) == []


def test_rates_that_are_expected_to_strike_less_than_once_are_named_together() -> None:
    settings = Settings(image_404_rate=0.5, corrupt_image_rate=0.01, worker_crash_rate=0.001)

    assert warned(Load(96, 8, max_deliver=9), settings) == [
        "less than one expected: crash (0.01), corrupt-image (0.48); what does not strike is not tested: "
        "raise AMI_TEST_WORKER_CRASH_RATE, AMI_TEST_CORRUPT_IMAGE_RATE, or give more images"
    ]


def test_tasks_that_our_own_faults_use_up_are_warned_of_from_half_a_task_on() -> None:
    def exhaustion(images: int, **known: int) -> list[str]:
        load = Load(images, 1, workers=0, **known)
        return warned(load, Settings(transient_error_rate=0.1, max_deliver=0))

    assert exhaustion(80, max_deliver=2) == [
        "our own faults use up the 2 deliveries of 0.80 tasks, and the job does not end by itself: raise max_deliver "
        "to 4, let the worker hold fewer tasks (batch, prefetch, workers), or lower the rates"
    ]
    assert "the 2 deliveries (assumed) of 0.80 tasks" in exhaustion(80)[0]
    assert "the 1 delivery of 8 tasks" in exhaustion(80, max_deliver=1)[0]
    assert exhaustion(49, max_deliver=2) == []
    assert exhaustion(80, max_deliver=3) == []


def test_where_no_number_of_deliveries_is_enough_none_is_advised() -> None:
    assert warned(Load(8, 8, workers=0, max_deliver=2), Settings(worker_crash_rate=1.0, max_deliver=0)) == [
        "our own faults use up the 2 deliveries of 8 tasks, and the job does not end by itself: "
        "let the worker hold fewer tasks (batch, prefetch, workers), or lower the rates"
    ]


def test_an_ack_wait_below_the_time_that_a_lease_is_held_is_warned_of() -> None:
    settings = Settings(image_404_rate=0.5)
    load = Load(100, 10, workers=1, prefetch=1, seconds_an_image=1)

    assert warned(replace(load, ack_wait=8), settings) == [
        "ack_wait 8 s is below the 20 s that a lease will be held: leases expire while held and use up deliveries"
    ]
    assert warned(replace(load, ack_wait=20), settings) == []
    assert warned(load, settings) == []


def test_more_crashes_than_restarts_are_warned_of() -> None:
    settings = Settings(worker_crash_rate=0.5)
    load = Load(8, 1, workers=0, max_deliver=100, max_restarts=7)

    assert warned(load, settings) == ["8 crashes are expected, but a crashed worker is started again 7 times at most"]
    assert warned(replace(load, max_restarts=8), settings) == []


def test_a_network_through_which_nothing_gets_is_warned_of() -> None:
    assert warned(Load(8, 1), Settings(network_error_rate=1.0))[0] == (
        "AMI_TEST_NETWORK_ERROR_RATE=1: no call gets through, and no task is handed out at all"
    )


def test_a_machine_reads_the_same_outlook_with_nothing_rounded() -> None:
    effective = resolve({"AMI_TEST_PERMANENT_ERROR_IMAGES": "3"}, {"AMI_TEST_IMAGE_404_RATE": "0.25"})
    found = forecast(effective.settings, Load(13, 4, workers=0, ack_wait=9))

    assert json.loads(as_json(found, effective)) == {
        "settings": {
            "AMI_TEST_IMAGE_404_RATE": {"value": "0.25", "source": "command line"},
            "AMI_TEST_PERMANENT_ERROR_IMAGES": {"value": "3", "source": "environment"},
        },
        "load": {
            "images": 13,
            "batch": 4,
            "prefetch": 4,
            "workers": 0,
            "ack_wait": 9,
            "max_deliver": None,
            "seconds_an_image": 0.0,
            "restart_delay": 5.0,
            "max_restarts": 50,
            "idle_sleep": 5.0,
            "named": None,
        },
        "max_deliver": {"value": 2, "assumed": True},
        "budget": True,
        "faults": [
            {"effect": "image-404", "trigger": "rate", "rate": 0.25, "chances": 12, "expected": 3.0, "never": 0.75**12},
            {"effect": "image-404", "trigger": "permanent", "rate": 1.0, "chances": 1, "expected": 1, "never": 0.0},
        ],
        "calls": {"polls": 1.0, "tasks": 5.0, "results": 4.0},
        "held": 4,
        "held_seconds": None,
        "unanswered": 0.0,
        "exhausted": 0.0,
        "enough_deliveries": 1,
        "least_seconds": 0.0,
        "nothing_fires": 0.75**12,
        "unforeseen": [],
        "warnings": [],
    }


def test_a_spared_last_delivery_is_told_and_so_is_the_contrary() -> None:
    load = Load(80, 8, workers=0, max_deliver=3)

    assert part("lost", load, WORKER_CRASH_RATE="0.5") == [
        "60 times a task is handed out and not answered",
        "none for good by our own faults: none takes a task's last delivery, unless AMI_TEST_MAX_DELIVER=0",
    ]
    assert part("lost", load, WORKER_CRASH_RATE="0.5", MAX_DELIVER="0") == [
        "70 times a task is handed out and not answered",
        "10 of 80 tasks are never answered: handed out 3 times, in vain",
    ]
    assert part("service", load, MAX_DELIVER="0")[1] == (
        "a task is handed out 3 times at most (max_deliver); faults take the last as well (AMI_TEST_MAX_DELIVER=0)"
    )


def test_a_service_that_hands_out_once_is_warned_of_if_that_keeps_a_fault_from_striking() -> None:
    load = Load(80, 8, workers=0, max_deliver=1)
    told = (
        "a task's first delivery is its last, and no fault takes that: no crash, no transient error and no failed post "
        "strikes; raise max_deliver, or let them: AMI_TEST_MAX_DELIVER=0"
    )

    assert told in warned(load, Settings(worker_crash_rate=0.5))
    assert warned(load, Settings(image_404_rate=0.5)) == []
    assert warned(load, Settings(network_error_rate=0.5, max_deliver=0))[0] != told


def test_what_is_not_foreseen_stands_below_what_is() -> None:
    told = {"RULES": "crash[point=idle]: 1*kill", "STOP_AFTER": "60"}

    assert part("not in it", Load(80, 8), **told) == [
        "AMI_TEST_RULES: what rules strike comes on top, and what they take is not left to the rates",
        "AMI_TEST_STOP_AFTER=60: nothing strikes afterwards, so fewer faults than said here",
    ]
    assert part("faults", Load(80, 8), **told) == ["none by a rate around a batch, at a call or at an image"]
    assert part("lost", Load(80, 8), **told) == ["nothing by what is foreseen here"]


def test_where_rules_strike_nobody_says_that_nothing_does() -> None:
    rules = parse({"AMI_TEST_RULES": "crash[point=idle]: 1*kill"})

    assert warned(Load(80, 8), rules) == []
    assert warned(Load(80, 8, max_deliver=9), rules._replace(worker_crash_rate=0.001)) == []
    assert part("faults", Load(80, 8), RULES="api: off", IMAGE_404_RATE="0.01")[-1] == (
        "45 % chance that none of these strikes"
    )


def test_a_dry_run_is_warned_of() -> None:
    settings = Settings(image_404_rate=0.5, dry_run=True)

    assert warned(Load(80, 8), settings) == [
        "AMI_TEST_DRY_RUN: nothing is touched; what would strike is only written down"
    ]
