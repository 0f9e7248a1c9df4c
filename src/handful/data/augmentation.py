"""Pictures varied while training: all of a batch at once, by noise that is a function of (seed, t)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..episode import Episode, EpisodeSource, Query, Support
from ..errors import ShapeError, SpecError
from ..ops.seeds import generator

__all__ = ["Augmentation", "Augmented"]


@dataclass(frozen=True)
class Augmentation:
    """What varies, each picture by itself.

    Attributes:
        crop: add so many black pixels on each side and cut the size out anywhere.
        flip: mirror half of the pictures left to right.
        color: brightness, contrast and saturation times a factor from 1 − color to 1 + color each.
        cutout: set a square of this side to zero, anywhere inside (DeVries & Taylor 2017, arXiv:1708.04552).

    Raises:
        SpecError: a size below 0, or `color` outside [0, 1].
    """

    crop: int = 0
    flip: bool = False
    color: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.crop < 0 or self.cutout < 0 or not 0 <= self.color <= 1:
            raise SpecError(f"augmentation: expected crop and cutout from 0 on and color in [0, 1], got {self}")

    def __call__(self, x: Tensor, random: np.random.Generator) -> Tensor:
        """[..., channels, height, width] in [0, 1] -> the same.

        Raises:
            ShapeError: not pictures, or smaller than the square that is cut out.
        """
        if x.ndim < 3 or not x.is_floating_point() or min(x.shape[-2:]) < self.cutout:
            raise ShapeError(
                f"augmentation: expected pictures [..., channels, height, width] of at least {self.cutout} pixels, "
                f"as floats; got {x.dtype} {tuple(x.shape)}"
            )
        z = x.reshape(-1, *x.shape[-3:])
        z = _cropped(z, self.crop, random) if self.crop else z
        if self.flip:
            z = torch.where(_column(random.random(len(z)) < 0.5), z.flip(-1), z)
        z = _colored(z, self.color, random) if self.color else z
        z = _cut(z, self.cutout, random) if self.cutout else z
        return z.view(x.shape)


class Augmented:
    """Episodes whose pictures are varied, in support and query: the t-th batch is still a function of t.

    Args:
        episodes: where the tasks come from.
        augmentation: what varies.
        seed: another seed is other noise.
    """

    def __init__(self, episodes: EpisodeSource, augmentation: Augmentation, *, seed: int = 0) -> None:
        self.episodes, self.augmentation, self.seed = episodes, augmentation, seed

    def __getitem__(self, t: int) -> Episode:
        """The t-th batch of tasks, t ≥ 0."""
        episode, random = self.episodes[t], generator("augmentation", self.seed, t)
        support, query = episode.support, episode.query
        if not isinstance(support.x, Tensor) or not isinstance(query.x, Tensor):
            raise ShapeError("augmentation: expected examples that are one tensor of pictures, got tensors by name")
        return Episode(
            Support(self.augmentation(support.x, random), support.y, support.ways, support.weight),
            Query(self.augmentation(query.x, random), query.y),
        )


def _column(values: Any) -> Tensor:
    """[n] -> [n, 1, 1, 1]."""
    return torch.from_numpy(np.asarray(values)).view(-1, 1, 1, 1)


def _cropped(x: Tensor, margin: int, random: np.random.Generator) -> Tensor:
    height, width = x.shape[-2:]
    down, across = torch.from_numpy(random.integers(0, 2 * margin + 1, (2, len(x))))
    rows = down[:, None, None, None] + torch.arange(height)[:, None]  # [n, 1, height, 1]
    columns = across[:, None, None, None] + torch.arange(width)  # [n, 1, 1, width]
    picture, channel = torch.arange(len(x))[:, None, None, None], torch.arange(x.shape[1])[:, None, None]
    return F.pad(x, (margin,) * 4)[picture, channel, rows, columns]


def _colored(x: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    bright, contrast, saturation = (
        _column(random.uniform(1 - strength, 1 + strength, len(x))).to(x.dtype) for _ in range(3)
    )
    x = (x * bright).clamp(0, 1)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True).expand_as(x), x, contrast).clamp(0, 1)
    return torch.lerp(x.mean(1, keepdim=True).expand_as(x), x, saturation).clamp(0, 1)


def _cut(x: Tensor, side: int, random: np.random.Generator) -> Tensor:
    height, width = x.shape[-2:]
    top, left = (_column(random.integers(0, size - side + 1, len(x))) for size in (height, width))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)  # [n, 1, height, width]
    return x.masked_fill(inside, 0)
