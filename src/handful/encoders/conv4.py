"""Conv4: the four-block convolutional encoder of few-shot learning (Vinyals et al. 2016, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..errors import ShapeError, unknown_name
from ..kernels import framed, fusable, unframed
from .normalization import BatchNorm, Policy
from .normalization import normalization as make_normalization

__all__ = ["Conv4"]

AT_ONCE = 1 << 18
"""Numbers of pictures that are embedded together: what lies between two blocks then stays in the processor's cache."""


@final
class Conv4(nn.Module):
    """Four blocks of 3×3 convolution, normalization, ReLU and halving.

    The convolutions have no bias: normalization takes any bias away, or has one of its own.

    Args:
        shape: channels, height, width of a picture.
        filters: 64, or 32 as MAML uses on mini-ImageNet.
        downsample: "pool" (2×2 max-pooling; 28×28 becomes 1×1, 84×84 becomes 5×5) or "stride"
            (strided convolutions, MAML on Omniglot; 28×28 becomes 2×2).
        halvings: how many of the blocks halve, the last ones; fewer keep more of a small picture.
        average: average the last map over its area, so that there are `filters` features.
        normalization: whose statistics normalize an example; see `handful.encoders.normalization`.
        steps: inner steps with statistics of their own (only for "per_step").

    Raises:
        ShapeError: pictures are too small: four halvings by pooling need 16×16, three 8×8; strides need 2×2.
            Or instance normalization where a map is a single pixel.
        UnknownNameError: no such downsampling or normalization.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (1, 28, 28),
        filters: int = 64,
        downsample: Literal["pool", "stride"] = "pool",
        halvings: int = 4,
        average: bool = False,
        normalization: Policy = "running",
        steps: int = 1,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ShapeError(f"Conv4: expected a shape [channels, height, width], got {list(shape)}")
        if downsample not in ("pool", "stride"):
            raise unknown_name("downsampling", downsample, ("pool", "stride"))
        channels, height, width = shape
        if channels < 1 or filters < 1:
            raise ShapeError(f"Conv4: expected at least one channel and one filter, got {channels} and {filters}")
        pool = downsample == "pool"
        least = 2**halvings if pool else 2
        if not 0 <= halvings <= 4 or min(height, width) < least:
            raise ShapeError(
                f"Conv4: expected 0 to 4 halvings and pictures of at least {least}×{least}, "
                f"got {halvings} halvings and {height}×{width}"
            )
        blocks = []
        for number, inputs in enumerate((channels, filters, filters, filters)):
            halve = number >= 4 - halvings
            if halve and not pool:
                height, width = (height + 1) // 2, (width + 1) // 2
            layer = make_normalization(normalization, filters, steps=steps, area=height * width)
            blocks.append(_block(inputs, filters, halve and pool, halve and not pool, layer))
            if halve and pool:
                height, width = height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        self.average = average
        self.pools = pool and halvings == 4
        self.shape = tuple(shape)
        self.out_maps = (filters, 1, 1) if average else (filters, height, width)
        self.out_features = math.prod(self.out_maps)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] -> [examples, out_features]."""
        layers = list(self._layers())
        z = _fused(layers, x) if self._fusable(layers, x) else self.blocks(x)
        return z.mean((-2, -1)) if self.average else z.flatten(1)

    def _layers(self) -> Iterator[tuple[Any, Any]]:
        """The convolution and the normalization of each block."""
        for block in self.blocks:
            convolution, layer, *_ = block.children()
            yield convolution, layer

    def _fusable(self, layers: Sequence[tuple[Any, Any]], x: Tensor) -> bool:
        """Whether compiled kernels do the same as the blocks: pooling on a CPU, by batch statistics or without them
        where nobody asks for a derivative."""
        if not self.pools or x.requires_grad or x.shape[0] == 0:
            return False
        return (
            all(isinstance(layer, BatchNorm) for _, layer in layers)
            and (
                all(layer.by_batch() for _, layer in layers)
                or (not torch.is_grad_enabled() and all(layer.by_estimates() for _, layer in layers))
            )
            and all(fusable(x, convolution.weight) for convolution, _ in layers)
        )


def _fused(layers: Sequence[tuple[Any, Any]], x: Tensor) -> Tensor:
    """[examples, channels, height, width] -> [examples, *out_maps] by compiled kernels."""
    if all(layer.by_batch() for _, layer in layers):
        z = framed(x)
        for convolution, layer in layers:
            z = layer.pooled_block(z, convolution.weight)
        return unframed(z)
    parts = []
    for part in torch.split(x, max(1, AT_ONCE // x[0].numel())):
        z = framed(part)
        for convolution, layer in layers:
            z = layer.embedded_block(z, convolution.weight)
        parts.append(unframed(z))
    return torch.cat(parts)


def _block(inputs: int, filters: int, pool: bool, stride: bool, normalization: nn.Module) -> nn.Module:
    bias = isinstance(normalization, nn.Identity)
    convolution = nn.Conv2d(inputs, filters, 3, stride=2 if stride else 1, padding=1, bias=bias)
    layers: list[nn.Module] = [convolution, normalization]
    # ReLU after the pooling gives the same values from a quarter of the work
    layers += [nn.MaxPool2d(2), nn.ReLU()] if pool else [nn.ReLU()]
    return nn.Sequential(*layers)
