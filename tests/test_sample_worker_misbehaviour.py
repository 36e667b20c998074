"""Each misbehaviour of the sample worker is what it says, and a good worker does none of it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from urllib3.response import HTTPResponse
from urllib3.util.retry import Retry

from ami_fault_site.sandbox.worker import loop
from ami_fault_site.sandbox.worker.client import http_session
from ami_fault_site.sandbox.worker.loop import process_job
from ami_fault_site.sandbox.worker.main import main
from ami_fault_site.sandbox.worker.misbehaviour import MISBEHAVIOURS, Conduct, conduct_of, retry_of
from ami_fault_site.sandbox.worker.settings import SettingsError, read_settings
from tests.test_sample_worker import JOB, PATIENCE, Service, Start, is_alive, serving, settings_for, starting

FAILED = "failed to load image"


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as started:
        started.released.set()  # nothing is held back here, whatever its name
        yield started


@pytest.fixture
def start(service: Service, tmp_path: Path) -> Iterator[Start]:
    with starting(service, tmp_path) as starter:
        yield starter


def work_off(service: Service, count: int, size: int, conduct: Conduct) -> None:
    """Work off so many tasks, named from 1 on, in batches of this size and in their order."""
    service.has(*(str(number) for number in range(1, count + 1)))
    settings = settings_for(service, num_workers=0, antenna_api_batch_size=size)
    assert process_job("moth_binary", JOB, settings, conduct)


def answered(service: Service) -> list[int]:
    return sorted(int(name) for name in service.answers())


def image_of(result: dict[str, Any]) -> str:
    """Return the one image that a result is about, wherever it names it."""
    if "error" in result:
        return str(result["image_id"])
    (source,) = result["source_images"]
    named = {source["id"], source["url"].rpartition("/")[2].partition(".")[0]}
    named |= {detection["source_image_id"] for detection in result["detections"]}
    (name,) = named
    return str(name)


def images_named(service: Service) -> dict[str, str]:
    return {name: image_of(result) for name, result in sorted(service.answers().items())}


def test_a_good_worker_answers_every_task_for_its_own_image(service: Service) -> None:
    service.images["2"] = b""
    work_off(service, 8, 2, conduct_of(""))
    assert images_named(service) == {name: name for name in "12345678"}
    assert service.errors() == {"2": FAILED}


def test_drops_posts_loses_every_third_batch_from_the_second_on(service: Service) -> None:
    work_off(service, 12, 2, conduct_of("drops-posts"))
    assert answered(service) == [1, 2, 5, 6, 7, 8, 11, 12]


def test_keeps_a_batch_loses_the_second_of_the_process_and_no_other(service: Service) -> None:
    conduct = conduct_of("keeps-a-batch")
    work_off(service, 2, 2, conduct)
    assert answered(service) == [1, 2]
    service.seen.clear()
    work_off(service, 6, 2, conduct)
    assert answered(service) == [3, 4, 5, 6]


def test_wrong_image_rotates_successes_and_errors_of_every_third_batch(service: Service) -> None:
    service.images["2"] = b""
    work_off(service, 12, 3, conduct_of("wrong-image"))
    first = {"1": "3", "2": "1", "3": "2"}  # the failed one comes last in its batch
    fourth = {"10": "11", "11": "12", "12": "10"}
    others = {str(number): str(number) for number in range(4, 10)}
    assert images_named(service) == first | others | fourth
    assert service.errors() == {"2": FAILED}


def test_wrong_image_leaves_batches_of_one_alone_and_does_not_count_them(service: Service) -> None:
    conduct = conduct_of("wrong-image")
    work_off(service, 2, 1, conduct)
    assert images_named(service) == {"1": "1", "2": "2"}
    service.seen.clear()
    work_off(service, 2, 2, conduct)
    assert images_named(service) == {"1": "2", "2": "1"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_worker_that_hangs_keeps_what_is_loaded_and_still_ends_when_it_is_told_to(
    service: Service, start: Start, number: signal.Signals, status: int
) -> None:
    service.has("1", "2", "3", "4", "5", "6")
    settings = {"antenna_api_batch_size": 1, "num_workers": 1, "sample_prefetch": 2}
    worker = start("--misbehave", "hangs", **settings)
    worker.wait_for("Hanging on purpose")
    service.wait_until(lambda: len(service.posts()) == 2 and len(service.requests("POST", "/tasks/")) == 4)
    with service.changed:
        assert not service.changed.wait_for(lambda: len(service.requests("POST", "")) > 6, 0.3)
    assert answered(service) == [1, 2]
    (loader,) = worker.loaders()
    assert is_alive(loader)
    os.kill(worker.process.pid, number)
    assert worker.process.wait(PATIENCE) == status


def test_a_passing_failure_is_final_for_one_worker_and_leaves_a_good_one_without_an_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise ConnectionError("the model is busy")

    service.images["2"] = b""
    monkeypatch.setattr(loop, "process_batch", fail)
    with pytest.raises(ConnectionError):
        work_off(service, 3, 3, conduct_of(""))
    assert service.posts() == []
    work_off(service, 3, 3, conduct_of("transient-as-final"))
    assert service.errors() == dict.fromkeys("123", "ConnectionError: the model is busy")
    assert images_named(service) == {name: name for name in "123"}


def test_fails_the_batch_takes_along_what_was_loaded_with_an_image_that_was_not(service: Service) -> None:
    service.images["4"] = b""
    work_off(service, 6, 3, conduct_of("fails-the-batch"))
    assert service.errors() == dict.fromkeys("456", FAILED)
    assert images_named(service) == {name: name for name in "123456"}


def test_swallows_errors_finds_nothing_on_what_it_could_not_load(service: Service) -> None:
    service.images |= {"1": b"", "2": b""}
    work_off(service, 4, 2, conduct_of("swallows-errors"))
    assert service.errors() == {}
    assert images_named(service) == {name: name for name in "1234"}
    assert {name: len(result["detections"]) for name, result in service.answers().items()} == {
        "1": 0, "2": 0, "3": 1, "4": 1,
    }  # fmt: skip


# How requests are repeated


def downloads(service: Service, misbehave: str) -> int:
    """Work off a task whose image is not to be had, and return how often it was asked for."""
    service.answered["/images/1.jpg"] = (503, b"")
    service.has("1")
    settings = settings_for(service, num_workers=0, antenna_api_batch_size=1, sample_misbehave=misbehave)
    assert process_job("moth_binary", JOB, settings)
    return len(service.requests("GET", "/images/1.jpg"))


def test_never_retries_asks_once_for_an_image(service: Service) -> None:
    assert downloads(service, "never-retries") == 1
    assert service.errors() == {"1": FAILED}


def test_retries_at_once_asks_as_often_as_a_good_worker(service: Service) -> None:
    assert downloads(service, "retries-at-once") == 4


def retries(misbehave: str, status: int = 503) -> Retry:
    """Return what is left to a request that was answered so three times."""
    with http_session(misbehave=misbehave) as session:
        retry: Retry = session.get_adapter("http://service").max_retries  # type: ignore[attr-defined]
    for _ in range(3):
        retry = retry.increment("GET", "/", response=HTTPResponse(status=status))
    return retry


def test_a_good_worker_waits_before_it_asks_again_and_one_that_repeats_at_once_never() -> None:
    assert [retries(name).get_backoff_time() for name in ("", "retries-at-once")] == [2.0, 0.0]


def test_ignores_retry_after_repeats_what_it_is_asked_to_repeat_later_when_it_likes() -> None:
    answers = [retries(name).is_retry("GET", 429, has_retry_after=False) for name in ("", "ignores-retry-after")]

    assert answers == [False, True]
    assert [retries(name).respect_retry_after_header for name in ("", "ignores-retry-after")] == [True, False]


# Settings


def test_the_variable_makes_it_misbehave_and_the_log_says_so(service: Service, start: Start) -> None:
    service.has("1", "2")
    worker = start(sample_misbehave="keeps-a-batch", num_workers=0, antenna_api_batch_size=1)
    worker.wait_for("WARNING Misbehaving on purpose, keeps-a-batch: The 2nd batch is worked off and kept")
    worker.wait_for("Done, images: 2")
    assert answered(service) == [1]


def test_the_option_comes_before_the_variable(service: Service, start: Start) -> None:
    worker = start("--misbehave", "drops-posts", sample_misbehave="no such name", num_workers=0)
    worker.wait_for("Misbehaving on purpose, drops-posts")
    worker.wait_for("No jobs found")
    assert "no such name" not in worker.output()


def test_an_unknown_name_in_the_variable_is_refused_with_the_nearest_one() -> None:
    names = ", ".join(MISBEHAVIOURS)
    expected = f"AMI_SAMPLE_MISBEHAVE='drop-post': is one of {names} (did you mean drops-posts?)"
    with pytest.raises(SettingsError, match=f"^{re.escape(expected)}$"):
        read_settings({"AMI_ANTENNA_API_AUTH_TOKEN": "t", "AMI_SAMPLE_MISBEHAVE": "drop-post"}, Path("/nowhere"))


def test_an_unknown_name_on_the_command_line_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--misbehave", "sulks"])
    assert "argument --misbehave: invalid choice: 'sulks'" in capsys.readouterr().err


def test_the_help_says_what_each_name_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for name, one in MISBEHAVIOURS.items():
        assert re.search(rf"^  {name} +{re.escape(one.meaning)}$", shown, re.MULTILINE)


def test_every_meaning_is_one_sentence_and_every_name_a_way_of_its_own() -> None:
    assert {name for name, one in MISBEHAVIOURS.items() if one.meaning[-1] != "." or one.meaning.count(". ")} == set()
    ways = [(type(conduct_of(name)), str(retry_of(name))) for name in ["", *MISBEHAVIOURS]]
    assert len(set(ways)) == len(ways)
