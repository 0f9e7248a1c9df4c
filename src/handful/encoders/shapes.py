"""What an encoder takes, as it says itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import ShapeError

__all__ = ["shape_of"]


def shape_of(encoder: nn.Module) -> tuple[int, ...]:
    """The shape of the examples that an encoder takes.

    Raises:
        ShapeError: it does not say its `shape`.
    """
    shape = getattr(encoder, "shape", None)
    if not isinstance(shape, Sequence):
        raise ShapeError(
            f"{type(encoder).__name__} does not say its shape, which is needed here; "
            "give it that attribute, the shape of an example"
        )
    return tuple(shape)
