"""Post numbered results for ever, from several threads, until it is killed or ends itself; a script.

Usage: posting.py URL WORKER SECONDS. With seconds above 0 it leaves by os._exit after them, in the middle of its work.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import requests

_THREADS = 3
_SUBJECT = "$JS.ACK.job_1.job-1-consumer.1.{0}.{0}.1795438299585001495.0"
_RESULT = {"pipeline": "moth_binary", "source_images": [], "detections": []}


def _leave(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(9)


def _post(url: str, worker: int, thread: int) -> None:
    session = requests.Session()
    session.trust_env = False
    for number in range(1, 1_000_000):
        sequence = (worker * _THREADS + thread) * 1_000_000 + number
        item = {"reply_subject": _SUBJECT.format(sequence), "result": _RESULT}
        body = json.dumps({"results": [item]}).encode()
        try:
            session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=20)
        except requests.RequestException:
            continue


def main(url: str, worker: int, seconds: float) -> None:
    if seconds > 0:
        threading.Thread(target=_leave, args=(seconds,), daemon=True).start()
    threads = [threading.Thread(target=_post, args=(url, worker, thread)) for thread in range(_THREADS)]
    print("posting", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
