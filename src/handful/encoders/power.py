"""Features that lie about evenly around zero, whatever an encoder of nonnegative ones makes of new pictures.

Papers: Hu, Gripon & Pateux 2021, arXiv:2006.03806 (PT-MAP), for the power; Wang, Chao, Weinberger & van der Maaten
2019, arXiv:1911.04623 (SimpleShot), for the mean of the training pictures.
    β = 0.5 -> sqrt        ε -> LEAST        the mean of the training features -> mean
Departure: what is below zero counts as zero; where it means something, as to the learner PT-MAP, it keeps its sign.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .conv4 import Conv4
from .resnet12 import ResNet12

__all__ = ["PowerTransform"]

LEAST = 1e-6
"""Of a feature: below, as after a leaky ReLU, its root would be none, or infinitely steep."""


@final
class PowerTransform(nn.Module):
    """unit(unit(√f(x)) − mean).

    Args:
        encoder: of pictures, whose features are seldom below zero.

    Attributes:
        mean: [F], of unit(√f(x)) of the pictures it was trained on; a buffer, zero at first.
    """

    mean: Tensor

    def __init__(self, encoder: Conv4 | ResNet12) -> None:
        super().__init__()
        self.encoder, self.shape, self.out_features = encoder, encoder.shape, encoder.out_features
        self.register_buffer("mean", torch.zeros(self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] -> [examples, F] of length 1."""
        return normalize(self.powers(x) - self.mean, dim=-1)

    def powers(self, x: Tensor) -> Tensor:
        """What `mean` is the mean of: unit(√f(x))."""
        return normalize(self.encoder(x).clamp(min=LEAST).sqrt(), dim=-1)
