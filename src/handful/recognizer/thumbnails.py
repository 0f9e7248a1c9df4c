"""Small pictures of the examples, kept with them: what a page shows of an answer's nearest."""

from __future__ import annotations

import io
from collections.abc import Sequence

from ..collection import NewExample
from .inputs import Item

__all__ = ["SIDE", "with_thumbnails"]

SIDE = 96


def with_thumbnails(examples: Sequence[NewExample], items: Sequence[Item]) -> Sequence[NewExample]:
    """Pictures with a JPEG of at most 96×96 pixels each; other kinds as they are."""
    if not isinstance(items[0].content, bytes):
        return examples
    from ..pictures import in_parallel

    small = in_parallel("thumbnails", _thumbnail, items, len(items))
    return [one._replace(preview=preview) for one, preview in zip(examples, small, strict=True)]


def _thumbnail(item: Item) -> bytes:
    from PIL import Image, ImageOps

    from ..pictures import Form, formed, opened

    with opened(item.content, item.source) as image:
        image.draft(None, (2 * SIDE, 2 * SIDE))  # a large JPEG is decoded smaller
        upright = ImageOps.exif_transpose(image)
        width, height = upright.size
        scale = min(1.0, SIDE / max(width, height))
        form = Form(max(1, round(scale * height)), max(1, round(scale * width)), 3, "stretch")
        pixels = formed(upright, item.source, form)
    out = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(out, "JPEG", quality=80)
    return out.getvalue()
