"""Every scenario strikes as its head says, and a service that loses nothing passes it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ami_fault_site.ledger import Reader
from ami_fault_site.profiles import available
from ami_fault_site.runfolder import RunFolder
from tests.e2e.conftest import clean_environment

# Site and kind of what must have struck, which takes neither a lucky nor an unlucky seed.
STRIKES = {
    "lost-answers": {("result", "reset", "after"), ("posting", "kill", "after")},
    "lost-leases": {("tasks", "reset", "after")},
    "loader-deaths": {("downloading", "kill", "before")},
    "slow-worker": {("batch", "delay", "before"), ("image", "trickle", "during")},
    "rate-limited": {
        ("tasks", "http-429", "before"), ("result", "http-429", "before"),
        ("image", "http-429", "before"), ("image", "http-503", "before"),
    },
    "flaky-images": {("image", kind, "before") for kind in ("http-503", "reset", "read-timeout", "refused")},
    "poison-image": {
        ("image", "http-403", "before"), ("open", "bad-magic", "before"), ("downloading", "kill", "before"),
    },
    "blackout": {("jobs", "refused", "before"), ("tasks", "refused", "before")},
    "everything": {
        ("fetched", "kill", "after"), ("downloading", "segv", "before"), ("batch", "abort", "during"),
        ("posting", "exit", "after"), ("image", "http-503", "before"), ("image", "http-403", "before"),
    },
}  # fmt: skip
RATES_ALONE = {"light", "medium", "heavy", "crashes", "network", "images", "transient"}  # other tests have these
SHORTER = {"blackout": {"AMI_TEST_STOP_AFTER": "12"}}


def test_every_profile_but_those_of_rates_is_tried_here() -> None:
    assert set(available()) == set(STRIKES) | RATES_ALONE


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", STRIKES)
def test_a_scenario_strikes_as_it_says_and_a_good_service_passes_it(
    name: str, wheel_python: Path, tmp_path: Path
) -> None:
    environ = clean_environment(**SHORTER.get(name, {}))
    environ.pop("COVERAGE_PROCESS_CONFIG", None)
    command = [
        str(wheel_python.with_name("ami-fault")), "run", "--sandbox", "--profile", name, "--seed", "1",
        "--images", "60", "--ack-wait", "5", "--max-deliver", "4", "--timeout", "150", "--gate", "service", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=190)

    told = json.loads(done.stdout)
    assert (done.returncode, told["outcome"]) == (0, "drained"), told["headline"]
    run = RunFolder(tmp_path / "ami-fault-runs" / "latest")
    faults = [event for event in Reader(run.ledger).new() if event.kind == "fault"]
    struck = {tuple(str(event.data[key]) for key in ("site", "kind", "phase")) for event in faults}
    assert STRIKES[name] - struck == set()
