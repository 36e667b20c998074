"""The promises of the README: its tables are those of the code, and its rules can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ami_fault_site.cli import main
from ami_fault_site.faults import Mode, Point
from ami_fault_site.forecast import RATE_FIELDS
from ami_fault_site.grammar import parse_rules
from ami_fault_site.profiles import available, resolve
from ami_fault_site.settings import TABLE, plain
from ami_fault_site.verdict import SLUGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """Return what stands below a heading, up to the next of its rank or a higher one."""
    rank = title.split(" ")[0]
    return re.split(rf"^#{{2,{len(rank)}}} ", README.partition(f"\n{title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in lines]


def test_the_table_of_settings_is_that_of_the_code() -> None:
    defaults = {"AMI_TEST_PROTECTED_HOSTS": " (default `antenna.insectai.org`)"}

    assert cells(section("## Settings")) == [
        [f"`{row.name}`", row.meaning + defaults.get(row.name, "")] for row in TABLE
    ]
    row = next(row for row in TABLE if row.name == "AMI_TEST_PROTECTED_HOSTS")
    assert plain(row.default) == "antenna.insectai.org"


def test_every_profile_is_a_scenario_with_its_rates_or_its_question() -> None:
    rows = {row[0].strip("`"): row[1:] for row in cells(section("### Scenarios"))}

    assert sorted(rows) == list(available())
    for name, told in rows.items():
        settings = resolve({"AMI_TEST_PROFILE": name, "AMI_TEST_ACK_WAIT": "60"}).settings
        order = ("worker_crash_rate", "network_error_rate", "corrupt_image_rate", "image_404_rate")
        rates = [getattr(settings, field) for field in (*order, "transient_error_rate")]
        assert len(rates) == len(RATE_FIELDS)
        if len(told) == len(rates):
            assert [float(cell or 0) for cell in told] == rates, name
            assert not settings.rules
        else:
            assert told[1].endswith("?"), name


def test_the_rules_that_it_shows_can_be_read() -> None:
    shown = [
        line.split("   ")[0]
        for line in section("### Exactly there: rules").splitlines()
        if re.match(r"[a-z.]+(\[|: )", line)
    ]

    assert len(parse_rules("\n".join(shown))) == len(shown) == 7


@pytest.mark.parametrize("word", [*Point, *Mode], ids=lambda word: str(word.value))
def test_every_point_and_every_way_of_dying_is_named(word: Point | Mode) -> None:
    assert f"`{word.value}`" in section("### How a process dies")


def test_every_check_is_told() -> None:
    assert sorted(row[0].strip("`") for row in cells(section("## The verdict"))) == sorted(SLUGS)


def test_every_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    commands = re.findall(r"^[^\w-]+([a-z][a-z-]+)  ", capsys.readouterr().out, flags=re.MULTILINE)

    assert len(commands) >= 11
    assert [name for name in commands if f"ami-fault {name}" not in section("## Commands")] == []


def test_the_start_file_is_shown_as_it_is() -> None:
    line = (ROOT / "ami_fault_site" / "ami_fault_site.pth").read_text()
    assert f"```text\n{line}```\n" in section("## What the start file does")
