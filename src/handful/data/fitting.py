"""Pictures of one data set in the form of another's, so that an encoder trained on that one can look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError
from .pool import ClassPool

__all__ = ["fitted"]

LUMA = 0.299, 0.587, 0.114
"""How bright red, green and blue are (ITU-R BT.601)."""
AT_ONCE = 512


def fitted(pool: ClassPool, shape: Sequence[int]) -> ClassPool:
    """The same pictures at another size and in as many channels.

    The middle of each that has the new proportions is made larger or smaller (bilinear, over all the pixels that a
    new one covers). Gray becomes three equal channels, color its brightness.

    Args:
        pool: pictures, bytes or floats; those of no class are left out.
        shape: [channels, height, width], of 1 or 3 channels.

    Raises:
        ShapeError: not pictures of 1 or 3 channels, or asked to become none.
    """
    wanted = tuple(shape)
    if pool.shape == wanted:
        return pool
    for what, found in (("examples", pool.shape), ("an encoder for examples", wanted)):
        if len(found) != 3 or found[0] not in (1, 3) or min(found) < 1:
            raise ShapeError(
                f"pictures: expected {what} [channels, height, width] of 1 channel (gray) or 3 (color), "
                f"got {list(found)}"
            )
    rows = pool.rows()
    examples = pool.examples.new_empty(len(rows), *wanted)
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        made = _fitted(pool.take(part).to(torch.get_default_dtype()), *wanted)
        examples[start : start + AT_ONCE] = made.round() if examples.dtype == torch.uint8 else made
    return replace(pool, examples=examples, starts=pool.counts.cumsum(0) - pool.counts)


def _fitted(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """[n, channels, height, width] -> [n, *shape]."""
    if x.shape[1] > channels:
        x = (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    scale = min(x.shape[-2] / height, x.shape[-1] / width)
    tall, wide = (max(1, round(scale * side)) for side in (height, width))
    top, left = (x.shape[-2] - tall) // 2, (x.shape[-1] - wide) // 2
    middle = x[..., top : top + tall, left : left + wide]
    made = F.interpolate(middle, (height, width), mode="bilinear", antialias=True)
    return made.expand(-1, channels, -1, -1)
