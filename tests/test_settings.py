from __future__ import annotations

import pytest

from ami_fault_site.faults import Layer, Mode, Point, Role, Site
from ami_fault_site.grammar import parse_harms, parse_rules
from ami_fault_site.settings import (
    ENABLED,
    NAMES,
    SCENARIO,
    TABLE,
    Settings,
    SettingsError,
    as_text,
    fingerprint,
    parse,
)
from ami_fault_site.values import FALSE_WORDS, TRUE_WORDS

RATES = [name for name in NAMES if name.endswith("_RATE")]
BOOL = "is true or false (true/1/yes/on or false/0/no/off)"
FULL = {
    ENABLED: "yes",
    "AMI_TEST_WORKER_CRASH_RATE": "0.05",
    "AMI_TEST_NETWORK_ERROR_RATE": "1e-3",
    "AMI_TEST_CORRUPT_IMAGE_RATE": "1",
    "AMI_TEST_IMAGE_404_RATE": ".25",
    "AMI_TEST_TRANSIENT_ERROR_RATE": "0.5",
    "AMI_TEST_PERMANENT_ERROR_IMAGES": "3, moth%2C1.jpg ,http://x/a.jpg?b=1%2c2",
    "AMI_TEST_PROFILE": "heavy",
    "AMI_TEST_SEED": "0",
    "AMI_TEST_RUN_DIR": "/some/where",
    "AMI_TEST_INCARNATION": "3",
    "AMI_TEST_TASK_LOOP": "my_worker.loop:process",
    "AMI_TEST_WORKER_COMMAND": "my-worker --fast",
    "AMI_TEST_JOBS": "12, 7",
    "AMI_TEST_MAX_FAULTS": "0",
    "AMI_TEST_PROTECTED_HOSTS": "live.example.org,two.example.org",
    "AMI_TEST_ACK_WAIT": "8.5",
    "AMI_TEST_MAX_DELIVER": "2",
    "AMI_TEST_NETWORK_LAYER": "Attempt",
    "AMI_TEST_NETWORK_KINDS": "refused, reset@after, status(429, retry_after=2)",
    "AMI_TEST_CRASH_MODE": "kill",
    "AMI_TEST_CRASH_POINTS": "idle, after-fetch",
    "AMI_TEST_CRASH_PROCESS": "loader",
    "AMI_TEST_RULES": "result[job=7]: 3*off -> 1*reset@after -> off; batch: 10%delay(1.5ack_wait)",
    "AMI_TEST_EXHAUST": "3,moth.jpg",
    "AMI_TEST_START_AFTER": "5",
    "AMI_TEST_START_AFTER_TASKS": "10",
    "AMI_TEST_STOP_AFTER": "60",
    "AMI_TEST_DRY_RUN": "true",
    "AMI_TEST_ALLOWED_HOSTS": "127.0.0.1,Test.example.org",
    "AMI_TEST_SENTRY": "silent",
}


def problems_of(**values: str) -> list[str]:
    try:
        parse({f"AMI_TEST_{name}": text for name, text in values.items()})
    except SettingsError as error:
        return error.problems
    return []


NEEDING_OTHERS = ("AMI_TEST_CRASH_PROCESS", "AMI_TEST_RULES")


def problems(**values: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse({f"AMI_TEST_{name}": text for name, text in values.items()})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_nothing_set_means_off_without_any_fault_and_with_the_service_protected() -> None:
    settings = parse({"PATH": "/bin", "ami_test_seed": "not ours"})

    assert settings == Settings()
    assert not settings.enabled
    assert [getattr(settings, row.field) for row in TABLE if row.name in RATES] == [0.0] * 5
    assert settings.protected_hosts == ("antenna.insectai.org",)


def test_every_setting_is_read() -> None:
    assert parse(FULL) == Settings(
        enabled=True,
        worker_crash_rate=0.05,
        network_error_rate=0.001,
        corrupt_image_rate=1.0,
        image_404_rate=0.25,
        transient_error_rate=0.5,
        permanent_error_images=("3", "moth,1.jpg", "http://x/a.jpg?b=1,2"),
        profile="heavy",
        seed=0,
        run_dir="/some/where",
        incarnation=3,
        task_loop="my_worker.loop:process",
        worker_command="my-worker --fast",
        jobs=frozenset({7, 12}),
        max_faults=0,
        protected_hosts=("live.example.org", "two.example.org"),
        allowed_hosts=("127.0.0.1", "test.example.org"),
        ack_wait=8.5,
        max_deliver=2,
        network_layer=Layer.ATTEMPT,
        network_kinds=parse_harms("refused, reset@after, status(429, retry_after=2)", Site.JOBS),
        crash_mode=Mode.KILL,
        crash_points=(Point.AFTER_FETCH, Point.IDLE),
        crash_process=(Role.LOADER,),
        rules=parse_rules("result[job=7]: 3*off -> 1*reset@after -> off\nbatch: 10%delay(1.5ack_wait)"),
        exhaust=("3", "moth.jpg"),
        start_after=5.0,
        start_after_tasks=10,
        stop_after=60.0,
        dry_run=True,
        sentry="silent",
    )


def test_the_table_has_one_row_for_every_field_and_knows_its_default() -> None:
    assert [row.field for row in TABLE] == list(Settings._fields)
    assert [row.default for row in TABLE] == list(Settings._field_defaults.values())
    assert set(NAMES) == set(FULL)


@pytest.mark.parametrize("text", [form(word) for word in TRUE_WORDS for form in (str.lower, str.upper, str.title)])
def test_true_is_said_in_four_words_in_any_case(text: str) -> None:
    assert parse({ENABLED: f" {text} "}).enabled is True


@pytest.mark.parametrize("text", [form(word) for word in FALSE_WORDS for form in (str.lower, str.upper, str.title)])
def test_false_is_said_in_four_words_in_any_case(text: str) -> None:
    assert parse({ENABLED: text}).enabled is False


@pytest.mark.parametrize("text", ["2", "tru", "enabled", "yes!", "t", "-1"])
def test_a_switch_that_is_neither_true_nor_false_is_a_problem(text: str) -> None:
    assert problems(FAULT_INJECTION_ENABLED=text) == [f"{ENABLED}={text!r}: {BOOL}"]


@pytest.mark.parametrize("text", ["0", "0.0", "1", "1.0", " .5 ", "1e-9", "+0.5"])
def test_a_rate_is_a_number_from_0_to_1(text: str) -> None:
    assert parse({"AMI_TEST_IMAGE_404_RATE": text}).image_404_rate == float(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("130%", " (did you mean 1.0?)"),
        ("5%", " (did you mean 0.05?)"),
        ("0.5 %", " (did you mean 0.005?)"),
        ("5", " (did you mean 0.05?)"),
        ("1.5", " (did you mean 0.015?)"),
        ("250", " (did you mean 1.0?)"),
        ("-0.1", ""),
        ("-5%", ""),
        ("nan", ""),
        ("nan%", ""),
        ("inf", ""),
        ("-inf", ""),
        ("inf%", ""),
        ("%", ""),
        ("0,5", ""),
        ("half", ""),
        ("0x1", ""),
    ],
)
@pytest.mark.parametrize("name", RATES)
def test_any_other_rate_is_a_problem_that_says_what_was_probably_meant(name: str, text: str, hint: str) -> None:
    assert problems(**{name.removeprefix("AMI_TEST_"): text}) == [
        f"{name}={text!r}: a rate is a number from 0 to 1{hint}"
    ]


@pytest.mark.parametrize(
    ("name", "texts", "rule"),
    [
        ("SEED", ["-1", "1.5", "x", "0x10", "²"], "is a whole number, 0 or more"),
        ("INCARNATION", ["-1", "two"], "is a whole number, 0 or more"),
        ("MAX_FAULTS", ["-3", "1e3"], "is a whole number, 0 or more"),
        ("MAX_DELIVER", ["-1", "2.0"], "is a whole number, 0 or more"),
        ("ACK_WAIT", ["0", "-8", "nan", "inf", "8s", "soon"], "is a number of seconds above 0"),
        ("JOBS", ["1,x", "-1", "1;2", "1.5"], "is a list of job ids, whole numbers separated by commas"),
        (
            "TASK_LOOP",
            ["my_worker", "my_worker:", ":f", "a..b:f", "a-b:f", "a:b.c", "a:b:c"],
            "is module:function, such as my_worker.loop:process_batch",
        ),
    ],
)
def test_whatever_cannot_be_read_is_a_problem_that_says_what_is_allowed(name: str, texts: list[str], rule: str) -> None:
    assert [problems(**{name: text}) for text in texts] == [[f"AMI_TEST_{name}={text!r}: {rule}"] for text in texts]


def test_every_problem_comes_at_once() -> None:
    assert problems(
        FAULT_INJECTION_ENABLED="maybe", NETWORK_ERROR_RATE="130%", SEED="-1", WORKER_CRASH_RATE="0.6",
        TRANSIENT_ERROR_RATE="0.6", NETWORK_RATE="0.1",
    ) == [
        "AMI_TEST_NETWORK_RATE: unknown setting (did you mean AMI_TEST_NETWORK_ERROR_RATE?)",
        f"{ENABLED}='maybe': {BOOL}",
        "AMI_TEST_NETWORK_ERROR_RATE='130%': a rate is a number from 0 to 1 (did you mean 1.0?)",
        "AMI_TEST_SEED='-1': is a whole number, 0 or more",
        "AMI_TEST_WORKER_CRASH_RATE='0.6' and AMI_TEST_TRANSIENT_ERROR_RATE='0.6': "
        "together at most 1, since both strike a batch, not 1.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CRASH_RATE", "WORKER_CRASH_RATE"),
        ("SEEDS", "SEED"),
        ("NETWORK_ERROR_RATES", "NETWORK_ERROR_RATE"),
        ("IMAGE_RATE", "IMAGE_404_RATE"),
        ("PERMANENT_IMAGES", "PERMANENT_ERROR_IMAGES"),
        ("FAULT_INJECTION_ENABLE", "FAULT_INJECTION_ENABLED"),
    ],
)
def test_an_unknown_setting_is_a_problem_that_names_the_nearest(name: str, nearest: str) -> None:
    assert problems(**{name: "1"}) == [f"AMI_TEST_{name}: unknown setting (did you mean AMI_TEST_{nearest}?)"]


def test_an_unknown_setting_that_resembles_none_is_a_problem_all_the_same() -> None:
    assert problems(QQQQ="1") == ["AMI_TEST_QQQQ: unknown setting"]


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_value_means_unset(empty: str) -> None:
    assert parse(dict.fromkeys(NAMES, empty)) == Settings()


@pytest.mark.parametrize(("crash", "transient"), [("0.5", "0.5"), ("0.7", "0.3"), ("1", "0"), ("0.9", "0.1")])
def test_two_rates_on_a_batch_may_add_up_to_1(crash: str, transient: str) -> None:
    settings = parse({"AMI_TEST_WORKER_CRASH_RATE": crash, "AMI_TEST_TRANSIENT_ERROR_RATE": transient})

    assert (settings.worker_crash_rate, settings.transient_error_rate) == (float(crash), float(transient))


def test_rates_that_do_not_share_a_call_may_each_be_1() -> None:
    settings = parse(dict.fromkeys(set(RATES) - {"AMI_TEST_TRANSIENT_ERROR_RATE"}, "1"))
    assert (settings.worker_crash_rate, settings.network_error_rate, settings.corrupt_image_rate) == (1.0, 1.0, 1.0)


def test_a_problem_says_where_its_value_came_from() -> None:
    with pytest.raises(SettingsError) as caught:
        parse(
            {"AMI_TEST_SEED": "x", "AMI_TEST_SEEDS": "1"}, {"AMI_TEST_SEED": "my.env:3", "AMI_TEST_SEEDS": "my.env:4"}
        )

    assert caught.value.problems == [
        "my.env:4: AMI_TEST_SEEDS: unknown setting (did you mean AMI_TEST_SEED?)",
        "my.env:3: AMI_TEST_SEED='x': is a whole number, 0 or more",
    ]


def test_a_run_without_a_seed_takes_the_one_that_was_drawn_for_it() -> None:
    settings = parse({"AMI_TEST_IMAGE_404_RATE": "0.5"})

    assert not settings.has_seed
    assert settings.with_seed(0).has_seed
    assert settings.with_seed(9) == Settings(image_404_rate=0.5, seed=9)


def test_the_fingerprint_holds_every_setting_that_decides_which_faults_strike_and_no_other() -> None:
    assert fingerprint(parse(FULL)) == {
        "AMI_TEST_WORKER_CRASH_RATE": "0.05",
        "AMI_TEST_NETWORK_ERROR_RATE": "0.001",
        "AMI_TEST_CORRUPT_IMAGE_RATE": "1.0",
        "AMI_TEST_IMAGE_404_RATE": "0.25",
        "AMI_TEST_TRANSIENT_ERROR_RATE": "0.5",
        "AMI_TEST_PERMANENT_ERROR_IMAGES": "3,moth%2C1.jpg,http://x/a.jpg?b=1%2C2",
        "AMI_TEST_SEED": "0",
        "AMI_TEST_JOBS": "7,12",
        "AMI_TEST_MAX_FAULTS": "0",
        "AMI_TEST_NETWORK_LAYER": "attempt",
        "AMI_TEST_NETWORK_KINDS": "refused,reset@after,status(429, retry_after=2)",
        "AMI_TEST_CRASH_MODE": "kill",
        "AMI_TEST_CRASH_POINTS": "after-fetch,idle",
        "AMI_TEST_CRASH_PROCESS": "loader",
        "AMI_TEST_RULES": "result[job=7]: 3*off -> 1*reset@after -> off; batch: 10%delay(1.5ack_wait)",
        "AMI_TEST_EXHAUST": "3,moth.jpg",
        "AMI_TEST_START_AFTER": "5.0",
        "AMI_TEST_START_AFTER_TASKS": "10",
        "AMI_TEST_STOP_AFTER": "60.0",
        "AMI_TEST_DRY_RUN": "true",
    }


def test_the_same_settings_written_otherwise_have_the_same_fingerprint() -> None:
    written = {"AMI_TEST_WORKER_CRASH_RATE": "0.10", "AMI_TEST_JOBS": "2,1,2", "AMI_TEST_SEED": "007"}
    again = {"AMI_TEST_WORKER_CRASH_RATE": "1e-1", "AMI_TEST_JOBS": " 1, 2 ", "AMI_TEST_SEED": "7"}

    assert fingerprint(parse(written)) == fingerprint(parse(again))


@pytest.mark.parametrize(
    "values", [{}, FULL, *({name: text} for name, text in FULL.items() if name not in NEEDING_OTHERS)], ids=len
)
def test_settings_written_as_text_are_read_back_as_they_were(values: dict[str, str]) -> None:
    settings = parse(values)

    assert parse(as_text(settings)) == settings


def test_settings_at_their_defaults_are_not_written() -> None:
    assert as_text(Settings()) == {}
    assert as_text(Settings(enabled=True, seed=0)) == {ENABLED: "true", "AMI_TEST_SEED": "0"}


def test_the_guard_cannot_be_switched_off_by_an_empty_list() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"AMI_TEST_PROTECTED_HOSTS": ","})
    assert caught.value.problems == [
        "AMI_TEST_PROTECTED_HOSTS=',': is a list of host names separated by commas, at least one, "
        "without scheme and port"
    ]


def test_a_scenario_is_chosen_by_a_rate_or_by_naming_images() -> None:
    assert {*RATES, "AMI_TEST_PERMANENT_ERROR_IMAGES", "AMI_TEST_RULES", "AMI_TEST_EXHAUST"} == set(SCENARIO)


def test_points_that_the_process_never_passes_are_a_problem() -> None:
    assert problems(CRASH_PROCESS="loader") == [
        "AMI_TEST_CRASH_PROCESS='loader': a loader passes after-fetch and downloading only, "
        "not before-batch,after-batch (AMI_TEST_CRASH_POINTS)"
    ]
    assert parse({"AMI_TEST_CRASH_PROCESS": "loader", "AMI_TEST_CRASH_POINTS": "downloading,idle"}).crash_process


def test_a_window_that_stops_before_it_starts_is_a_problem() -> None:
    assert problems(START_AFTER="9", STOP_AFTER="9") == [
        "AMI_TEST_START_AFTER=9 and AMI_TEST_STOP_AFTER=9: it stops before it starts"
    ]


def test_words_are_read_in_any_case_and_a_wrong_one_is_told_with_what_is_allowed() -> None:
    assert parse({"AMI_TEST_NETWORK_LAYER": "ATTEMPT"}).network_layer is Layer.ATTEMPT
    assert problems(CRASH_MODE="kil", CRASH_POINTS="idel", CRASH_PROCESS="x", SENTRY="off") == [
        "AMI_TEST_CRASH_MODE='kil': is one of exit, kill, segv, abort, hang, sysexit (did you mean kill?)",
        "AMI_TEST_CRASH_POINTS='idel': is a list of crash points separated by commas: after-fetch, downloading, "
        "before-batch, in-batch, after-batch, posting-unsent, posting-unheard, after-post, idle (did you mean idle?)",
        "AMI_TEST_CRASH_PROCESS='x': is main, loader or any",
        "AMI_TEST_SENTRY='off': is tag or silent",
    ]


def test_rules_are_told_wrong_with_a_caret_and_with_all_the_other_problems() -> None:
    assert problems(SEED="x", RULES="resul: off", NETWORK_KINDS="kill") == [
        "AMI_TEST_SEED='x': is a whole number, 0 or more",
        "AMI_TEST_NETWORK_KINDS='kill': unknown effect 'kill' at api: "
        "refused, dns, tls, connect-timeout, reset, closed, read-timeout, stall, garbage, bad-json, truncated, "
        "status, delay or trickle\n  kill\n  ^ column 1",
        "AMI_TEST_RULES='resul: off': unknown site 'resul' (did you mean result?)\n  resul: off\n  ^ column 1",
    ]


@pytest.mark.parametrize("rule", ["crash[process=loader]: kill", "crash[process=loader, point=idle]: kill"])
def test_a_rule_for_the_deaths_of_loaders_must_name_a_point_that_they_pass(rule: str) -> None:
    assert problems(RULES=rule) == [
        f"AMI_TEST_RULES: {rule}: a loader passes after-fetch and downloading only: name one, as point=downloading"
    ]
    assert not problems_of(RULES="crash[process=loader]: kill", CRASH_POINTS="downloading")


def test_a_duration_in_ack_waits_needs_an_ack_wait() -> None:
    assert problems(RULES="batch: delay(2ack_wait)") == [
        "AMI_TEST_RULES: batch: delay(2ack_wait): 2ack_wait needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds"
    ]
    rule = parse({"AMI_TEST_RULES": "batch: delay(2ack_wait)", "AMI_TEST_ACK_WAIT": "3"}).rules[0]
    harm = rule.terms[0].harm_for(3.0)
    assert harm is not None
    assert harm.seconds == 6.0


def test_rates_that_strike_at_different_points_may_exceed_1_together() -> None:
    both = {"AMI_TEST_WORKER_CRASH_RATE": "1", "AMI_TEST_TRANSIENT_ERROR_RATE": "1"}

    assert parse({**both, "AMI_TEST_CRASH_POINTS": "idle"}).worker_crash_rate == 1.0
