"""The promises of hooks.transport: attempts are seen and broken below the caller's retries, and nothing else is."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
import urllib3
import urllib3.connection
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from ami_fault_site.faults import ANSWER_KINDS, CONNECT_KINDS, Effect, Harm, Phase
from ami_fault_site.hooks import transport
from ami_fault_site.hooks.recording import Answer
from tests.stage import Service, hand_out, injector, service

CLASSES = (urllib3.connection.HTTPConnection, urllib3.connection.HTTPSConnection)
HOOKED = ("connect", "request", "request_chunked", "getresponse")
CONNECTING = [kind for kind in CONNECT_KINDS if kind != "tls"]
REFUSED = Harm(Effect.NETWORK, "refused")


@dataclass
class Booked:
    """The attempts of one call: how each breaks in turn, and what was told of them."""

    harms: list[Harm | None] = field(default_factory=list)
    strikes: bool = True
    told: list[object] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def begin(self) -> Harm | None:
        self.told.append("begin")
        return self.harms.pop(0) if self.harms else None

    def heard(self, _harm: Harm, answer: Answer, unable: str) -> bool:
        self.answers.append(answer)
        self.reasons.append(unable)
        return self.strikes

    def withhold(self, why: str) -> None:
        self.reasons.append(why)

    def ended(self, status: int, error: BaseException | None) -> None:
        self.told.append(status or type(error).__name__)


@contextmanager
def hooked(folder: Path) -> Iterator[None]:
    undo = transport.install(urllib3.connection, injector(folder))
    try:
        yield
    finally:
        undo()


@contextmanager
def session(total: int = 3) -> Iterator[requests.Session]:
    """A session that retries as the worker's does, but in no time."""
    statuses = (500, 502, 503, 504)
    retry = Retry(total=total, status_forcelist=statuses, allowed_methods=["GET"], raise_on_status=False)
    with requests.Session() as one:
        one.mount("http://", HTTPAdapter(max_retries=retry))
        yield one


def image(stage: Service) -> str:
    hand_out(stage, 1)
    return stage.tasks[0]["image_url"]


def _outcome(one: requests.Session, url: str) -> str:
    try:
        return one.post(url, data=b"{}", timeout=0.2).text[:20]
    except requests.RequestException as error:
        return type(error).__name__


def test_the_undo_restores_the_original_functions(tmp_path: Path) -> None:
    before = [dict(vars(one)) for one in CLASSES]
    with hooked(tmp_path):
        assert [name for name in HOOKED if vars(CLASSES[0]).get(name) is before[0].get(name)] == []
    assert [dict(vars(one)) for one in CLASSES] == before


def test_nothing_is_touched_where_nobody_strikes(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path), session() as one:
        with transport.striking(None):
            assert one.get(image(stage)).content == stage.picture
        assert one.get(image(stage)).content == stage.picture


def test_an_attempt_that_is_not_struck_is_told_with_its_status(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path), session() as one:
        booked = Booked()
        with transport.striking(booked):
            assert one.get(image(stage)).content == stage.picture  # a fresh connection
            assert one.get(f"{stage.url}/nothing").status_code == 404  # and one from the pool
    assert booked.told == ["begin", 200, "begin", 404]


@pytest.mark.parametrize("is_pooled", [False, True])
@pytest.mark.parametrize("kind", [*CONNECTING, "reset", "closed", "read-timeout", "garbage", "http-503"])
def test_the_callers_own_retry_gets_over_two_broken_attempts(tmp_path: Path, kind: str, is_pooled: bool) -> None:
    harm = Harm(Effect.NETWORK, kind)
    with service() as stage, hooked(tmp_path), session() as one:
        if is_pooled:
            one.get(f"{stage.url}/first")
            stage.asked.clear()
        booked = Booked([harm, harm])
        with transport.striking(booked):
            assert one.get(image(stage)).content == stage.picture
        assert len(stage.asked) == 1
    assert len(booked.told) == 6
    assert booked.told[::2] == ["begin"] * 3
    assert booked.told[-1] == 200


@pytest.mark.parametrize("kind", [*CONNECTING, *ANSWER_KINDS, "http-503"])
def test_what_is_struck_before_is_not_sent(tmp_path: Path, kind: str) -> None:
    with service() as stage, hooked(tmp_path), session() as one:
        with transport.striking(Booked([Harm(Effect.NETWORK, kind)] * 4)):
            outcome = _outcome(one, f"{stage.url}/api/v2/jobs/1/result/")
        assert stage.asked == []
    assert outcome != "200"


@pytest.mark.parametrize("kind", [*ANSWER_KINDS, "http-503"])
def test_what_is_struck_after_is_done_and_told_and_not_heard(tmp_path: Path, kind: str) -> None:
    booked = Booked([Harm(Effect.NETWORK, kind, Phase.AFTER)])
    with service() as stage, hooked(tmp_path), session() as one:
        with transport.striking(booked):
            outcome = _outcome(one, f"{stage.url}/api/v2/jobs/1/result/")
        assert stage.asked == [("POST", "/api/v2/jobs/1/result/")]
    assert [(answer.status_code, b"accepted" in answer.content) for answer in booked.answers] == [(200, True)]
    assert outcome != '{"status":"accepted"'


@pytest.mark.parametrize("kind", ["truncated", "reset", "stall", "closed"])
def test_what_is_struck_during_has_its_head_and_not_its_body(tmp_path: Path, kind: str) -> None:
    booked = Booked([Harm(Effect.NETWORK, kind, Phase.DURING)])
    with service() as stage, hooked(tmp_path), session() as one:
        with transport.striking(booked):
            response = one.get(image(stage), timeout=0.2, stream=True)
        assert (response.status_code, response.headers["Content-Type"]) == (200, "image/jpeg")
        try:
            content = response.content
        except requests.RequestException:
            content = b""
        assert len(content) < len(stage.picture)
    assert booked.answers[0].content == stage.picture
    assert booked.told == ["begin", 200]


@pytest.mark.parametrize("kind", [*ANSWER_KINDS, "truncated"])
def test_an_answer_that_shall_come_through_after_all_comes_through_whole(tmp_path: Path, kind: str) -> None:
    booked = Booked([Harm(Effect.NETWORK, kind, Phase.AFTER)], strikes=False)
    with service() as stage, hooked(tmp_path), session() as one:
        with transport.striking(booked):
            assert one.get(image(stage)).content == stage.picture
        assert len(stage.asked) == 1
    assert booked.told == ["begin", 200]


def test_a_body_that_can_be_read_only_once_is_not_sent_again_and_its_answer_comes_through(tmp_path: Path) -> None:
    booked = Booked([Harm(Effect.NETWORK, "reset", Phase.AFTER)])
    with service() as stage, hooked(tmp_path), session() as one, transport.striking(booked):
        body = Path(tmp_path, "body")
        body.write_bytes(b"{}")
        with body.open("rb") as stream:
            assert one.post(f"{stage.url}/api/v2/jobs/1/result/", data=stream).status_code == 200
    assert (booked.answers, booked.told) == ([], ["begin", 200])


def test_a_slow_answer_is_the_whole_answer(tmp_path: Path) -> None:
    harms: list[Harm | None] = [
        Harm(Effect.SLOW, "trickle", seconds=0.05),
        Harm(Effect.SLOW, "delay", Phase.BEFORE, seconds=0.05),
        Harm(Effect.SLOW, "delay", Phase.AFTER, seconds=0.05),
    ]
    with service() as stage, hooked(tmp_path), session() as one, transport.striking(Booked(harms)):
        for _ in range(3):
            assert one.get(image(stage)).content == stage.picture


@pytest.mark.parametrize("phase", list(Phase))
def test_a_broken_connection_never_comes_back_from_the_pool(tmp_path: Path, phase: Phase) -> None:
    kind = "truncated" if phase is Phase.DURING else "http-404"
    with service() as stage, hooked(tmp_path), session() as one:
        with transport.striking(Booked([Harm(Effect.NETWORK, kind, phase)])):
            with_fault = one.get(image(stage), stream=True)
        try:
            assert with_fault.content != stage.picture
        except requests.RequestException as error:
            assert "IncompleteRead" in str(error)  # noqa: PT017  either way of failing is right
        assert one.get(image(stage)).content == stage.picture


def test_the_pauses_between_attempts_are_the_callers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    with service() as stage, hooked(tmp_path), requests.Session() as one:
        one.mount("http://", HTTPAdapter(max_retries=Retry(total=3, backoff_factor=0.5)))
        with transport.striking(Booked([REFUSED] * 3)):
            one.get(image(stage))
    assert [pause for pause in slept if pause] == [1.0, 2.0]


def test_other_threads_are_left_alone(tmp_path: Path) -> None:
    outcomes: list[int] = []
    with service() as stage, hooked(tmp_path), session(total=0) as one:
        url = image(stage)
        with transport.striking(Booked([REFUSED])):
            thread = threading.Thread(target=lambda: outcomes.append(one.get(url).status_code))
            thread.start()
            thread.join()
            with pytest.raises(requests.ConnectionError):
                one.get(url)
    assert outcomes == [200]


def test_connections_that_the_asked_one_makes_itself_are_left_alone(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path), session(total=0) as one:
        url = image(stage)

        class Calling(Booked):
            def begin(self) -> Harm | None:
                self.told.append(one.get(url).status_code)
                return super().begin()

        booked = Calling([REFUSED])
        with transport.striking(booked), pytest.raises(requests.ConnectionError):
            one.get(url)
    assert booked.told == [200, "begin", "NewConnectionError"]


def test_an_error_of_our_own_lets_the_real_call_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Wrong(Booked):
        def begin(self) -> Harm | None:
            raise KeyError("ours")

    with service() as stage, hooked(tmp_path), session() as one, transport.striking(Wrong()):
        assert one.get(image(stage)).content == stage.picture
    assert "internal error, please report it: KeyError" in capfd.readouterr().err


def test_an_attempt_that_never_heard_of_its_end_ends_with_the_call(tmp_path: Path) -> None:
    booked = Booked()
    with service() as stage, hooked(tmp_path):
        with transport.striking(booked):
            connection = urllib3.connection.HTTPConnection("127.0.0.1", int(stage.url.rpartition(":")[2]))
            connection.request("GET", "/nothing")
            assert booked.told == ["begin"]
        connection.close()
    assert booked.told == ["begin", "NoneType"]


@pytest.mark.parametrize("strikes", [False, True])
def test_users_of_urllib3_who_read_the_body_at_once_are_struck_too(tmp_path: Path, strikes: bool) -> None:
    booked = Booked([Harm(Effect.NETWORK, "http-404", Phase.AFTER)], strikes)
    with service() as stage, hooked(tmp_path), urllib3.PoolManager() as pool, transport.striking(booked):
        response = pool.request("GET", image(stage), retries=False)
        assert (response.status, response.data == stage.picture) == ((404, False) if strikes else (200, True))
    assert booked.answers[0].content == stage.picture


@pytest.mark.parametrize("phase", list(Phase))
def test_a_stall_waits_for_the_callers_read_timeout_and_not_for_that_of_connecting(
    tmp_path: Path, phase: Phase
) -> None:
    began = time.monotonic()
    booked = Booked([Harm(Effect.NETWORK, "stall", phase)])
    with service() as stage, hooked(tmp_path), session(total=0) as one, transport.striking(booked):
        url = image(stage)
        with pytest.raises(requests.RequestException, match="Read timed out"):
            one.get(url, timeout=(60, 0.1))
    assert 0.1 <= time.monotonic() - began < 60


def test_a_harm_that_is_granted_for_later_attempts_leaves_the_first_alone(tmp_path: Path) -> None:
    later: list[Any] = [None, REFUSED]
    with service() as stage, hooked(tmp_path), session(total=0) as one, transport.striking(Booked(later)):
        assert one.get(image(stage)).status_code == 200
        with pytest.raises(requests.ConnectionError):
            one.get(image(stage))


@contextmanager
def secure(folder: Path) -> Iterator[tuple[str, requests.Session]]:
    """A service over TLS, and a session that trusts it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with service(context) as stage, session() as one:
        one.mount("https://", one.get_adapter("http://"))
        one.verify, one.trust_env = str(folder / "ca.pem"), False  # the environment may name other authorities
        yield stage.url, one


@pytest.mark.parametrize("is_pooled", [False, True])
@pytest.mark.parametrize(
    "harm",
    [
        *(Harm(Effect.NETWORK, kind) for kind in (*CONNECT_KINDS, "reset", "http-503")),
        *(Harm(Effect.NETWORK, kind, Phase.AFTER) for kind in ("closed", "http-503")),
    ],
    ids=lambda harm: f"{harm.kind}-{harm.phase.value}",
)
def test_over_tls_the_callers_own_retry_gets_over_two_broken_attempts(
    tmp_path: Path, harm: Harm, is_pooled: bool
) -> None:
    booked = Booked([harm, harm])
    with secure(tmp_path) as (url, one), hooked(tmp_path):
        if is_pooled:
            one.get(f"{url}/first", timeout=5)
        with transport.striking(booked):
            assert one.get(f"{url}/nothing", timeout=5).status_code == 404
    assert booked.told[::2] == ["begin"] * 3
    assert len(booked.answers) == (2 if harm.phase is Phase.AFTER else 0)
