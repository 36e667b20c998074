from __future__ import annotations

import json
import tracemalloc
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ami_fault_site.antenna import (
    Answered,
    ApiCall,
    Delivery,
    Lease,
    answers_in,
    classify,
    deliveries_in,
    file_name,
    image_names,
    is_accepted,
    jobs_in,
    leases_in,
    parse_reply_subject,
)
from ami_fault_site.faults import Site

RECORDINGS = Path(__file__).parent.parent.parent / "shared" / "recordings"
Row = dict[str, Any]
Pair = namedtuple("Pair", "reply_subject result")
API = "http://127.0.0.1:8000/api/v2"


def subject(sequence: int, delivery: int = 1, job: int = 2) -> str:
    return (
        f"$JS.ACK.job_{job}.job-{job}-consumer.{delivery}.{sequence}.{sequence + 3}.17954382995850014{sequence:02d}.9"
    )


def told(sequence: int, delivery: int = 1, job: int = 2) -> Delivery:
    return Delivery(
        f"job_{job}",
        f"job-{job}-consumer",
        delivery,
        sequence,
        sequence + 3,
        int(f"17954382995850014{sequence:02d}"),
        9,
    )


def no_image(_url: str) -> bool:
    return False


def recording(name: str) -> list[Row]:
    path = RECORDINGS / name
    if not path.is_file():
        pytest.skip("the recordings of the real worker are not beside this checkout")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(rows, key=lambda row: float(row["t"]))


def outer_calls(rows: list[Row]) -> list[Row]:
    """Return the rows that are not nested in the time of another row of the same thread, as redirects are."""
    return [
        row
        for row in rows
        if not any(
            other is not row
            and other["thread"] == row["thread"]
            and other["redirects"]
            and other["t"] <= row["t"]
            and row["t"] + row["dt"] <= other["t"] + other["dt"] + 0.001
            for other in rows
        )
    ]


def really_is(row: Row, images: set[str]) -> ApiCall:
    """Say what a recorded call is by its path alone, as one who reads the recording would."""
    if row["url"] in images:
        return ApiCall(Site.IMAGE)
    parts = row["url"].partition("?")[0].removeprefix("http://127.0.0.1:18000/api/v2/").strip("/").split("/")
    if parts == ["jobs"]:
        return ApiCall(Site.JOBS)
    assert parts[0] == "jobs"
    return ApiCall({"tasks": Site.TASKS, "result": Site.RESULT}[parts[2]], int(parts[1]))


@pytest.mark.parametrize(
    ("name", "rows", "outer", "counts"),
    [
        ("worker-healthy.jsonl", 39, 36, {Site.JOBS: 3, Site.TASKS: 6, Site.IMAGE: 24, Site.RESULT: 3}),
        ("worker-killed.jsonl", 117, 110, {Site.JOBS: 7, Site.TASKS: 22, Site.IMAGE: 80, Site.RESULT: 1}),
    ],
)
def test_every_recorded_call_is_classified_as_what_it_is(
    name: str, rows: int, outer: int, counts: dict[Site, int]
) -> None:
    recorded = recording(name)
    calls = outer_calls(recorded)
    images: set[str] = set()
    seen: list[ApiCall | None] = []
    for row in sorted(calls, key=lambda row: float(row["t"] + (row["dt"] if "tasks" in row["url"] else 0))):
        found = classify(row["method"], row["url"], images.__contains__)
        assert found == really_is(row, images), row["url"]
        seen.append(found)
        if found is not None and found.site is Site.TASKS:
            images |= {item["image_url"] for item in json.loads(row["response_body"])["tasks"]}

    assert (len(recorded), len(calls)) == (rows, outer)
    assert {site: sum(one is not None and one.site is site for one in seen) for site in counts} == counts


@pytest.mark.parametrize(("name", "count"), [("worker-healthy.jsonl", 24), ("worker-killed.jsonl", 80)])
def test_every_recorded_lease_is_read_without_a_miss(name: str, count: int) -> None:
    read = 0
    for row in recording(name):
        if not row["url"].endswith("/tasks/"):
            continue
        leases = leases_in(row["response_body"])
        items = json.loads(row["response_body"])["tasks"]
        assert leases == leases_in(row["response_body"].encode())
        assert [(one.image_id, one.image_url) for one in leases] == [(i["image_id"], i["image_url"]) for i in items]
        for lease, item in zip(leases, items, strict=True):
            said = lease.delivery
            fields = (said.stream, said.consumer, said.delivery, said.sequence, said.consumer_sequence, said.published)
            assert item["reply_subject"] == ".".join(("$JS.ACK", *map(str, fields), str(said.left)))
        read += len(leases)
    assert read == count


@pytest.mark.parametrize(("name", "count"), [("worker-healthy.jsonl", 24), ("worker-killed.jsonl", 8)])
def test_every_recorded_answer_is_read_without_a_miss_and_was_accepted(name: str, count: int) -> None:
    read = 0
    for row in recording(name):
        if not row["url"].endswith("/result/"):
            continue
        items = json.loads(row["request_body"])["results"]
        expected = [(parse_reply_subject(i["reply_subject"]), i["result"].get("error")) for i in items]
        assert [(one.delivery, one.error) for one in answers_in(row["request_body"])] == expected
        images = [i["result"].get("image_id") or i["result"]["source_images"][0]["id"] for i in items]
        assert [one.image for one in answers_in(row["request_body"])] == images
        assert None not in [delivery for delivery, _ in expected]
        assert is_accepted(row["status"], row["response_body"])
        turned = json.dumps({"results": [dict(reversed(i.items())) for i in items]})
        assert answers_in(turned) == answers_in(row["request_body"])
        read += len(items)
    assert read == count


@pytest.mark.parametrize(("name", "job"), [("worker-healthy.jsonl", 63), ("worker-killed.jsonl", 64)])
def test_every_recorded_poll_lists_its_job(name: str, job: int) -> None:
    listed = {jobs_in(row["response_body"]) for row in recording(name) if "ids_only" in row["url"]}

    assert listed <= {(job,), ()}
    assert (job,) in listed


@pytest.mark.parametrize(
    ("method", "url", "call"),
    [
        ("GET", f"{API}/jobs?pipeline__slug__in=a&ids_only=1", ApiCall(Site.JOBS)),
        ("GET", f"{API}/jobs/?pipeline__slug__in=a", ApiCall(Site.JOBS)),
        ("GET", f"{API}/jobs/", None),
        ("POST", f"{API}/jobs/?ids_only=1", None),
        ("GET", f"{API}/jobs/12/", None),
        ("POST", f"{API}/jobs/12/tasks/", ApiCall(Site.TASKS, 12)),
        ("GET", f"{API}/jobs/12/tasks?batch_size=8", ApiCall(Site.TASKS, 12)),
        ("PUT", f"{API}/jobs/12/tasks/", None),
        ("POST", f"{API}/jobs/12/result/", ApiCall(Site.RESULT, 12)),
        ("GET", f"{API}/jobs/12/result/", None),
        ("POST", f"{API}/jobs/x/result/", None),
        ("POST", f"{API}/jobs/12/result/more/", None),
        ("POST", f"{API}/projects/3/pipelines/", ApiCall(Site.REGISTER)),
        ("GET", "https://weights.example/models/moth.pt", None),
        ("GET", "https://weights.example/x?next=/jobs/1/result/", None),
        ("POST", "https://telemetry.example/", None),
    ],
)
def test_a_call_is_named_by_its_method_and_path(method: str, url: str, call: ApiCall | None) -> None:
    assert classify(method, url, no_image) == call


def test_an_image_is_the_exact_url_that_was_handed_out_wherever_it_points() -> None:
    handed_out = {f"{API}/jobs/12/tasks/", "https://bucket.example/1.jpg?X-Amz-Signature=abc"}

    for url in handed_out:
        assert classify("GET", url, handed_out.__contains__) == ApiCall(Site.IMAGE)
    assert classify("GET", "https://bucket.example/1.jpg?X-Amz-Signature=abd", handed_out.__contains__) is None
    assert classify("POST", f"{API}/jobs/12/tasks/", handed_out.__contains__) == ApiCall(Site.TASKS, 12)


def test_a_reply_subject_says_which_delivery_of_which_task_it_is() -> None:
    text = "$JS.ACK.job_2.job-2-consumer.1.5.8.1795438299585001495.11"

    assert parse_reply_subject(text) == Delivery("job_2", "job-2-consumer", 1, 5, 8, 1795438299585001495, 11)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "invented",
        "$JS.ACK.job_2.c.1.5.8.1795438299585001495",
        "$JS.ACK.job_2.c.1.5.8.1795438299585001495.11.x",
        "$JS.ACK.job_2.c.1.5.8.17.11.12",
        "$JS.ACK.job_2.c.1.5.8.x.11",
        "$JS.ACK.job_2.c.1..8.17.11",
        "$JS.ACK.job_2.c.-1.5.8.17.11",
        "$JS.ACK.job_2.c.1.5.8.²7.11",
        "$JS.NAK.job_2.c.1.5.8.17.11",
        "_INBOX.x.y.c.1.5.8.17.11",
    ],
)
def test_a_malformed_reply_subject_says_nothing(text: str) -> None:
    assert parse_reply_subject(text) is None
    assert leases_in(json.dumps({"tasks": [{"reply_subject": text}]})) == ()
    assert answers_in(json.dumps({"results": [{"reply_subject": text, "result": {"error": "e"}}]})) == (
        Answered(None, "e"),
    )
    assert list(deliveries_in([text])) == []


def test_leases_tell_delivery_image_and_url() -> None:
    item = {"id": "1", "image_id": "7", "image_url": "http://h/a/m%20th.jpg?sig=x", "reply_subject": subject(5)}
    (lease,) = leases_in(json.dumps({"tasks": [item]}))

    assert lease == Lease(told(5), "7", "http://h/a/m%20th.jpg?sig=x")
    assert lease.image_name == "m th.jpg"


def test_a_task_whose_image_has_no_id_is_not_given_one() -> None:
    body = json.dumps({"tasks": [{"image_id": None, "image_url": None, "reply_subject": subject(5)}]})

    assert leases_in(body) == (Lease(told(5), "", ""),)
    assert leases_in(json.dumps({"tasks": [{"reply_subject": subject(5)}]})) == (Lease(told(5), "", ""),)


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", "null", '{"tasks": null}', '{"tasks": [1, null, {}]}', b"\xff\xfe\x00", b"{"]
)
def test_a_body_of_any_other_form_hands_out_and_lists_nothing(body: bytes | str) -> None:
    assert leases_in(body) == ()
    assert jobs_in(body) == ()
    assert answers_in(body) == ()


def test_a_poll_lists_its_jobs() -> None:
    assert jobs_in('{"count": 2, "results": [{"id": 2}, {"id": "x"}, {"id": 7}, {}]}') == (2, 7)


@pytest.mark.parametrize(
    ("status", "body", "accepted"),
    [
        (200, '{"status": "accepted"}', True),
        (200, '{"status": "rejected"}', False),
        (200, "{}", True),
        (201, '{"status": "accepted"}', False),
        (500, '{"status": "accepted"}', False),
        (401, "", False),
    ],
)
def test_an_answer_is_accepted_by_status_and_word(status: int, body: str, accepted: bool) -> None:
    assert is_accepted(status, body) is accepted
    assert is_accepted(status, body.encode()) is accepted


SUCCESS = {"pipeline": "p", "algorithms": {}, "source_images": [{"id": "1"}], "detections": [{"error": "blurred"}]}
ERRORS = [
    "failed to load image",
    "",
    'say "no"',
    "back\\slash \\",
    "line\nbreak\ttab",
    "Größe 🦋 \u2028",
    '"detections" and "reply_subject": null',
    '{"error": "inner"}',
]


@pytest.mark.parametrize("reply_first", [True, False], ids=["reply first", "result first"])
@pytest.mark.parametrize("as_ascii", [True, False], ids=["escaped", "as it is"])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["spaces", "compact"])
def test_answers_are_read_as_a_full_parse_would_whatever_the_order_and_writing(
    reply_first: bool, as_ascii: bool, separators: tuple[str, str]
) -> None:
    results: list[object] = [SUCCESS, *({"error": text, "image_id": "7"} for text in ERRORS), SUCCESS]
    pairs: list[tuple[tuple[str, object], ...]] = [
        (("reply_subject", subject(number)), ("result", result)) for number, result in enumerate(results)
    ]
    items = [dict(pair if reply_first else pair[::-1]) for pair in pairs]
    body = json.dumps({"results": items}, ensure_ascii=as_ascii, separators=separators)
    images = ["1", *("7" for _ in ERRORS), "1"]
    expected = tuple(Answered(told(n), error, images[n]) for n, error in enumerate([None, *ERRORS, None]))

    assert answers_in(body) == expected
    assert answers_in(body.encode()) == expected


def test_an_item_without_reply_subject_is_an_answer_to_no_task() -> None:
    items = [{"reply_subject": None, "result": {"error": "x"}}, {"reply_subject": subject(1), "result": SUCCESS}]

    assert answers_in(json.dumps({"results": items})) == (Answered(None, "x"), Answered(told(1), None, "1"))


@pytest.mark.parametrize(
    ("result", "image"),
    [
        ({**SUCCESS, "source_images": [{"url": "u", "id": "12"}]}, "12"),
        ({**SUCCESS, "source_images": [{"id": 12}]}, "12"),
        ({**SUCCESS, "source_images": []}, ""),
        ({"error": "e", "image_id": None}, ""),
        ({"error": "e", "image_id": 12}, "12"),
        ({"error": "e"}, ""),
    ],
)
def test_an_answer_names_the_image_that_it_is_about_if_it_names_one(result: dict[str, object], image: str) -> None:
    (answer,) = answers_in(json.dumps({"results": [{"reply_subject": subject(1), "result": result}]}))

    assert answer.image == image


def test_a_null_error_is_no_error() -> None:
    assert answers_in(json.dumps({"results": [{"reply_subject": subject(1), "result": {"error": None}}]})) == (
        Answered(told(1), None),
    )


@pytest.mark.parametrize("reply_first", [True, False], ids=["reply first", "result first"])
@pytest.mark.parametrize("length", [100, 8_000, 20_000, 1_000_000])
def test_an_error_is_an_error_however_long_its_text(length: int, reply_first: bool) -> None:
    pair: list[tuple[str, object]] = [
        ("reply_subject", subject(1)),
        ("result", {"error": "e" * length, "image_id": "1"}),
    ]
    (answer,) = answers_in(json.dumps({"results": [dict(pair if reply_first else pair[::-1])]}))

    assert answer.delivery == told(1)
    assert answer.error is not None
    assert answer.error[:100] == "e" * 100


def test_a_body_of_over_fifty_megabytes_is_scanned_and_never_parsed_whole() -> None:
    # What stands in these detections is no JSON: whoever parses it fails, whoever copies it needs the memory.
    success = (
        b'{"pipeline": "p", "source_images": [{"id": "1"}], "detections": [' + b"error \x00\xff, " * 700_000 + b"]}"
    )
    failure = b'{"error": "bad", "image_id": "1"}'
    results = [failure if number % 8 == 7 else success for number in range(9)]
    items = [b'{"reply_subject": "%s", "result": %s}' % (subject(n).encode(), r) for n, r in enumerate(results)]
    body = b'{"results": [' + b", ".join(items) + b"]}"
    assert len(body) > 50_000_000

    tracemalloc.start()
    answers = answers_in(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert answers == tuple(Answered(told(number), "bad" if number == 7 else None, "1") for number in range(9))
    assert peak < 1_000_000


@dataclass
class Task:
    reply_subject: str


def test_deliveries_are_found_wherever_a_batch_keeps_its_reply_subjects() -> None:
    both = [told(1), told(2, 2)]
    texts = [subject(1), subject(2, 2)]

    for batch in (
        texts,
        tuple(texts),
        {"reply_subject": texts},
        {"tasks": [{"reply_subject": text, "image": None} for text in texts]},
        [Task(text) for text in texts],
        [SimpleNamespace(reply_subject=text) for text in texts],
        [Pair(text, {"error": None}) for text in texts],
        ({"a": {"b": [texts[0]]}}, 7, None, [texts[1]]),
    ):
        assert list(deliveries_in(batch)) == both
    assert list(deliveries_in(texts[0])) == both[:1]


def test_deliveries_are_not_looked_for_deeper_than_four_levels() -> None:
    assert list(deliveries_in([[[[subject(1)]]]])) == [told(1)]
    assert list(deliveries_in([[[[[subject(1)]]]]])) == []
    assert list(deliveries_in([[[[[subject(1)]]]]], depth=5)) == [told(1)]


def test_arrays_iterators_and_loops_are_left_alone() -> None:
    class Array:
        def __iter__(self) -> None:
            raise AssertionError("an array must not be looked into")

    looped: list[object] = [subject(1)]
    looped.append(looped)

    assert list(deliveries_in([Array(), iter([subject(1)]), {subject(1)}, b"$JS.ACK.", 7])) == []
    assert list(deliveries_in(looped)) == [told(1)] * 4


def test_an_image_has_the_names_by_which_people_know_it() -> None:
    assert image_names("7", "http://h/a/m%20th.jpg?s=1") == (
        "7", "m th.jpg", "http://h/a/m%20th.jpg", "http://h/a/m%20th.jpg?s=1",
    )  # fmt: skip
    assert image_names("", "http://h/1.jpg") == ("1.jpg", "http://h/1.jpg")
    assert image_names("1.jpg", "1.jpg") == ("1.jpg",)


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://h/a/1.jpg?x=/2.jpg", "1.jpg"), ("http://h/a/", "a"), ("/a/x.png", "x.png"), ("http://h", ""), ("", "")],
)
def test_a_file_name_is_the_last_part_of_the_path(url: str, name: str) -> None:
    assert file_name(url) == name


def test_a_url_that_cannot_be_taken_apart_breaks_no_worker() -> None:
    body = json.dumps({"tasks": [{"image_id": "7", "image_url": "http://[1/x.jpg", "reply_subject": subject(5)}]})
    (lease,) = leases_in(body)

    assert lease.image_name in ("", "x.jpg")


@pytest.mark.parametrize("filling", ["0.01, " * 30_000, "_" * 50_000, "a_" * 9_999, '\\"reply_subject\\" ' * 20_000])
def test_subjects_are_found_whatever_lies_between_them(filling: str) -> None:
    result = {"source_images": [{"id": "1"}], "detections": [filling.encode().decode("unicode_escape")]}
    items = [{"reply_subject": subject(number), "result": result} for number in range(1, 5)]

    for body in ({"results": items}, {"results": [dict(reversed(item.items())) for item in items]}):
        assert [one.delivery for one in answers_in(json.dumps(body))] == [told(number) for number in range(1, 5)]
