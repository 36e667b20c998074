"""Do a worker's calls very often, and print what the process holds after a quarter of them and at the end; a script.

Usage: growing.py CALLS. The calls go through an adapter that answers at once; memory in kilobytes (Linux).
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys

import requests
from PIL import Image
from requests.adapters import BaseAdapter

_BASE = "http://127.0.0.1:9/api/v2"
_SUBJECT = "$JS.ACK.job_1.job-1-consumer.1.{0}.{0}.1795438299585001495.0"
_CALLS_A_TASK = 4  # tasks, image, open, result


def _photograph() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


_CONTENT = _photograph()


class _Nothing(BaseAdapter):
    """Answers at once: with the next task, its picture, or that its result is accepted."""

    number = 0

    def send(self, request: requests.PreparedRequest, **_more: object) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response.request, response.url, response.raw = 200, request, str(request.url), None
        response._content = self._answer(str(request.url))
        return response

    def _answer(self, url: str) -> bytes:
        if url.endswith(".jpg"):
            return _CONTENT
        if url.endswith("/tasks/"):
            self.number += 1
        subject, name = _SUBJECT.format(self.number), f"http://127.0.0.1:9/images/{self.number}.jpg"
        task = {"id": str(self.number), "image_id": str(self.number), "image_url": name, "reply_subject": subject}
        told = {"reply_subject": subject, "status": "queued"}
        return json.dumps(
            {"tasks": [task]} if url.endswith("/tasks/") else {"status": "accepted", "tasks": [told]}
        ).encode()

    def close(self) -> None:
        """Nothing to close."""


def _held() -> tuple[int, int]:
    gc.collect()
    with open("/proc/self/status") as status:
        memory = next(line for line in status if line.startswith("VmRSS"))
    return int(memory.split()[1]), len(os.listdir("/proc/self/fd"))


def _work(session: requests.Session, tasks: int) -> None:
    for _ in range(tasks):
        (task,) = session.post(f"{_BASE}/jobs/1/tasks/", json={"batch_size": 1}).json()["tasks"]
        Image.open(io.BytesIO(session.get(task["image_url"]).content)).load()
        item = {"reply_subject": task["reply_subject"], "result": {"source_images": [], "detections": []}}
        session.post(f"{_BASE}/jobs/1/result/", json={"results": [item]})


def main(calls: int) -> None:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", _Nothing())
    quarter = max(1, calls // _CALLS_A_TASK // 4)
    _work(session, quarter)
    before = _held()
    _work(session, 3 * quarter)
    after = _held()
    print(json.dumps({"kilobytes": [after[0] - before[0]], "descriptors": [after[1] - before[1]]}))


main(int(sys.argv[1]))
