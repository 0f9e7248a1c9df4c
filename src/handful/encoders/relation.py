"""The embedding module of relation networks (Sung et al. 2018, arXiv:1711.06025, figure 2): Conv4 that keeps a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from ..errors import ShapeError
from .layout import channels_last
from .normalization import Policy
from .normalization import normalization as make_normalization

__all__ = ["RelationEncoder", "relation_block", "start_as_published"]


@final
class RelationEncoder(nn.Module):
    """Two blocks of 3×3 convolution without padding, normalization, ReLU and 2×2 pooling; two more that keep the size.

    28×28 becomes 5×5, 84×84 becomes 19×19. The features are the map, flattened; `out_maps` is its shape.

    Args:
        shape: channels, height, width of a picture.
        filters: of each block.
        normalization: whose statistics normalize an example; see `handful.encoders.normalization`.
        steps: inner steps with statistics of their own (only for "per_step").

    Raises:
        ShapeError: pictures smaller than 10×10, or no channels or filters.
        UnknownNameError: no such normalization.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (1, 28, 28),
        filters: int = 64,
        normalization: Policy = "running",
        steps: int = 1,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] < 1 or filters < 1 or min(shape[1:]) < 10:
            raise ShapeError(
                f"RelationEncoder: expected a shape [channels, height, width] of at least 10×10 and at least one "
                f"filter, got {list(shape)} and {filters} filters"
            )
        channels, height, width = shape
        blocks = []
        for number, inputs in enumerate((channels, filters, filters, filters)):
            if number < 2:
                height, width = height - 2, width - 2
            layer = make_normalization(normalization, filters, steps=steps, area=height * width)
            blocks.append(relation_block(inputs, filters, layer, padding=number // 2, pool=number < 2))
            if number < 2:
                height, width = height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        start_as_published(self)
        self.shape = tuple(shape)
        self.out_maps = (filters, height, width)
        self.out_features = math.prod(self.out_maps)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] -> [examples, out_features]."""
        z: Tensor = self.blocks(channels_last(x))
        return z.flatten(1)


def relation_block(inputs: int, outputs: int, layer: nn.Module, *, padding: int, pool: bool) -> nn.Sequential:
    """3×3 convolution, the layer that normalizes, 2×2 max-pooling if asked for, and ReLU."""
    bias = isinstance(layer, nn.Identity)
    layers = [nn.Conv2d(inputs, outputs, 3, padding=padding, bias=bias), layer]
    # ReLU after the pooling gives the same values from a quarter of the work
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.ReLU()) if pool else nn.Sequential(*layers, nn.ReLU())


def start_as_published(module: nn.Module) -> None:
    """The authors' initial weights: convolutions N(0, 2 / (k² · outputs)), linear layers N(0, 0.01²), biases of 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.ones_(layer.bias)
