"""Cross-conformal prediction: candidate sets from a learner that cannot be asked what one more example would change.

Examples are divided into K folds of m. For each fold the learner adapts to all the others, and scores the fold's
examples and the new one alike. The p-value of a class is the share, over all n = Km examples, of those at least as
strange as the new one is to the learner that has not seen their fold. The true class then has a p-value of at most ε
no more often than

    2ε + min{ 2 (1 − ε) (K − 1) / (n + K), (1 − K/n) / (K + 1) }

and in practice about ε of the time. With folds of one example each (K = n) that is 2ε, for each class by itself too.

Sources: Vovk 2015, arXiv:1208.0806 (cross-conformal predictors); Barber, Candès, Ramdas & Tibshirani 2021,
arXiv:1905.02928, theorems 1 and 4 (K = n, and the second term); Romano, Sesia & Candès 2020, arXiv:2006.02544,
theorem 2 (for classes); Gasparin & Ramdas 2025, arXiv:2503.01495 (the first term).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mean_ranks import Ranks

__all__ = ["Folds", "fold_ranks", "folds_of", "margins", "miss_bound"]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
ROUNDING = 1e-5


class Folds(NamedTuple):
    """Examples that are held out in turn; what does not fill the folds is held out by none."""

    held: Integers  # [K, m]
    kept: Integers  # [K, n − m], all the others

    @property
    def examples(self) -> int:
        """Km, the examples held out in all."""
        return int(self.held.size)


def folds_of(examples: int, most: int) -> Folds:
    """K ≤ `most` folds of equal size, as small as can be, by the examples' places alone.

    Places say nothing about what stands there, so that examples and what is asked stay exchangeable. Examples that
    come class by class are spread over the folds.
    """
    size = -(-examples // most)
    count = examples // size
    held = np.arange(count * size).reshape(size, count).T
    kept = np.array([np.delete(np.arange(examples), rows) for rows in held], np.int64)
    return Folds(held, kept.reshape(count, examples - size))


def miss_bound(examples: int, folds: int, epsilon: float) -> float:
    """How often the true class may be missing at most, for so many examples in so many folds of equal size."""
    of_p_values = 2 * (1 - epsilon) * (folds - 1) / (examples + folds)
    of_pairs = (1 - folds / examples) / (folds + 1)
    return float(min(1.0, 2 * epsilon + min(of_p_values, of_pairs)))


def margins(distance: Floats) -> Floats:
    """Scores of all labels: the distance to a class less that to the nearest other. [..., K] -> [..., K].

    A class that the learner knows nothing of is infinitely far, and so is its score; nothing else changes by it.
    """
    ways = distance.shape[-1]
    if ways == 1:
        return distance
    nearest = np.partition(distance, 1, -1)[..., :2]
    other = np.where(distance == nearest[..., :1], nearest[..., 1:], nearest[..., :1])
    known = np.isfinite(other)
    return np.where(np.isfinite(distance), distance - np.where(known, other, 0), np.inf)


def fold_ranks(held: Floats, y: Integers, asked: Floats, *, strictly: bool = False) -> Ranks:
    """How many examples are at least (or more) strange, to the learner that has not seen them.

    Args:
        held: [K, m] scores of the held-out examples for their own labels.
        y: [K, m] their labels.
        asked: [Q, K, ways] scores of new examples for each label, to the same learners.
        strictly: count only those that are stranger, without ties.
    """
    queries, _, ways = asked.shape
    found = Ranks(np.zeros((queries, ways), np.int64), np.zeros((queries, ways), np.int64))
    with np.errstate(invalid="ignore"):
        tolerance = ROUNDING * np.maximum(1, np.where(np.isfinite(asked), np.abs(asked), 0))
    bar = asked + tolerance if strictly else asked - tolerance
    for scores, labels, bars in zip(held, y, bar.transpose(1, 0, 2), strict=True):
        for score, label in zip(scores, labels, strict=True):
            hit = (score > bars) if strictly else (score >= bars)  # [Q, ways]
            found.all[...] += hit
            found.own[:, label] += hit[:, label]
    return found
