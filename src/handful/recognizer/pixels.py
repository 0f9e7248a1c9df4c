"""The pixels of examples that are pictures, and which of them can be read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DataError, StorageError
from .inputs import Item

if TYPE_CHECKING:
    from ..pictures import Form

__all__ = ["FIT", "readable", "with_pixels"]

FIT: Literal["pad"] = "pad"
"""How a picture gets its form."""
MOST_NAMED = 10
UNREADABLE = DataError, StorageError


def with_pixels(
    items: Sequence[Item], form: tuple[int, int, int] | Form | None, *, skippable: bool = True
) -> list[Any]:
    """What an encoder takes: pictures decoded to a form, or (channels, height, width); all else as it is.

    Args:
        items: the examples.
        form: of pictures.
        skippable: whether who asks may have those left out that cannot be read; the error then says how.

    Raises:
        DataError: pictures that cannot be read; names them. StorageError: of none of them there is a file to read.
    """
    if form is None:
        return [item.content for item in items]
    found = _decoded(items, form)
    broken = [one for one in found if isinstance(one, UNREADABLE)]
    if broken:
        others = f"; and {len(broken) - MOST_NAMED} more" if len(broken) > MOST_NAMED else ""
        listed = "; ".join(map(str, broken[:MOST_NAMED]))
        kind = StorageError if all(isinstance(one, StorageError) for one in broken) else DataError
        remedy = " (skip_unreadable, --skip-unreadable, leaves out what cannot be read)" if skippable else ""
        raise kind(f"{listed}{others}{remedy}")
    return found


def readable(items: Sequence[Item], form: tuple[int, int, int] | Form | None) -> list[Item]:
    """Those that can be read; warns of the others, by name."""
    if form is None:
        return list(items)
    found = _decoded(items, form)
    for one in found:
        if isinstance(one, UNREADABLE):
            warnings.warn(f"left out: {one}", stacklevel=2)
    return [item for item, one in zip(items, found, strict=True) if not isinstance(one, UNREADABLE)]


def _decoded(items: Sequence[Item], form: tuple[int, int, int] | Form) -> list[Any]:
    """The pixels of each picture, or why it cannot be read."""
    from ..pictures import Form, decode, in_parallel

    shape = form if isinstance(form, Form) else Form.of(form[1:], form[0], FIT)

    def attempt(item: Item) -> Any:
        if isinstance(item.content, StorageError):
            return item.content
        try:
            return decode(item.content, item.source, shape)
        except DataError as error:
            return error

    return list(in_parallel(None, attempt, items, len(items)))
