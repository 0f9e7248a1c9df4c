from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful.recognizer import teach

SHAPES = {
    "wide": ("RGB", (300, 150), (96, 48)),
    "small": ("L", (20, 10), (20, 10)),
    "clear": ("RGBA", (97, 400), (23, 96)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_pictures_are_kept_small(tmp_path: Path, name: str) -> None:
    mode, size, expected = SHAPES[name]
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        noise = random.integers(0, 256, size=(size[1], size[0], 4), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(tmp_path / "photos" / label / "1.png")
    made = teach(tmp_path / "photos", tmp_path / "shop")
    (near, _) = made.recognize(tmp_path / "photos" / "a" / "1.png").nearest
    preview = made.collection.preview(near.id)
    assert isinstance(preview, bytes)
    with Image.open(io.BytesIO(preview)) as shown:
        assert (shown.format, shown.size) == ("JPEG", expected)
    assert near.text is None


def test_a_photo_stands_upright_and_new_ones_are_kept_too(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, :100] = 255  # white on the left; the camera says: turn by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photos" / "a" / "1.jpg", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    made = teach(tmp_path / "photos")
    made.add("b", [tmp_path / "new.png"])
    first, second = (made.collection.preview(one.id) for one in made.collection.read().examples)
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    with Image.open(io.BytesIO(first)) as turned, Image.open(io.BytesIO(second)) as plain:
        assert turned.size == (48, 96)
        assert np.asarray(turned)[:40].mean() > 250  # left is now above
        assert plain.size == (96, 48)


def test_texts_and_vectors_have_none() -> None:
    made = teach({"a": ["one text"], "b": ["another"]})
    assert [made.collection.preview(one.id) for one in made.collection.read().examples] == ["one text", "another"]
    vectors = teach({"a": [np.ones(3)], "b": [np.zeros(3)]})
    assert vectors.collection.preview(vectors.collection.read().examples[0].id) is None
