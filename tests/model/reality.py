"""Let the real hooks and the real supervisor book all that the model books, so that it cannot drift from them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import PIL.Image
import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from ami_fault_site.endings import Options
from ami_fault_site.faults import InjectedTransientError, Mode, Point
from ami_fault_site.grammar import parse_rules
from ami_fault_site.hooks import http, images, tasks
from ami_fault_site.injector import Injector
from ami_fault_site.ledger import Event, Reader
from tests import stage
from tests.model.scenarios import LOST
from tests.test_supervisor import supervisor

_NOBODY = "http://127.0.0.1:9"
_SEEDS = 16  # enough for every kind of network error at every site

_WORKER = """
import os, time, requests
url = os.environ["AMI_ANTENNA_API_BASE_URL"]
requests.get(f"{url}/jobs", params={"ids_only": 1}, timeout=5)
requests.post(f"{url}/jobs/1/tasks/", json={"batch_size": 1}, timeout=5)
"""
_FOR_EVER = "while True: time.sleep(0.05)\n"
_A_WHILE = "time.sleep(0.4)\n"  # long enough for the service to be asked about the job


def hook_events(folder: Path) -> list[Event]:
    """Book a worker's round with each thing that can happen in it."""
    with stage.service() as service:
        found = _round(folder / "healthy", service)
        for seed in range(_SEEDS):
            found += _round(folder / f"network-{seed}", service, seed=seed, network_error_rate=1.0)
            lost: dict[str, Any] = {"network_error_rate": 1.0, "network_kinds": LOST}
            found += _round(folder / f"lost-{seed}", service, seed=seed, **lost)
        fetched: dict[str, Any] = {"worker_crash_rate": 1.0, "crash_points": (Point.AFTER_FETCH,)}
        found += _round(folder / "fetched", service, crash_mode=Mode.SYSEXIT, **fetched)
        slow: dict[str, Any] = {"rules": parse_rules("batch: delay(0.01)")}
        found += _round(folder / "slow", service, **slow)
        found += _round(folder / "missing", service, image_404_rate=1.0)
        found += _round(folder / "named", service, permanent_error_images=("1",))
        found += _round(folder / "corrupt", service, corrupt_image_rate=1.0)
        found += _round(folder / "passing", service, transient_error_rate=1.0)
        none: dict[str, Any] = {"max_faults": 0}
        found += _round(folder / "withheld", service, transient_error_rate=1.0, network_error_rate=1.0, **none)
        found += _round(folder / "withheld-named", service, permanent_error_images=("1",), **none)
        found += _round(folder / "withheld-fetched", service, **fetched, **none)
        found += _round(folder / "withheld-slow", service, **slow, **none)
        service.picture = b"no picture"
        found += _round(folder / "broken", service)
        service.result_status = 503
        found += _round(folder / "refused", service)
        found += _round(folder / "alone", stage.Service(url=_NOBODY))
    return found


def supervisor_events(folder: Path) -> list[Event]:
    """Book short supervised lives: one ends because its job has, one leaves twice a service that refuses to talk."""
    with stage.service() as service:
        service.status = "SUCCESS"
        stage.hand_out(service, 1)
        found = _supervised(folder / "ended", service, _WORKER + _FOR_EVER)
        service.token = "another"
        return found + _supervised(folder / "left", service, _WORKER + _A_WHILE, restarts=1)


def _supervised(folder: Path, service: stage.Service, code: str, restarts: int = 0) -> list[Event]:
    options = Options(max_restarts=restarts, restart_delay=0.0, timeout=60.0)
    one, watch = supervisor(folder, code, options, service.url)
    outcome = one.run()
    watch.finish(settle=0.0)
    one.conclude(outcome)
    return list(Reader(folder / "runs" / "latest" / "ledger").new())


def _round(folder: Path, service: stage.Service, **settings: Any) -> list[Event]:
    """Let one worker poll, fetch, load, think and post, whatever fails of it."""
    one = stage.injector(folder, **settings)
    with _hooked(one):
        session = _session()
        _try(lambda: session.get(f"{service.url}/api/v2/jobs", params={"ids_only": 1}, timeout=5))
        for sequences in ((), (1, 2, 3)):
            stage.hand_out(service, *sequences)
            _try(lambda: session.post(f"{service.url}/api/v2/jobs/1/tasks/", json={"batch_size": 3}, timeout=5))
        for task in service.tasks:
            _try(lambda url=task["image_url"]: _load(session, url))  # type: ignore[misc]
        _try(lambda: _loop(one)({"reply_subjects": [stage.reply_subject(n) for n in (1, 2)]}))
        for body in (_body(1, 2), _body(1)):
            _try(lambda body=body: session.post(f"{service.url}/api/v2/jobs/1/result/", data=body, timeout=5))  # type: ignore[misc]
    return stage.events(one.run)


def _body(*sequences: int) -> bytes:
    """Return a post as a worker makes it: the first is a success, the second an error."""
    results = (b'{"source_images":[{"id":"1","url":"u"}],"detections":[]}', b'{"error":"failed","image_id":"2"}')
    items = (
        b'{"reply_subject":"%s","result":%s}' % (stage.reply_subject(number).encode(), result)
        for number, result in zip(sequences, results, strict=False)
    )
    return b'{"results":[%s]}' % b",".join(items)


@contextlib.contextmanager
def _hooked(one: Injector) -> Iterator[None]:
    undo = [http.install(requests.sessions, one, lambda: None), images.install(PIL.Image, one, lambda: None)]
    try:
        yield
    finally:
        for step in undo:
            step()


def _session() -> requests.Session:
    """Return a session that repeats GETs, as the worker's do, without its pauses."""
    session = requests.Session()
    retry = Retry(total=3, status_forcelist=(500, 502, 503, 504), allowed_methods=["GET"], raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


def _load(session: requests.Session, url: str) -> None:
    response = session.get(url, timeout=5)
    response.raise_for_status()
    Image.open(io.BytesIO(response.content)).close()


def _loop(one: Injector) -> Callable[[object], object]:
    module = ModuleType("a_worker")
    exec("def _process_batch(batch):\n    return batch\n", module.__dict__)
    tasks.install(module, ("_process_batch",), one)
    hooked: Callable[[object], object] = vars(module)["_process_batch"]
    return hooked


def _try(work: Callable[[], object]) -> None:
    with contextlib.suppress(requests.RequestException, InjectedTransientError, OSError, SystemExit):
        work()


def shapes(events: Iterable[Event]) -> dict[str, dict[str, set[str]]]:
    """Return the forms that the fields of each kind of event have."""
    found: dict[str, dict[str, set[str]]] = {}
    for event in events:
        fields = found.setdefault(event.kind, {})
        for key, value in event.data.items():
            fields.setdefault(key, set()).add(_form(value))
    return found


def key_sets(events: Iterable[Event]) -> dict[str, set[frozenset[str]]]:
    """Return the sets of keys that each kind of event has."""
    found: dict[str, set[frozenset[str]]] = {}
    for event in events:
        found.setdefault(event.kind, set()).add(frozenset(event.data))
    return found


def _form(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "|".join(sorted({"[" + ",".join(_form(item) for item in row) + "]" for row in value}))
    if isinstance(value, list):
        return "[" + "|".join(sorted({_form(item) for item in value})) + "]"
    return type(value).__name__
