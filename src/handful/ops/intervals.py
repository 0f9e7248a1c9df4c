"""Means and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, stdtrit

__all__ = ["Mean", "Median", "grouped_interval", "mean_interval", "median_interval", "paired_difference"]


class Mean(NamedTuple):
    """A mean and the half width of its 95% interval (NaN for a single value, or where one is not finite)."""

    value: float
    ci95: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.ci95:.2g}"


class Median(NamedTuple):
    """A median and its 95% interval (NaN for fewer than six values, which are too few)."""

    value: float
    low: float
    high: float


def mean_interval(values: ArrayLike | Sequence[float]) -> Mean:
    """Mean and Student's 95% interval, t·s/√n; for 600 tasks and more, the field's 1.96·s/√n.

    Raises:
        ValueError: no values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("mean: expected at least one value")
    if x.size == 1:
        return Mean(float(x.mean()), float("nan"))
    with np.errstate(invalid="ignore"):  # of values that are not finite, the half width is NaN
        return Mean(float(x.mean()), float(stdtrit(x.size - 1, 0.975) * x.std(ddof=1) / np.sqrt(x.size)))


def grouped_interval(values: ArrayLike, group: ArrayLike, *, fixed: bool) -> Mean:
    """Mean over groups of their means, with its 95% interval (NaN where nothing was repeated).

    Args:
        values: [n].
        group: [n] integers.
        fixed: the groups are all there are, and values vary within them: variances of the groups' means add up
            (Welch's degrees of freedom). Otherwise groups are a sample of many, each worth one value, its mean.
    """
    x, names = np.asarray(values, dtype=np.float64), np.unique(group)
    parts = [x[np.asarray(group) == name] for name in names]
    means = np.array([part.mean() for part in parts])
    if not fixed:
        return mean_interval(means)
    if min(len(part) for part in parts) < 2:
        return Mean(float(means.mean()), float("nan"))
    with np.errstate(invalid="ignore"):
        squares = np.array([part.var(ddof=1) / len(part) for part in parts])  # of the standard error of each mean
    total = squares.sum()
    if not total:
        return Mean(float(means.mean()), 0.0)
    freedom = total**2 / sum(own**2 / (len(part) - 1) for own, part in zip(squares, parts, strict=True))
    return Mean(float(means.mean()), float(stdtrit(freedom, 0.975) * np.sqrt(total) / len(parts)))


def median_interval(values: ArrayLike | Sequence[float]) -> Median:
    """Median, and the two order statistics that hold the true one with at least 95%, whatever the distribution.

    Raises:
        ValueError: no values.
    """
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if x.size == 0:
        raise ValueError("median: expected at least one value")
    below = int((bdtr(np.arange(x.size), x.size, 0.5) <= 0.025).sum())  # how many may be left out at each end, plus one
    low, high = (float(x[below - 1]), float(x[-below])) if below else (float("nan"), float("nan"))
    return Median(float(np.median(x)), low, high)


def paired_difference(a: ArrayLike, b: ArrayLike) -> Mean:
    """Mean of a − b over the same tasks, with the interval of the differences (much tighter than of two means).

    Raises:
        ValueError: the records are not of the same tasks.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"paired difference: expected records of the same tasks, got {x.shape} and {y.shape}")
    with np.errstate(invalid="ignore"):
        return mean_interval(x - y)
