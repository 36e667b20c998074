"""The promises of hooks.http: calls are named, booked and struck as they should be, all others left alone."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from ami_fault_site import runfolder
from ami_fault_site.faults import NETWORK_KINDS
from ami_fault_site.hooks import http
from ami_fault_site.injector import Injector
from tests.stage import events, hand_out, injector, reply_subject, result_body, service

ORIGINAL_SEND = requests.Session.__dict__["send"]
ORIGINAL_ADAPTER = requests.Session.__dict__["get_adapter"]


@contextmanager
def hooked(folder: Path, **values: Any) -> Iterator[Injector]:
    one = injector(folder, **values)
    undo = http.install(requests.sessions, one, lambda: None)
    try:
        yield one
    finally:
        undo()


def poll(url: str, session: requests.Session | None = None) -> requests.Response:
    query: dict[str, str | int] = {"pipeline__slug__in": "moth_binary", "ids_only": 1, "incomplete_only": 1}
    return (session or requests.Session()).get(f"{url}/api/v2/jobs", params=query, timeout=5)


def test_the_undo_restores_the_original_functions(tmp_path: Path) -> None:
    with hooked(tmp_path):
        assert requests.Session.__dict__["send"] is not ORIGINAL_SEND
    assert requests.Session.__dict__["send"] is ORIGINAL_SEND
    assert requests.Session.__dict__["get_adapter"] is ORIGINAL_ADAPTER


def test_a_hook_that_was_wrapped_over_turns_inert_and_leaves_the_other_in_place(tmp_path: Path) -> None:
    with service() as stage, pytest.MonkeyPatch.context() as patch:
        one = injector(tmp_path, network_error_rate=1.0)
        undo = http.install(requests.sessions, one, lambda: None)
        ours = requests.Session.__dict__["send"]

        def theirs(self: requests.Session, *args: Any, **kwargs: Any) -> Any:
            return ours.__get__(self)(*args, **kwargs)

        patch.setattr(requests.Session, "send", theirs)
        undo()
        assert requests.Session.__dict__["send"] is theirs
        assert poll(stage.url).status_code == 200
        assert events(one.run, "call") == []
    requests.Session.send = ORIGINAL_SEND  # type: ignore[method-assign]


def test_a_round_of_the_worker_is_booked_call_by_call(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path) as one:
        hand_out(stage, 1, 2)
        assert poll(stage.url).json()["results"][0]["id"] == 1
        tasks = requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={"batch_size": 2}, timeout=5).json()["tasks"]
        for task in tasks:
            assert requests.get(task["image_url"], timeout=5).content == stage.picture
        body = result_body(*(task["reply_subject"] for task in tasks))
        requests.post(f"{stage.url}/api/v2/jobs/1/result/", data=body, timeout=5)
        booked = events(one.run)
    kinds = ["target", "call", "jobs", "call", "budget", "leases", "image", "image", "call", "answer"]
    assert [event.kind for event in booked if event.kind != "start"] == kinds
    leases = next(event for event in booked if event.kind == "leases")
    assert leases.text("stream") == "job_1"
    assert [row[:3] for row in leases.rows("leases")] == [[1, 1, 1], [2, 1, 2]]
    assert [row[5:] for row in leases.rows("leases")] == [["1", "0001.jpg"], ["2", "0002.jpg"]]
    answer = next(event for event in booked if event.kind == "answer")
    assert (answer.text("outcome"), answer.number("status")) == ("accepted", 200)
    assert [row[0] for row in answer.rows("tasks")] == [1, 2]


def test_error_answers_are_booked_with_their_text_and_without_url_queries(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path) as one:
        body = result_body(reply_subject(4), error="failed: http://h/x.jpg?sig=abc")
        requests.post(f"{stage.url}/api/v2/jobs/1/result/", data=body, timeout=5)
        answer = events(one.run, "answer")[0]
    assert answer.rows("errors") == [[4, "failed: http://h/x.jpg?***"]]


def test_a_refused_result_is_booked_as_refused(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path) as one:
        stage.result_status = 400
        requests.post(f"{stage.url}/api/v2/jobs/1/result/", data=result_body(reply_subject(1)), timeout=5)
        assert events(one.run, "answer")[0].text("outcome") == "refused"


def test_a_result_whose_answer_never_came_is_booked_before_and_as_unheard(tmp_path: Path) -> None:
    with hooked(tmp_path) as one:
        with pytest.raises(requests.ConnectionError):
            requests.post("http://127.0.0.1:9/api/v2/jobs/1/result/", data=result_body(reply_subject(7)), timeout=5)
        call, answer = events(one.run, "call", "answer")
    assert call.rows("tasks")[0][0] == 7
    assert (answer.text("outcome"), answer.text("error")) == ("unheard", "ConnectionError")


def test_calls_that_cannot_be_classified_are_never_touched_and_never_booked(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=1.0, image_404_rate=1.0) as one:
        urls = ("/models/weights.pt", "/api/v2/jobs/", "/api/v2/captures/9/", "/captures/0001.jpg")
        answers = [requests.get(stage.url + url, timeout=5).status_code for url in urls]
        assert answers == [404, 200, 404, 200] or answers == [404, 200, 200, 200]
        assert events(one.run) == []


@pytest.mark.parametrize("seed", range(12))
def test_every_api_call_is_struck_at_rate_1_and_the_service_is_never_asked(tmp_path: Path, seed: int) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=1.0, seed=seed) as one:
        base = f"{stage.url}/api/v2"
        calls: list[Callable[[], requests.Response]] = [
            lambda: poll(stage.url),
            lambda: requests.post(f"{base}/jobs/1/tasks/", json={"batch_size": 1}, timeout=5),
            lambda: requests.post(f"{base}/jobs/1/result/", data=result_body(reply_subject(1)), timeout=5),
            lambda: requests.post(f"{base}/projects/1/pipelines/", json={}, timeout=5),
        ]
        for call in calls:
            try:
                assert call().status_code in (500, 502, 503, 504)
            except requests.RequestException as error:
                assert error.request is not None  # noqa: PT017  either way of failing is right
        faults = events(one.run, "fault")
        assert stage.asked == []
    assert [fault.text("site") for fault in faults] == ["jobs", "tasks", "result", "register"]
    assert {fault.text("kind") for fault in faults} <= set(NETWORK_KINDS)
    assert events(one.run, "answer")[0].text("outcome") in ("not-sent", "refused")


def test_the_fault_is_booked_before_the_call_fails(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=1.0) as one:
        with contextlib.suppress(requests.RequestException):
            poll(stage.url)
        kinds = [event.kind for event in events(one.run)]
    assert kinds == ["start", "target", "call", "fault", kinds[-1]]
    assert kinds[-1] in ("no-answer", "jobs")


def test_a_redirected_poll_is_rolled_for_once(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=0.5) as one:
        for _ in range(64):
            try:
                poll(stage.url)
            except requests.RequestException:
                continue
        calls, faults = events(one.run, "call"), events(one.run, "fault")
    assert len(calls) == 64
    assert abs(len(faults) - 32) < 4 * (64 * 0.25) ** 0.5


def test_an_image_that_is_struck_answers_a_genuine_404(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, image_404_rate=1.0) as one:
        hand_out(stage, 5)
        task = requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=5).json()["tasks"][0]
        response = requests.get(task["image_url"], timeout=5)
        image, fault = events(one.run, "image", "fault")[::-1]
    assert (response.status_code, response.reason, response.url) == (404, "Not Found", task["image_url"])
    assert response.elapsed.total_seconds() > 0
    assert response.request.headers["User-Agent"].startswith("python-requests/")
    with pytest.raises(requests.HTTPError, match="404 Client Error: Not Found for url"):
        response.raise_for_status()
    assert stage.paths("/captures/") == []
    assert (image.number("status"), image.text("image"), image.text("name")) == (404, "5", "0005.jpg")
    assert fault.text("effect") == "image-404"


@pytest.mark.parametrize(
    "name", ["5", "0005.jpg", "{url}/captures/0005.jpg", "{url}/captures/0005.jpg?X-Signature=secret5"]
)
def test_a_permanent_image_is_missing_always_by_whatever_name(tmp_path: Path, name: str) -> None:
    with service() as stage:
        named = name.format(url=stage.url)
        with hooked(tmp_path, permanent_error_images=(named,)):
            hand_out(stage, 5, 6)
            tasks = requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=5).json()["tasks"]
            for _ in range(3):
                assert [requests.get(task["image_url"], timeout=5).status_code for task in tasks] == [404, 200]


def test_a_worker_that_follows_image_redirects_itself_is_still_known(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, image_404_rate=0.0) as one:
        stage.tasks = [
            {"id": "1", "image_id": "1", "image_url": f"{stage.url}/jobs?x", "reply_subject": reply_subject(1)}
        ]
        requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=5)
        response = requests.get(f"{stage.url}/jobs?x", timeout=5, allow_redirects=False)
        requests.get(response.next.url or "", timeout=5)  # type: ignore[union-attr]
        assert len(events(one.run, "image")) == 2


def test_other_jobs_are_not_struck_when_jobs_are_named(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=1.0, jobs=frozenset({7})) as one:
        assert requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=5).status_code == 200
        with pytest.raises((requests.RequestException, AssertionError)):
            assert requests.post(f"{stage.url}/api/v2/jobs/7/tasks/", json={}, timeout=5).status_code == 200
        assert [fault.number("job") for fault in events(one.run, "fault")] == [7]


def test_struck_calls_of_one_thread_leave_the_calls_of_others_alone(tmp_path: Path) -> None:
    """A session shared by threads, as the real worker shares its own: the failure is this call's, not the session's."""
    with service() as stage, hooked(tmp_path, image_404_rate=0.5) as one:
        hand_out(stage, *range(1, 81))
        tasks = requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=5).json()["tasks"]
        session, statuses = requests.Session(), {}
        session.mount("http://", HTTPAdapter(pool_maxsize=8))

        def fetch(mine: list[dict[str, str]]) -> None:
            for task in mine:
                statuses[task["image_id"]] = session.get(task["image_url"], timeout=5).status_code

        threads = [threading.Thread(target=fetch, args=(tasks[i::8],)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        struck = {fault.text("subject") for fault in events(one.run, "fault")}
        session.close()
    assert {image for image, status in statuses.items() if status == 404} == struck
    assert 20 < len(struck) < 60
    assert len(stage.paths("/captures/")) == 80 - len(struck)


def test_the_sessions_own_retries_decide_what_a_failure_becomes(tmp_path: Path) -> None:
    """With the real worker's Retry a GET that times out is a ConnectionError, without it a ReadTimeout."""
    outcomes: dict[str, set[str]] = {"plain": set(), "retrying": set()}
    for seed in range(40):
        for name, retries in (("plain", 0), ("retrying", Retry(total=3, backoff_factor=0.5, allowed_methods=["GET"]))):
            with hooked(tmp_path / f"{seed}{name}", network_error_rate=1.0, seed=seed) as one:
                session = requests.Session()
                session.mount("http://", HTTPAdapter(max_retries=retries))
                try:
                    poll("http://127.0.0.1:9", session)
                except requests.RequestException as error:
                    fault = events(one.run, "fault")[0]
                    outcomes[name].add(f"{fault.text('kind')}: {type(error).__name__}")
    assert outcomes["plain"] == {
        "refused: ConnectionError",
        "connect-timeout: ConnectTimeout",
        "read-timeout: ReadTimeout",
    }
    assert outcomes["retrying"] == {
        "refused: ConnectionError",
        "connect-timeout: ConnectTimeout",
        "read-timeout: ConnectionError",
    }


def test_no_token_and_no_url_query_is_booked(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=0.3) as one:
        hand_out(stage, 1, 2, 3)
        headers = {"Authorization": "Token 0123456789abcdef", "Cookie": "sessionid=topsecret"}
        for _ in range(10):
            try:
                poll(stage.url)
                requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, headers=headers, timeout=5)
                requests.get(stage.tasks[0]["image_url"], headers=headers, timeout=5)
            except requests.RequestException:
                continue
        written = b"".join(path.read_bytes() for path in one.run.path.rglob("*") if path.is_file())
    assert b"leases" in written
    for secret in (b"0123456789abcdef", b"topsecret", b"secret1", b"X-Signature", b"ids_only"):
        assert secret not in written


def test_a_run_folder_can_be_shared_and_numbers_calls_over_all_its_processes(tmp_path: Path) -> None:
    rare = {"network_error_rate": 1e-9}  # calls that nothing can strike are not numbered
    with service() as stage:
        with hooked(tmp_path, **rare) as one:
            poll(stage.url)
            run = one.run
        with hooked(tmp_path, run_dir=str(run.path), **rare) as other:
            poll(stage.url)
            assert other.run.path == run.path
            assert runfolder.RunFolder(run.path).count("jobs") == 3


def test_a_session_that_chooses_its_adapters_itself_is_not_struck_and_that_is_booked(tmp_path: Path) -> None:
    class Own(requests.Session):
        def get_adapter(self, url: str) -> Any:
            return super().get_adapter(url)

    with service() as stage, hooked(tmp_path, network_error_rate=1.0) as one:
        assert poll(stage.url, Own()).status_code == 200
        withheld = events(one.run, "withheld")
        assert [event.text("why") for event in withheld] == ["the session chooses its adapter in a way of its own"]
        assert events(one.run, "fault") == []
        assert events(one.run, "jobs")[0].data["struck"] is False


def test_a_session_that_was_given_a_function_for_its_adapters_is_struck(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=1.0) as one:
        session = requests.Session()
        session.get_adapter = lambda url: HTTPAdapter()  # type: ignore[method-assign]
        for _ in range(2):
            with contextlib.suppress(requests.RequestException):
                assert poll(stage.url, session).status_code >= 500
        assert [event.text("why") for event in events(one.run, "fault", "withheld")] == ["", ""]
        assert stage.asked == []


def test_what_somebody_answers_below_us_without_requests_is_not_struck(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", lambda self, request, **kwargs: made_up(request))
        with hooked(tmp_path, network_error_rate=1.0) as one:
            assert poll("http://service").status_code == 404
            withheld = events(one.run, "withheld")
            assert [event.text("why") for event in withheld] == ["the session chooses its adapter in a way of its own"]
            assert events(one.run, "fault") == []


def made_up(request: requests.PreparedRequest) -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer.request = 404, request
    return answer


def test_a_hook_that_somebody_has_put_requests_own_back_over_is_there_again_for_the_next_call(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path) as one:
        requests.Session.send = ORIGINAL_SEND  # type: ignore[method-assign]
        for _ in range(2):
            requests.get(f"{stage.url}/api/v2/jobs/", params={"pipeline__slug__in": "moth_binary"}, timeout=5)
        assert [event.kind for event in events(one.run, "call", "jobs")] == ["call", "jobs"]
    assert requests.Session.__dict__["send"] is ORIGINAL_SEND


def test_after_a_download_that_failed_the_next_image_opened_is_nobodys(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, image_404_rate=1.0) as one:
        hand_out(stage, 5)
        task = requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=5).json()["tasks"][0]
        requests.get(task["image_url"], timeout=5)
        assert one.here.image is None


def test_a_redirect_to_a_protected_host_ends_the_process_with_78(tmp_path: Path) -> None:
    with service() as stage:
        port = stage.url.rpartition(":")[2]
        with hooked(tmp_path, protected_hosts=("localhost",)) as one:
            stage.redirect = f"http://localhost:{port}/api/v2/jobs/"
            child = os.fork()
            if child == 0:
                poll(stage.url)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 78
            assert [event.text("target") for event in events(one.run, "refused")] == [f"localhost:{port}"]


def test_a_session_that_was_given_its_own_adapter_hooks_nothing_again_after_the_undo(tmp_path: Path) -> None:
    with service() as stage, requests.Session() as session:
        session.get_adapter = partial(requests.Session.get_adapter, session)  # type: ignore[method-assign]
        with hooked(tmp_path):
            session.get(f"{stage.url}/api/v2/jobs", params={"ids_only": 1}, timeout=5)
        original = vars(requests.Session)["send"]
        session.get(f"{stage.url}/api/v2/jobs", params={"ids_only": 1}, timeout=5)

        assert vars(requests.Session)["send"] is original
