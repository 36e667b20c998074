"""Fork loaders that each get a few tasks and leave, as a worker does at every poll; a script.

Usage: loaders.py LOADERS TASKS. Each loader asks for as many tasks, one at a time, of an adapter that answers at once.
"""

from __future__ import annotations

import json
import os
import sys

import requests
from requests.adapters import BaseAdapter

_BASE = "http://127.0.0.1:9/api/v2"
_SUBJECT = "$JS.ACK.job_1.job-1-consumer.1.{0}.{0}.1795438299585001495.0"


class _Nothing(BaseAdapter):
    """Answers at once with the next task."""

    number = 0

    def send(self, request: requests.PreparedRequest, **_more: object) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response.request, response.url, response.raw = 200, request, str(request.url), None
        self.number += 1
        name = f"http://127.0.0.1:9/images/{self.number}.jpg"
        task = {
            "id": str(self.number), "image_id": str(self.number), "image_url": name,
            "reply_subject": _SUBJECT.format(self.number),
        }  # fmt: skip
        response._content = json.dumps({"tasks": [task]}).encode()
        return response

    def close(self) -> None:
        """Nothing to close."""


def main(loaders: int, tasks: int) -> None:
    adapter = _Nothing()
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    for loader in range(loaders):
        child = os.fork()
        if child == 0:
            adapter.number = loader * tasks
            for _ in range(tasks):
                session.post(f"{_BASE}/jobs/1/tasks/", json={"batch_size": 1})
            os._exit(0)
        os.waitpid(child, 0)
    print(json.dumps({"loaders": [loaders]}))


main(int(sys.argv[1]), int(sys.argv[2]))
