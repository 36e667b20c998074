"""Put one wrapper over one function, so that it pickles, is found out, and can be undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from inspect import getattr_static
from typing import Any

import wrapt

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], Mapping[str, Any]], object]


class _BoundHook(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """What a hook becomes when it is read through a class or an instance; pickles as a method does."""

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        owner = self._self_instance
        if owner is not None:
            return getattr, (owner, self.__wrapped__.__name__)
        return _find, (self.__wrapped__.__module__, self.__wrapped__.__qualname__)


class Hook(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A function wrapper that pickles by name, as a plain function does: spawned workers are sent by reference."""

    __bound_function_wrapper__ = _BoundHook

    def __reduce_ex__(self, protocol: object) -> str:
        return str(self.__wrapped__.__qualname__)


def _find(module: str, qualified_name: str) -> object:
    return reduce(getattr, qualified_name.split("."), import_module(module))


def install(owner: object, name: str, wrapper: Wrapper) -> Callable[[], None]:
    """Wrap `owner.name` and return the undo.

    The undo restores the original if the attribute is still ours; if somebody has wrapped over us since, it leaves
    theirs alone and ours turns inert. The attribute is read without being bound: read through a class, a function
    wrapper gives a new bound object each time. One that the owner inherits is hooked on the owner only.
    """
    original = getattr_static(owner, name)
    is_inherited = name not in vars(owner)
    active = [True]
    hook = Hook(original, wrapper, enabled=lambda: active[0])
    setattr(owner, name, hook)

    def undo() -> None:
        active[0] = False
        if vars(owner).get(name) is not hook:
            return
        if is_inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    return undo
