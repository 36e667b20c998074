"""The promises of hooks.patch that no single seam shows."""

from __future__ import annotations

from ami_fault_site.hooks.patch import install


class Parent:
    def name(self) -> str:
        return "real"


class Child(Parent):
    pass


def test_an_inherited_function_is_hooked_on_the_heir_only_and_leaves_no_trace() -> None:
    undo = install(Child, "name", lambda wrapped, _instance, args, kwargs: f"hooked {wrapped(*args, **kwargs)}")
    assert (Child().name(), Parent().name()) == ("hooked real", "real")
    undo()
    assert (Child().name(), "name" in vars(Child)) == ("real", False)
