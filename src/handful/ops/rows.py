"""What is done to the rows of a matrix of vectors, and to one row of numbers, again and again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["alike", "class_sums", "least_other", "squares", "unit"]

Floats = NDArray[np.floating]
CHUNK = 1 << 20


def unit(x: Floats) -> Floats:
    """[n, F] at length 1; a row of zeros stays one."""
    found: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(x.dtype).tiny)
    return found


def squares(a: Floats) -> Floats:
    """Squared lengths: [n, F] -> [n]."""
    found: Floats = np.einsum("if,if->i", a, a)
    return found


def class_sums(x: Floats, y: NDArray[np.int64], ways: int, weight: Floats | None = None) -> Floats:
    """[n, F] -> [K, F], each row counted as often as its weight says."""
    found = np.zeros((ways, x.shape[1]), x.dtype)
    order, step = y.argsort(kind="stable"), max(1, CHUNK // x.shape[1])
    for start in range(0, len(y), step):  # no second copy of all rows
        rows = order[start : start + step]
        first = np.flatnonzero(np.diff(y[rows], prepend=-1))
        part = x[rows] if weight is None else x[rows] * weight[rows, None]
        found[y[rows[first]]] += np.add.reduceat(part, first, axis=0)
    return found


def least_other(f: Floats) -> Floats:
    """The least of the other classes', for each class; 1 where there is no other."""
    if len(f) == 1:
        return np.ones_like(f)
    first, second = np.partition(f, 1)[:2]
    other = np.full_like(f, first)
    other[f.argmin()] = second
    return other


def alike(size: Floats) -> Iterator[NDArray[np.int64]]:
    """Classes of about the same size, whose means move about as far."""
    kinds = np.where(size <= 4, size, 4 + np.floor(2 * np.log2(np.maximum(size, 1))))
    for kind in np.unique(kinds):
        yield np.flatnonzero(kinds == kind)
