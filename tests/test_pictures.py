import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from handful.errors import DataError, ShapeError, UnknownNameError
from handful.pictures import Form, decode, refuse_bombs

COLOR = Form.of((2, 4), 3, "stretch")
GRAY = Form.of((2, 4), 1, "stretch")
RAMP = np.arange(8, dtype=np.uint8).reshape(2, 4) * 30


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A picture that says it is of this size, and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "CMYK", "I;16", "I", "LA", "RGBA", "YCbCr"])
@pytest.mark.parametrize("form", [COLOR, GRAY])
def test_every_mode_becomes_the_same_form(mode: str, form: Form) -> None:
    if mode.startswith("I"):
        image = Image.fromarray(RAMP.astype(np.uint16) * 257)
        image = image.convert("I") if mode == "I" else image
    else:
        image = Image.fromarray(RAMP).convert(mode)
    made = decode(file(image, "TIFF"), "x", form)
    assert made.shape == form.shape
    assert made.dtype == np.uint8
    expected = np.where(RAMP > 127, 255, 0) if mode == "1" else RAMP
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= (255 if mode == "1" else 2)  # "1" is dithered


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (4, 2), (10, 20, 30, 0))
    assert (decode(file(image), "x", COLOR) == 255).all()
    palette = Image.new("P", (4, 2), 0)
    assert (decode(file(palette, transparency=0), "x", COLOR) == 255).all()


def test_the_orientation_that_a_camera_wrote_is_applied() -> None:
    upright = Image.fromarray(RAMP)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    lying = upright.rotate(90, expand=True)
    made = decode(file(lying, "PNG", exif=exif), "x", GRAY)
    assert np.array_equal(made[0], RAMP)


def test_fits() -> None:
    image = Image.fromarray(np.tile(np.array([0, 0, 200, 200, 0, 0], np.uint8), (2, 1)))
    cropped, padded, stretched = (decode(file(image), "x", Form.of(2, 1, fit))[0] for fit in ("crop", "pad", "stretch"))
    assert (cropped == 200).all()
    assert padded.shape == stretched.shape == (2, 2)
    assert stretched[0, 0] == stretched[0, 1] != 200


def test_giants_are_refused_before_they_are_decoded() -> None:
    for side, said in ((9_000, "81000000|9000×9000"), (10_000, "refused"), (60_000, "refused")):
        with pytest.raises(DataError, match=f"giant.png.*{'refused' if side > 9000 else said}"), refuse_bombs():
            decode(png_header(side, side), "giant.png", GRAY)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"hello", "not a picture of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
        (file(Image.fromarray(RAMP), "JPEG")[:-30], "cut short or damaged"),
        (png_header(4, 2), "cut short or damaged"),
        (file(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "real numbers"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=f"^here.jpg: .*{said}"):
        decode(content, "here.jpg", COLOR)


def test_forms_that_cannot_be() -> None:
    for size in (0, 5000, (1, 2, 3)):
        with pytest.raises(ShapeError, match="1 to 4096 pixels"):
            Form.of(size, 3, "crop")
    with pytest.raises(ShapeError, match="1 channel"):
        Form.of(8, 4, "crop")
    with pytest.raises(UnknownNameError, match="crop, pad, stretch"):
        Form.of(8, 3, "fill")  # type: ignore[arg-type]
