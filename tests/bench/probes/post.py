"""Time the post of a result with a very large body over loopback, in milliseconds; a script for any environment.

Usage: post.py MEGABYTES NUMBER. What takes the body in is a process of its own, so that it takes no time of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import requests

_SUBJECT = "$JS.ACK.job_1.job-1-consumer.1.{0}.{0}.1795438299585001495.0"
_ANSWER = json.dumps({"status": "accepted", "job_id": 1, "results_queued": 0, "tasks": []}).encode()
_SINK = f"""
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
answer = {_ANSWER!r}
head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer)
while True:
    one, _ = listening.accept()
    kept = bytearray()
    buffer = bytearray(1 << 20)
    while True:
        while b"\\r\\n\\r\\n" not in kept:
            got = one.recv_into(buffer)
            if not got:
                break
            kept += buffer[:got]
        if not kept:
            break
        top, _, rest = kept.partition(b"\\r\\n\\r\\n")
        left = int(top.lower().partition(b"content-length:")[2].partition(b"\\r\\n")[0]) - len(rest)
        while left > 0:
            left -= one.recv_into(buffer)
        kept = bytearray()
        one.sendall(head + answer)
"""


def _body(megabytes: int) -> bytes:
    """Return a result body as the worker makes them: eight tasks with very many detections each."""
    box = {"bbox": {"x1": 101.25, "y1": 97.5, "x2": 161.125, "y2": 143.0}, "features": [0.0123456789] * 300}
    detections = [box] * (megabytes * 1_000_000 // 8 // len(json.dumps(box)))
    items = [
        {
            "reply_subject": _SUBJECT.format(number),
            "result": {"pipeline": "moth_binary", "source_images": [{"id": str(number)}], "detections": detections},
        }
        for number in range(8)
    ]
    return json.dumps({"results": items}).encode()


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def main(megabytes: int, number: int) -> None:
    body = _body(megabytes)
    with subprocess.Popen([sys.executable, "-S", "-c", _SINK], stdout=subprocess.PIPE, text=True) as sink:
        try:
            url = f"http://127.0.0.1:{int(_said(sink))}/api/v2/jobs/1/result/"
            session = requests.Session()
            session.trust_env = False
            took = []
            for _ in range(number + 1):
                began = time.perf_counter()
                session.post(url, data=body, headers={"Content-Type": "application/json"}).raise_for_status()
                took.append((time.perf_counter() - began) * 1000)
        finally:
            sink.kill()
    print(json.dumps({"ms": took[1:], "megabytes": [len(body) / 1e6]}))


main(int(sys.argv[1]), int(sys.argv[2]))
