"""What the program that runs inside the examined interpreter tells, asked in this one."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import requests

from ami_fault_site.doctor import inside
from ami_fault_site.doctor.probe import Libraries, Start

SEND = "requests.Session.send"


def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def traced(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    return traced


def libraries() -> Libraries:
    return Libraries(**json.loads(json.dumps(inside.with_libraries())))


def layers(function: str) -> list[tuple[str, str]]:
    return [(module, file) for module, file in libraries().layers[function]]


def test_the_start_is_told_without_importing_what_is_asked_for() -> None:
    loops = {"ami_fault_site.sandbox.worker.loop": ["nothing", "process_batch"], "no.such": ["loop"], "wrapt": ["x"]}
    told = Start(**json.loads(json.dumps(inside.at_start(loops))))
    assert told.loops == {"ami_fault_site.sandbox.worker.loop": "process_batch", "no.such": "", "wrapt": ""}
    assert Path(told.package).name == "ami_fault_site"
    assert told.versions.keys() >= {"requests", "urllib3", "pillow", "wrapt", "python-dotenv"}
    assert {"requests", "urllib3", "PIL"} <= {*told.before, *told.after}


def test_nothing_around_a_function_is_the_function_alone() -> None:
    assert layers(SEND) == [("requests.sessions", requests.sessions.__file__)]
    assert layers("PIL.Image.open") == [("PIL.Image", PIL.Image.__file__)]


def test_layers_are_told_from_the_outside_in_by_where_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = wrapped(requests.Session.send)
    monkeypatch.setattr(requests.Session, "send", wrapped(inner))
    assert inner.__module__ == "requests.sessions"
    own = ("requests.sessions", requests.sessions.__file__)
    assert layers(SEND) == [(__name__, __file__), (__name__, __file__), own]


def test_what_is_not_written_in_python_is_told_by_its_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "open", len)
    assert layers("PIL.Image.open") == [("builtins", "")]


def test_a_wrapper_that_calls_itself_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def around(*_: Any) -> None: ...

    around.__wrapped__ = around  # type: ignore[attr-defined]
    monkeypatch.setattr(PIL.Image, "open", around)
    assert len(libraries().layers["PIL.Image.open"]) == 50


def test_what_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert libraries().failed == {
        "PIL.Image": "ModuleNotFoundError: import of PIL.Image halted; None in sys.modules"
    }  # fmt: skip


def test_each_answer_is_one_marked_line(capfd: pytest.CaptureFixture[str]) -> None:
    inside.main([json.dumps({"wrapt": ["x"]})])
    lines = capfd.readouterr().out.split("\n")
    assert [line[:18] for line in lines if line] == ["<ami-fault-doctor>", "<ami-fault-doctor>"]
    assert all(line.endswith("</ami-fault-doctor>") for line in lines if line)
