"""Questions to which the answer is none of the above: rows of a pool's other classes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .pool import ClassPool

__all__ = ["check_strangers", "drawn_strangers"]

MOST = 0.9
"""Of all that a task is asked."""


def check_strangers(share: float, pool: ClassPool, ways: int, *, families: bool) -> None:
    """A DataError for a share that cannot be, or a pool without a class to spare."""
    if not 0 <= share <= MOST:
        raise DataError(f"episodes: strangers must be a share from 0 to {MOST}, got {share!r}")
    groups = len({*pool.families.tolist()}) if families else pool.classes
    if share and ways >= groups:
        raise DataError(
            f"episodes: strangers are of classes that a task of {ways} ways does not have, and the pool has {groups} "
            "in all: ask for fewer ways, or no strangers"
        )


def drawn_strangers(
    random: np.random.Generator, pool: ClassPool, classes: NDArray[np.int64], number: int, *, families: bool
) -> Tensor:
    """[B, number] rows of examples of other classes than these [B, N]; of other families, if they count.

    The class of each is uniform among the others, its example uniform in the class, each drawn by itself.
    """
    if number == 0:
        return torch.zeros(len(classes), 0, dtype=torch.long)
    group = pool.families.numpy() if families else np.arange(pool.classes)
    taken = (group == group[classes][..., None]).any(1)  # [B, C]
    others = np.argsort(taken, axis=1, kind="stable")  # those that are not taken first
    free = (~taken).sum(1, keepdims=True)  # [B, 1]
    place = (random.random((len(classes), number)) * free).astype(np.int64)
    chosen = np.take_along_axis(others, place, 1)  # [B, number]
    counts, starts = pool.counts.numpy(), pool.starts.numpy()
    pick = (random.random(chosen.shape) * counts[chosen]).astype(np.int64)
    return torch.from_numpy(starts[chosen] + pick)
