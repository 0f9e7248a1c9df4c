"""Picture files that nobody has checked, made into tensors of one form.

A picture's size is read from its header, and a giant refused before a pixel is decoded. Then the orientation that a
camera wrote (EXIF) is applied, transparency laid on white, any mode converted, and the picture fitted to its size.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from operator import index
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataError, ShapeError, unknown_name
from .progress import progress

__all__ = [
    "BROKEN",
    "FORMATS",
    "PIXELS",
    "SUFFIXES",
    "UNREAD",
    "Fit",
    "Form",
    "Resample",
    "decode",
    "formed",
    "in_parallel",
    "opened",
    "refuse_bombs",
    "unread",
]

T = TypeVar("T")
R = TypeVar("R")

Fit = Literal["crop", "stretch", "pad"]
"""Fill the size and cut what protrudes; change the proportions; or put black beside the whole picture."""

Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

PIXELS = 64_000_000
"""The most pixels that a picture may have, 8000×8000: it is refused before it is decoded."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
)
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for a file that is not what it says."""

UNREAD = (".heic", ".heif", ".avif")
"""Endings of pictures, as phones write them, that are not read."""


class Form(NamedTuple):
    """The form that all pictures get: `height`×`width` pixels of 1 channel (gray) or 3 (red, green, blue)."""

    height: int
    width: int
    channels: int
    fit: Fit
    resample: Resample = "bilinear"
    resize: int | tuple[int, int] | None = None
    """Comes first, as pretrained encoders want it: so many pixels for the shorter side, or (height, width); then the
    middle is cut out. None: in one step."""

    @staticmethod
    def of(size: int | Sequence[int], channels: int, fit: Fit) -> Form:
        """The form of a size, one number for a square or (height, width).

        Raises:
            ShapeError, UnknownNameError: no such size, number of channels or way to fit.
        """
        try:
            sides = tuple(map(index, size if isinstance(size, Sequence) else (size, size)))  # NumPy's integers too
        except TypeError:
            sides = ()
        if len(sides) != 2 or not all(1 <= side <= 4096 for side in sides):
            raise ShapeError(f"pictures: expected a size of 1 to 4096 pixels, or [height, width], got {size}")
        if channels not in (1, 3):
            raise ShapeError(f"pictures: expected 1 channel (gray) or 3 (color), got {channels}")
        if fit not in ("crop", "stretch", "pad"):
            raise unknown_name("way to fit pictures", fit, ("crop", "stretch", "pad"))
        return Form(*sides, channels, fit)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[channels, height, width]."""
        return self.channels, self.height, self.width


@contextmanager
def refuse_bombs() -> Iterator[None]:
    """Within, what Pillow would only warn of is refused. Around all threads, since filters are the process's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def opened(content: bytes, place: str) -> Iterator[Image.Image]:
    """A picture whose header has been read and whose size is allowed.

    Raises:
        DataError: not a picture, damaged (then or while it is used inside), or too large; names `place`.
    """
    if not content:
        raise DataError(f"{place}: an empty file; get it again or remove it")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > PIXELS:
                raise DataError(
                    f"{place}: refused, {width}×{height} pixels; expected at most {PIXELS:,}: make it smaller"
                )
            yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{place}: refused, it is too large; expected at most {PIXELS:,} pixels: make it smaller"
        ) from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise DataError(f"{place}: not a picture of a known kind; expected {known}: convert or remove it") from error
    except BROKEN as error:
        raise DataError(f"{place}: cut short or damaged ({error}); get it again or remove it") from error


def unread(paths: Iterable[Path]) -> str:
    """What a phone wrote that cannot be read, and what to do; empty if there is none."""
    kinds = Counter(path.suffix.lower() for path in paths)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in UNREAD if kinds[kind])
    return f"pictures that cannot be read are passed over, {counts}: convert them to JPEG" if counts else ""


def decode(content: bytes, place: str, form: Form) -> np.ndarray:
    """[channels, height, width] uint8 of a picture's file; raises as `opened`."""
    with opened(content, place) as image:
        side = 4 * max(form.width, form.height)
        image.draft(None, (side, side))  # a JPEG several times as large as needed is decoded smaller
        return formed(image, place, form)


def formed(image: Image.Image, place: str, form: Form) -> np.ndarray:
    """[channels, height, width] uint8 of an open picture."""
    size = form.width, form.height
    plain = _plain(ImageOps.exif_transpose(image), place, form.channels)
    if form.resize is not None:
        pixels = np.array(_middle(plain, form))
    else:
        pixels = np.array(plain if plain.size == size else _fitted(plain, size, form.fit))
    return pixels[None] if form.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _plain(image: Image.Image, place: str, channels: int) -> Image.Image:
    """The picture in gray or in color, eight bits a channel."""
    if image.mode == "F":
        raise DataError(f"{place}: holds real numbers, whose black and white nobody knows; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits of gray
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _fitted(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    match fit:
        case "crop":
            return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        case "pad":
            return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
        case "stretch":
            return image.resize(size, Image.Resampling.BILINEAR)


def _middle(image: Image.Image, form: Form) -> Image.Image:
    """Resized, and what is more (or less: black) cut from its middle."""
    width, height = image.size
    if isinstance(form.resize, int):
        short, long = sorted(image.size)
        sides = form.resize, int(form.resize * long / short)
        width, height = sides if width <= height else (sides[1], sides[0])
    elif form.resize is not None:
        height, width = form.resize
    image = image.resize((width, height), Image.Resampling[form.resample.upper()])
    left, top = (width - form.width) // 2, (height - form.height) // 2
    return image.crop((left, top, left + form.width, top + form.height))


def in_parallel(doing: str | None, function: Callable[[T], R], items: Iterable[T], total: int | None) -> Iterator[R]:
    """The function's answers in the order of the items, by a thread for each core, with a progress bar (if `doing`).

    A few items are read ahead, so that a stream of files is never held as a whole.
    """
    threads = min(os.cpu_count() or 1, 16)
    remaining = iter(items)
    with progress(doing, total) as advance, ThreadPoolExecutor(threads) as pool, refuse_bombs():
        while batch := list(islice(remaining, 64 * threads)):
            yield from pool.map(function, batch)
            advance(len(batch))
