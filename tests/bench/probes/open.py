"""Time PIL.Image.open of a small JPEG in memory, in microseconds a call; a script for any environment.

Usage: open.py HOW WHAT NUMBER. HOW is plain or wrapt; WHAT is other or task: an image that was downloaded for a task.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time

import requests
from PIL import Image
from requests.adapters import BaseAdapter

_BASE = "http://127.0.0.1:9/api/v2"
_SUBJECT = "$JS.ACK.job_1.job-1-consumer.1.1.1.1795438299585001495.0"
_TASK = {"id": "1", "image_id": "1", "image_url": "http://127.0.0.1:9/images/1.jpg", "reply_subject": _SUBJECT}
_REPEATS = 7


def _photograph() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


_CONTENT = _photograph()


class _Nothing(BaseAdapter):
    """Answers at once, with a task or a picture."""

    def send(self, request: requests.PreparedRequest, **_more: object) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, str(request.url)
        response._content = json.dumps({"tasks": [_TASK]}).encode() if "tasks" in str(request.url) else _CONTENT
        response.raw = None
        return response

    def close(self) -> None:
        """Nothing to close."""


def main(how: str, what: str, number: int) -> None:
    if how == "wrapt":
        import wrapt

        wrapt.wrap_function_wrapper("PIL.Image", "open", lambda wrapped, _self, args, kwargs: wrapped(*args, **kwargs))
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", _Nothing())
    session.post(f"{_BASE}/jobs/1/tasks/", json={"batch_size": 1})
    took = []
    for _ in range(_REPEATS):
        spent = 0.0
        for _ in range(number):
            if what == "task":
                session.get(_TASK["image_url"])
            stream = io.BytesIO(_CONTENT)
            began = time.perf_counter()
            with contextlib.suppress(OSError):
                Image.open(stream)
            spent += time.perf_counter() - began
        took.append(spent / number * 1e6)
    print(json.dumps({"us": took}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
