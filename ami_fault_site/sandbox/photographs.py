"""Make photographs like a moth trap's, or serve those of a folder."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter

from ami_fault_site.sandbox.options import SandboxError

MADE = 12
"""How many different photographs are made; a job's images go round them."""

SIZE = (2000, 1500)
_SMALL = (400, 300)
_GRAIN = (1000, 750)  # half the size, so that the noise has the size that sensors and JPEG leave behind
_SHEET = (214, 210, 196)
_QUALITY = 85
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
    small = []
    for seed in range(min(count, MADE)):
        written = io.BytesIO()
        with PillowImage.open(io.BytesIO(draw(seed))) as picture:
            picture.thumbnail(_SMALL)
            picture.save(written, "JPEG", quality=_QUALITY)
        small.append(written.getvalue())
    for number, photograph in enumerate(album(count)):
        (folder / photograph.name).write_bytes(small[number % MADE])


def _made(number: int) -> Photograph:
    return Photograph(f"20260923_{number:04d}.jpg", "image/jpeg", lambda: draw((number - 1) % MADE))


def _of_folder(files: list[Path], index: int) -> Photograph:
    turn, place = divmod(index, len(files))
    file = files[place]
    name = file.name if turn == 0 else f"{file.stem}_{turn + 1}{file.suffix}"
    return Photograph(name, _MEDIA_TYPES[file.suffix.lower()], file.read_bytes)


@lru_cache(maxsize=MADE)
def draw(seed: int) -> bytes:
    """Draw one photograph as JPEG: a noisy lit sheet with dark insects on it. The same seed draws the same."""
    chance = random.Random(seed)
    sheet = PillowImage.new("RGB", SIZE, _SHEET)
    _let_insects_land(sheet, chance)
    grain = PillowImage.frombytes("L", _GRAIN, chance.randbytes(_GRAIN[0] * _GRAIN[1]))
    noise = grain.resize(SIZE, PillowImage.Resampling.BILINEAR).convert("RGB")
    written = io.BytesIO()
    PillowImage.blend(sheet, noise, 0.22).save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()


def _let_insects_land(sheet: PillowImage.Image, chance: random.Random) -> None:
    for _ in range(chance.randint(3, 14)):
        length, width = chance.randint(60, 220), chance.randint(30, 90)
        shade = chance.randint(25, 110)
        insect = PillowImage.new("L", (2 * length, 2 * length), 0)
        body = ImageDraw.Draw(insect)
        body.ellipse((length // 2, length - width // 2, length * 3 // 2, length + width // 2), fill=235)
        body.polygon([(length, length), (length // 2, length // 2), (length // 2, length * 3 // 2)], fill=200)
        outline = insect.rotate(chance.uniform(0, 360)).filter(ImageFilter.GaussianBlur(3))
        place = (chance.randint(0, SIZE[0] - 2 * length), chance.randint(0, SIZE[1] - 2 * length))
        sheet.paste((shade, shade * 4 // 5, shade * 3 // 5), place, outline)
