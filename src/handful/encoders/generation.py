"""Networks that make examples, and that sum up examples for them. Smooth, and without normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ExampleGenerator", "InstanceEncoder"]


class InstanceEncoder(nn.Module):
    """An example as a code, for a generator to be told what the examples of a task look like.

    Pictures pass two convolutions of stride 2; other examples one hidden layer.

    Args:
        shape: of an example.
        code: numbers in the code.
        width: channels, or hidden units.
    """

    def __init__(self, shape: Sequence[int], *, code: int, width: int = 32) -> None:
        super().__init__()
        if len(shape) == 3:
            channels = shape[0]
            area = math.prod(-(-side // 4) for side in shape[1:])
            self.layers = nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Flatten(),
                nn.Linear(width * area, code),
            )
        else:
            inputs = math.prod(shape)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, code))

    def forward(self, x: Tensor) -> Tensor:
        """[examples, *shape] -> [examples, code]."""
        return self.layers(x)  # type: ignore[no-any-return]


class ExampleGenerator(nn.Module):
    """An example from a vector of noise and code.

    A picture grows from a quarter of its sides by two doublings, each followed by a convolution, and ends in [0, 1];
    other examples come from one hidden layer and are not bounded.

    Args:
        inputs: numbers in the vector.
        shape: of an example.
        width: channels, or hidden units.
    """

    def __init__(self, inputs: int, shape: Sequence[int], *, width: int = 32) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.start: tuple[int, ...] | None = None
        if len(shape) == 3:
            self.start = (width, *(-(-side // 4) for side in shape[1:]))
            self.first = nn.Linear(inputs, math.prod(self.start))
            self.middle: nn.Module = nn.Conv2d(width, width, 3, padding=1)
            self.last: nn.Module = nn.Conv2d(width, shape[0], 3, padding=1)
        else:
            self.first, self.middle = nn.Linear(inputs, width), nn.Identity()
            self.last = nn.Linear(width, math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        """[examples, inputs] -> [examples, *shape]."""
        if self.start is None:
            return self.last(F.silu(self.first(z))).view(-1, *self.shape)  # type: ignore[no-any-return]
        x = F.silu(self.first(z)).view(-1, *self.start)
        x = F.silu(self.middle(F.interpolate(x, scale_factor=2)))
        x = self.last(F.interpolate(x, scale_factor=2))
        return torch.sigmoid(x[..., : self.shape[1], : self.shape[2]])
