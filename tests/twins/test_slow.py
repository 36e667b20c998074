"""The promise of slow calls and batches: all is as with a slow service, and takes at least as long as was asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.stage import events
from tests.twins.injected import by_rules
from tests.twins.server import PAUSE, behaving

WAYS = {
    "delay before": ("is late", f"delay({PAUSE})@before"),
    "delay after": ("is late", f"delay({PAUSE})@after"),
    "trickle": ("trickles", f"trickle({PAUSE})"),
}


def ask(base: str, method: str) -> tuple[list[Any], float]:
    """Return all that a call comes to, and how many seconds it took."""
    url = f"{base}/api/v2/jobs/?ids_only=1" if method == "GET" else f"{base}/api/v2/jobs/7/result/"
    began = time.monotonic()
    with requests.Session() as session:
        response = session.request(method, url, json={} if method == "POST" else None, timeout=10)
        # Whether the connection is kept is a matter of the hop: an answer that trickles comes on one that is not.
        headers = {name: text for name, text in response.headers.items() if name != "Connection"}
        seen = [response.status_code, response.reason, headers, response.content, response.json()]
    return seen, time.monotonic() - began


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("way", WAYS)
def test_a_slow_call_comes_to_what_it_does_with_a_slow_service_and_takes_as_long(
    way: str, method: str, tmp_path: Path
) -> None:
    twin, term = WAYS[way]
    with behaving(twin) as server:
        real, real_seconds = ask(server.url, method)
    with behaving("good") as server, by_rules(tmp_path, f"api: {term}") as one:
        injected, seconds = ask(server.url, method)
        assert [event.text("effect") for event in events(one.run, "fault")] == ["slow"]
    assert injected == real
    assert min(seconds, real_seconds) >= PAUSE
