"""The promises of hooks.patch that no single seam shows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from ami_fault_site.hooks.patch import install


class Parent:
    def name(self) -> str:
        return "real"


class Child(Parent):
    pass


def shout(wrapped: Callable[..., str], _instance: object, args: tuple[Any, ...], kwargs: Any) -> str:
    return f"hooked {wrapped(*args, **kwargs)}"


def test_an_inherited_function_is_hooked_on_the_heir_only_and_leaves_no_trace() -> None:
    undo = install(Child, "name", lambda wrapped, _instance, args, kwargs: f"hooked {wrapped(*args, **kwargs)}")
    assert (Child().name(), Parent().name()) == ("hooked real", "real")
    undo()
    assert (Child().name(), "name" in vars(Child)) == ("real", False)


def test_a_hook_that_was_read_through_its_class_and_put_back_is_still_ours_to_undo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = vars(Parent)["name"]
    monkeypatch.setattr(Parent, "name", original)
    undo = install(Parent, "name", shout)
    kept = Parent.name
    Parent.name = lambda self: f"theirs {kept(self)}"  # type: ignore[method-assign]
    assert Parent().name() == "theirs hooked real"
    Parent.name = kept  # type: ignore[method-assign]
    assert Parent().name() == "hooked real"
    undo()
    assert vars(Parent)["name"] is original


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_wrapper_under_ours_is_taken_off_without_ours(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    original = vars(Parent)["name"]

    @functools.wraps(original)
    def theirs(self: Parent) -> str:
        return f"theirs {original(self)}"

    monkeypatch.setattr(Parent, "name", theirs)
    undo = install(Parent, "name", shout)

    def take_off_theirs() -> None:
        Parent.name = Parent.name.__wrapped__  # type: ignore[attr-defined, method-assign]

    assert Parent().name() == "hooked theirs real"
    assert Parent.name(Parent()) == "hooked theirs real"
    steps, alone = [take_off_theirs, undo], "hooked real"
    if first == "ours":
        steps, alone = [undo, take_off_theirs], "theirs real"
    steps[0]()
    assert Parent().name() == alone
    steps[1]()
    assert vars(Parent)["name"] is original


def test_a_hook_binds_as_a_function_does_with_its_owner_or_without() -> None:
    undo = install(Parent, "name", lambda wrapped, _instance, args, kwargs: f"hooked {wrapped(*args, **kwargs)}")
    hook, one = vars(Parent)["name"], Parent()
    assert (hook.__get__(one)(), hook.__get__(one, Parent)(), hook.__get__(None, Parent)(one)) == ("hooked real",) * 3
    undo()
