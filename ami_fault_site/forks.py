"""Have methods called around a fork, for as long as the objects live that they belong to."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod

Method = Callable[[], object]


def around_fork(after_in_child: Method, before: Method | None = None, after_in_parent: Method | None = None) -> None:
    """Call these bound methods as os.register_at_fork does, which alone would keep their object for ever."""
    methods = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**{when: _while_alive(method) for when, method in methods.items() if method is not None})


def _while_alive(method: Method) -> Method:
    kept = WeakMethod(method)

    def call() -> None:
        alive = kept()
        if alive is not None:
            alive()

    return call
