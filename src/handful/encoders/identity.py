"""No encoder at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

__all__ = ["Identity"]


@final
class Identity(nn.Module):
    """The example itself, flattened: raw pixels, or vectors that are features already.

    Args:
        shape: shape of an example.
    """

    def __init__(self, *, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.out_features = math.prod(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, *shape] -> [examples, out_features]."""
        return x.flatten(1)
