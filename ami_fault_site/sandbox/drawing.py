"""Draw photographs that look like a trap's."""

from __future__ import annotations

import io
import random
from functools import lru_cache

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter

SIZE = (2000, 1500)
_SMALL = (400, 300)
_GRAIN = (1000, 750)  # half the size, so that the noise has the size that sensors and JPEG leave behind
_SHEET = (214, 210, 196)
_QUALITY = 85


@lru_cache(maxsize=16)  # as many as an album has different ones, at least
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


def draw_small(seed: int) -> bytes:
    """Draw the same photograph, small: for whom the work of reading it is no matter."""
    written = io.BytesIO()
    with PillowImage.open(io.BytesIO(draw(seed))) as picture:
        picture.thumbnail(_SMALL)
        picture.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
