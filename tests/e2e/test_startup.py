"""What a fresh interpreter does with the hook installed: off, on, and on but wrong."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ami_fault_site import profiles
from tests.e2e.conftest import LIST_MODULES, ON, Antenna, Workers, call, is_complete, pip, site_packages

ORIGINALS = """
    import sys
    import types

    import PIL.Image
    import requests

    for original, module in ((requests.Session.__dict__["send"], requests.sessions), (PIL.Image.open, PIL.Image)):
        assert type(original) is types.FunctionType, type(original)
        assert original.__code__.co_filename == module.__file__
        assert original.__globals__ is vars(module)
    print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith("ami_fault_site")])
    print(sorted(name for name in sys.modules if name.startswith("ami_fault_site")))
"""
WRONG = {**ON, "AMI_TEST_NETWORK_ERROR_RATE": "2"}
WENT_ON = "import requests\nprint('went on')"


def stopped(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the problems of a process that has left because its settings are wrong, before it did anything."""
    assert (ended.returncode, ended.stdout) == (78, ""), ended.stderr
    lines = ended.stderr.splitlines()
    assert all(line.startswith("ami-fault-site: ") for line in lines), lines
    return [line.removeprefix("ami-fault-site: ") for line in lines]


def succeeded(ended: subprocess.CompletedProcess[str], stderr: str = "") -> str:
    """Return the stdout of a process that has ended well and with exactly this on its stderr."""
    assert (ended.returncode, ended.stderr) == (0, stderr), ended.stdout
    return ended.stdout


def made(workers: Workers) -> str:
    """Return the line that tells of a new run folder."""
    return f"ami-fault-site: run folder {workers.run_folder.path}, seed 7\n"


# Off


@pytest.mark.parametrize("switch", [{}, {"AMI_TEST_FAULT_INJECTION_ENABLED": ""}], ids=["unset", "empty"])
def test_off_means_absent(workers: Workers, switch: dict[str, str]) -> None:
    assert succeeded(workers.run(ORIGINALS, **switch)) == "[]\n[]\n"


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "False", "OFF", " "])
def test_a_word_that_means_off_costs_a_look_at_it_and_nothing_else(workers: Workers, word: str) -> None:
    ended = workers.run(ORIGINALS, AMI_TEST_FAULT_INJECTION_ENABLED=word)
    assert succeeded(ended) == "[]\n['ami_fault_site', 'ami_fault_site.startup']\n"


def test_off_does_not_look_at_the_other_settings(workers: Workers) -> None:
    assert succeeded(workers.run(WENT_ON, AMI_TEST_NETWORK_ERROR_RATE="2", AMI_TEST_NONSENSE="1")) == "went on\n"


# On


def test_on_loads_three_small_modules_until_a_library_of_a_seam_is_imported(workers: Workers) -> None:
    off = set(json.loads(succeeded(workers.run(LIST_MODULES))))
    on = set(json.loads(succeeded(workers.run(LIST_MODULES, **workers.on()))))
    assert off - on == set()
    assert on - off == {"ami_fault_site", "ami_fault_site.startup", "ami_fault_site.hooks"}
    assert not workers.run_folder.path.exists()


def test_importing_requests_arms_and_hooks_session_send(workers: Workers) -> None:
    code = """
        import sys
        import requests
        from ami_fault_site import hooks
        print(hooks.installed(), type(requests.Session.__dict__["send"]).__name__, "PIL" in sys.modules)
    """
    ended = workers.run(code, **workers.on())
    assert succeeded(ended, made(workers)) == "{'http': 'requests.Session.send'} Hook False\n"
    (events,) = workers.ledgers().values()
    assert [event.kind for event in events] == ["start", "armed", "end"]
    assert is_complete(events)
    assert (events[1].number("seed"), events[1].text("program")) == (7, "worker_0.py")


@pytest.mark.parametrize("first", ["requests, PIL.Image", "PIL.Image, requests"])
def test_both_libraries_are_hooked_in_whichever_order_they_are_imported(workers: Workers, first: str) -> None:
    code = f"""
        import {first}
        from ami_fault_site import hooks
        print(sorted(hooks.installed().items()), type(PIL.Image.open).__name__)
    """
    expected = "[('http', 'requests.Session.send'), ('image', 'PIL.Image.open')] Hook\n"
    assert succeeded(workers.run(code, **workers.on()), made(workers)) == expected
    assert workers.kinds() == ["armed", "end", "start"]


def test_asking_whether_a_library_is_there_imports_nothing_and_arms_nothing(workers: Workers) -> None:
    code = """
        import importlib.util
        import sys
        package = importlib.util.find_spec("requests")
        specs = [package, importlib.util.find_spec("PIL.Image")]
        # As find_spec("requests.sessions") asks, without importing the parent first.
        path = package.submodule_search_locations
        asked = (finder.find_spec("requests.sessions", path) for finder in sys.meta_path)
        specs.append(next(spec for spec in asked if spec is not None))
        assert importlib.util.find_spec("PIL.nothing_of_that_name") is None
        print([spec.name for spec in specs if spec.origin and spec.loader])
        print([name for name in ("requests", "requests.sessions", "PIL.Image", "wrapt") if name in sys.modules])
    """
    expected = "['requests', 'PIL.Image', 'requests.sessions']\n[]\n"
    assert succeeded(workers.run(code, **workers.on())) == expected
    assert not workers.run_folder.path.exists()


def test_a_library_that_is_missing_is_missing_as_ever(workers: Workers) -> None:
    code = """
        import sys
        sys.path[:] = [path for path in sys.path if "site-packages" not in path]
        try:
            import requests.sessions
        except ModuleNotFoundError as error:
            print(error)
    """
    assert succeeded(workers.run(code, **workers.on())) == "No module named 'requests'\n"


def test_a_library_imported_before_the_hook_is_hooked_all_the_same(workers: Workers, copied_python: Path) -> None:
    (site_packages(copied_python) / "a_first.pth").write_text("import requests\n")
    code = """
        import requests
        from ami_fault_site import hooks
        print(hooks.installed(), type(requests.Session.__dict__["send"]).__name__)
    """
    ended = workers.run(code, copied_python, **workers.on())
    assert succeeded(ended, made(workers)) == "{'http': 'requests.Session.send'} Hook\n"
    assert workers.kinds() == ["armed", "end", "start"]


def test_a_hooked_module_keeps_its_own_loader(workers: Workers) -> None:
    code = """
        import importlib.machinery
        import importlib.util
        import inspect
        import pathlib
        import pkgutil
        import PIL.Image
        import requests

        for module in (requests.sessions, PIL.Image):
            content = pathlib.Path(module.__file__).read_bytes()
            assert type(module.__spec__.loader) is importlib.machinery.SourceFileLoader
            assert module.__loader__ is module.__spec__.loader
            assert importlib.util.find_spec(module.__name__) is module.__spec__
            assert pkgutil.get_data(module.__name__, pathlib.Path(module.__file__).name) == content
            assert inspect.getsource(module) == content.decode()
        assert inspect.getsource(requests.Session.send).strip().startswith("def send(self, request")
        assert inspect.getsource(PIL.Image.open).startswith("def open(")
        assert list(inspect.signature(PIL.Image.open).parameters)[0] == "fp"
    """
    succeeded(workers.run(code, **workers.on()), made(workers))


def test_a_reloaded_module_stays_hooked(workers: Workers, antenna: Antenna) -> None:
    code = """
        import importlib
        import PIL.Image
        import requests
        import client

        importlib.reload(requests.sessions)
        importlib.reload(PIL.Image)
        print(type(requests.sessions.Session.__dict__["send"]).__name__, type(PIL.Image.open).__name__)
        client.poll()
    """
    settings = workers.on(SERVICE=antenna.url)
    assert workers.run(code, **settings).stdout == "Hook Hook\n"
    assert workers.kinds() == ["armed", "call", "end", "jobs", "start", "target"]


def test_standing_down_restores_the_very_originals(workers: Workers) -> None:
    code = """
        import sys
        import types
        import PIL.Image
        import requests
        from ami_fault_site import hooks

        names = ((requests.Session, "send"), (requests.Session, "get_adapter"), (PIL.Image, "open"))
        originals = [vars(owner)[name].__wrapped__ for owner, name in names]
        assert all(type(original) is types.FunctionType for original in originals)
        hooks.stand_down()
        assert all(vars(owner)[name] is original for (owner, name), original in zip(names, originals))
        assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("ami_fault_site")]
        hooks.stand_down()
    """
    succeeded(workers.run(code, **workers.on()), made(workers))


def test_a_hook_that_somebody_wrapped_over_turns_inert(workers: Workers, antenna: Antenna) -> None:
    code = """
        import client
        import requests
        from ami_fault_site import hooks

        ours = requests.Session.__dict__["send"]
        def theirs(self, request, **kwargs):
            return ours.__get__(self, type(self))(request, **kwargs)
        requests.Session.send = theirs
        client.poll()
        hooks.stand_down()
        assert requests.Session.__dict__["send"] is theirs
        print(client.poll())
    """
    settings = workers.on(SERVICE=antenna.url)
    assert workers.run(code, **settings).stdout == "[1]\n"
    assert workers.kinds() == ["armed", "call", "end", "jobs", "start", "target"]


def test_modules_imported_after_standing_down_are_left_alone(workers: Workers) -> None:
    code = """
        import requests
        from ami_fault_site import hooks
        hooks.stand_down()
        import PIL.Image
        print(type(PIL.Image.open).__name__)
    """
    assert succeeded(workers.run(code, **workers.on()), made(workers)) == "function\n"


def test_hooked_functions_pickle_by_reference(workers: Workers) -> None:
    (workers.folder / "my_loop.py").write_text("def process_batch(batch):\n    return batch\n")
    code = """
        import pickle
        import my_loop
        import PIL.Image
        import requests

        assert type(my_loop.process_batch).__name__ == "Hook"
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for function in (my_loop.process_batch, PIL.Image.open):
                assert pickle.loads(pickle.dumps(function, protocol)) is function
            send = pickle.loads(pickle.dumps(requests.Session.send, protocol))
            assert send.__wrapped__ is requests.Session.__dict__["send"].__wrapped__
            bound = pickle.loads(pickle.dumps(requests.Session().send, protocol))
            assert bound.__wrapped__.__func__ is send.__wrapped__
        print(pickle.dumps((my_loop.process_batch, PIL.Image.open)).hex())
    """
    ended = workers.run(code, **workers.on(AMI_TEST_TASK_LOOP="my_loop:process_batch"))
    pickled = succeeded(ended, made(workers)).strip()
    read = f"""
        import pickle
        print(*(type(function).__name__ for function in pickle.loads(bytes.fromhex("{pickled}"))))
    """
    assert succeeded(workers.run(read)) == "function function\n"


def test_a_task_loop_is_hooked_at_its_import_and_returns_what_it_returned(workers: Workers) -> None:
    (workers.folder / "my_loop.py").write_text("def process_batch(batch):\n    return len(batch)\n")
    code = """
        import requests
        import my_loop
        print(my_loop.process_batch(["$JS.ACK.job_3.job-3-consumer.1.5.6.1795438299585001495.11"]))
    """
    ended = workers.run(code, **workers.on(AMI_TEST_TASK_LOOP="my_loop:process_batch"))
    assert succeeded(ended, made(workers)) == "1\n"
    assert workers.kinds() == ["armed", "batch", "batch-end", "end", "start"]


def test_a_task_loop_in_a_module_that_arming_imports_is_hooked_once_it_is_armed(workers: Workers) -> None:
    code = """
        import sys
        sys.modules.pop("json", None)  # what measures these tests has it
        import PIL.Image
        import json
        print(type(json.loads).__name__)
    """
    ended = workers.run(code, **workers.on(AMI_TEST_TASK_LOOP="json:loads"))
    assert succeeded(ended, made(workers)) == "Hook\n"
    assert workers.kinds() == ["armed", "end", "start"]


def test_the_run_folder_and_the_seed_are_made_where_none_are_given(workers: Workers) -> None:
    code = """
        import os
        import requests
        print(os.environ["AMI_TEST_RUN_DIR"], os.environ["AMI_TEST_SEED"])
    """
    ended = workers.run(code, **ON)
    folder, seed = ended.stdout.split()
    assert succeeded(ended, f"ami-fault-site: run folder {folder}, seed {seed}\n")
    home = workers.folder / "ami-fault-runs"
    assert Path(folder).parent == home
    assert folder.endswith(f"Z-{seed}")
    assert os.readlink(home / "latest") == Path(folder).name


# On but wrong


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        pytest.param(
            {"AMI_TEST_NETWORK_ERORR_RATE": "0.1"},
            ["AMI_TEST_NETWORK_ERORR_RATE: unknown setting (did you mean AMI_TEST_NETWORK_ERROR_RATE?)"],
            id="unknown",
        ),
        pytest.param(
            {"AMI_TEST_NETWORK_ERROR_RATE": "130%"},
            ["AMI_TEST_NETWORK_ERROR_RATE='130%': a rate is a number from 0 to 1 (did you mean 1.0?)"],
            id="rate",
        ),
        pytest.param(
            {"AMI_TEST_FAULT_INJECTION_ENABLED": "maybe"},
            ["AMI_TEST_FAULT_INJECTION_ENABLED='maybe': is true or false (true/1/yes/on or false/0/no/off)"],
            id="switch",
        ),
        pytest.param(
            {"AMI_TEST_PROFILE": "medum"},
            [
                "AMI_TEST_PROFILE='medum': not a profile (did you mean medium?); "
                f"there are {', '.join(profiles.available())}, or a path"
            ],
            id="profile",
        ),
        pytest.param(
            {"AMI_ANTENNA_API_BASE_URL": "https://www.antenna.insectai.org/api/v2"},
            [
                "AMI_ANTENNA_API_BASE_URL: www.antenna.insectai.org is a protected host "
                "(AMI_TEST_PROTECTED_HOSTS=antenna.insectai.org): never tested"
            ],
            id="protected",
        ),
        pytest.param(
            {"AMI_ANTENNA_API_BASE_URL": "http://[::1/api/v2"},
            ["AMI_ANTENNA_API_BASE_URL='http://[::1/api/v2': is not a URL: Invalid IPv6 URL"],
            id="no URL",
        ),
        pytest.param(
            {"AMI_TEST_SEED": "x", "AMI_TEST_ACK_WAIT": "0", "AMI_TEST_MAX_FAULT": "1"},
            [
                "AMI_TEST_MAX_FAULT: unknown setting (did you mean AMI_TEST_MAX_FAULTS?)",
                "AMI_TEST_SEED='x': is a whole number, 0 or more",
                "AMI_TEST_ACK_WAIT='0': is a number of seconds above 0",
            ],
            id="all at once",
        ),
    ],
)
def test_wrong_settings_stop_the_worker_before_it_does_anything(
    workers: Workers, settings: dict[str, str], problems: list[str]
) -> None:
    assert stopped(workers.run(WENT_ON, **{**ON, **settings})) == problems
    assert not (workers.folder / "ami-fault-runs").exists()


def test_no_except_clause_of_the_worker_can_go_on_with_wrong_settings(workers: Workers) -> None:
    code = """
        import atexit
        atexit.register(print, "at exit")
        try:
            import requests
        except BaseException:
            print("went on")
        finally:
            print("finally")
    """
    assert stopped(workers.run(code, **WRONG)) == [
        "AMI_TEST_NETWORK_ERROR_RATE='2': a rate is a number from 0 to 1 (did you mean 0.02?)"
    ]


def test_a_broken_profile_stops_the_worker_with_path_and_line(workers: Workers) -> None:
    profile = workers.folder / "mine.env"
    profile.write_text("# mine\nAMI_TEST_SEED=1\nthis is no setting\nAMI_TEST_NETWORK_ERROR_RATE=7\n")
    assert stopped(workers.run(WENT_ON, **ON, AMI_TEST_PROFILE=str(profile))) == [
        f"{profile}:3: not NAME=value: 'this is no setting'"
    ]


def test_a_run_folder_that_cannot_be_written_stops_the_worker(workers: Workers) -> None:
    (workers.folder / "file").write_text("")
    path = workers.folder / "file" / "run"  # not even root can make it
    assert stopped(workers.run(WENT_ON, **workers.on(AMI_TEST_RUN_DIR=str(path)))) == [
        f"AMI_TEST_RUN_DIR={str(path)!r}: cannot be written: Not a directory"
    ]


def test_a_run_folder_of_other_settings_stops_the_worker(workers: Workers) -> None:
    succeeded(workers.run(WENT_ON, **workers.on()), made(workers))
    assert stopped(workers.run(WENT_ON, **workers.on(AMI_TEST_NETWORK_ERROR_RATE="0.5"))) == [
        f"AMI_TEST_RUN_DIR={str(workers.run_folder.path)!r}: made with AMI_TEST_NETWORK_ERROR_RATE='0.0', not '0.5'"
    ]


def test_a_second_worker_of_the_same_settings_joins_the_run(workers: Workers) -> None:
    succeeded(workers.run(WENT_ON, **workers.on()), made(workers))
    assert succeeded(workers.run(WENT_ON, **workers.on())) == "went on\n"
    assert [is_complete(events) for events in workers.ledgers().values()] == [True, True]


def test_a_protected_host_met_at_the_first_call_is_never_called(workers: Workers, antenna: Antenna) -> None:
    code = """
        import client
        try:
            client.poll()
        finally:
            print("went on")
    """
    ended = workers.run(code, **workers.on(SERVICE=antenna.url, AMI_TEST_PROTECTED_HOSTS="127.0.0.1"))
    assert stopped(ended) == [
        f"run folder {workers.run_folder.path}, seed 7",
        "127.0.0.1 is a protected host (AMI_TEST_PROTECTED_HOSTS=127.0.0.1): never tested",
    ]
    assert antenna.asked == []
    assert workers.kinds() == ["armed", "refused", "start"]


def test_a_missing_wrapt_stops_the_worker(workers: Workers) -> None:
    (workers.folder / "wrapt.py").write_text("raise ImportError('there is no wrapt')\n")
    ended = workers.run(WENT_ON, **workers.on(PYTHONPATH=str(workers.folder)))
    assert stopped(ended)[-1] == "cannot hook requests.sessions: ImportError: there is no wrapt"


def test_a_missing_dotenv_stops_the_worker_where_a_profile_is_asked_for(workers: Workers) -> None:
    (workers.folder / "dotenv.py").write_text("raise ImportError('there is no dotenv')\n")
    ended = workers.run(WENT_ON, **workers.on(PYTHONPATH=str(workers.folder), AMI_TEST_PROFILE="light"))
    assert stopped(ended) == ["cannot arm: ImportError: there is no dotenv"]


def test_a_task_loop_that_the_module_has_not_stops_the_worker(workers: Workers) -> None:
    (workers.folder / "my_loop.py").write_text("def process_batch(batch):\n    return batch\n")
    ended = workers.run("import my_loop\nprint('went on')", **workers.on(AMI_TEST_TASK_LOOP="my_loop:no_such"))
    assert stopped(ended)[-1] == "AMI_TEST_TASK_LOOP='my_loop:no_such': the module has no such function"


def test_a_package_of_ours_that_is_incomplete_does_not_break_the_interpreter(
    workers: Workers, copied_python: Path
) -> None:
    (site_packages(copied_python) / "ami_fault_site" / "hooks" / "__init__.py").write_text("raise KeyboardInterrupt\n")
    ended = workers.run("print('started')", copied_python, **ON)
    said = "ami-fault-site: could not start: KeyboardInterrupt: \n"
    assert (ended.returncode, ended.stdout) == (0, "started\n")
    assert set(ended.stderr.splitlines(keepends=True)) == {said}


# Not disturbed

SWITCHES = [pytest.param({}, id="off"), pytest.param(ON, id="on"), pytest.param(WRONG, id="wrong")]


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_process_that_touches_no_seam_is_not_disturbed(workers: Workers, switch: dict[str, str]) -> None:
    assert succeeded(call(workers.folder, workers.python, "-W", "error", "-c", "pass", **switch)) == ""
    assert list(workers.folder.glob("ami-fault-runs")) == []


@pytest.mark.parametrize("command", ["--version", "list"])
def test_pip_says_what_it_says_without_us(workers: Workers, command: str) -> None:
    off, on, wrong = (pip(workers.python, command, **switch) for switch in ({}, ON, WRONG))
    assert off == on == wrong


@pytest.mark.parametrize("switch", SWITCHES[1:])
def test_isolated_mode_and_an_ignored_environment_leave_the_hook_active(
    workers: Workers, switch: dict[str, str]
) -> None:
    code = "import sys; print('ami_fault_site.hooks' in sys.modules)"
    for option in ("-I", "-E", "-s"):
        assert succeeded(workers.run(code, None, (option,), **switch)) == "True\n"


def test_a_worker_in_isolated_mode_is_armed(workers: Workers) -> None:
    for option in ("-I", "-E"):
        workers.run(WENT_ON, None, (option,), **workers.on())
    assert [is_complete(events) for events in workers.ledgers().values()] == [True, True]


def test_without_site_the_hook_is_inactive_and_harmless(workers: Workers) -> None:
    code = f"""
        import sys
        sys.path.append({str(site_packages(workers.python))!r})
        import requests
        print(type(requests.Session.__dict__["send"]).__name__, "ami_fault_site" in sys.modules)
    """
    assert succeeded(workers.run(code, None, ("-S",), **WRONG)) == "function False\n"
