"""Examples varied while training: all of a batch at once, by noise that is a function of (seed, t)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..episode import Episode, EpisodeSource, Query, Support
from ..errors import ShapeError, SpecError
from ..examples import as_floats
from ..ops.seeds import generator

__all__ = ["Augmentation", "Augmented"]

WIDER = math.log(4 / 3)
"""How much wider or higher than a picture its part may be, as a logarithm."""


@dataclass(frozen=True)
class Augmentation:
    """What varies. Each picture or text by itself, but for `rotation` and `mixup`, which go by class.

    Attributes:
        rotation: turn each class of a task by 0, 90, 180 or 270 degrees, all its pictures alike: a turned class is a
            class of its own (Santoro et al. 2016, arXiv:1605.06065).
        zoom: make a part of a picture, anywhere, as large as the picture: of `zoom` to 1 of its area, and up to a third
            higher or wider than it is (Szegedy et al. 2015, arXiv:1409.4842).
        side: with `zoom`, make the part of side × side pixels instead. A network that takes any size learns faster on
            small parts, in which things are about as large as in whole pictures.
        crop: add so many black pixels on each side and cut the size out anywhere.
        flip: mirror half of the pictures left to right.
        color: brightness, contrast and saturation times a factor from 1 − color to 1 + color each.
        cutout: set a square of this side to zero, anywhere inside (DeVries & Taylor 2017, arXiv:1708.04552).
        mixup: blend each picture with another one of its class in the same support or query, by a share from
            Beta(mixup, mixup), of which the larger part stays its own (Zhang et al. 2018, arXiv:1710.09412; here
            both have one label, which stays).
        word_dropout: replace each word of a text by none with this probability, but for one that always stays.

    Raises:
        SpecError: a number out of range, or none.
    """

    rotation: bool = False
    zoom: float = 0.0
    side: int = 0
    crop: int = 0
    flip: bool = False
    color: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        pixels = (self.side, self.crop, self.cutout)
        shares = (self.zoom, self.color, self.mixup, self.word_dropout)
        if not all(type(number) is int for number in pixels) or not all(isinstance(share, Real) for share in shares):
            raise SpecError(
                f"augmentation: expected side, crop and cutout in whole pixels, others as numbers, got {self}"
            )
        if not 0 <= self.zoom <= 1 or self.side < 0 or (self.side and not (self.zoom and self.side >= self.cutout)):
            raise SpecError(
                f"augmentation: expected zoom in [0, 1], and side only with it and not below cutout, got {self}"
            )
        if self.crop < 0 or self.cutout < 0 or not 0 <= self.color <= 1:
            raise SpecError(f"augmentation: expected crop and cutout from 0 on and color in [0, 1], got {self}")
        if not 0 <= self.mixup < math.inf or not 0 <= self.word_dropout < 1:
            raise SpecError(f"augmentation: expected mixup from 0 on and word_dropout in [0, 1), got {self}")

    def __call__(self, x: Tensor, random: np.random.Generator) -> Tensor:
        """What varies in each picture by itself.

        Args:
            x: [..., channels, height, width] floats in [0, 1], or bytes.
            random: the noise.

        Returns:
            As many pictures, floats in [0, 1]; with `side` of that size.

        Raises:
            ShapeError: not pictures, or smaller than the square that is cut out.
        """
        x = _floats(x)
        if x.ndim < 3 or not x.is_floating_point() or min(x.shape[-2:]) < self.cutout:
            raise ShapeError(
                f"augmentation: expected pictures [..., channels, height, width] of at least {self.cutout} pixels, "
                f"as floats or bytes; got {x.dtype} {tuple(x.shape)}"
            )
        z = x.reshape(-1, *x.shape[-3:])
        z = _zoomed(z, self.zoom, (self.side,) * 2 if self.side else z.shape[-2:], random) if self.zoom else z
        z = _cropped(z, self.crop, random) if self.crop else z
        if self.flip:
            z = torch.where(_column(random.random(len(z)) < 0.5, z), z.flip(-1), z)
        z = _colored(z, self.color, random) if self.color else z
        z = _cut(z, self.cutout, random) if self.cutout else z
        return z.view(*x.shape[:-2], *z.shape[-2:])

    def check(self, encoder: nn.Module) -> None:
        """Whether an encoder of pictures can be trained on the parts that `side` makes.

        Raises:
            SpecError: it makes another number of features of them than of whole pictures.
        """
        shape: tuple[int, ...] = getattr(encoder, "shape", ())
        features = getattr(encoder, "out_features", None)
        if not self.side or len(shape) != 3 or features is None:
            return
        parts = torch.zeros(2, shape[0], self.side, self.side)
        with torch.no_grad():
            found = copy.deepcopy(encoder).eval()(parts).flatten(1).shape[1]
        if found != features:
            raise SpecError(
                f"augmentation: of parts of {self.side}×{self.side} the encoder makes {found} features, and {features} "
                f"of pictures of {shape[1]}×{shape[2]}; leave `side` out, or take an encoder that averages its last "
                "map, as resnet12"
            )

    def vary(self, x: Tensor, y: Tensor, turns: Tensor, random: np.random.Generator) -> Tensor:
        """All of it: pictures or texts [B, M, *shape] of classes y [B, M], pictures turned by turns [B, N] · 90°.

        Raises:
            ShapeError: not what the augmentation is for, too small, or not square where it turns.
        """
        if self.word_dropout:
            if any((self.rotation, self.zoom, self.crop, self.flip, self.color, self.cutout, self.mixup)):
                raise ShapeError(f"augmentation: expected word_dropout alone, as texts are no pictures; got {self}")
            return _with_fewer_words(x, self.word_dropout, random)
        if x.ndim != 5 and any((self.rotation, self.zoom, self.crop, self.flip, self.color, self.cutout)):
            raise ShapeError(
                f"augmentation: expected pictures [tasks, examples, channels, height, width], got {tuple(x.shape)}: "
                "leave out all but mixup, which blends vectors too, and word_dropout, which is for words"
            )
        x = _turned(_floats(x), turns.to(y.device).gather(1, y)) if self.rotation else x
        x = self(x, random)
        return _blended(x, y, self.mixup, random) if self.mixup else x


class Augmented:
    """Episodes whose examples are varied, in support and query: the t-th batch is still a function of t.

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
            raise ShapeError("augmentation: expected examples that are one tensor, got tensors by name")
        if support.ways is None:
            raise ShapeError("augmentation: expected tasks of classes, got points of functions")
        if support.described:
            raise ShapeError("augmentation: expected tasks of examples, got descriptions of classes; leave it out")
        turns = torch.from_numpy(random.integers(0, 4, (len(support.y), support.ways)))  # [B, N]
        vary = self.augmentation.vary
        return Episode(
            Support(vary(support.x, support.y, turns, random), support.y, support.ways, support.weight),
            Query(vary(query.x, query.y, turns, random), query.y),
            None if self.augmentation.rotation else episode.classes,
        )


def _floats(x: Tensor) -> Tensor:
    floats = as_floats(x)
    assert isinstance(floats, Tensor)
    return floats


def _column(values: Any, x: Tensor) -> Tensor:
    """[n] -> [n, 1, 1, 1] where x is."""
    return torch.from_numpy(np.asarray(values)).view(-1, 1, 1, 1).to(x.device)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Pictures [B, M, channels, side, side], each turned by turns [B, M] · 90°."""
    if x.ndim < 3 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"augmentation: expected square pictures to turn, got {tuple(x.shape)}")
    made = x.clone()
    for turn in (1, 2, 3):
        chosen = turns == turn
        made[chosen] = torch.rot90(x[chosen], turn, (-2, -1))
    return made


def _blended(x: Tensor, y: Tensor, concentration: float, random: np.random.Generator) -> Tensor:
    """Each example [B, M, *shape] with the next of its class, in a random ring of each class."""
    labels = y.cpu().numpy()
    share = random.beta(concentration, concentration, labels.shape)
    own = torch.from_numpy(np.maximum(share, 1 - share)).to(x.device, x.dtype)  # [B, M]
    order = np.argsort(labels + random.random(labels.shape), axis=1)  # class by class
    ring, at = np.take_along_axis(labels, order, 1), np.arange(labels.shape[1])
    begins = np.diff(ring, axis=1, prepend=-1) != 0
    first = np.maximum.accumulate(np.where(begins, at, 0), axis=1)
    after = np.where(np.roll(begins, -1, axis=1), first, at + 1)
    partner = np.empty_like(order)
    np.put_along_axis(partner, order, np.take_along_axis(order, after, 1), 1)
    task = torch.arange(len(x)).unsqueeze(1)
    return torch.lerp(x[task, torch.from_numpy(partner)], x, own.view(*own.shape, *[1] * (x.ndim - 2)))


def _with_fewer_words(x: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """Word numbers [B, M, length], or of relations [B, M, 3, length], some of them 0; the entities stay."""
    if x.is_floating_point() or x.dtype == torch.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[2] != 3):
        raise ShapeError(
            "augmentation: word_dropout expects texts as word numbers [tasks, examples, length], or relations "
            f"[tasks, examples, 3, length]; got {x.dtype} {tuple(x.shape)}: set reading = 'words' in [data]"
        )
    words = x if x.ndim == 3 else x[:, :, 0]
    chance = torch.from_numpy(random.random(words.shape)).to(x.device).masked_fill(words == 0, -1)
    stay = (chance >= share) | (chance == chance.amax(-1, keepdim=True))
    if x.ndim == 3:
        return x * stay
    stay |= (x[:, :, 1:] == 0).any(2)
    return torch.cat([(words * stay).unsqueeze(2), x[:, :, 1:]], 2)


def _zoomed(x: Tensor, least: float, size: Sequence[int], random: np.random.Generator) -> Tensor:
    area, ratio = random.uniform(least, 1, len(x)), np.exp(random.uniform(-WIDER, WIDER, len(x)))
    part = np.minimum(np.sqrt([area * ratio, area / ratio]), 1)  # [2, n] of the width, of the height
    middle = (1 - part) * random.uniform(-1, 1, part.shape)  # where the sides are at -1 and 1
    to = np.zeros((len(x), 2, 3))
    to[:, (0, 1), (0, 1)], to[:, :, 2] = part.T, middle.T
    where = F.affine_grid(torch.from_numpy(to).to(x), [len(x), 1, *size], align_corners=False)
    return F.grid_sample(x, where, padding_mode="border", align_corners=False)


def _cropped(x: Tensor, margin: int, random: np.random.Generator) -> Tensor:
    height, width = x.shape[-2:]
    down, across = torch.from_numpy(random.integers(0, 2 * margin + 1, (2, len(x))))
    rows = down[:, None, None, None] + torch.arange(height)[:, None]  # [n, 1, height, 1]
    columns = across[:, None, None, None] + torch.arange(width)  # [n, 1, 1, width]
    picture, channel = torch.arange(len(x))[:, None, None, None], torch.arange(x.shape[1])[:, None, None]
    return F.pad(x, (margin,) * 4)[picture, channel, rows, columns]


def _colored(x: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    bright, contrast, saturation = (
        _column(random.uniform(1 - strength, 1 + strength, len(x)), x).to(x.dtype) for _ in range(3)
    )
    x = (x * bright).clamp(0, 1)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True).expand_as(x), x, contrast).clamp(0, 1)
    return torch.lerp(x.mean(1, keepdim=True).expand_as(x), x, saturation).clamp(0, 1)


def _cut(x: Tensor, side: int, random: np.random.Generator) -> Tensor:
    height, width = x.shape[-2:]
    top, left = (_column(random.integers(0, size - side + 1, len(x)), x) for size in (height, width))
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)  # [n, 1, height, width]
    return x.masked_fill(inside, 0)
