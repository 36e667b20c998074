"""Count the events a second that processes book into one ledger; a script for an environment with this package.

Usage: append.py PROCESSES SECONDS FOLDER. The events are those that a download makes, the most frequent of a run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from ami_fault_site.ledger import Ledger

_IMAGE = {
    "job": 7, "status": 200, "error": "", "image": "17314", "name": "0117.jpg", "seconds": 0.031, "bytes": 482113,
    "task": [117, 1, 117, 1795438299585001612], "struck": False, "draw": 0.58317, "eligible": [],
}  # fmt: skip


def main(processes: int, seconds: float, folder: Path) -> None:
    folder.mkdir(parents=True)
    hear, tell = os.pipe()
    begin, go = os.pipe()
    children = [os.fork() or _book(folder, seconds, (begin, go), tell) for _ in range(processes)]
    os.close(tell)
    os.close(begin)
    time.sleep(0.2)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
    with os.fdopen(hear) as rates:
        total = sum(float(line) for line in rates)
    print(json.dumps({"per_second": [total]}))


def _book(folder: Path, seconds: float, start: tuple[int, int], tell: int) -> int:
    os.close(start[1])
    ledger = Ledger(folder, 1)
    os.read(start[0], 1)
    number, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for _ in range(100):
            ledger.append("image", **_IMAGE)
        number += 100
    os.write(tell, f"{number / took}\n".encode())
    os._exit(0)


main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
