"""The promises of hooks.images: the damage is PIL's to find, the caller's object is left as PIL leaves it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from PIL import Image, UnidentifiedImageError

from ami_fault_site.antenna import Lease, parse_reply_subject
from ami_fault_site.faults import DAMAGE_KINDS, SUBTLE_DAMAGE_KINDS
from ami_fault_site.grammar import parse_rules
from ami_fault_site.hooks import images
from ami_fault_site.injector import Injector
from tests.stage import events, injector, jpeg, reply_subject

ORIGINAL = Image.open


@contextmanager
def hooked(folder: Path, **values: Any) -> Iterator[Injector]:
    one = injector(folder, **values)
    undo = images.install(PIL.Image, one, lambda: None)
    try:
        yield one
    finally:
        undo()


def tie(one: Injector, image_id: str = "7") -> None:
    delivery = parse_reply_subject(reply_subject(int(image_id)))
    assert delivery is not None
    one.here.image = Lease(delivery, image_id, f"http://127.0.0.1/captures/{image_id}.jpg?sig=1")


def test_the_undo_restores_the_original(tmp_path: Path) -> None:
    with hooked(tmp_path):
        assert Image.open is not ORIGINAL
    assert Image.open is ORIGINAL


def test_an_image_of_a_task_is_struck_and_booked(tmp_path: Path) -> None:
    with hooked(tmp_path, corrupt_image_rate=1.0) as one:
        tie(one)
        with pytest.raises((UnidentifiedImageError, OSError)):
            Image.open(io.BytesIO(jpeg()))
        fault, opened = events(one.run, "fault", "open")
    assert (fault.text("effect"), fault.text("subject"), fault.text("attempt")) == ("corrupt-image", "7", "")
    assert (opened.text("image"), opened.data["struck"], opened.words("eligible")) == ("7", True, ["corrupt-image"])
    assert opened.text("error") in ("UnidentifiedImageError", "OSError")


def test_an_image_that_is_not_struck_opens_as_ever_and_is_booked(tmp_path: Path) -> None:
    with hooked(tmp_path, corrupt_image_rate=0.0) as one:
        tie(one)
        with Image.open(io.BytesIO(jpeg((40, 30)))) as picture:
            assert picture.size == (40, 30)
        assert [event.text("error") for event in events(one.run, "open")] == [""]


def test_icons_and_fonts_are_never_struck(tmp_path: Path) -> None:
    icon = tmp_path / "icon.jpg"
    icon.write_bytes(jpeg())
    with hooked(tmp_path, corrupt_image_rate=1.0) as one:
        for _ in range(5):
            Image.open(icon).close()
            Image.open(io.BytesIO(jpeg())).close()
        assert events(one.run) == []


def test_one_download_ties_one_open(tmp_path: Path) -> None:
    with hooked(tmp_path, corrupt_image_rate=1.0) as one:
        tie(one)
        with pytest.raises((UnidentifiedImageError, OSError)):
            Image.open(io.BytesIO(jpeg()))
        Image.open(io.BytesIO(jpeg())).close()


@pytest.mark.parametrize("opened", ["str", "bytes", "Path"])
def test_a_path_that_is_named_permanent_is_damaged_and_named_as_pil_names_it(tmp_path: Path, opened: str) -> None:
    path, empty = tmp_path / "moth.jpg", tmp_path / "empty.jpg"
    path.write_bytes(jpeg())
    empty.write_bytes(b"")
    ways: dict[str, Callable[[Path], Any]] = {"str": str, "bytes": lambda p: str(p).encode(), "Path": Path}
    as_opened = ways[opened]
    with pytest.raises(UnidentifiedImageError) as genuine:
        Image.open(as_opened(empty))
    seen = set()
    for seed in range(30):
        with (
            hooked(tmp_path / str(seed), permanent_error_images=("moth.jpg",), seed=seed),
            pytest.raises(OSError, match=r"moth\.jpg|Truncated") as injected,
        ):
            Image.open(as_opened(path))
        seen.add(str(injected.value))
    assert str(genuine.value).replace("empty.jpg", "moth.jpg") in seen
    assert len(seen) == 2  # "cannot identify", and the cut header's own words


@pytest.mark.parametrize("kind", DAMAGE_KINDS)
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_every_damage_is_visible_at_open_even_with_load_truncated_images(kind: str, fmt: str) -> None:
    from PIL import ImageFile

    stream = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(stream, fmt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        with pytest.raises((UnidentifiedImageError, OSError)):
            images.open_damaged(ORIGINAL, kind, (stream,), {})


@pytest.mark.parametrize("kind", DAMAGE_KINDS)
def test_the_callers_object_is_named_in_the_error_and_left_where_pil_leaves_it(kind: str) -> None:
    """The genuine case is the same object with the same damaged bytes in it."""
    whole = jpeg()
    genuine = io.BytesIO(images.damage(whole[:1024], kind))
    with pytest.raises(OSError, match=r".") as real:
        ORIGINAL(genuine)
    ours = io.BytesIO(whole)
    with pytest.raises(OSError, match=r".") as injected:
        images.open_damaged(ORIGINAL, kind, (), {"fp": ours})
    assert type(injected.value) is type(real.value)
    assert str(injected.value) == str(real.value).replace(repr(genuine), repr(ours))
    assert ours.tell() == genuine.tell()
    assert not ours.closed
    ours.seek(0)
    assert ours.read() == whole


def test_a_stream_that_cannot_seek_is_read_as_pil_reads_it() -> None:
    class Pipe(io.RawIOBase):
        left = jpeg()

        def readable(self) -> bool:
            return True

        def seek(self, *_: Any) -> int:
            raise io.UnsupportedOperation("seek")

        def read(self, size: int = -1) -> bytes:
            taken, self.left = (self.left, b"") if size < 0 else (self.left[:size], self.left[size:])
            return taken

    pipe = Pipe()
    with pytest.raises(UnidentifiedImageError):
        images.open_damaged(ORIGINAL, "html", (pipe,), {})
    assert pipe.left == b""


def test_a_missing_file_is_missing_and_not_damaged(tmp_path: Path) -> None:
    with hooked(tmp_path, permanent_error_images=("gone.jpg",)), pytest.raises(FileNotFoundError):
        Image.open(tmp_path / "gone.jpg")


def test_formats_and_mode_are_passed_on(tmp_path: Path) -> None:
    with hooked(tmp_path) as one:
        tie(one)
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(jpeg()), formats=["PNG"])
        tie(one)
        Image.open(io.BytesIO(jpeg()), "r", ["JPEG"]).close()


def test_the_images_of_other_jobs_are_left_alone_when_jobs_are_named(tmp_path: Path) -> None:
    with hooked(tmp_path, corrupt_image_rate=1.0, jobs=frozenset({12})) as one:
        tie(one)
        Image.open(io.BytesIO(jpeg())).close()
        assert events(one.run, "fault") == []


# --- damage that opening does not show


SUBTLE = [(kind, fmt) for kind in SUBTLE_DAMAGE_KINDS for fmt in ("JPEG", "PNG", "GIF", "BMP", "WEBP")]
SUBTLE.remove(("truncated", "WEBP"))  # PIL decodes a WebP as a whole: a part of it is no image to it


@pytest.mark.parametrize(("kind", "fmt"), SUBTLE)
def test_subtle_damage_can_be_opened_and_is_one_all_the_same(kind: str, fmt: str) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(stream, fmt)
    with images.open_damaged(ORIGINAL, kind, (stream,), {}) as picture:  # type: ignore[attr-defined]
        assert picture.format == fmt
        assert picture.size == ((32, 24) if kind == "wrong-size" else (64, 48))
        if kind == "truncated":
            with pytest.raises((OSError, SyntaxError, ValueError)):
                picture.load()
        else:
            picture.load()


@pytest.mark.parametrize("kind", SUBTLE_DAMAGE_KINDS)
def test_subtle_damage_is_booked_as_struck_without_an_error(tmp_path: Path, kind: str) -> None:
    with hooked(tmp_path, rules=parse_rules(f"image.open: {kind}")) as one:
        tie(one)
        Image.open(io.BytesIO(jpeg())).close()
        fault, opened = events(one.run, "fault", "open")
    assert (fault.text("effect"), fault.text("kind"), fault.text("phase")) == ("corrupt-image", kind, "before")
    assert (opened.text("error"), opened.data["struck"]) == ("", True)


@pytest.mark.parametrize("size", [1, 2, 600, 1024, 1025, 5000])
def test_half_of_an_image_is_left_but_never_less_than_its_head_nor_the_whole(size: int) -> None:
    left = images.damage(bytes(size), "truncated")
    assert len(left) == max(size // 2, min(size - 1, 1024))
    assert len(left) < size


def test_the_callers_object_can_be_read_again_after_subtle_damage() -> None:
    whole = jpeg((64, 48))
    stream = io.BytesIO(whole)
    with images.open_damaged(ORIGINAL, "wrong-size", (stream,), {}) as picture:  # type: ignore[attr-defined]
        assert picture.size == (32, 24)
    assert not stream.closed
    with ORIGINAL(stream) as picture:
        assert picture.size == (64, 48)


@pytest.mark.parametrize("content", [b"", b"no image at all", jpeg()[:12]], ids=["empty", "text", "cut"])
def test_what_cannot_be_made_smaller_is_opened_as_it_is(content: bytes) -> None:
    with pytest.raises(OSError, match=r".") as real:
        ORIGINAL(io.BytesIO(content))
    with pytest.raises(OSError, match=r".") as injected:
        images.open_damaged(ORIGINAL, "wrong-size", (io.BytesIO(content),), {})
    assert type(injected.value) is type(real.value)


def test_a_picture_of_one_pixel_has_no_smaller_one() -> None:
    with images.open_damaged(ORIGINAL, "wrong-size", (io.BytesIO(jpeg((1, 1))),), {}) as picture:  # type: ignore[attr-defined]
        assert picture.size == (1, 1)


@pytest.mark.parametrize("opened", [str, lambda path: str(path).encode(), Path], ids=["str", "bytes", "Path"])
def test_an_image_that_is_opened_by_its_path_is_called_as_pil_calls_it(
    tmp_path: Path, opened: Callable[[Path], Any]
) -> None:
    path = tmp_path / "moth.jpg"
    path.write_bytes(jpeg())
    with ORIGINAL(opened(path)) as real:
        named = real.filename
    with images.open_damaged(ORIGINAL, "truncated", (opened(path),), {}) as injected:  # type: ignore[attr-defined]
        assert injected.filename == named
