"""The promises of the unforeseen: whatever a forecast does not cover is named, and nothing else is."""

from __future__ import annotations

import pytest

from ami_fault_site.settings import Settings, parse
from ami_fault_site.unforeseen import foreseen, strikes_unforeseen, unforeseen


def settings(**given: str) -> Settings:
    return parse({f"AMI_TEST_{name}": text for name, text in given.items()})


def test_rates_alone_are_foreseen_whatever_else_is_known() -> None:
    rates = settings(WORKER_CRASH_RATE="0.1", NETWORK_ERROR_RATE="0.1", IMAGE_404_RATE="0.1", SEED="3", ACK_WAIT="8")

    assert (unforeseen(rates), strikes_unforeseen(rates), foreseen(rates)) == ((), False, rates)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"RULES": "api: refused"},
            "AMI_TEST_RULES: what rules strike comes on top, and what they take is not left to the rates",
        ),
        (
            {"EXHAUST": "3"},
            "AMI_TEST_EXHAUST: the tasks of these images are never answered, whatever is said here",
        ),
        (
            {"START_AFTER": "10"},
            "AMI_TEST_START_AFTER=10: nothing strikes before, so fewer faults than said here",
        ),
        (
            {"START_AFTER_TASKS": "7"},
            "AMI_TEST_START_AFTER_TASKS=7: nothing strikes before, so fewer faults than said here",
        ),
        (
            {"STOP_AFTER": "70"},
            "AMI_TEST_STOP_AFTER=70: nothing strikes afterwards, so fewer faults than said here",
        ),
        (
            {"NETWORK_ERROR_RATE": "0.1", "NETWORK_LAYER": "attempt"},
            "AMI_TEST_NETWORK_LAYER=attempt: more is struck, and less fails: a call may go well when tried again",
        ),
        (
            {"NETWORK_ERROR_RATE": "0.1", "NETWORK_KINDS": "reset@after"},
            "AMI_TEST_NETWORK_KINDS: every struck call is taken for one that fails unsent",
        ),
        (
            {"WORKER_CRASH_RATE": "0.1", "CRASH_POINTS": "in-batch,idle,after-post"},
            "AMI_TEST_CRASH_POINTS: crashes around a batch are counted, those at after-post, idle are not",
        ),
        (
            {"WORKER_CRASH_RATE": "0.1", "CRASH_POINTS": "idle,after-post"},
            "AMI_TEST_CRASH_POINTS: no crash at after-post, idle is counted, nor what it costs",
        ),
        (
            {"WORKER_CRASH_RATE": "0.1", "CRASH_POINTS": "downloading", "CRASH_PROCESS": "loader"},
            "AMI_TEST_CRASH_PROCESS=loader: no crash at downloading is counted, nor what it costs",
        ),
        (
            {"WORKER_CRASH_RATE": "0.1", "CRASH_MODE": "hang"},
            "AMI_TEST_CRASH_MODE=hang: every crash is taken to end the worker, which is then started again",
        ),
    ],
)
def test_what_is_not_foreseen_is_named(given: dict[str, str], told: str) -> None:
    assert unforeseen(settings(**given)) == (told,)


def test_how_a_fault_strikes_that_is_not_set_is_not_worth_a_word() -> None:
    how = {"NETWORK_LAYER": "attempt", "NETWORK_KINDS": "reset", "CRASH_MODE": "hang", "CRASH_POINTS": "idle"}

    assert unforeseen(settings(**how)) == ()


@pytest.mark.parametrize(
    ("given", "strikes"),
    [
        ({"RULES": "api: refused"}, True),
        ({"EXHAUST": "3"}, True),
        ({"WORKER_CRASH_RATE": "0.1", "CRASH_POINTS": "idle"}, True),
        ({"WORKER_CRASH_RATE": "0.1", "CRASH_POINTS": "idle,in-batch"}, False),
        ({"NETWORK_ERROR_RATE": "0.1", "NETWORK_LAYER": "attempt", "STOP_AFTER": "9"}, False),
    ],
)
def test_what_may_strike_beside_the_forecast_is_told_from_what_changes_it(given: dict[str, str], strikes: bool) -> None:
    assert strikes_unforeseen(settings(**given)) is strikes


def test_a_crash_that_cannot_strike_around_a_batch_is_taken_out_of_what_is_forecast() -> None:
    assert foreseen(settings(WORKER_CRASH_RATE="0.1", CRASH_POINTS="idle")).worker_crash_rate == 0.0
    assert foreseen(settings(WORKER_CRASH_RATE="0.1", CRASH_POINTS="idle,in-batch")).worker_crash_rate == 0.1
    assert foreseen(settings(WORKER_CRASH_RATE="0.1", CRASH_PROCESS="main")).worker_crash_rate == 0.1
