"""The promises of hooks.sentry: injected errors are tagged, or nothing is sent; all else of Sentry stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import sentry_sdk

from ami_fault_site.faults import Effect
from ami_fault_site.hooks import sentry
from ami_fault_site.runfolder import HOME
from tests.stage import injector

ROOT = Path(__file__).parent.parent
PROCESSORS = sentry_sdk.scope.global_event_processors

# A worker that has Sentry. `sent` is what reached the transport: what an event says, and our tags on it.
WORKER = """
import json, logging, os, sys, threading
from ami_fault_site import hooks, startup
from ami_fault_site.faults import Effect

startup.activate()
sent, log = [], logging.getLogger("worker")

def collect(event):
    error = event.get("exception", {}).get("values", [{}])[-1].get("type", "")
    said = error or event.get("logentry", event).get("message") or event["type"]
    sent.append([said, event.get("tags") or {}])

def begin(**options):
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Collecting(Transport):
        def capture_envelope(self, envelope):
            for item in envelope.items:
                collect(item.payload.json)

        def capture_event(self, event):
            collect(event)

    sentry_sdk.init("http://key@127.0.0.1:1/1", transport=Collecting, **options)

def arm():
    import requests
    return hooks._watch.injector

def struck(injector, error, effect=Effect.NETWORK):
    injector.injected.struck(effect, error)
    return error

def report(error, text="failed"):
    try:
        raise error
    except type(error):
        log.exception(text)
"""
END = "print(json.dumps(sent))\n"


def run(folder: Path, script: str, **settings: str) -> list[Any]:
    """Run a worker in an interpreter of its own, where every warning is an error, and return what it has sent."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AMI_", "SENTRY_"))}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    environment |= {"AMI_TEST_FAULT_INJECTION_ENABLED": "true", "AMI_TEST_NETWORK_ERROR_RATE": "0", **settings}
    command = [sys.executable, "-W", "error", "-c", WORKER + script + END]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    sent: list[Any] = json.loads(done.stdout)
    return sent


def ours(folder: Path, effect: Effect) -> dict[str, str]:
    """Return the tags of an injected error in the one run that was made in this folder."""
    run_name = os.path.basename(os.path.realpath(folder / HOME / "latest"))
    assert run_name != "latest"
    return {
        "ami_fault_site.injected": "true",
        "ami_fault_site.effect": effect.value,
        "ami_fault_site.run": run_name,
    }


def test_an_injected_error_is_tagged_whether_sentry_was_there_before_us_or_came_after(tmp_path: Path) -> None:
    for name, first in {"before": "begin(); one = arm()", "after": "one = arm(); begin()"}.items():
        folder = tmp_path / name
        folder.mkdir()
        script = f"{first}\nimport requests\nreport(struck(one, requests.ConnectionError('x')))\n"
        assert run(folder, script) == [["ConnectionError", ours(folder, Effect.NETWORK)]]


def test_other_errors_have_no_tags_of_ours_and_keep_those_of_the_worker(tmp_path: Path) -> None:
    script = """
begin()
one = arm()
import requests, sentry_sdk
sentry_sdk.set_tag("node", "7")
report(requests.ConnectionError("x"))
report(struck(one, requests.ReadTimeout("x")))
report(KeyError("results"))
"""
    assert run(tmp_path, script) == [
        ["ConnectionError", {"node": "7"}],
        ["ReadTimeout", {"node": "7", **ours(tmp_path, Effect.NETWORK)}],
        ["KeyError", {"node": "7"}],
    ]


def test_a_log_line_without_an_exception_is_tagged_by_what_it_names_or_by_its_threads_last_call(tmp_path: Path) -> None:
    script = """
begin()
one = arm()
import requests
log.error("organic")
error = struck(one, requests.ConnectionError("x"), Effect.NETWORK)
log.error("Failed to post results: injected")
thread = threading.Thread(target=lambda: log.error("another thread's"))
thread.start()
thread.join()
one.injected.passed()
log.error("later")
log.error("named: %s", error)
log.error(error)
log.error("%(by)s", {"by": "a mapping"})
"""
    sent = run(tmp_path, script)
    injected = ours(tmp_path, Effect.NETWORK)
    assert sent == [
        ["organic", {}],
        ["Failed to post results: injected", injected],
        ["another thread's", {}],
        ["later", {}],
        ["named: %s", injected],
        ["x", injected],
        ["%(by)s", {}],
    ]


def test_an_error_that_leaves_the_worker_and_a_message_of_its_own_are_tagged_too(tmp_path: Path) -> None:
    script = """
begin()
one = arm()
import sentry_sdk
from ami_fault_site.faults import InjectedTransientError
error = struck(one, InjectedTransientError("x"), Effect.TRANSIENT)
sentry_sdk.capture_exception(error)
sentry_sdk.capture_message("the batch failed")
"""
    sent = run(tmp_path, script)
    tags = ours(tmp_path, Effect.TRANSIENT)
    assert sent == [["InjectedTransientError", tags], ["the batch failed", tags]]


def test_a_transaction_is_not_an_error_and_gets_no_tag(tmp_path: Path) -> None:
    script = """
begin(traces_sample_rate=1.0)
one = arm()
import requests, sentry_sdk
with sentry_sdk.start_transaction(name="batch"):
    struck(one, requests.ConnectionError("x"))
"""
    ((said, tags),) = run(tmp_path, script)
    assert said == "transaction"
    assert not any(name.startswith("ami_fault_site") for name in tags)


def test_the_workers_own_before_send_still_decides_and_sees_our_tags(tmp_path: Path) -> None:
    script = """
seen = []
def before_send(event, hint):
    seen.append(event.get("tags", {}).get("ami_fault_site.effect"))
    return None if "dropped" in str(hint["log_record"].msg) else event
begin(before_send=before_send)
one = arm()
import requests
report(struck(one, requests.ConnectionError("x")), "dropped")
report(struck(one, requests.ReadTimeout("x")), "kept")
sent.append(seen)
"""
    sent = run(tmp_path, script)
    assert sent == [["ReadTimeout", ours(tmp_path, Effect.NETWORK)], ["network-error", "network-error"]]


def test_silent_sends_no_event_of_the_run_injected_or_not_whenever_sentry_came(tmp_path: Path) -> None:
    for first in ("begin(traces_sample_rate=1.0); one = arm()", "one = arm(); begin(traces_sample_rate=1.0)"):
        script = f"""
{first}
import requests, sentry_sdk
report(struck(one, requests.ConnectionError("x")))
report(KeyError("organic"))
log.error("in words")
sentry_sdk.capture_message("of its own")
with sentry_sdk.start_transaction(name="batch"):
    pass
"""
        assert run(tmp_path, script, AMI_TEST_SENTRY="silent") == []


def test_after_standing_down_sentry_is_as_it_was(tmp_path: Path) -> None:
    script = """
begin()
arm()
log.error("silent")
hooks.stand_down()
log.error("heard")
"""
    assert run(tmp_path, script, AMI_TEST_SENTRY="silent") == [["heard", {}]]


def test_a_process_that_imports_sentry_alone_joins_no_run_and_is_not_silenced(tmp_path: Path) -> None:
    script = """
begin()
log.error("heard")
sent.append([hooks.installed(), os.listdir(".")])
"""
    assert run(tmp_path, script, AMI_TEST_SENTRY="silent") == [["heard", {}], [{}, []]]


def test_a_process_without_sentry_does_not_load_what_sentry_needs(tmp_path: Path) -> None:
    script = "arm()\nsent.append([name for name in sys.modules if 'sentry' in name])\n"
    assert run(tmp_path, script) == [[]]


def test_a_child_that_is_forked_tags_and_is_silent_as_its_parent_is(tmp_path: Path) -> None:
    script = """
begin()
one = arm()
import requests
error = struck(one, requests.ConnectionError("x"))
if os.fork() == 0:
    report(error)
    print(json.dumps(sent), flush=True)
    os._exit(0)
os.wait()
sys.exit()
"""
    assert run(tmp_path, script) == [["ConnectionError", ours(tmp_path, Effect.NETWORK)]]


def test_the_undo_takes_out_the_processor_and_makes_one_that_was_copied_inert(tmp_path: Path) -> None:
    before = list(PROCESSORS)
    undo = sentry.install(sentry_sdk, injector(tmp_path, sentry="silent"), lambda: None)
    (processor,) = PROCESSORS[len(before) :]
    assert processor({"message": "x"}, {}) is None
    undo()
    assert before == PROCESSORS
    assert processor({"message": "x"}, {}) == {"message": "x"}
    undo()


def test_tags_that_are_pairs_are_kept(tmp_path: Path) -> None:
    one = injector(tmp_path)
    one.injected.struck(Effect.SLOW)
    undo = sentry.install(sentry_sdk, one, lambda: None)
    try:
        event: Any = PROCESSORS[-1]({"tags": [("node", "7")]}, {})  # type: ignore[typeddict-item]
    finally:
        undo()
    assert event["tags"]["node"] == "7"
    assert event["tags"]["ami_fault_site.effect"] == "slow"


def test_an_event_that_we_cannot_tag_is_sent_as_it_is_and_that_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class OddError(OSError):
        @property
        def response(self) -> object:
            raise RuntimeError("no response here")

    one, odd = injector(tmp_path), OddError("odd")
    undo = sentry.install(sentry_sdk, one, lambda: None)
    try:
        hint = {"exc_info": (OddError, odd, None)}
        assert [PROCESSORS[-1]({"message": "x"}, hint) for _ in range(2)] == [{"message": "x"}] * 2
    finally:
        undo()
    said = "ami-fault-site: an event went to Sentry without a tag, please report it: RuntimeError\n"
    assert capfd.readouterr().err == said
    assert not one.run.is_incomplete()


def test_a_sentry_without_event_processors_goes_untagged_and_says_so_and_cannot_be_silenced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strange = ModuleType("sentry_sdk")
    vars(strange)["scope"] = SimpleNamespace()
    sentry.install(strange, injector(tmp_path / "tag"), lambda: None)()
    said = "injected errors go to Sentry without tags: this sentry_sdk has no global event processors"
    assert capfd.readouterr().err == f"ami-fault-site: {said}\n"
    with pytest.raises(AttributeError):
        sentry.install(strange, injector(tmp_path / "silent", sentry="silent"), lambda: None)
