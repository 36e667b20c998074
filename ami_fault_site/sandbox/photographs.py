"""Make photographs like a moth trap's, or serve those of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ami_fault_site.sandbox.options import SandboxError

MADE = 12
"""How many different photographs are made; a job's images go round them."""

_MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True)
class Photograph:
    """A picture as it is served: its name, which is unique, its type and where its bytes come from."""

    name: str
    media_type: str
    content: Callable[[], bytes]


def album(count: int, folder: str | None = None) -> tuple[Photograph, ...]:
    """Return `count` photographs, each of a name of its own: made ones, or round and round those of a folder.

    Nothing is drawn or read before it is asked for. Raises SandboxError if the folder has no pictures.
    """
    if folder is None:
        return tuple(_made(number) for number in range(1, count + 1))
    files = pictures_of(folder)
    return tuple(_of_folder(files, index) for index in range(count))


def pictures_of(folder: str) -> list[Path]:
    """Return the pictures of a folder, by name; raises SandboxError if it has none."""
    files = sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in _MEDIA_TYPES)
    if not files:
        raise SandboxError(f"image_dir={folder!r}: has no picture, which is a file ending in {', '.join(_MEDIA_TYPES)}")
    return files


def write_small(folder: Path, count: int) -> None:
    """Write `count` made photographs into a folder, small ones, for whom the work of reading them is no matter."""
    from ami_fault_site.sandbox.drawing import draw_small

    small = [draw_small(seed) for seed in range(min(count, MADE))]
    for number, photograph in enumerate(album(count)):
        (folder / photograph.name).write_bytes(small[number % MADE])


def _made(number: int) -> Photograph:
    return Photograph(f"20260923_{number:04d}.jpg", "image/jpeg", lambda: _drawn((number - 1) % MADE))


def _drawn(seed: int) -> bytes:
    from ami_fault_site.sandbox.drawing import draw  # Pillow is for those who look at a picture

    return draw(seed)


def _of_folder(files: list[Path], index: int) -> Photograph:
    turn, place = divmod(index, len(files))
    file = files[place]
    name = file.name if turn == 0 else f"{file.stem}_{turn + 1}{file.suffix}"
    return Photograph(name, _MEDIA_TYPES[file.suffix.lower()], file.read_bytes)
