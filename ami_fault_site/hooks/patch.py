"""Put one wrapper over one function, so that it pickles, is found out, and can be undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from inspect import getattr_static
from types import FunctionType
from typing import Any

import wrapt

_WRAPPED_AT_MOST = 50  # wrappers over each other: who wraps at every call would have us look for ever
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

    # Without its compiled part wrapt 1.16 insists on an owner; elsewhere a method of ours would only cost time.
    if getattr(wrapt.FunctionWrapper.__get__, "__defaults__", ()) is None:

        def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
            return super().__get__(instance, owner)

    def __reduce_ex__(self, protocol: object) -> str:
        return str(self.__wrapped__.__qualname__)


class _Peeled(wrapt.CallableObjectProxy):  # type: ignore[type-arg]
    """Somebody's wrapper under a hook, as it is read through the class. Put there in its stead, it is our hook again.

    Who takes a wrapper off reads the attribute, which looks like his, and puts its `__wrapped__` there: he must not
    take off ours, which is over his, and leave his own.
    """

    def __init__(self, theirs: Any, hook: Hook) -> None:
        super().__init__(theirs)
        self._self_hook = hook  # over what theirs is over

    def __get__(self, instance: object, owner: type) -> object:
        return self._self_hook.__get__(instance, owner)


class _Theirs(wrapt.CallableObjectProxy):  # type: ignore[type-arg]
    """Somebody's wrapper under a hook."""

    def __init__(self, theirs: Any, hook: Hook) -> None:
        super().__init__(theirs)
        self._self_peeled = _Peeled(theirs, hook)

    def __get__(self, instance: object, owner: type) -> object:
        return self._self_peeled if instance is None else self.__wrapped__.__get__(instance, owner)


def _find(module: str, qualified_name: str) -> object:
    return reduce(getattr, qualified_name.split("."), import_module(module))


def is_hooked(function: object) -> bool:
    """Say whether a call of this passes a hook, be it through wrappers of others which say what they wrap."""
    wrappers = 0
    while type(function) is not Hook and type(function) is not _BoundHook:
        function = getattr(function, "__wrapped__", None)
        wrappers += 1
        if function is None or wrappers > _WRAPPED_AT_MOST:
            return False
    return True


def install(owner: object, name: str, wrapper: Wrapper) -> Callable[[], None]:
    """Wrap `owner.name` and return the undo.

    The undo restores the original if the attribute is still ours; if somebody has wrapped over us since, it leaves
    theirs alone and ours turns inert. The attribute is read without being bound: read through a class, a function
    wrapper gives a new bound object each time, and whoever kept one may have put it back. One that the owner inherits
    is hooked on the owner only.
    """
    original = getattr_static(owner, name)
    is_inherited = name not in vars(owner)
    active = [True]

    def hooked(function: Callable[..., Any]) -> Hook:
        return Hook(function, wrapper, enabled=lambda: active[0])

    below = original
    if isinstance(owner, type) and isinstance(original, FunctionType) and hasattr(original, "__wrapped__"):
        below = _Theirs(original, hooked(original.__wrapped__))
    hook = hooked(below)
    setattr(owner, name, hook)

    def undo() -> None:
        active[0] = False
        now = vars(owner).get(name)
        if type(now) is _Peeled and now is getattr(below, "_self_peeled", None):
            setattr(owner, name, original.__wrapped__)
        elif now is not hook and not (type(now) is _BoundHook and now._self_parent is hook):
            return
        elif is_inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    return undo
