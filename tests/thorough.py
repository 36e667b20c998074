"""How often the tests that count try: few times at every change, many times with THOROUGH=1 in the environment."""

from __future__ import annotations

import os

IS_THOROUGH = bool(os.environ.get("THOROUGH"))


def times(few: int, many: int) -> int:
    """Return the number that was asked for."""
    return many if IS_THOROUGH else few
