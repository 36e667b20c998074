"""THE table of twins: every fault, the real failure that it stands for, and how the two are compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Compared(Enum):
    """How a fault and its twin are put side by side."""

    WIRE = "wire"  # an HTTP call: what it raises or returns, what is logged, how often it is tried, the pauses between
    IMAGE = "image"  # an image that is opened and loaded, by all that it may be opened from
    DOWNLOAD = "download"  # an image that is not to be had
    DEATH = "death"  # a process: its exit status, and what its parent makes of it
    BATCH = "batch"  # a batch: what its loop is left with


@dataclass(frozen=True)
class Row:
    """A fault by its name, and its twin.

    That is, for WIRE and DOWNLOAD how a server behaves, for IMAGE what has become of a file, for DEATH how a process
    ends, for BATCH what its function does.
    """

    fault: str
    twin: str
    compared: Compared = Compared.WIRE


_BY_TWIN = {
    "refuses": ["network-error refused before"],
    "has a name that nobody knows": ["network-error dns before"],
    "is trusted by nobody": ["network-error tls before"],
    "never accepts": ["network-error connect-timeout before"],
    "resets": ["network-error reset before", "network-error reset after"],
    "closes": ["network-error closed before", "network-error closed after"],
    "never answers": [
        "network-error read-timeout before",
        "network-error read-timeout after",
        "network-error stall before",
        "network-error stall after",
    ],
    "is no web server": ["network-error garbage before", "network-error garbage after"],
    "cuts its JSON": ["network-error bad-json before", "network-error bad-json after"],
    "closes in the middle": ["network-error truncated during", "network-error closed during"],
    "resets in the middle": ["network-error reset during"],
    "falls silent in the middle": ["network-error stall during", "network-error read-timeout during"],
    "is late": ["slow delay before", "slow delay after"],
    "trickles": ["slow trickle during"],
    **{
        f"answers {status}": [f"network-error http-{status} before", f"network-error http-{status} after"]
        for status in (401, 403, 404, 410, 413, 429, 500, 502, 503, 504)
    },
    **{f"answers {status}, come back now": [f"network-error http-{status}:0 before"] for status in (413, 429, 503)},
    **{f"answers {status}, come back in 2": [f"network-error http-{status}:2 before"] for status in (429, 503)},
}

_OTHERS = (
    Row("corrupt-image empty before", "is an empty file", Compared.IMAGE),
    Row("corrupt-image html before", "is a web page", Compared.IMAGE),
    Row("corrupt-image bad-magic before", "is full of zeros", Compared.IMAGE),
    Row("corrupt-image cut-header before", "ends in its header", Compared.IMAGE),
    Row("corrupt-image truncated before", "ends in the middle", Compared.IMAGE),
    Row("corrupt-image wrong-size before", "is another size", Compared.IMAGE),
    Row("image-404 http-404 before", "answers 404", Compared.DOWNLOAD),
    Row("crash exit before", "leaves at once with 86", Compared.DEATH),
    Row("crash kill before", "is sent SIGKILL", Compared.DEATH),
    Row("crash segv before", "is sent SIGSEGV", Compared.DEATH),
    Row("crash abort before", "is sent SIGABRT", Compared.DEATH),
    Row("crash hang before", "waits for itself", Compared.DEATH),
    Row("crash sysexit before", "is left by sys.exit", Compared.DEATH),
    Row("transient-error exception before", "raises", Compared.BATCH),
    Row("slow delay batch", "is slow", Compared.BATCH),
)

TABLE = (*(Row(fault, twin) for twin, faults in _BY_TWIN.items() for fault in faults), *_OTHERS)
"""A fault on the wire is named by its effect, its kind (a status with its Retry-After behind a colon) and its phase."""


def rows(compared: Compared) -> tuple[Row, ...]:
    """Return the rows that are compared so."""
    return tuple(row for row in TABLE if row.compared is compared)
