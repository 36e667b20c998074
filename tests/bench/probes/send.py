"""Time Session.send through an adapter that does nothing, in microseconds a call; a script for any environment.

Usage: send.py HOW WHAT NUMBER. HOW is plain, wrapt, opentelemetry or responses; WHAT is other, tasks, image, or
refused: tasks, through requests' own adapter to a port that nobody listens at.
"""

from __future__ import annotations

import json
import sys
import time

import requests
from requests.adapters import BaseAdapter

_BASE = "http://127.0.0.1:9/api/v2"
_SUBJECT = "$JS.ACK.job_1.job-1-consumer.1.1.1.1795438299585001495.0"
_TASK = {"id": "1", "image_id": "1", "image_url": "http://127.0.0.1:9/images/1.jpg", "reply_subject": _SUBJECT}
_REPEATS = 7


class _Nothing(BaseAdapter):
    """Answers at once, with nothing or with one task."""

    def send(self, request: requests.PreparedRequest, **_more: object) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, str(request.url)
        tasks = [_TASK] if str(request.url).endswith("/tasks/?once") else []
        response._content = json.dumps({"tasks": tasks}).encode()
        response.raw = None
        return response

    def close(self) -> None:
        """Nothing to close."""


def _prepare(how: str, session: requests.Session) -> None:
    if how == "wrapt":
        import wrapt

        wrapt.wrap_function_wrapper(
            "requests.sessions", "Session.send", lambda wrapped, _self, args, kwargs: wrapped(*args, **kwargs)
        )
    elif how == "opentelemetry":
        from opentelemetry.instrumentation.requests import RequestsInstrumentor
        from opentelemetry.sdk.trace import TracerProvider

        RequestsInstrumentor().instrument(tracer_provider=TracerProvider())
    elif how == "responses":
        import responses

        session.mount("http://", requests.adapters.HTTPAdapter())
        mock = responses.RequestsMock(assert_all_requests_are_fired=False)
        mock.start()
        for method in ("GET", "POST"):
            mock.add(method, f"{_BASE}/other", json={"tasks": []})


def main(how: str, what: str, number: int) -> None:
    session = requests.Session()
    session.trust_env = False
    if what != "refused":
        session.mount("http://", _Nothing())
    _prepare(how, session)
    if what == "image":
        session.post(f"{_BASE}/jobs/1/tasks/?once", json={"batch_size": 1})
        request = requests.Request("GET", _TASK["image_url"])
    elif what == "other":
        request = requests.Request("GET", f"{_BASE}/other")
    else:
        request = requests.Request("POST", f"{_BASE}/jobs/1/tasks/", json={"batch_size": 1})
    prepared = session.prepare_request(request)
    took = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        for _ in range(number):
            try:
                session.send(prepared)
            except requests.RequestException:
                continue
        took.append((time.perf_counter() - began) / number * 1e6)
    print(json.dumps({"us": took}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
