"""Means and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

__all__ = ["Mean", "mean_interval", "paired_difference"]


class Mean(NamedTuple):
    """A mean and the half width of its 95% interval (NaN for a single value)."""

    value: float
    ci95: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.ci95:.2g}"


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
    return Mean(float(x.mean()), float(stdtrit(x.size - 1, 0.975) * x.std(ddof=1) / np.sqrt(x.size)))


def paired_difference(a: ArrayLike, b: ArrayLike) -> Mean:
    """Mean of a − b over the same tasks, with the interval of the differences (much tighter than of two means).

    Raises:
        ValueError: the records are not of the same tasks.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"paired difference: expected records of the same tasks, got {x.shape} and {y.shape}")
    return mean_interval(x - y)
