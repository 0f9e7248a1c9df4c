"""ResNet-12: the residual encoder of few-shot learning.

Papers: Mishra et al. 2018, arXiv:1707.03141 (SNAIL) and Oreshkin et al. 2018, arXiv:1805.10123 (TADAM), where it
comes from; Lee et al. 2019, arXiv:1904.03758 (MetaOptNet), whose widths, slope, drops and initial weights these are.
DropBlock: Ghiasi, Lin & Le 2018, arXiv:1810.12890.
    drop_prob -> drop        block_size -> drop_size        γ (eq. 1) -> rate
Departures:
    1. What is dropped does not grow over the first 40,000 steps, as MetaOptNet's does: nothing is counted.
    2. DropBlock makes up for what it dropped in each example by itself, not over the batch (algorithm 1, line 7), so
       that examples do not influence each other.
    3. A block larger than the map drops the whole channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError, SpecError
from ..kernels import compiled_operators
from .layout import channels_last
from .normalization import Policy
from .normalization import normalization as make_normalization

__all__ = ["ResNet12"]

SLOPE = 0.1
"""Of the leaky ReLU below zero."""


@final
class ResNet12(nn.Module):
    """Four residual blocks of three 3×3 convolutions, each block halving the picture.

    A block is max-pool(leaky(f(x) + shortcut(x))), where f is convolution, normalization, leaky ReLU twice and then
    convolution and normalization, and the shortcut a 1×1 convolution with normalization. The convolutions have no
    bias unless there is no normalization.

    Args:
        shape: channels, height, width of a picture.
        widths: channels of each block; (64, 128, 256, 512) is the other usual choice.
        average: average the last map over its area, so that there are `widths[-1]` features, as most papers do;
            MetaOptNet keeps the whole map (16,000 features of an 84×84 picture).
        drop: share of the values that training sets to zero after each block: single values after the first two
            blocks, squares after the last two (DropBlock). MetaOptNet: 0.1.
        drop_size: side of those squares; MetaOptNet: 5, and 2 for pictures of 32×32.
        normalization: whose statistics normalize an example; see `handful.encoders.normalization`.
        steps: inner steps with statistics of their own (only for "per_step").

    Raises:
        ShapeError: pictures smaller than 16×16, no channels, not four widths, or a `drop_size` below 1.
        SpecError: `drop` is not in [0, 1).
        UnknownNameError: no such normalization.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (3, 84, 84),
        widths: Sequence[int] = (64, 160, 320, 640),
        average: bool = True,
        drop: float = 0.0,
        drop_size: int = 5,
        normalization: Policy = "running",
        steps: int = 1,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ShapeError(f"ResNet12: expected a shape [channels, height, width], got {list(shape)}")
        channels, height, width = shape
        if channels < 1 or min(height, width) < 16:
            raise ShapeError(
                f"ResNet12: expected at least one channel and pictures of at least 16×16, as each of four blocks "
                f"halves, got {list(shape)}"
            )
        if len(widths) != 4 or min(widths) < 1:
            raise ShapeError(f"ResNet12: expected four widths of at least one channel, got {list(widths)}")
        if not 0 <= drop < 1:
            raise SpecError(f"ResNet12: expected `drop`, a share of the values, in [0, 1), got {drop}")
        if drop_size < 1:
            raise ShapeError(f"ResNet12: expected squares to drop of at least 1×1, got drop_size={drop_size}")
        blocks: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((channels, *widths[:3]), widths, strict=True)):
            layers = [make_normalization(normalization, outputs, steps=steps, area=height * width) for _ in range(4)]
            dropping = DropBlock(drop, drop_size if number >= 2 else 1) if drop else nn.Identity()
            blocks.append(Residual(inputs, outputs, layers, dropping))
            height, width = height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="leaky_relu")
        self.average, self.numbers = average, sum(leaf.numel() for leaf in self.parameters())
        self.shape = tuple(shape)
        self.out_maps = (widths[3], 1, 1) if average else (widths[3], height, width)
        self.out_features = math.prod(self.out_maps)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] -> [examples, out_features]."""
        with compiled_operators(x, self.parameters()):
            z: Tensor = self.blocks(channels_last(x) if self._channels_last_pays(x) else x)
        return z.mean((-2, -1)) if self.average else z.flatten(1)

    def _channels_last_pays(self, x: Tensor) -> bool:
        """Whether there are pixels enough for the weights, whose gradients cost more than it saves with few of them.

        Not in a graph for any number of examples, which must not depend on it.
        """
        examples, area = x.shape[0], x.shape[-2] * x.shape[-1]
        if isinstance(examples, torch.SymInt):
            return False
        return self.numbers <= 256 * examples * area or (area >= 64**2 and not torch.is_grad_enabled())


class Residual(nn.Module):
    """A block of ResNet-12: [examples, inputs, height, width] -> [examples, outputs, height // 2, width // 2].

    Args:
        inputs: channels that come.
        outputs: channels that go.
        layers: normalizations after the first, second and third convolution, and of the shortcut.
        dropping: what comes at the end.
    """

    def __init__(self, inputs: int, outputs: int, layers: Sequence[nn.Module], dropping: nn.Module) -> None:
        super().__init__()
        first, second, third, last = layers
        bias = isinstance(first, nn.Identity)
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias),
            first,
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias),
            second,
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias),
            third,
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=bias), last)
        self.dropping = dropping

    def forward(self, x: Tensor) -> Tensor:
        """The leaky ReLU after the pooling gives the same values from a quarter of the work."""
        z = F.leaky_relu(F.max_pool2d(self.body(x) + self.shortcut(x), 2), SLOPE)
        return self.dropping(z)  # type: ignore[no-any-return]


class DropBlock(nn.Module):
    """Sets squares of a map to zero while training, each channel by itself (Ghiasi et al. 2018, algorithm 1).

    Args:
        drop: share of the values that are dropped, about.
        size: side of a square; 1 is dropout of single values. At most the map's height and width.
    """

    def __init__(self, drop: float, size: int) -> None:
        super().__init__()
        self.drop, self.size = drop, size

    def forward(self, x: Tensor) -> Tensor:
        """[examples, C, height, width] -> the same."""
        if not self.training:
            return x
        kept = self.mask(x)
        share = kept.mean((1, 2, 3), keepdim=True).clamp(min=1 / kept[0].numel())
        return x * (kept / share).to(x.dtype)

    def mask(self, x: Tensor) -> Tensor:
        """0 where a square covers a value, else 1; squares lie inside the map."""
        examples, channels, height, width = x.shape
        tall, wide = min(self.size, height), min(self.size, width)
        down, across = height - tall + 1, width - wide + 1  # where a square can begin
        rate = self.drop / (tall * wide) * (height * width) / (down * across)  # eq. 1
        begins = (torch.rand(examples, channels, down, across, device=x.device) < rate).float()
        reach = F.pad(begins, (wide - 1, wide - 1, tall - 1, tall - 1))
        return 1 - F.max_pool2d(reach, (tall, wide), stride=1)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.drop}, size={self.size}"
