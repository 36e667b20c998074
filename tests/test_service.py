from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ami_fault_site.jobdetail import JobDetail
from ami_fault_site.service import JobWatch, Service, ServiceError
from ami_fault_site.target import Target, find

TOKEN = "5a4db0c5a11ab1e0f0a1c2e3d4b5a69788796a5b"
SECRET = "s3cr3t-known-to-us"
LOG = "INFO Created NATS consumer job-7-consumer (max_deliver=2, ack_wait=8.0s, max_ack_pending=1000)"


@dataclass
class Asked:
    """A request as the service got it."""

    path: str
    query: dict[str, list[str]]
    authorization: str


@dataclass
class Antenna:
    """A service whose jobs a test changes as it goes."""

    port: int = 0
    jobs: dict[int, dict[str, object]] = field(default_factory=dict)
    accepts: str = f"Token {TOKEN}"
    body: bytes | None = None
    asked: list[Asked] = field(default_factory=list)
    upcoming: Iterator[int] = field(default_factory=lambda: iter(()))  # what job 7 has processed after the next answers

    def answer(self, path: str, query: dict[str, list[str]], authorization: str) -> tuple[int, bytes]:
        self.asked.append(Asked(path, query, authorization))
        if authorization not in ("", self.accepts):
            return 401, b'{"detail": "Invalid token."}'
        if self.body is not None:
            return 200, self.body
        parts = path.strip("/").split("/")
        if parts[-1] == "jobs":
            return 200, b'{"results": []}'
        job = self.jobs.get(int(parts[-1]))
        for processed in islice(self.upcoming, 1):
            self.set_job(7, "SUCCESS", processed)
        return (404, b'{"detail": "Not found."}') if job is None else (200, json.dumps(job).encode())

    def set_job(self, number: int, status: str, processed: object = "", logs: list[str] | None = None) -> None:
        params = [{"key": "processed", "value": processed}, {"key": "failed", "value": 0}]
        self.jobs[number] = {
            "id": number,
            "status": status,
            "progress": {"stages": [{"key": "process", "params": params}], "errors": []},
            "logs": {"stdout": logs or []},
        }

    def target(self, token: str = TOKEN) -> Target:
        environ = {
            "AMI_ANTENNA_API_BASE_URL": f"http://127.0.0.1:{self.port}/api/v2",
            "AMI_ANTENNA_API_AUTH_TOKEN": token,
        }
        return find(environ, Path("/nowhere"))


@pytest.fixture
def antenna() -> Iterator[Antenna]:
    state = Antenna()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, body = state.answer(parts.path, parse_qs(parts.query), self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody() -> Iterator[Target]:
    """Give an address at which nothing answers: a port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Antenna(port=taken.getsockname()[1]).target()


def watch(antenna: Antenna, folder: Path, every: float = 0.01, keep_every: float = 30.0) -> JobWatch:
    return JobWatch(Service(antenna.target()), folder, (SECRET,), every, keep_every)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def kept(folder: Path, why: str) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"*-{why}.json"))]


def test_a_service_that_answers_and_takes_the_token_is_good(antenna: Antenna) -> None:
    Service(antenna.target()).probe()

    assert antenna.asked == [Asked("/api/v2/jobs/", {"ids_only": ["1"], "limit": ["1"]}, f"Token {TOKEN}")]


def test_without_a_token_none_is_sent(antenna: Antenna) -> None:
    Service(antenna.target(token="")).probe()

    assert antenna.asked[0].authorization == ""


def test_an_address_at_which_nothing_answers_is_said_with_where_it_came_from(nobody: Target) -> None:
    with pytest.raises(ServiceError) as caught:
        Service(nobody).probe()

    assert str(caught.value) == (
        f"AMI_ANTENNA_API_BASE_URL={nobody.base_url!r} (environment): nothing answers there (ConnectionError); "
        "is the service up?"
    )


def test_a_token_that_is_refused_is_said_with_where_it_came_from_and_not_shown(antenna: Antenna) -> None:
    with pytest.raises(ServiceError) as caught:
        Service(antenna.target(token="wrong-token")).probe()

    assert str(caught.value) == f"AMI_ANTENNA_API_AUTH_TOKEN (environment): 127.0.0.1:{antenna.port} refuses it (401)"


def test_a_job_is_asked_for_with_as_many_log_lines_as_antenna_gives(antenna: Antenna) -> None:
    antenna.set_job(7, "STARTED")

    assert Service(antenna.target()).job(7, 5000, 5.0) == antenna.jobs[7]
    assert antenna.asked == [Asked("/api/v2/jobs/7/", {"logs_limit": ["5000"]}, f"Token {TOKEN}")]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b"\xff"])
def test_a_job_whose_detail_is_of_another_form_cannot_be_had(antenna: Antenna, body: bytes) -> None:
    antenna.body = body

    with pytest.raises(ServiceError):
        Service(antenna.target()).job(7, 1, 5.0)


def test_a_job_that_is_not_there_cannot_be_had(antenna: Antenna, nobody: Target) -> None:
    with pytest.raises(ServiceError, match=r"^status 404$"):
        Service(antenna.target()).job(8, 1, 5.0)
    with pytest.raises(ServiceError, match=r"^ConnectionError$"):
        Service(nobody).job(7, 1, 5.0)


def test_a_job_is_kept_at_its_first_sight_and_at_the_end_and_once_it_has_settled(
    antenna: Antenna, tmp_path: Path
) -> None:
    antenna.set_job(7, "STARTED", 1)
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: bool(kept(tmp_path, "first")))
    assert jobs.details() == {7: JobDetail(7, "STARTED", 1, None, 0, ())}
    antenna.set_job(7, "STARTED", 2)
    details = jobs.finish(settle=0.03)

    assert details == {7: JobDetail(7, "STARTED", 2, None, 0, ())}
    (first,), (end,), (settled,) = (kept(tmp_path, why) for why in ("first", "end", "settled"))
    assert (first["progress"] != end["progress"], end, settled) == (True, antenna.jobs[7], antenna.jobs[7])
    assert list(tmp_path.glob("*.draft")) == []


def test_a_job_that_goes_on_changing_after_its_end_is_kept_as_it_is_in_the_end(
    antenna: Antenna, tmp_path: Path
) -> None:
    antenna.set_job(7, "SUCCESS", 1)
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: bool(jobs.details()))
    antenna.upcoming = iter((2, 3, 4))

    assert jobs.finish(settle=0.3)[7].processed == 4
    assert kept(tmp_path, "settled") == [antenna.jobs[7]]


def test_a_job_that_never_settles_does_not_hold_up_the_end(antenna: Antenna, tmp_path: Path) -> None:
    antenna.set_job(7, "SUCCESS", 0)
    antenna.upcoming = count(1)
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: bool(jobs.details()))
    began = time.monotonic()
    jobs.finish(settle=0.05)

    assert 0.25 <= time.monotonic() - began < 5
    assert (len(kept(tmp_path, "settled")), len(kept(tmp_path, "unsettled"))) == (0, 1)


def test_every_change_of_a_jobs_state_is_kept(antenna: Antenna, tmp_path: Path) -> None:
    jobs = watch(antenna, tmp_path)
    jobs.start()
    states = ("CREATED", "PENDING", "STARTED", "SUCCESS")
    for state in states:
        antenna.set_job(7, state)
        jobs.follow({7})
        wait_until(lambda state=state: 7 in jobs.details() and jobs.details()[7].status == state)  # type: ignore[misc]
    jobs.finish(settle=0.01)
    seen = [json.loads(path.read_text())["status"] for path in tmp_path.glob("*.json")]

    assert set(states) <= set(seen)


def test_a_job_is_kept_again_after_a_while_though_its_state_is_the_same(antenna: Antenna, tmp_path: Path) -> None:
    antenna.set_job(7, "STARTED", 1)
    jobs = watch(antenna, tmp_path, keep_every=0.02)
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: bool(kept(tmp_path, "later")))
    jobs.finish(settle=0.01)

    assert len(kept(tmp_path, "first")) == 1


def test_a_job_whose_state_is_the_same_is_not_kept_at_every_look(antenna: Antenna, tmp_path: Path) -> None:
    antenna.set_job(7, "STARTED", 1)
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: len(antenna.asked) > 10)
    jobs.finish(settle=0.01)

    assert kept(tmp_path, "later") == []


def test_a_job_that_is_final_is_looked_at_again_only_now_and_then(antenna: Antenna, tmp_path: Path) -> None:
    antenna.set_job(7, "SUCCESS")
    antenna.set_job(8, "STARTED")
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7, 8})

    def asked() -> list[int]:
        return [int(one.path.split("/")[4]) for one in list(antenna.asked) if one.path.startswith("/api/v2/jobs/")]

    wait_until(lambda: asked().count(7) >= 4)
    second, _, fourth = [place for place, job in enumerate(asked()) if job == 7][1:4]
    assert asked()[second:fourth].count(8) >= 18
    antenna.set_job(7, "STARTED")
    wait_until(lambda: jobs.details()[7].status == "STARTED")
    jobs.finish(settle=0.01)


def test_a_new_job_is_looked_at_without_delay(antenna: Antenna, tmp_path: Path) -> None:
    antenna.set_job(7, "STARTED")
    antenna.set_job(8, "STARTED")
    jobs = watch(antenna, tmp_path, every=60.0)
    jobs.start()
    for number in (7, 8):
        jobs.follow({number})
        wait_until(lambda number=number: number in jobs.details())  # type: ignore[misc]

    assert set(jobs.finish(settle=0.01)) == {7, 8}


def test_what_is_kept_on_disk_has_no_secrets_in_it(antenna: Antenna, tmp_path: Path) -> None:
    lines = [f"Authorization: Token {TOKEN}", f"key {SECRET}", "GET http://u:pw@h/1.jpg?X-Amz-Signature=sig done"]
    antenna.set_job(7, "STARTED", logs=lines)
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7})
    jobs.finish(settle=0.01)
    texts = [path.read_text() for path in tmp_path.glob("*.json")]

    assert len(texts) >= 2
    for text in texts:
        assert not [secret for secret in (TOKEN, SECRET, "u:pw", "=sig") if secret in text]
        assert json.loads(text)["logs"]["stdout"] == [
            "Authorization: Token ***", "key ***", "GET http://***@h/1.jpg?*** done",
        ]  # fmt: skip


def test_the_consumers_settings_are_caught_and_kept_when_the_log_has_moved_on(antenna: Antenna, tmp_path: Path) -> None:
    antenna.set_job(7, "STARTED", logs=["newest", LOG])
    jobs = watch(antenna, tmp_path)
    assert jobs.consumer() == {}
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: bool(jobs.consumer()))
    antenna.set_job(7, "STARTED", logs=["newer still"])
    jobs.finish(settle=0.01)

    assert jobs.consumer() == {"max_deliver": 2.0, "ack_wait": 8.0}


def test_a_service_that_is_away_for_a_while_is_asked_again(antenna: Antenna, tmp_path: Path) -> None:
    antenna.body = b"<html>gateway</html>"
    antenna.set_job(7, "STARTED")
    jobs = watch(antenna, tmp_path)
    jobs.start()
    jobs.follow({7})
    wait_until(lambda: len(antenna.asked) > 3)
    assert jobs.details() == {}
    antenna.body = None
    wait_until(lambda: 7 in jobs.details())
    antenna.body = b"<html>gateway</html>"

    assert jobs.finish(settle=0.01)[7].status == "STARTED"


def test_a_run_without_jobs_asks_for_nothing_and_ends_at_once(antenna: Antenna, tmp_path: Path) -> None:
    jobs = watch(antenna, tmp_path, every=60.0)
    jobs.start()
    began = time.monotonic()

    assert jobs.finish(settle=30.0) == {}
    assert time.monotonic() - began < 5
    assert (antenna.asked, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("body", [b'{"progress": {"stages": [{"key": "process", "params": ["x"]}]}}', b"<html>"])
def test_a_malformed_answer_is_trouble_to_be_told_and_no_end_to_watching(
    antenna: Antenna, tmp_path: Path, body: bytes
) -> None:
    watch = JobWatch(Service(antenna.target()), tmp_path, (), every=0.02)
    antenna.body = body
    watch.start()
    watch.follow({7})
    watch.finish(settle=0.0, patience=3.0)
    assert (7 in watch.trouble()) == (body == b"<html>")


def test_a_job_of_which_nothing_is_known_just_now_has_its_reason(antenna: Antenna, tmp_path: Path) -> None:
    watch = JobWatch(Service(antenna.target(token="wrong-token")), tmp_path, (), every=0.02)
    watch.start()
    watch.follow({7})
    watch.finish(settle=0.0, patience=3.0)
    assert list(watch.trouble()) == [7]
    assert watch.trouble()[7].startswith("status 40")
