"""The twin of Koch, Zemel & Salakhutdinov 2015, "Siamese neural networks for one-shot image recognition"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ..errors import ShapeError

__all__ = ["SiameseNet"]

KERNELS = (10, 7, 4, 4)


@final
class SiameseNet(nn.Module):
    """Convolutions 10×10, 7×7, 4×4, 4×4 with ReLU, pooling after the first three, then a sigmoid layer (figure 4).

    Args:
        shape: channels, height, width of a picture, at least 65×65; 105×105 in the paper.
        widths: channels of the convolutions.
        features: units of the last layer.

    Raises:
        ShapeError: pictures are too small, or a size is below 1.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (1, 105, 105),
        widths: Sequence[int] = (64, 128, 128, 256),
        features: int = 4096,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < 65:
            raise ShapeError(f"SiameseNet: expected a shape [channels, height, width] from 65×65 on, got {list(shape)}")
        if len(widths) != 4 or min(*widths, features) < 1:
            raise ShapeError(f"SiameseNet: expected four widths and `features` of at least 1, got {widths}, {features}")
        channels, height, width = shape
        layers: list[nn.Module] = []
        for number, (outputs, kernel) in enumerate(zip(widths, KERNELS, strict=True)):
            layers += [nn.Conv2d(channels, outputs, kernel), nn.ReLU()]
            channels, height, width = outputs, height - kernel + 1, width - kernel + 1
            if number < 3:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        self.body = nn.Sequential(*layers)
        self.top = nn.Linear(channels * height * width, features)
        for layer in self.modules():  # section 3.3
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.2 if isinstance(layer, nn.Linear) else 0.01)
                assert layer.bias is not None
                nn.init.normal_(layer.bias, 0.5, 0.01)
        self.shape, self.out_features = tuple(shape), features

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] -> [examples, features], each in (0, 1)."""
        return torch.sigmoid(self.top(self.body(x).flatten(1)))
