"""The promises of hooks.http about calls within a call: what a response's hook asks, and what it raises."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from ami_fault_site.faults import Layer
from ami_fault_site.grammar import parse_rules
from tests.stage import events, hand_out, reply_subject, result_body, service
from tests.test_hooks_http import hooked, poll


def asking(url: str, seen: list[str]) -> requests.Session:
    """Return a session with a response hook that asks a URL itself, once an answer, and notes how that went."""
    own, session = requests.Session(), requests.Session()

    def hook(response: requests.Response, **_: object) -> None:
        try:
            seen.append(f"{response.status_code}: {own.get(url, timeout=5).status_code}")
        except requests.RequestException as error:
            seen.append(f"{response.status_code}: {type(error).__name__}")

    session.hooks["response"].append(hook)
    return session


@pytest.mark.parametrize(
    ("fault", "expected", "layer"),
    [
        ("reset@after", 0, Layer.CALL),
        ("reset@after", 0, Layer.ATTEMPT),
        ("status(503)@after", 503, Layer.CALL),
        ("status(503)@after", 503, Layer.ATTEMPT),
        ("trickle(0.1)", 200, Layer.CALL),
    ],
)
def test_a_fault_that_waits_for_where_a_redirect_leads_strikes_that_and_not_what_a_hook_asks_meanwhile(
    tmp_path: Path, fault: str, expected: int, layer: Layer
) -> None:
    seen: list[str] = []
    rules = parse_rules(f"jobs: {fault}")
    with service() as stage, hooked(tmp_path, rules=rules, network_layer=layer, network_error_rate=0.0) as one:
        session = asking(f"{stage.url}/telemetry", seen)
        try:
            status = poll(stage.url, session).status_code
        except requests.ConnectionError:
            status = 0
        assert set(seen) <= {"301: 404", "200: 404", "503: 404"}
        assert (len(events(one.run, "fault")), status) == (1, expected)
        (end,) = events(one.run, "jobs", "no-answer")
        assert end.data["struck"] is (status != 200)


def test_what_a_hook_asks_while_a_call_is_redirected_may_go_where_no_test_may(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, protected_hosts=("localhost",)):
        seen: list[str] = []
        session = asking(f"http://localhost:{stage.url.rpartition(':')[2]}/telemetry", seen)
        child = os.fork()
        if child == 0:
            os._exit(0 if poll(stage.url, session).status_code == 200 and seen == ["301: 404", "200: 404"] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_call_of_the_worker_in_a_hook_is_a_call_like_any_other(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path) as one:
        hand_out(stage, 3)
        session, plain = requests.Session(), requests.Session()
        result = f"{stage.url}/api/v2/jobs/1/result/"

        def answer(response: requests.Response, **_: object) -> None:
            plain.post(result, data=result_body(reply_subject(3)), timeout=5)

        session.hooks["response"].append(answer)
        session.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={"batch_size": 1}, timeout=5)
        booked = [(event.kind, event.number("call")) for event in events(one.run, "call", "answer", "leases")]
        assert booked == [("call", 1), ("call", 2), ("answer", 2), ("leases", 1)]


def test_a_call_of_the_worker_in_a_hook_is_struck_and_the_one_around_it_is_not(tmp_path: Path) -> None:
    rules = parse_rules("tasks: refused")
    with service() as stage, hooked(tmp_path, rules=rules) as one:
        session, seen = requests.Session(), []

        def fetch(response: requests.Response, **_: object) -> None:
            try:
                requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={"batch_size": 1}, timeout=5)
            except requests.ConnectionError as error:
                seen.append(type(error).__name__)

        session.hooks["response"].append(fetch)
        assert poll(f"{stage.url}", session).json()["results"][0]["id"] == 1
        assert seen == ["ConnectionError"] * 2  # at the redirect, and where it leads
        assert [event.data["struck"] for event in events(one.run, "jobs", "no-answer")] == [True, True, False]


@pytest.mark.parametrize("status", [400, 404, 503])
def test_an_answer_of_which_a_hook_makes_an_error_is_booked_as_that_answer(tmp_path: Path, status: int) -> None:
    with service() as stage, hooked(tmp_path) as one:
        stage.result_status = status
        session = requests.Session()
        session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        with pytest.raises(requests.HTTPError):
            session.post(f"{stage.url}/api/v2/jobs/1/result/", data=result_body(reply_subject(3)), timeout=5)
        (answer,) = events(one.run, "answer")
        assert (answer.text("outcome"), answer.number("status"), answer.data["struck"]) == ("refused", status, False)


def test_an_error_that_a_hook_makes_of_an_answer_of_ours_is_our_doing(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("result: status(503)")) as one:
        session = requests.Session()
        session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        with pytest.raises(requests.HTTPError):
            session.post(f"{stage.url}/api/v2/jobs/1/result/", data=result_body(reply_subject(3)), timeout=5)
        (answer,) = events(one.run, "answer")
        assert answer.data["struck"] is True
        assert stage.asked == []


# --- what others put in the place of requests' own


def test_another_class_in_the_place_of_session_is_hooked_as_the_one_that_it_is_made_from(tmp_path: Path) -> None:
    class Theirs(requests.Session):
        pass

    with service() as stage, hooked(tmp_path, rules=parse_rules("jobs: refused")) as one:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(requests.sessions, "Session", Theirs)
            patch.setattr(requests, "Session", Theirs)
            assert requests.get(f"{stage.url}/anything", timeout=5).status_code == 404
            with pytest.raises(requests.ConnectionError):
                poll(stage.url, Theirs())
        assert len(events(one.run, "fault")) == 1


def test_what_chooses_the_adapter_of_all_sessions_without_us_is_told_and_nothing_is_struck(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=1.0) as one:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(requests.Session, "get_adapter", lambda self, url: self.adapters["http://"])
            assert poll(stage.url).status_code == 200
        assert [event.text("why") for event in events(one.run, "withheld")] == [
            "the session chooses its adapter in a way of its own"
        ]
        assert events(one.run, "fault") == []


def test_a_request_that_was_not_prepared_is_for_requests_to_refuse(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path) as one:
        raw: Any = requests.Request("GET", f"{stage.url}/api/v2/jobs/")
        with pytest.raises(ValueError, match="You can only send PreparedRequests"):
            requests.Session().send(raw)
        poll(stage.url)
        assert len(events(one.run, "jobs")) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut_short_while_jobs_are_taken_out_of_it_is_the_workers_trouble(
    tmp_path: Path, stream: bool
) -> None:
    rules = parse_rules("tasks: truncated")
    values: dict[str, Any] = {"exhaust": ("7",), "network_layer": Layer.ATTEMPT, "rules": rules}
    with service() as stage, hooked(tmp_path, **values) as one:
        hand_out(stage, 3)
        url = f"{stage.url}/api/v2/jobs/1/tasks/"
        with pytest.raises(requests.RequestException):  # to urllib3 1.26 it is an answer, of which no JSON can be made
            requests.post(url, json={"batch_size": 1}, timeout=5, stream=stream).json()
        (end,) = events(one.run, "no-answer")
        assert (end.data["struck"], len(events(one.run, "fault"))) == (True, 1)
        assert not one.run.is_incomplete()
