"""What keeps a test from doing more than it was asked for, and a worker from paying for our troubles."""

from __future__ import annotations

import shlex
import textwrap

from tests.e2e.conftest import Antenna, Workers, call, eventually, is_complete

ALWAYS = {"AMI_TEST_NETWORK_ERROR_RATE": "1"}
STOPPED = "the stop file is there"


def test_a_closed_stderr_harms_nothing(workers: Workers, antenna: Antenna) -> None:
    code = """
        import client
        for _ in range(3):
            client.poll()
            for task in client.lease(2):
                assert client.look(task) == (1, 1)
                assert client.answer(task) == "accepted"
        print("done")
    """
    ended = call(
        workers.folder,
        "sh",
        "-c",
        f"exec {shlex.join(workers.command(code))} 2>&-",
        **workers.on(SERVICE=antenna.url),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    (events,) = workers.ledgers().values()
    assert is_complete(events)


def test_wrong_settings_stop_a_worker_that_has_no_stderr(workers: Workers) -> None:
    command = workers.command("import requests\nprint('went on')")
    settings = workers.on(AMI_TEST_NETWORK_ERROR_RATE="2")
    ended = call(workers.folder, "sh", "-c", f"exec {shlex.join(command)} 2>&-", **settings)
    assert (ended.returncode, ended.stdout, ended.stderr) == (78, "", "")


def test_a_closed_stdout_harms_nothing(workers: Workers, antenna: Antenna) -> None:
    command = workers.command("import client\nassert client.poll() == [1]")
    settings = workers.on(SERVICE=antenna.url)
    ended = call(workers.folder, "sh", "-c", f"exec {shlex.join(command)} >&-", **settings)
    assert ended.returncode == 0, ended.stderr
    (events,) = workers.ledgers().values()
    assert is_complete(events)


def test_the_stop_file_ends_injection_in_every_process(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import client

        for _ in range(2):
            os.fork()
        spared = 0
        while spared < 3:
            spared += client.survives(client.poll)
        print("went on", flush=True)
    """
    process = workers.start(code, **workers.on(SERVICE=antenna.url, **ALWAYS))

    def all_struck() -> bool:
        ledgers = workers.read()[0].values()
        return sum("fault" in [event.kind for event in events] for events in ledgers) == 4

    eventually(all_struck, "each of the four processes is struck")
    assert antenna.asked == []
    workers.run_folder.stop_file.touch()
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "went on\n" * 4), complained
    eventually(lambda: workers.kinds().count("end") == 4, "the children have ended")
    for events in workers.ledgers().values():
        assert is_complete(events)
        decisions = [(event.kind, event.text("why")) for event in events if event.kind in ("fault", "withheld")]
        faults = decisions.count(("fault", ""))
        assert faults > 0
        assert decisions[faults:] == [("withheld", STOPPED)] * 3


def test_sixteen_racing_processes_strike_exactly_as_often_as_allowed(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import client

        ready, go = os.pipe()
        children = []
        for _ in range(16):
            child = os.fork()
            if not child:
                os.close(go)
                os.read(ready, 1)
                for _ in range(4):
                    client.survives(client.poll)
                break
            children.append(child)
        else:
            os.close(go)
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
    """
    # Looking into a full folder takes long, so that they all look before one of them has taken anything.
    shared = workers.run_folder.path / "shared"
    shared.mkdir(parents=True)
    for number in range(5000):
        (shared / f"filler-{number}").touch()
    ended = workers.run(code, **workers.on(SERVICE=antenna.url, AMI_TEST_MAX_FAULTS="5", **ALWAYS))
    assert ended.returncode == 0, ended.stderr
    ledgers = workers.ledgers()
    assert [is_complete(events) for events in ledgers.values()] == [True] * 17
    events = [event for events in ledgers.values() for event in events]
    assert sum(event.kind == "fault" for event in events) == 5
    withheld = [event.text("why") for event in events if event.kind == "withheld"]
    assert withheld == ["AMI_TEST_MAX_FAULTS=5 is reached"] * (16 * 4 - 5)
    assert sum(asked.startswith("GET /api/v2/jobs?") for asked in antenna.asked) == 16 * 4 - 5


FULL = """
    import resource
    import signal
    import client

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    client.survives(client.poll)
    # No file of this process grows beyond this: what a full disk does, without filling one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    while not client.survives(client.poll):
        pass
    spared = [client.survives(client.poll) for _ in range(5)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    spared += [client.survives(client.poll) for _ in range(5)]
    assert all(spared), spared
    print("went on")
"""


def test_a_ledger_that_fills_up_ends_injection_and_leaves_a_sign_and_the_worker_goes_on(
    workers: Workers, antenna: Antenna
) -> None:
    process = workers.start(FULL, **workers.on(SERVICE=antenna.url, **ALWAYS))
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "went on\n"), complained
    lines = complained.splitlines()
    ours = [line for line in lines if line.endswith(f"no more faults from process {process.pid}, the worker goes on")]
    assert len(ours) == 1
    assert lines[-1] == ours[0]
    assert ours[0].startswith("ami-fault-site: the ledger cannot be written: ")
    assert workers.run_folder.is_incomplete()


def test_a_ledger_that_is_still_full_when_the_worker_ends_is_no_news(workers: Workers, antenna: Antenna) -> None:
    still_full = """
        import atexit
        atexit.register(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))
        import client
    """
    code = FULL.replace("    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n", "")
    # What is registered before the hook comes runs after it: what measures these tests can write again.
    code = code.replace("    import client\n", "").replace(
        "    client.survives", textwrap.indent(textwrap.dedent(still_full), "    ") + "    client.survives", 1
    )
    process = workers.start(code, **workers.on(SERVICE=antenna.url, **ALWAYS))
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "went on\n"), complained
    assert complained.splitlines()[-1].endswith("the worker goes on")
    assert "Traceback" not in complained


def test_a_ledger_that_filled_up_holds_all_faults_that_struck_and_no_damage(workers: Workers, antenna: Antenna) -> None:
    process = workers.start(FULL, **workers.on(SERVICE=antenna.url, **ALWAYS))
    process.communicate(timeout=60)
    (events,) = workers.ledgers().values()
    assert "end" not in [event.kind for event in events]
    assert sum(event.kind == "fault" for event in events) > 1


def test_every_process_says_once_that_it_cannot_book(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import shutil
        import client

        shutil.rmtree(os.environ["AMI_TEST_RUN_DIR"] + "/ledger")
        child = os.fork()
        client.poll()
        assert client.poll() == [1]
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    process = workers.start(code, **workers.on(SERVICE=antenna.url))
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    # The parent's file is open and stays so: only a process that begins one cannot.
    said = [line for line in complained.splitlines() if "cannot be" in line]
    assert len(said) == 1
    assert said[0].startswith("ami-fault-site: the ledger cannot be written: No such file or directory; no more faults")
    assert workers.run_folder.is_incomplete()


def test_a_run_folder_that_vanishes_ends_injection_and_not_the_worker(workers: Workers, antenna: Antenna) -> None:
    code = """
        import os
        import shutil
        import client

        assert not client.survives(client.poll)
        shutil.rmtree(os.environ["AMI_TEST_RUN_DIR"])
        print([client.survives(client.poll) for _ in range(3)])
    """
    process = workers.start(code, **workers.on(SERVICE=antenna.url, **ALWAYS))
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "[True, True, True]\n"), complained
    assert complained.splitlines()[-1].endswith(f"no more faults from process {process.pid}, the worker goes on")
    assert "Traceback" not in complained
