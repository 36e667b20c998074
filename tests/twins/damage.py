"""Damage the file of a picture as disks, networks and people do. It knows nothing of the faults."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

from PIL import Image

_PAGE = b"<!DOCTYPE html>\n<html><body><h1>Please log in</h1><p>Your session has ended.</p></body></html>\n"


def _at_half_the_size(content: bytes) -> bytes:
    stream = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        image.resize((width // 2, height // 2)).save(stream, image.format)
    return stream.getvalue()


DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "is an empty file": lambda _: b"",
    "is a web page": lambda _: _PAGE,
    "is full of zeros": lambda content: b"\0" * len(content),
    "ends in its header": lambda content: content[:12],
    "ends in the middle": lambda content: content[: len(content) // 2],
    "is another size": _at_half_the_size,
}
"""What becomes of a file, by what it is then."""
