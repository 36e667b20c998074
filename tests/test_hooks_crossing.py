"""The promises of hooks.crossing: when a call is struck, what is booked, and what the worker does not get to read."""

from __future__ import annotations

import gzip
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from ami_fault_site import runfolder
from ami_fault_site.antenna import parse_reply_subject
from ami_fault_site.faults import Layer, Point, Site
from ami_fault_site.grammar import parse_harms, parse_rules
from ami_fault_site.injector import Injector
from tests.stage import Service, events, hand_out, reply_subject, result_body, service
from tests.test_hooks_http import hooked, poll

RARE = {"network_error_rate": 1e-9}  # something can strike, and will not


def fetch(stage: Service, job: int = 1) -> list[dict[str, str]]:
    response = requests.post(f"{stage.url}/api/v2/jobs/{job}/tasks/", json={"batch_size": 8}, timeout=5)
    return list(response.json()["tasks"])


def post(stage: Service, *subjects: str) -> requests.Response:
    return requests.post(f"{stage.url}/api/v2/jobs/1/result/", data=result_body(*subjects), timeout=5)


def in_a_child(work: Callable[[], object]) -> int:
    """Do some work in a fork, and return how it ended: its exit code, or the negative signal."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- phases


def test_a_result_whose_answer_is_lost_has_reached_the_service_and_that_is_booked(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("result: reset@after")) as one:
        with pytest.raises(requests.ConnectionError):
            post(stage, reply_subject(3))
        assert stage.paths("/result/") == ["/api/v2/jobs/1/result/"]
        kinds = [event.kind for event in events(one.run, "call", "fault", "lost", "answer")]
        lost, answer = (events(one.run, kind)[0] for kind in ("lost", "answer"))
    assert kinds == ["call", "fault", "lost", "answer"]
    assert (lost.data["accepted"], lost.number("status"), lost.text("stream")) == (True, 200, "job_1")
    assert [row[0] for row in lost.rows("tasks")] == [3]
    assert (answer.text("outcome"), answer.data["struck"], answer.text("error")) == ("unheard", True, "ConnectionError")


def test_a_result_that_is_struck_before_is_not_sent(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("result: reset")) as one:
        with pytest.raises(requests.ConnectionError):
            post(stage, reply_subject(3))
        assert stage.paths("/result/") == []
        assert events(one.run, "lost") == []
        assert events(one.run, "answer")[0].text("outcome") == "not-sent"


def test_tasks_whose_answer_is_lost_were_handed_out_and_are_booked_though_no_worker_saw_them(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("tasks: reset@after"), max_deliver=2) as one:
        hand_out(stage, 4, 5)
        with pytest.raises(requests.ConnectionError):
            fetch(stage)
        lost = events(one.run, "lost")[0]
        assert [event.kind for event in events(one.run, "leases", "no-answer")] == ["no-answer"]
    assert [row[:2] + row[5:] for row in lost.rows("leases")] == [[4, 1, "4", "0004.jpg"], [5, 1, "5", "0005.jpg"]]
    assert lost.data["accepted"] is False


@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("kind", ["bad-json", "garbage", "truncated", "status(503)@after"])
def test_an_answer_that_cannot_be_read_is_booked_as_none(tmp_path: Path, kind: str, layer: Layer) -> None:
    rules = parse_rules(f"tasks: {kind}")
    with service() as stage, hooked(tmp_path, rules=rules, network_layer=layer, max_deliver=9) as one:
        hand_out(stage, 1)
        with pytest.raises((requests.RequestException, KeyError)):
            fetch(stage)
        closing = events(one.run, "leases", "no-answer")
    assert [(event.kind, event.data["struck"]) for event in closing] == [("no-answer", True)]


def test_a_slow_call_goes_well_in_the_end_and_is_not_booked_as_struck(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("tasks: delay(200ms)")) as one:
        hand_out(stage, 1)
        assert len(fetch(stage)) == 1
        fault, leases = events(one.run, "fault")[0], events(one.run, "leases")[0]
    assert (fault.text("effect"), fault.text("kind"), fault.data["seconds"]) == ("slow", "delay", 0.2)
    assert leases.data["struck"] is False
    assert float(str(leases.data["seconds"])) >= 0.2


# --- attempts


def retrying() -> requests.Session:
    session = requests.Session()
    retries = Retry(total=3, backoff_factor=0, status_forcelist=(503,), allowed_methods=["GET"], raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retries))
    return session


def test_each_attempt_is_decided_by_itself_and_a_retry_absorbs_a_fault(tmp_path: Path) -> None:
    rules = parse_rules("image.get[attempt=1]: status(503, retry_after=0)")
    with service() as stage, hooked(tmp_path, rules=rules, network_layer=Layer.ATTEMPT) as one:
        hand_out(stage, 1)
        url = fetch(stage)[0]["image_url"]
        assert retrying().get(url, timeout=5).content == stage.picture
        tries = [event for event in events(one.run, "try") if event.text("site") == "image"]
        image = events(one.run, "image")[0]
        fault = events(one.run, "fault")[0]
    assert [(t.number("number"), t.number("status"), t.data["struck"], t.text("kind")) for t in tries] == [
        (1, 503, True, "http-503"),
        (2, 200, False, ""),
    ]
    assert (tries[0].data["retry_after"], tries[0].text("image")) == (0, "1")
    assert (image.number("status"), image.data["struck"]) == (200, False)
    assert (fault.number("try"), fault.number("call")) == (1, image.number("call"))
    assert len(stage.paths("/captures/")) == 1


def test_a_call_fails_once_its_attempts_are_used_up(tmp_path: Path) -> None:
    with (
        service() as stage,
        hooked(tmp_path, rules=parse_rules("image.get: status(503)"), network_layer=Layer.ATTEMPT) as one,
    ):
        hand_out(stage, 1)
        url = fetch(stage)[0]["image_url"]
        assert retrying().get(url, timeout=5).status_code == 503
        assert len([event for event in events(one.run, "try") if event.text("site") == "image"]) == 4
        image = events(one.run, "image")[0]
    assert (image.number("status"), image.data["struck"]) == (503, True)
    assert stage.paths("/captures/") == []


def test_the_network_rate_strikes_attempts_or_calls_but_never_both(tmp_path: Path) -> None:
    for layer in Layer:
        with service() as stage, hooked(tmp_path, network_error_rate=1.0, network_layer=layer) as one:
            with pytest.raises(requests.RequestException):
                post(stage, reply_subject(1)).raise_for_status()
            fault = events(one.run, "fault")
        assert [(event.number("try") or 0) > 0 for event in fault] == [layer is Layer.ATTEMPT] * len(fault)
        assert fault


def test_kinds_that_are_named_replace_the_usual_ones(tmp_path: Path) -> None:
    kinds = parse_harms("status(429, retry_after=3)", Site.JOBS)
    with service() as stage, hooked(tmp_path, network_error_rate=1.0, network_kinds=kinds) as one:
        response = post(stage, reply_subject(1))
        fault = events(one.run, "fault")[0]
    assert (response.status_code, response.headers["Retry-After"]) == (429, "3")
    assert (fault.text("kind"), fault.data["retry_after"]) == ("http-429", 3.0)


# --- the budget


def test_no_fault_takes_the_last_delivery_of_a_task(tmp_path: Path) -> None:
    rules = parse_rules("result: reset\ntasks: reset@after")
    with service() as stage, hooked(tmp_path, rules=rules, max_deliver=2) as one:
        hand_out(stage, 1, 2, delivery=2)
        assert len(fetch(stage)) == 2
        assert post(stage, reply_subject(1, 2)).status_code == 200
        withheld = [event.text("why") for event in events(one.run, "withheld")]
    assert withheld == [f"budget: job_1 task {n} is out on its last delivery of 2" for n in (1, 1)]


def test_with_max_deliver_0_any_delivery_may_be_taken(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("tasks: reset@after"), max_deliver=0) as one:
        hand_out(stage, 1, delivery=2)
        with pytest.raises(requests.ConnectionError):
            fetch(stage)
        assert [event.text("source") for event in events(one.run, "budget")] in ([], ["off"])


def test_a_loader_whose_job_was_given_up_fetches_no_more_whatever_the_cap(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, max_deliver=2, max_faults=0, **RARE) as one:
        hand_out(stage, 1)
        assert len(fetch(stage)) == 1
        one.budget.doom(whole_tree=False)
        with pytest.raises(requests.ConnectionError):
            fetch(stage)
        fault = events(one.run, "fault")[0]
        assert one.run.counted("faults") == 0
    assert fault.text("reason") == "budget: an injected fault gave up the job, what is fetched now would be lost"
    assert len(stage.paths("/tasks/")) == 1


def test_who_has_asked_for_jobs_again_may_fetch_again(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, max_deliver=2, **RARE) as one:
        hand_out(stage, 1)
        one.budget.doom(whole_tree=False)
        requests.get(f"{stage.url}/jobs", params={"pipeline__slug__in": "moths", "ids_only": "1"}, timeout=5)
        assert len(fetch(stage)) == 1
        assert events(one.run, "fault") == []


# --- deaths


@pytest.mark.parametrize(("point", "reaches"), [("posting-unsent", 0), ("posting-unheard", 1), ("after-post", 1)])
def test_a_process_dies_before_posting_unheard_or_after(tmp_path: Path, point: str, reaches: int) -> None:
    rules = parse_rules(f"crash[point={point}]: kill")
    with service() as stage, hooked(tmp_path, rules=rules, max_deliver=3) as one:
        assert in_a_child(lambda: post(stage, reply_subject(1))) == -signal.SIGKILL
        assert len(stage.paths("/result/")) == reaches
        booked = [event.kind for event in events(one.run, "call", "lost", "answer", "fault")]
        fault = events(one.run, "fault")[0]
    assert (fault.text("point"), fault.text("kind"), fault.text("site")) == (point, "kill", "posting")
    assert [row[0] for row in fault.rows("tasks")] == [1]
    assert (
        booked
        == {
            "posting-unsent": ["call", "fault"],
            "posting-unheard": ["call", "lost", "fault"],
            "after-post": ["call", "answer", "fault"],
        }[point]
    )


def test_a_process_dies_with_what_it_has_just_fetched_and_not_with_nothing(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("crash[point=after-fetch]: exit")) as one:
        assert in_a_child(lambda: fetch(stage)) == 0
        hand_out(stage, 1)
        assert in_a_child(lambda: fetch(stage)) == 86
        assert [event.kind for event in events(one.run, "leases", "fault")] == ["leases", "leases", "fault"]


def test_what_a_tree_holds_on_its_last_delivery_keeps_it_alive(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("crash[point=idle]: exit"), max_deliver=2) as one:
        hand_out(stage, 1, delivery=2)
        fetch(stage)
        assert in_a_child(lambda: poll(stage.url)) == 0
        post(stage, reply_subject(1, 2))
        assert in_a_child(lambda: poll(stage.url)) == 86
        why = [event.text("why") for event in events(one.run, "withheld")]
    assert why == ["budget: job_1 task 1 is out on its last delivery of 2"]


def test_a_passage_at_which_only_a_crash_can_strike_is_booked_as_eligible_by_its_rate(tmp_path: Path) -> None:
    points = (Point.AFTER_FETCH, Point.DOWNLOADING, Point.POSTING_UNHEARD, Point.IDLE)
    with service() as stage, hooked(tmp_path, worker_crash_rate=1e-9, crash_points=points) as one:
        hand_out(stage, 1)
        poll(stage.url)
        requests.get(fetch(stage)[0]["image_url"], timeout=5)
        post(stage, reply_subject(1))
        passages = [(event.text("site"), event.data["eligible"]) for event in events(one.run, "passage")]
    assert passages == [(site, ["crash"]) for site in ("idle", "fetched", "downloading", "posting")]


def test_a_death_while_downloading_names_the_task(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("crash[point=downloading]: exit")) as one:
        hand_out(stage, 6)
        url = fetch(stage)[0]["image_url"]
        assert in_a_child(lambda: requests.get(url, timeout=5)) == 86
        fault = events(one.run, "fault")[0]
    assert ([row[0] for row in fault.rows("tasks")], fault.text("stream"), fault.text("image")) == ([6], "job_1", "6")


def test_a_thread_that_stops_while_it_posts_gives_nothing_else_up(tmp_path: Path) -> None:
    rules = parse_rules("crash[point=posting-unsent]: sysexit")
    with service() as stage, hooked(tmp_path, rules=rules, max_deliver=3) as one:
        with pytest.raises(SystemExit):
            post(stage, reply_subject(1))
        assert not one.budget.is_doomed()
        hand_out(stage, 2)
        assert len(fetch(stage)) == 1


def test_a_dry_run_books_what_would_strike_and_touches_nothing(tmp_path: Path) -> None:
    rules = parse_rules("crash[point=idle]: exit\nresult: reset")
    with service() as stage, hooked(tmp_path, rules=rules, dry_run=True) as one:
        assert poll(stage.url).status_code == 200
        assert post(stage, reply_subject(1)).status_code == 200
        assert [event.text("site") for event in events(one.run, "dry")] == ["idle", "result"]
        assert events(one.run, "fault") == []
        assert events(one.run, "answer")[0].data["struck"] is False


# --- what the worker does not get to read


def test_other_peoples_jobs_are_taken_out_of_the_polls_answer(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, jobs=frozenset({7})) as one:
        answer = poll(stage.url)
        assert answer.json() == {"count": 0, "next": None, "results": []}
        assert (answer.status_code, answer.history[0].status_code) == (200, 301)
        assert [event.data["jobs"] for event in events(one.run, "hidden", "jobs")] == [[1], []]
    with service() as stage, hooked(tmp_path, jobs=frozenset({1})):
        assert [job["id"] for job in poll(stage.url).json()["results"]] == [1]


def test_a_task_that_is_to_be_exhausted_never_reaches_the_worker(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, exhaust=("0002.jpg",), max_deliver=2) as one:
        hand_out(stage, 1, 2, delivery=2)
        assert [task["image_id"] for task in fetch(stage)] == ["1"]
        fault, lost = events(one.run, "fault")[0], events(one.run, "lost")[0]
        leases = events(one.run, "leases")[0]
    assert (fault.text("effect"), fault.text("trigger")) == ("withheld-lease", "exhaust")
    assert [row[0] for row in lost.rows("leases")] == [2]
    assert [row[0] for row in leases.rows("leases")] == [1]


def test_a_reply_subject_is_written_as_it_was_read() -> None:
    delivery = parse_reply_subject(reply_subject(3, 2))
    assert delivery is not None
    assert delivery.subject == reply_subject(3, 2)


# --- windows


def test_faults_strike_only_within_their_window(tmp_path: Path) -> None:
    def strikes(**window: float) -> list[str]:
        with service() as stage, hooked(tmp_path, rules=parse_rules("result: status(500)"), **window) as one:
            hand_out(stage, 1, 2)
            fetch(stage)
            settings = one.run.path / runfolder.SETTINGS
            began = settings.stat().st_mtime - 10
            os.utime(settings, (began, began))  # as if the run had begun ten seconds ago
            post(stage, reply_subject(1))
            return [event.text("why") for event in events(one.run, "withheld")]

    assert strikes(start_after=5.0, stop_after=60.0) == []
    assert strikes(start_after=60.0) == ["window: AMI_TEST_START_AFTER=60"]
    assert strikes(stop_after=5.0) == ["window: AMI_TEST_STOP_AFTER=5"]
    assert strikes(start_after_tasks=3) == ["window: AMI_TEST_START_AFTER_TASKS=3"]
    assert strikes(start_after_tasks=2) == []


def test_a_rule_counts_over_all_processes_and_after_a_restart(tmp_path: Path) -> None:
    rules = parse_rules("result: 1*off -> 2*status(500) -> off")
    with service() as stage, hooked(tmp_path, rules=rules) as one:
        codes = [in_a_child(lambda: os._exit(post(stage, reply_subject(1)).status_code // 100)) for _ in range(2)]
        codes += [post(stage, reply_subject(1)).status_code // 100 for _ in range(2)]
        again = Injector(one.settings, one.run, one._ledger)
        assert again.run.counted("rule-0-term-1") == 2
    assert codes == [2, 5, 5, 2]


# --- what cannot be done


@pytest.mark.parametrize("layer", Layer)
def test_a_fault_that_breaks_off_a_body_is_withheld_where_there_is_none(tmp_path: Path, layer: Layer) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("image.get: truncated"), network_layer=layer) as one:
        hand_out(stage, 1)
        stage.picture = b""
        url = f"{stage.url}/api/v2/jobs/1/tasks/"
        task = requests.post(url, json={"batch_size": 1}, timeout=5).json()["tasks"][0]
        assert requests.get(task["image_url"], timeout=5).content == b""
        assert [event.text("why") for event in events(one.run, "fault", "withheld")] == ["the answer has no body"]
        assert events(one.run, "image")[0].data["struck"] is False


def test_a_fault_upon_the_answer_to_an_attempt_is_withheld_where_that_cannot_be_sent_again(tmp_path: Path) -> None:
    rules = parse_rules("result: reset@after")
    with service() as stage, hooked(tmp_path, rules=rules, network_layer=Layer.ATTEMPT) as one:
        body = io.BytesIO(result_body(reply_subject(3)))
        url = f"{stage.url}/api/v2/jobs/1/result/"
        assert requests.post(url, data=body, timeout=5).json()["status"] == "accepted"
        why = [event.text("why") for event in events(one.run, "fault", "withheld")]
        assert why == ["the body can be sent only once"]
        (attempt,) = events(one.run, "try")
        assert (attempt.data["struck"], attempt.number("status")) == (False, 200)


# --- what is not the worker's call


def test_what_a_responses_hook_asks_meanwhile_is_nobodys_attempt(tmp_path: Path) -> None:
    """Telemetry, a token's refresh: calls of the session itself, and of others through urllib3."""
    seen = []

    def hook(response: requests.Response, **_: object) -> None:
        seen.append(urllib3.PoolManager(retries=False).request("GET", f"{stage.url}/metrics").status)
        seen.append(requests.get(f"{stage.url}/telemetry", timeout=5).status_code)

    with (
        service() as stage,
        hooked(
            tmp_path, rules=parse_rules("api[attempt=2|3]: refused"), network_layer=Layer.ATTEMPT, max_deliver=2
        ) as one,
    ):
        hand_out(stage, 1)
        session = requests.Session()
        session.hooks["response"].append(hook)
        url = f"{stage.url}/api/v2/jobs/1/tasks/"
        assert len(session.post(url, json={"batch_size": 1}, timeout=5).json()["tasks"]) == 1
        assert seen == [404, 404]
        assert [event.number("number") for event in events(one.run, "try")] == [1]
        assert events(one.run, "fault") == []


@pytest.mark.parametrize("layer", Layer)
def test_where_a_redirect_leads_is_no_further_attempt(tmp_path: Path, layer: Layer) -> None:
    with service() as stage, hooked(tmp_path, network_error_rate=0.3, network_layer=layer) as one:
        failed = 0
        for _ in range(60):
            try:
                failed += poll(stage.url).status_code >= 400
            except requests.RequestException:
                failed += 1
        assert abs(failed - 18) < 4 * (60 * 0.3 * 0.7) ** 0.5
        assert failed == len(events(one.run, "fault"))


AT_THE_END = [(kind, Layer.CALL) for kind in ("truncated", "reset@during", "reset@after", "status(503)@after")]
AT_THE_REDIRECT = [
    (kind, Layer.ATTEMPT) for kind in ("reset@after", "status(503)@after")
]  # which has no body to be cut


def polled(url: str) -> object:
    """Return what a poll's answer says; to urllib3 1.26 one that ends early is an answer, until it is read."""
    answered = poll(url)
    answered.raise_for_status()
    return answered.json()


@pytest.mark.parametrize(("kind", "layer"), [*AT_THE_END, *AT_THE_REDIRECT])
def test_a_poll_fails_where_its_redirect_leads_if_it_fails_after_it_was_sent(
    tmp_path: Path, kind: str, layer: Layer
) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules(f"jobs: {kind}"), network_layer=layer) as one:
        with pytest.raises(requests.RequestException):
            polled(stage.url)
        assert len(events(one.run, "fault")) == 1
        assert events(one.run, "no-answer")[0].data["struck"] is True


def test_no_fault_is_booked_for_a_call_before_which_the_process_dies(tmp_path: Path) -> None:
    rules = parse_rules("result: reset\ncrash[point=posting-unsent]: exit")
    with service() as stage, hooked(tmp_path, rules=rules) as one:
        assert in_a_child(lambda: post(stage, reply_subject(1))) == 86
        assert [event.text("effect") for event in events(one.run, "fault")] == ["crash"]


def test_a_body_that_cannot_be_read_may_hold_a_last_delivery(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, rules=parse_rules("result: reset"), max_deliver=2) as one:
        hand_out(stage, 1, delivery=2)
        fetch(stage)
        body = gzip.compress(result_body(reply_subject(1, 2)))
        assert requests.post(f"{stage.url}/api/v2/jobs/1/result/", data=body, timeout=5).status_code == 200
        why = [event.text("why") for event in events(one.run, "withheld")]
    assert why == ["budget: job_1 task 1 is out on its last delivery of 2"]


def test_an_answer_that_the_service_refused_is_out_no_longer(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, max_deliver=2, **RARE) as one:
        hand_out(stage, 1, delivery=2)
        fetch(stage)
        assert one.budget.holdings.last(2)
        stage.result_status = 413
        post(stage, reply_subject(1, 2))
        assert one.budget.holdings.last(2) == []


def test_what_nobody_heard_of_is_out_until_the_worker_asks_for_jobs_again(tmp_path: Path) -> None:
    with service() as stage, hooked(tmp_path, max_deliver=2, **RARE) as one:
        hand_out(stage, 1, delivery=2)
        fetch(stage)
        assert one.budget.holdings.last(2)
        poll(stage.url)
        assert one.budget.holdings.last(2) == []


def test_no_query_of_a_rules_glob_is_written_anywhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rules = parse_rules(
        'image.get[name="*1.jpg?X-Amz-Signature=secretsig"]: status(403)\n'
        "crash[point=downloading, name=http://me:password@h/2.jpg?sig=secretsig]: 1*off"
    )
    with service() as stage, hooked(tmp_path, rules=rules) as one:
        hand_out(stage, 1)
        stage.tasks[0]["image_url"] = f"{stage.url}/captures/1.jpg?X-Amz-Signature=secretsig"
        assert requests.get(fetch(stage)[0]["image_url"], timeout=5).status_code == 403
        assert [event.text("kind") for event in events(one.run, "fault")] == ["http-403"]
        written = b"".join(path.read_bytes() for path in one.run.path.rglob("*") if path.is_file())
    said = "".join(capfd.readouterr())
    assert b"secretsig" not in written
    assert b"password" not in written
    assert "secretsig" not in said
    assert "password" not in said
