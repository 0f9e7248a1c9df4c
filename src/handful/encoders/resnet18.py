"""ResNet-18 (He et al. 2016, arXiv:1512.03385), as Chen et al. 2019 (arXiv:1904.04232) use it for few-shot learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError, unknown_name
from ..kernels import compiled_operators
from .normalization import Policy
from .normalization import normalization as make_normalization

__all__ = ["ResNet18"]


@final
class ResNet18(nn.Module):
    """A stem and four stages of two residual blocks; the last three stages halve; averaged over the map.

    Args:
        shape: channels, height, width of a picture.
        widths: channels of each stage.
        stem: "large" (7×7 by strides of 2, then pooling; for 84×84 and above) or "small" (3×3, for 32×32).
        normalization: whose statistics normalize an example; see `handful.encoders.normalization`.
        steps: inner steps with statistics of their own (only for "per_step").

    Raises:
        ShapeError: no picture, or not four widths of at least one channel.
        UnknownNameError: no such stem or normalization.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (3, 84, 84),
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: Literal["large", "small"] = "large",
        normalization: Policy = "running",
        steps: int = 1,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ShapeError(f"ResNet18: expected a shape [channels, height, width], got {list(shape)}")
        if len(widths) != 4 or min(widths) < 1:
            raise ShapeError(f"ResNet18: expected four widths of at least one channel, got {list(widths)}")
        if stem not in ("large", "small"):
            raise unknown_name("stem", stem, ("large", "small"))
        channels, height, width = shape

        def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
            """With its normalization, on a map that is then `height`×`width`."""
            layer = make_normalization(normalization, outputs, steps=steps, area=height * width)
            bias = isinstance(layer, nn.Identity)
            return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias), layer)

        large = stem == "large"
        height, width = (-(-side // 2) if large else side for side in (height, width))
        self.stem = convolution(channels, widths[0], 7 if large else 3, 2 if large else 1)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        height, width = (-(-side // 2) if large else side for side in (height, width))
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            for number in range(2):
                stride = 2 if stage > 0 and number == 0 else 1
                height, width = -(-height // stride), -(-width // stride)
                first, second = convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1)
                plain = stride == 1 and inputs == outputs
                shortcut = nn.Identity() if plain else convolution(inputs, outputs, 1, stride)
                blocks.append(Residual(first, second, shortcut))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.shape, self.out_features = tuple(shape), widths[3]

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] -> [examples, out_features]."""
        with compiled_operators(x, self.parameters()):
            z: Tensor = self.blocks(self.pool(F.relu(self.stem(x))))
        return z.mean((-2, -1))


class Residual(nn.Module):
    """relu(second(relu(first(x))) + shortcut(x))."""

    def __init__(self, first: nn.Module, second: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.shortcut = first, second, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[examples, inputs, height, width] -> [examples, outputs, ...]."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))
