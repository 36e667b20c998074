from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ami_fault_site.profiles import Effective, available, load, resolve
from ami_fault_site.settings import ENABLED, NAMES, Settings, SettingsError

CRASH, NETWORK, CORRUPT, MISSING, TRANSIENT = (
    f"AMI_TEST_{name}_RATE"
    for name in ("WORKER_CRASH", "NETWORK_ERROR", "CORRUPT_IMAGE", "IMAGE_404", "TRANSIENT_ERROR")
)
TABLE: dict[str, dict[str, float]] = {
    "light": {CRASH: 0.01, NETWORK: 0.02, CORRUPT: 0.01, MISSING: 0.01, TRANSIENT: 0.01},
    "medium": {CRASH: 0.05, NETWORK: 0.05, CORRUPT: 0.02, MISSING: 0.02, TRANSIENT: 0.05},
    "heavy": {CRASH: 0.15, NETWORK: 0.15, CORRUPT: 0.05, MISSING: 0.05, TRANSIENT: 0.10},
    "crashes": {CRASH: 0.20},
    "network": {NETWORK: 0.30},
    "images": {CORRUPT: 0.10, MISSING: 0.10},
    "transient": {TRANSIENT: 0.20},
    "loader-deaths": {CRASH: 0.05},
    "everything": {CRASH: 0.02, NETWORK: 0.05, CORRUPT: 0.02, MISSING: 0.02, TRANSIENT: 0.02},
    **{name: {} for name in ("lost-answers", "lost-leases", "slow-worker", "poison-image")},
    **{name: {} for name in ("rate-limited", "flaky-images", "blackout")},
}
BESIDE = {  # what else a profile sets
    "images": "PERMANENT_ERROR_IMAGES",
    "loader-deaths": "CRASH_PROCESS CRASH_POINTS CRASH_MODE",
    **dict.fromkeys(("lost-answers", "lost-leases", "slow-worker", "poison-image"), "RULES"),
    **dict.fromkeys(("rate-limited", "flaky-images"), "NETWORK_LAYER RULES"),
    "blackout": "START_AFTER_TASKS STOP_AFTER RULES",
    "everything": "NETWORK_LAYER NETWORK_KINDS RULES",
}
RULES = {  # site and kind of each term of a profile's rules
    "lost-answers": {("result", "reset@after"), ("crash", "kill")},
    "lost-leases": {("tasks", "reset@after")},
    "slow-worker": {
        ("batch", "delay(1.5ack_wait)"), ("api", "delay(0.3, jitter=0.2)"), ("image.get", "trickle(1)"),
    },
    "rate-limited": {
        *((site, "status(429, retry_after=1)") for site in ("tasks", "result", "image.get")),
        ("tasks", "status(503)"), ("image.get", "status(503, retry_after=1)"),
    },
    "flaky-images": {("image.get", kind) for kind in ("status(503)", "reset", "read-timeout", "refused")},
    "poison-image": {("image.get", "status(403)"), ("image.open", "bad-magic"), ("crash", "kill")},
    "blackout": {("api", "refused")},
    "everything": {
        *(("crash", mode) for mode in ("exit", "kill", "segv", "abort", "sysexit")),
        ("batch", "delay(1)"), ("api", "delay(0.3, jitter=0.2)"),
        *(("image.get", kind) for kind in ("status(503)", "status(403)", "reset", "trickle(0.5)")),
    },
}  # fmt: skip
KNOWN = {"AMI_TEST_ACK_WAIT": "60"}  # of the service
SHIPPED = ", ".join(sorted(TABLE))


def profile(folder: Path, text: str, name: str = "mine.env") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def problems_of(name: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(name)
    return caught.value.problems


def problems_in(environ: dict[str, str], overrides: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        resolve(environ, overrides)
    return caught.value.problems


def test_the_shipped_profiles_are_these() -> None:
    assert list(available()) == sorted(TABLE)
    assert ", ".join(available()) == SHIPPED


@pytest.mark.parametrize("name", TABLE)
def test_a_shipped_profile_holds_exactly_the_rates_of_the_design(name: str) -> None:
    values = load(name).values
    rates = {key: float(text) for key, text in values.items() if key.endswith("_RATE")}

    assert rates == TABLE[name]
    assert set(values) - set(rates) == {f"AMI_TEST_{each}" for each in BESIDE.get(name, "").split()}
    assert resolve({**KNOWN, "AMI_TEST_PROFILE": name}).settings.profile == name


@pytest.mark.parametrize("name", TABLE)
def test_a_shipped_profile_has_rules_for_these_places_and_kinds(name: str) -> None:
    rules = resolve({**KNOWN, "AMI_TEST_PROFILE": name}).settings.rules

    assert {(rule.site, str(term.harm)) for rule in rules for term in rule.terms} == RULES.get(name, set())


@pytest.mark.parametrize("name", TABLE)
def test_a_shipped_profile_is_headed_by_what_it_shows_in_two_lines_at_most(name: str) -> None:
    lines = available()[name].read_text().splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("# "), lines))

    assert 1 <= len(head) <= 2
    assert head[0].endswith(("?", ".")), head[0]
    assert all(len(line) <= 120 for line in head)


def test_what_a_slow_worker_must_know_is_asked_for_by_its_name() -> None:
    assert problems_in({"AMI_TEST_PROFILE": "slow-worker"}) == [
        "AMI_TEST_RULES: batch: after 1 1*delay(1.5ack_wait) -> 10%delay(1.5ack_wait): "
        "1.5ack_wait needs AMI_TEST_ACK_WAIT, the service's ack_wait in seconds"
    ]


def test_the_images_profile_names_permanent_images() -> None:
    assert resolve({"AMI_TEST_PROFILE": "images"}).settings.permanent_error_images == ("3", "17")


def test_a_profile_may_be_any_file_and_keeps_the_line_of_each_value(tmp_path: Path) -> None:
    name = profile(tmp_path, f"# mine\n\n{CRASH}=0.5 # half\n\n# more\nexport AMI_TEST_SEED='7'\n")
    read = load(name)

    assert read.path == Path(name)
    assert read.values == {CRASH: "0.5", "AMI_TEST_SEED": "7"}
    assert read.lines == {CRASH: 3, "AMI_TEST_SEED": 6}


@pytest.mark.parametrize("blank", ["   \n", "\n   \n", "\t\n\n \n", "\r\n\r\n"])
def test_lines_are_counted_right_where_blank_lines_come_before(blank: str, tmp_path: Path) -> None:
    name = profile(tmp_path, f"{blank}AMI_TEST_SEED=7\n")

    assert load(name).lines == {"AMI_TEST_SEED": blank.count("\n") + 1}


def test_a_name_that_is_no_profile_lists_those_there_are() -> None:
    assert problems_of("no-such-thing-at-all") == [
        f"AMI_TEST_PROFILE='no-such-thing-at-all': not a profile; there are {SHIPPED}, or a path"
    ]


def test_a_name_that_is_nearly_a_profile_gets_the_nearest() -> None:
    assert problems_of("mediun") == [
        f"AMI_TEST_PROFILE='mediun': not a profile (did you mean medium?); there are {SHIPPED}, or a path"
    ]


@pytest.mark.parametrize("name", ["missing.env", "envs/missing", "/no/where/at/all", "/"])
def test_a_path_that_is_no_file_is_said_to_be_none(name: str) -> None:
    assert problems_of(name) == [f"AMI_TEST_PROFILE={name!r}: there is no such file"]


def test_a_path_that_the_system_will_not_look_at_is_a_problem() -> None:
    name = "x" * 5_000

    assert problems_of(name) == [f"AMI_TEST_PROFILE={name!r}: {name} cannot be read: File name too long"]


def test_a_profile_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "binary.env"
    path.write_bytes(b"AMI_TEST_SEED=\xff\n")

    assert problems_of(str(path)) == [f"AMI_TEST_PROFILE={str(path)!r}: {path} cannot be read: not UTF-8 text"]


def test_broken_lines_are_problems_with_path_and_line(tmp_path: Path) -> None:
    name = profile(tmp_path, f'{CRASH} 0.5\nAMI_TEST_SEED\n\n# fine\n{NETWORK}=0.1\n{MISSING}="0.1\n')

    assert problems_of(name) == [
        f"{name}:1: not NAME=value: '{CRASH} 0.5'",
        f"{name}:2: not NAME=value: 'AMI_TEST_SEED'",
        f"{name}:6: not NAME=value: '{MISSING}=\"0.1'",
    ]


def test_a_name_that_stands_twice_is_a_problem(tmp_path: Path) -> None:
    name = profile(tmp_path, f"{CRASH}=0.5\n# again\n{CRASH}=0.5\n")

    assert problems_of(name) == [f"{name}:3: {CRASH} is set twice, first in line 1"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("MAX_RESTARTS=5", "MAX_RESTARTS is not a setting of ours; a profile holds AMI_TEST_* only"),
        ("AMI_NUM_WORKERS=2", "AMI_NUM_WORKERS is not a setting of ours; a profile holds AMI_TEST_* only"),
        ("AMI_TEST_PROFILE=light", "AMI_TEST_PROFILE cannot stand in a profile"),
        (f"{ENABLED}=false", f"{ENABLED} counts only in the environment"),
        (f"{ENABLED}=", f"{ENABLED} counts only in the environment"),
    ],
)
def test_a_name_that_has_no_place_in_a_profile_is_a_problem(line: str, problem: str, tmp_path: Path) -> None:
    name = profile(tmp_path, f"# mine\n{line}\n")

    assert problems_of(name) == [f"{name}:2: {problem}"]


def test_the_switch_may_stand_in_a_profile_and_does_not_count_there(tmp_path: Path) -> None:
    name = profile(tmp_path, f"{ENABLED}=true\n{CRASH}=0.5\n")
    effective = resolve({"AMI_TEST_PROFILE": name})

    assert effective.settings == Settings(worker_crash_rate=0.5, profile=name)
    assert effective.sources[ENABLED] == "default"
    assert resolve({"AMI_TEST_PROFILE": name, ENABLED: "1"}).settings.enabled


def test_nothing_is_expanded(tmp_path: Path) -> None:
    name = profile(tmp_path, "AMI_TEST_WORKER_COMMAND='run ${HOME} $HOME'\nAMI_TEST_RUN_DIR=${HOME}/x\n")

    assert load(name).values == {"AMI_TEST_WORKER_COMMAND": "run ${HOME} $HOME", "AMI_TEST_RUN_DIR": "${HOME}/x"}


def test_the_command_line_wins_over_the_environment_and_that_over_the_profile_and_that_over_the_default(
    tmp_path: Path,
) -> None:
    name = profile(tmp_path, f"{CRASH}=0.1\n{NETWORK}=0.1\n{MISSING}=0.1\n")
    effective = resolve({"AMI_TEST_PROFILE": name, CRASH: "0.2", NETWORK: "0.2"}, {CRASH: "0.3"})

    assert effective.settings == Settings(
        worker_crash_rate=0.3, network_error_rate=0.2, image_404_rate=0.1, profile=name
    )
    assert effective.sources == {
        **dict.fromkeys(NAMES, "default"),
        CRASH: "command line",
        NETWORK: "environment",
        MISSING: f"{name}:3",
        "AMI_TEST_PROFILE": "environment",
    }


def test_the_profile_of_the_command_line_wins_over_that_of_the_environment() -> None:
    effective = resolve({"AMI_TEST_PROFILE": "heavy"}, {"AMI_TEST_PROFILE": "light", "AMI_TEST_SEED": ""})

    assert effective.settings.worker_crash_rate == 0.01
    assert effective.sources["AMI_TEST_PROFILE"] == "command line"


def test_nothing_given_is_all_default() -> None:
    assert resolve({"PATH": "/bin"}) == Effective(Settings(), dict.fromkeys(NAMES, "default"))


def test_an_empty_value_in_the_environment_leaves_the_profile_in_force(tmp_path: Path) -> None:
    name = profile(tmp_path, f"{CRASH}=0.1\n")
    effective = resolve({"AMI_TEST_PROFILE": name, CRASH: " "}, {CRASH: ""})

    assert effective.settings.worker_crash_rate == 0.1
    assert effective.sources[CRASH] == f"{name}:1"


def test_an_empty_value_in_a_profile_leaves_the_default_in_force(tmp_path: Path) -> None:
    effective = resolve({"AMI_TEST_PROFILE": profile(tmp_path, f"{CRASH}=\n")})

    assert effective.settings.worker_crash_rate == 0.0
    assert effective.sources[CRASH] == "default"


def test_every_problem_of_every_source_comes_at_once(tmp_path: Path) -> None:
    name = profile(tmp_path, f"{CRASH}=130%\nAMI_TEST_SEEDS=1\n{NETWORK}=2\n")

    assert problems_in({"AMI_TEST_PROFILE": name, "AMI_TEST_SEED": "x"}, {NETWORK: "3"}) == [
        f"{name}:2: AMI_TEST_SEEDS: unknown setting (did you mean AMI_TEST_SEED?)",
        f"{name}:1: {CRASH}='130%': a rate is a number from 0 to 1 (did you mean 1.0?)",
        f"{NETWORK}='3': a rate is a number from 0 to 1 (did you mean 0.03?)",
        "AMI_TEST_SEED='x': is a whole number, 0 or more",
    ]


def test_a_profile_that_cannot_be_loaded_hides_no_other_problem(tmp_path: Path) -> None:
    name = profile(tmp_path, "oh no\n")

    assert problems_in({"AMI_TEST_PROFILE": name, "AMI_TEST_SEED": "x"}) == [
        f"{name}:1: not NAME=value: 'oh no'",
        "AMI_TEST_SEED='x': is a whole number, 0 or more",
    ]
    assert problems_in({"AMI_TEST_PROFILE": name}) == [f"{name}:1: not NAME=value: 'oh no'"]
