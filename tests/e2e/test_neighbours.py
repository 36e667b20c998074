"""Others that patch the same functions, before us or after us: both work, and either may leave first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ami_fault_site.ledger import Event
from tests.e2e.conftest import Antenna, MakeVenv, Workers, is_complete

pytestmark = pytest.mark.untraced

# A worker that calls the service, with a neighbour that is put on before us or after us. The child takes the neighbour
# off first, and then us, the parent the other way round.
BEGIN = """
import inspect
import json
import os
import requests
from ami_fault_site import hooks, startup

ORDER = os.environ["ORDER"]
TASKS = os.environ["SERVICE"] + "/jobs/1/tasks/"
SEAMS = [(requests.Session, "send"), (requests.Session, "get_adapter"), (requests.adapters.HTTPAdapter, "send")]
ORIGINALS = [inspect.unwrap(vars(owner)[name]) for owner, name in SEAMS]

def report(error):
    pass
"""
END = """
def lease():
    try:
        return len(client.lease())
    except requests.ConnectionError as error:
        report(error)
        return "refused"

def stage():
    stages.append([[lease(), lease()], seen()])

stages = []
put_on()
os.environ["AMI_TEST_FAULT_INJECTION_ENABLED"] = "true"
startup.activate()
assert hooks.installed()["http"] == "requests.Session.send"
import client
stage()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
for leave in (hooks.stand_down, take_off) if child else (take_off, hooks.stand_down):
    leave()
    stage()
left = [vars(owner)[name] for owner, name in SEAMS]
if child and ORDER == "after":
    left = [inspect.unwrap(function) for function in left]  # they have put back what they had found: our hook, inert
assert all(function is original for function, original in zip(left, ORIGINALS))
print(json.dumps(stages), flush=True)
"""

OPENTELEMETRY = """
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(spans))

def put_on():
    RequestsInstrumentor().instrument(tracer_provider=provider)

def take_off():
    RequestsInstrumentor().uninstrument()

def seen():
    names = [span.status.status_code.name for span in spans.get_finished_spans()]
    spans.clear()
    return names
"""
SENTRY = """
import sentry_sdk
from sentry_sdk.transport import Transport

sent = []

class Collecting(Transport):
    def capture_envelope(self, envelope):
        sent.extend(item.payload.json for item in envelope.items if item.type == "event")

report = sentry_sdk.capture_exception

def put_on():
    sentry_sdk.init("http://key@127.0.0.1:1/1", transport=Collecting)

def take_off():
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)

def seen():
    sentry_sdk.capture_message("asked")
    told = []
    for event in sent:
        error = event.get("exception", {}).get("values", [{}])[-1].get("type", "")
        calls = [crumb["data"]["http.response.status_code"] for crumb in event["breadcrumbs"]["values"]]
        told.append([error or event["message"], (event.get("tags") or {}).get("ami_fault_site.injected", ""), calls])
    sent.clear()
    sentry_sdk.get_isolation_scope().clear_breadcrumbs()
    return told
"""
RESPONSES = """
import responses

mock = responses.RequestsMock(assert_all_requests_are_fired=False)
mock.post(TASKS, json={"tasks": []})

def put_on():
    mock.start()

def take_off():
    mock.stop()

def seen():
    told = [call.response.status_code for call in mock.calls]
    mock.calls.reset()
    return told
"""
REQUESTS_MOCK = """
import requests_mock

mock = requests_mock.Mocker()
mock.post(TASKS, json={"tasks": []})

def put_on():
    mock.start()

def take_off():
    mock.stop()
    if ORDER == "before":
        client.lease()  # it has put back what was there before us: the next call goes past us, and we notice

def seen():
    told = [request.method for request in mock.request_history]
    mock.reset()
    return told
"""

# Two greenlets inside of Session.send at the same time: each waits in its adapter until the other is there as well.
GREENLETS = """
import os
if os.environ["ORDER"] == "before":
    import gevent.monkey
    gevent.monkey.patch_all()
    os.environ["AMI_TEST_FAULT_INJECTION_ENABLED"] = "true"
    from ami_fault_site import startup
    startup.activate()
else:
    import gevent.monkey
    gevent.monkey.patch_all()
import json
import threading
import gevent
import requests

both = threading.Barrier(2)

class Meeting(requests.adapters.HTTPAdapter):
    has_met = False

    def send(self, request, **kwargs):
        if not self.has_met:
            self.has_met = True
            both.wait(30)
        return super().send(request, **kwargs)

def call(path, **body):
    session = requests.Session()
    session.mount("http://", Meeting())
    try:
        return session.post(f"{os.environ['SERVICE']}/jobs/1/{path}/", json=body).status_code
    except requests.ConnectionError:
        return "reset"

told = []
for paths in (["tasks", "result"], ["result", "tasks"]):
    greenlets = [gevent.spawn(call, path, batch_size=1, results=[]) for path in paths]
    told.append([greenlet.get() for greenlet in greenlets])
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Neighbour:
    """`tasks` is how many a tasks call brings with it, `saw` what it sees of a good call and a refused one."""

    code: str
    tasks: int
    saw: list[Any]
    saw_alone: list[Any]


MOCKED = Neighbour(REQUESTS_MOCK, 0, ["POST"], ["POST", "POST"])
NEIGHBOURS = {
    "opentelemetry": Neighbour(OPENTELEMETRY, 1, ["UNSET", "ERROR"], ["UNSET", "UNSET"]),
    "sentry": Neighbour(
        SENTRY, 1, [["ConnectionError", "true", [200]], ["asked", "true", [200]]], [["asked", "", [200, 200]]]
    ),
    "responses": Neighbour(RESPONSES, 0, [200], [200, 200]),
    "requests-mock": MOCKED,
}
STRUCK, FREE = [1, "refused"], [1, 1]


@pytest.fixture(scope="session")
def crowded_python(make_venv: MakeVenv, wheel: Path) -> Path:
    """The interpreter of an environment with the wheel and all neighbours."""
    telling = ("opentelemetry-instrumentation-requests", "opentelemetry-sdk", "sentry-sdk")
    return make_venv("crowded-env", wheel, *telling, "responses", "requests-mock", "gevent")


@dataclass
class Street:
    """Runs a worker with neighbours; `order` is when they come, before us or after us."""

    workers: Workers
    python: Path
    service: str

    def run(self, code: str, order: str, **settings: str) -> list[list[Any]]:
        """Return what the worker and its child have told, a line each."""
        on = self.workers.on(SERVICE=self.service, ORDER=order, **settings)
        if order == "before":
            del on["AMI_TEST_FAULT_INJECTION_ENABLED"]  # the worker sets it once they are there
        ended = self.workers.run(code, self.python, **on)
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def booked(self, *kinds: str) -> list[Event]:
        """Return the events of these kinds; every process has ended in order."""
        ledgers = self.workers.ledgers().values()
        assert all(is_complete(events) for events in ledgers)
        return [event for events in ledgers for event in events if event.kind in kinds]


@pytest.fixture
def street(workers: Workers, crowded_python: Path, antenna: Antenna) -> Street:
    return Street(workers, crowded_python, antenna.url)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        (name, order)
        for name in NEIGHBOURS
        for order in ("before", "after")
        if (name, order) != ("requests-mock", "before")
    ],
)
def test_both_work_and_whoever_leaves_first_leaves_the_other_whole(street: Street, name: str, order: str) -> None:
    one = NEIGHBOURS[name]
    both, theirs = [[one.tasks, "refused"], one.saw], [[one.tasks, one.tasks], one.saw_alone]
    told = street.run(BEGIN + one.code + END, order, AMI_TEST_RULES="tasks: every 2 refused")
    assert told == [[both, [STRUCK, []], [FREE, []]], [both, theirs, [FREE, []]]]
    assert [event.text("kind") for event in street.booked("fault", "withheld")] == ["refused", "refused"]
    assert [event.text("error") for event in street.booked("no-answer")] == ["ConnectionError", "ConnectionError"]


def test_what_is_answered_below_us_in_requests_place_is_not_struck_and_that_is_booked(street: Street) -> None:
    both = [[0, 0], MOCKED.saw_alone]
    told = street.run(BEGIN + MOCKED.code + END, "before", AMI_TEST_RULES="tasks: every 2 refused")
    assert told == [[both, [STRUCK, []], [FREE, []]], [both, both, [FREE, []]]]
    assert [event.text("why") for event in street.booked("withheld")] == [
        "the session chooses its adapter in a way of its own"
    ]
    assert len(street.booked("fault")) == 1


@pytest.mark.parametrize("layer", ["call", "attempt"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_greenlets_in_the_midst_of_their_calls_are_told_apart(street: Street, order: str, layer: str) -> None:
    settings = {"AMI_TEST_RULES": "tasks: reset@after", "AMI_TEST_NETWORK_LAYER": layer}
    assert street.run(GREENLETS, order, **settings) == [[["reset", 200], [200, "reset"]]]
    assert [event.text("site") for event in street.booked("fault")] == ["tasks", "tasks"]
    asked = {event.number("call"): event.text("site") for event in street.booked("call")}
    assert sorted(asked.values()) == ["result", "result", "tasks", "tasks"]
    assert [asked[event.number("call")] for event in street.booked("no-answer")] == ["tasks", "tasks"]
    assert [asked[event.number("call")] for event in street.booked("answer")] == ["result", "result"]
