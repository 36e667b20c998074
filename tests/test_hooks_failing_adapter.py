"""The promises of hooks.failing_adapter: one call fails, after the real one was made where it shall be."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.connection
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.models import PreparedRequest, Response
from urllib3.util.retry import Retry

from ami_fault_site.faults import ANSWER_KINDS, CONNECT_KINDS, Effect, Harm, Phase
from ami_fault_site.hooks import transport
from ami_fault_site.hooks.failing_adapter import failing
from ami_fault_site.hooks.recording import Answer
from tests.stage import hand_out, injector, service

BODY = b'{"results": []}'


class Striking(requests.Session):
    """A session whose calls all fail in one way; what was told is kept."""

    def __init__(self, harm: Harm, strikes: bool = True, retries: Any = 0) -> None:
        super().__init__()
        self.harm, self.strikes = harm, strikes
        self.told: list[Answer] = []
        self.mount("http://", HTTPAdapter(max_retries=retries))

    def get_adapter(self, url: str) -> Any:
        return failing(super().get_adapter(url), self.harm, self._tell)

    def _tell(self, answer: Answer, unable: str) -> bool:
        if not unable:
            self.told.append(answer)
        return self.strikes


@contextmanager
def fancy(framing: str = "length") -> Iterator[str]:
    """A service whose answer is compressed and sets a cookie."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if framing != "close" else "HTTP/1.0"

        def do_GET(self) -> None:
            body = gzip.compress(BODY)
            self.send_response(200, "Splendid")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Set-Cookie", "kind=oat")
            self.send_header("Set-Cookie", "size=big")
            if framing == "length":
                self.send_header("Content-Length", str(len(body)))
            if framing == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Return one date for every answer: two that are compared may be told in two seconds."""
            return "Sat, 28 Nov 2026 12:00:00 GMT"

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def network(kind: str, phase: Phase = Phase.AFTER, **more: Any) -> Harm:
    return Harm(Effect.NETWORK, kind, phase, **more)


@pytest.mark.parametrize("kind", [*(k for k in CONNECT_KINDS if k != "tls"), *ANSWER_KINDS, "http-503"])
def test_a_call_that_fails_before_is_not_sent(kind: str) -> None:
    with service() as stage, Striking(network(kind, Phase.BEFORE)) as one:
        try:
            one.get(f"{stage.url}/nothing", timeout=0.1)
        except requests.RequestException as error:
            assert error.request is not None  # noqa: PT017  either way of failing is right
        assert (stage.asked, one.told) == ([], [])


@pytest.mark.parametrize("kind", [*ANSWER_KINDS, "http-503"])
def test_a_call_that_fails_after_is_made_once_however_often_it_is_tried(kind: str) -> None:
    retries = Retry(total=3, status_forcelist=[503], raise_on_status=False)
    with service() as stage, Striking(network(kind), retries=retries) as one:
        try:
            one.get(f"{stage.url}/nothing", timeout=0.1)
        except requests.RequestException as error:
            assert error.request is not None  # noqa: PT017  either way of failing is right
        assert stage.asked == [("GET", "/nothing")]
        assert [answer.status_code for answer in one.told] == [404]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_shall_come_through_after_all_is_as_it_ever_was(framing: str, stream: bool) -> None:
    with fancy(framing) as url, Striking(network("reset"), strikes=False) as one, requests.Session() as plain:
        response, real = (session.get(url, stream=stream, timeout=5) for session in (one, plain))
        assert (response.status_code, response.reason, response.url) == (200, "Splendid", url)
        assert response.json() == {"results": []}
        assert real.content == BODY
        assert response.headers == real.headers
        assert response.raw.headers == real.raw.headers
        assert dict(one.cookies) == dict(response.cookies) == {"kind": "oat", "size": "big"}
        assert response.elapsed.total_seconds() > 0
        assert [answer.content for answer in one.told] == [BODY]


def test_the_callers_response_hooks_see_the_answer_that_comes_through() -> None:
    seen: list[str] = []
    with fancy() as url, Striking(network("reset"), strikes=False) as one:
        one.hooks["response"].append(lambda response, **_: seen.append(response.text))
        one.get(url, timeout=5)
    assert seen == [BODY.decode()]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_truncated_answer_has_the_real_head(framing: str) -> None:
    with fancy(framing) as url, Striking(network("reset", Phase.DURING)) as one:
        response = one.get(url, stream=True, timeout=5)
        assert (response.status_code, response.reason) == (200, "Splendid")
        assert dict(response.cookies) == {"kind": "oat", "size": "big"}
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="Connection reset by peer"):
            _ = response.content


@pytest.mark.parametrize(
    "harm",
    [
        Harm(Effect.SLOW, "trickle", seconds=0.05),
        Harm(Effect.SLOW, "delay", Phase.BEFORE, seconds=0.05),
        Harm(Effect.SLOW, "delay", Phase.AFTER, seconds=0.05),
    ],
    ids=lambda harm: f"{harm.kind}-{harm.phase.value}",
)
def test_a_slow_answer_is_the_whole_answer_and_takes_its_time(harm: Harm) -> None:
    began = time.monotonic()
    with fancy() as url, Striking(harm) as one:
        assert one.get(url, timeout=5).content == BODY
    assert time.monotonic() - began >= 0.05


def test_a_trickle_with_longer_silences_than_the_caller_bears_is_a_timeout() -> None:
    slow = Striking(Harm(Effect.SLOW, "trickle", seconds=10))
    with fancy() as url, slow as one, pytest.raises(requests.ConnectionError, match="Read timed out"):
        one.get(url, timeout=0.2)


def test_a_real_failure_goes_up_and_nothing_is_told() -> None:
    with Striking(network("http-503")) as one, pytest.raises(requests.ConnectionError, match="refused"):
        one.get("http://127.0.0.1:9/", timeout=5)
    assert one.told == []


def test_where_there_is_no_body_to_be_cut_the_answer_comes_through_and_nothing_is_told() -> None:
    with service() as stage, Striking(network("truncated", Phase.DURING)) as one:
        response = one.get(f"{stage.url}/api/v2/jobs", allow_redirects=False, timeout=5)
    assert (response.status_code, one.told) == (301, [])


@pytest.mark.parametrize("retry_after", [None, 30.0])
def test_there_are_as_many_attempts_as_ever_and_no_pauses(
    retry_after: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    retries = Retry(total=3, backoff_factor=0.5, status_forcelist=[503], raise_on_status=False)
    with Striking(network("http-503", Phase.BEFORE, retry_after=retry_after), retries=retries) as one:
        history = getattr(one.get("http://127.0.0.1:9/", timeout=5).raw.retries, "history", ())
    assert ([entry.status for entry in history], slept) == ([503] * 3, [])


def test_retries_of_the_callers_own_making_decide_too() -> None:
    class Stubborn(Retry):
        asked = 0

        def increment(self, *args: Any, **kwargs: Any) -> Any:
            Stubborn.asked += 1
            return super().increment(*args, **kwargs)

    stubborn = Striking(network("refused", Phase.BEFORE), retries=Stubborn(total=2))
    with stubborn as one, pytest.raises(requests.ConnectionError):
        one.get("http://127.0.0.1:9/", timeout=5)
    assert Stubborn.asked == 3


def test_an_adapter_without_a_wire_is_left_alone() -> None:
    class Canned(BaseAdapter):
        def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
            response = Response()
            response.status_code, response.request, response.url = 204, request, request.url or ""
            return response

    told: list[Answer] = []
    request = requests.Request("GET", "http://127.0.0.1:9/").prepare()

    def tell(answer: Answer, _unable: str) -> bool:
        told.append(answer)
        return True

    assert failing(Canned(), network("reset"), tell).send(request).status_code == 204
    assert told == []


def test_an_image_comes_through_a_proxy_that_fails_as_a_service_does() -> None:
    with service() as stage, Striking(network("http-503")) as one:
        hand_out(stage, 1)
        one.proxies = {"http": stage.url}
        assert one.get("http://service.invalid/captures/0001.jpg", timeout=5).status_code == 503
        assert one.told[0].content == stage.picture


def test_an_error_answer_that_comes_slowly_was_retried_before() -> None:
    retries = Retry(total=3, status_forcelist=[503], allowed_methods=None, raise_on_status=False)
    with service() as stage, Striking(Harm(Effect.SLOW, "trickle", seconds=0.05), retries=retries) as one:
        stage.result_status = 503
        response = one.post(f"{stage.url}/api/v2/jobs/1/result/", data=b"{}", timeout=5)
        assert len(stage.asked) == 4
    assert (response.status_code, getattr(response.raw.retries, "history", None)) == (503, ())


def test_attempts_that_reach_nobody_are_no_attempts_at_the_service(tmp_path: Path) -> None:
    class Counting:
        begun = 0

        def begin(self) -> Harm | None:
            self.begun += 1
            return None

        def heard(self, _harm: Harm, _answer: Answer, _unable: str) -> bool:
            return True

        def withhold(self, _why: str) -> None:
            """Nobody asks."""

        def ended(self, _status: int, _error: BaseException | None) -> None:
            """Nobody asks."""

    counting = Counting()
    undo = transport.install(urllib3.connection, injector(tmp_path))
    try:
        with service() as stage, Striking(network("reset"), retries=Retry(3)) as one, transport.striking(counting):
            url = f"{stage.url}/nothing"
            with pytest.raises(requests.ConnectionError):
                one.get(url, timeout=5)
    finally:
        undo()
    assert counting.begun == 1  # the real one


def test_it_fails_as_well_where_somebody_answers_in_the_place_of_every_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPAdapter, "send", lambda *args, **kwargs: Response())
    with pytest.raises(requests.ConnectionError):
        Striking(network("refused", Phase.BEFORE)).get("http://service/")
