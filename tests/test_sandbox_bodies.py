"""A body with one malformed item is refused as a whole, in the platform's own words."""

from __future__ import annotations

import json

import pytest

from ami_fault_site.sandbox.bodies import (
    BadBody,
    read_answers,
    read_batch_size,
    read_job,
    read_logs_limit,
    read_registration,
)
from ami_fault_site.sandbox.jobs import Answer

ALGORITHM = {"name": "Finder", "key": "finder"}
SUCCESS = {
    "pipeline": "moth_binary",
    "algorithms": {},
    "total_time": 0.1,
    "source_images": [{"id": "1", "url": "http://a/1.jpg"}],
    "detections": [
        {
            "source_image_id": "1",
            "algorithm": ALGORITHM,
            "classifications": [{"classification": "moth", "algorithm": {"name": "Namer", "key": "namer"}}],
        }
    ],
}


def results(*items: object) -> bytes:
    return json.dumps({"results": list(items)}).encode()


def test_a_success_is_counted_and_its_algorithms_are_named() -> None:
    answer = Answer("s", frozenset({"1"}), None, 1, 1, frozenset({"finder", "namer"}))
    assert read_answers(results({"reply_subject": "s", "result": SUCCESS})) == [answer]


def test_an_error_names_its_image_or_none() -> None:
    assert read_answers(
        results(
            {"reply_subject": "a", "result": {"error": "bad", "image_id": "7"}},
            {"reply_subject": "b", "result": {"error": "bad"}},
        )
    ) == [Answer("a", frozenset({"7"}), "bad"), Answer("b", frozenset(), "bad")]


def test_no_results_at_all_are_accepted() -> None:
    assert read_answers(results()) == []


@pytest.mark.parametrize(
    "item",
    [
        None,
        {},
        {"reply_subject": "s"},
        {"reply_subject": None, "result": SUCCESS},
        {"reply_subject": "s", "result": {"error": 3}},
        {"reply_subject": "s", "result": {**SUCCESS, "total_time": "soon"}},
        {"reply_subject": "s", "result": {**SUCCESS, "source_images": [{"id": "1"}]}},
        {"reply_subject": "s", "result": {**SUCCESS, "detections": [{}]}},
        {"reply_subject": "s", "result": {**SUCCESS, "detections": None}},
    ],
)
def test_one_malformed_item_spoils_the_whole_body(item: object) -> None:
    with pytest.raises(BadBody) as caught:
        read_answers(results({"reply_subject": "s", "result": SUCCESS}, item))
    assert list(caught.value.answer) == ["results"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody, match="JSON parse error"):
        read_answers(body)


@pytest.mark.parametrize("body", [b"[]", b"3", b"{}", b'{"results": 3}'])
def test_json_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        read_answers(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "This field is required."),
        (b'{"batch_size": 0}', "Ensure this value is greater than or equal to 1."),
        (b'{"batch_size": "many"}', "A valid integer is required."),
        (b'{"batch_size": true}', "A valid integer is required."),
    ],
)
def test_a_batch_size_is_a_whole_number_of_one_or_more(body: bytes, text: str) -> None:
    with pytest.raises(BadBody) as caught:
        read_batch_size(body)
    assert caught.value.answer == {"batch_size": [text]}


def test_a_batch_size_may_be_written_as_text() -> None:
    assert read_batch_size(b'{"batch_size": "24"}') == 24


def test_a_job_needs_a_name_a_delay_a_project_and_a_pipeline_that_exist() -> None:
    with pytest.raises(BadBody) as caught:
        read_job(b'{"project_id": 9, "limit": -1}', [1])
    assert caught.value.answer == {
        "name": ["This field is required."],
        "delay": ["This field is required."],
        "project_id": ['Invalid pk "9" - object does not exist.'],
        "pipeline_id": ["This field is required."],
        "limit": ["A valid integer is required."],
    }


def test_a_registration_names_pipelines_and_their_algorithms() -> None:
    body = {"processing_service_name": "w", "pipelines": [{"slug": "a", "name": "A", "algorithms": [ALGORITHM]}]}
    (declared,) = read_registration(json.dumps(body).encode())
    assert (declared.slug, declared.name, dict(declared.algorithms)) == ("a", "A", {"finder": "Finder"})


@pytest.mark.parametrize("body", [b"{}", b'{"processing_service_name": "w", "pipelines": [{}]}'])
def test_a_registration_without_its_names_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        read_registration(body)


@pytest.mark.parametrize("text", ["0", "5001", "all", "-1"])
def test_a_limit_of_log_lines_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(BadBody):
        read_logs_limit(text, 1000, 5000)
