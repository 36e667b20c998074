"""The sandbox's pictures are pictures: of a real one's size, alike for a seed, each with a name of its own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from ami_fault_site.sandbox.drawing import SIZE, draw
from ami_fault_site.sandbox.options import SandboxError
from ami_fault_site.sandbox.photographs import MADE, album, write_small


def test_a_photograph_is_a_jpeg_of_the_size_of_a_real_one() -> None:
    data = draw(1)
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", SIZE)
    assert 300_000 < len(data) < 900_000


def test_the_same_seed_draws_the_same_and_another_one_something_else() -> None:
    again = draw.__wrapped__(1)
    assert again == draw(1)
    assert draw(2) != draw(1)


def test_every_image_has_a_name_of_its_own_and_pictures_go_round() -> None:
    photographs = album(30)
    assert [photographs[0].name, photographs[29].name] == ["20260923_0001.jpg", "20260923_0030.jpg"]
    assert len({photograph.name for photograph in photographs}) == 30
    assert photographs[1].content() == photographs[1 + MADE].content()


def test_the_pictures_of_a_folder_keep_their_names_and_go_round_under_new_ones(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    photographs = album(5, str(tmp_path))
    assert [one.name for one in photographs] == ["a.png", "b.JPG", "a_2.png", "b_2.JPG", "a_3.png"]
    assert photographs[2].content() == b"a.png"
    assert [one.media_type for one in photographs[:2]] == ["image/png", "image/jpeg"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"has no picture, which is a file ending in \.jpg, \.jpeg, \.png$"):
        album(3, str(tmp_path))


def test_small_photographs_have_the_names_of_the_made_ones_and_are_pictures(tmp_path: Path) -> None:
    write_small(tmp_path, MADE + 2)

    served = album(MADE + 2, str(tmp_path))
    assert [one.name for one in served] == [one.name for one in album(MADE + 2)]
    with Image.open(io.BytesIO(served[-1].content())) as picture:
        assert (picture.format, picture.size) == ("JPEG", (400, 300))
        picture.load()
    assert served[0].content() == served[MADE].content() != served[1].content()
