"""Conv4: the four-block convolutional encoder of few-shot learning (Vinyals et al. 2016, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..errors import ShapeError, unknown_name
from ..kernels import Fused, framed, fusable, traced, unframed
from .normalization import BatchNorm, Policy
from .normalization import normalization as make_normalization

__all__ = ["Conv4"]

KINDS = (nn.Conv2d, BatchNorm, nn.MaxPool2d, nn.ReLU)
"""The layers of a block that pools."""
POOLING = (2, 2, 0, 1, False)
Layers = tuple[Any, Any]
"""The convolution and the normalization of a block."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
AT_ONCE = 1 << 18
"""Numbers of pictures that are embedded together: what lies between two blocks then stays in the processor's cache."""


@final
class Conv4(Fused, nn.Module):
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
        layers = self._fusable(x)
        z = _fused(layers, x) if layers else self.blocks(x)
        return z.mean((-2, -1)) if self.average else z.flatten(1)

    def _fusable(self, x: Tensor) -> list[Layers]:
        """The layers of each block if compiled kernels do the same, or none: pooling on a CPU, by batch statistics or
        without them where nobody asks for a derivative, in blocks that nobody has changed or watches."""
        if not self.pools or traced() or x.requires_grad or x.ndim != 4 or x.shape[0] == 0 or min(x.shape[2:]) < 16:
            return []
        layers = _as_made(self.blocks, x.shape[1])
        if not layers or not fusable(x, *(convolution.weight for convolution, _ in layers)):
            return []
        by_batch = all(layer.by_batch() for _, layer in layers)
        by_estimates = not by_batch and not torch.is_grad_enabled() and all(layer.by_estimates() for _, layer in layers)
        return layers if by_batch or by_estimates else []


def _as_made(blocks: nn.Module, channels: int) -> list[Layers]:
    """The layers of four blocks that pool pictures of so many channels, if they are those of `Conv4` still and nobody
    watches. Asked before every forward pass, so it looks into the modules' tables instead of asking the modules."""
    everywhere = vars(torch.nn.modules.module)
    outside = list(blocks._modules.values())
    if [type(block) for block in outside] != [nn.Sequential] * 4 or _watched(vars(blocks)):
        return []
    if any(everywhere[f"_global{kind}"] for kind in HOOKS):
        return []
    found: list[Layers] = []
    for block in map(vars, outside):
        layers: list[Any] = list(block["_modules"].values())
        tables = [vars(layer) for layer in layers if layer is not None]
        if tuple(map(type, layers)) != KINDS or _watched(block) or any(map(_watched, tables)):
            return []
        convolution, pool, weight = tables[0], tables[2], tables[0]["_parameters"].get("weight")
        if (
            weight is None
            or not _same(convolution, pool)
            or weight.shape != (layers[1].weight.shape[1], channels, 3, 3)
        ):
            return []
        found.append((layers[0], layers[1]))
        channels = len(weight)
    return found


def _watched(table: dict[str, Any]) -> bool:
    """Whether a module has hooks or a forward pass of its own."""
    return bool(
        table["_forward_hooks"]
        or table["_forward_pre_hooks"]
        or table["_backward_hooks"]
        or table["_backward_pre_hooks"]
        or "forward" in table
    )


def _same(convolution: dict[str, Any], pool: dict[str, Any]) -> bool:
    """Whether a convolution and a pooling have the options of `Conv4`."""
    return (
        convolution["_parameters"]["bias"] is None
        and convolution["stride"] == convolution["padding"] == convolution["dilation"] == (1, 1)
        and convolution["padding_mode"] == "zeros"
        and (pool["kernel_size"], pool["stride"], pool["padding"], pool["dilation"], pool["ceil_mode"]) == POOLING
    )


def _fused(layers: Sequence[Layers], x: Tensor) -> Tensor:
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
