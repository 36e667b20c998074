"""The sandbox's options say everything that is wrong with them, and its info survives the way through JSON."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ami_fault_site.sandbox.options import (
    DEFAULT_TOKEN,
    SABOTAGE_MEANINGS,
    SandboxError,
    SandboxInfo,
    SandboxOptionError,
    SandboxOptions,
    info_from_json,
)

INFO = SandboxInfo("http://127.0.0.1:1/api/v2", "t", "sandbox", 1.5, 2, (1, 2), ("a", "b"), "nats://127.0.0.1:2", 3)


def test_the_defaults_are_allowed() -> None:
    options = SandboxOptions()
    assert (options.images, options.jobs, options.pipelines, options.max_deliver) == (200, 1, ("moth_binary",), 2)


def test_the_default_token_is_forty_hex_digits_as_a_real_one_is() -> None:
    assert len(bytes.fromhex(DEFAULT_TOKEN)) == 20


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SandboxOptionError) as caught:
        SandboxOptions(
            images=0, ack_wait=0, max_deliver=-1, port=70000, pipelines=("a b",), image_dir=str(tmp_path / "no")
        )
    assert caught.value.problems == [
        "images=0: is a whole number, 1 or more",
        "max_deliver=-1: is a whole number, 1 or more",
        "port=70000: is a port from 0 (any free one) to 65535",
        "ack_wait=0: is a number of seconds above 0",
        "pipelines='a b': a pipeline is named by letters, digits, '_' and '-', such as moth_binary",
        f"image_dir={str(tmp_path / 'no')!r}: is a folder of pictures that exists",
    ]


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0])
def test_a_duration_that_never_ends_is_refused(seconds: float) -> None:
    with pytest.raises(SandboxOptionError, match="is a number of seconds above 0"):
        SandboxOptions(reaper_idle=seconds)


def test_a_threshold_is_a_share() -> None:
    with pytest.raises(SandboxOptionError, match=r"^fail_threshold=1.5: is a number from 0 to 1$"):
        SandboxOptions(fail_threshold=1.5)


def test_no_pipeline_and_a_pipeline_named_twice_are_refused() -> None:
    with pytest.raises(SandboxOptionError, match="at least one pipeline"):
        SandboxOptions(pipelines=())
    with pytest.raises(SandboxOptionError, match="each pipeline is named once"):
        SandboxOptions(pipelines=("a", "a"))


def test_a_token_is_refused_without_being_repeated() -> None:
    with pytest.raises(SandboxOptionError) as caught:
        SandboxOptions(token="my secret")
    assert "secret" not in str(caught.value)


def test_a_nats_url_without_its_scheme_is_refused() -> None:
    with pytest.raises(SandboxOptionError, match=r"is a URL such as nats://127\.0\.0\.1:4222"):
        SandboxOptions(nats_url="127.0.0.1:4222")


def test_an_unknown_sabotage_is_refused_with_the_nearest_name_and_all_others() -> None:
    with pytest.raises(SandboxOptionError) as caught:
        SandboxOptions(sabotage="never-ending")
    names = ", ".join(SABOTAGE_MEANINGS)
    assert caught.value.problems == [f"sabotage='never-ending': is one of {names} (did you mean never-ends?)"]
    assert "hands-out-twice" in names


def test_the_sabotages_can_be_listed_without_what_a_sandbox_needs_to_run() -> None:
    script = (
        "import sys; from ami_fault_site.sandbox.options import SABOTAGE_MEANINGS; print(*SABOTAGE_MEANINGS.items());"
        "print({'fastapi', 'nats', 'uvicorn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")
    assert "'A task that was handed out and not answered never comes back.'" in done.stdout


def test_the_info_survives_the_way_through_json_and_ignores_what_it_does_not_know() -> None:
    assert info_from_json(INFO.as_json()) == INFO
    assert info_from_json(INFO.as_json()[:-1] + ', "later": 1}') == INFO


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}"])
def test_what_is_no_info_is_refused(text: str) -> None:
    with pytest.raises(SandboxError, match="this is not what a sandbox says of itself"):
        info_from_json(text)


def test_a_job_has_a_million_images_at_most() -> None:
    assert SandboxOptions(images=1_000_000).images == 1_000_000
    with pytest.raises(SandboxOptionError, match=r"^images=1000001: is a whole number, 1000000 at most$"):
        SandboxOptions(images=1_000_001)
