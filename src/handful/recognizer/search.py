"""The nearest examples: exact, by a matrix product; for many by FAISS, where it is installed, with the same results."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Search"]

MANY = 100_000
CHUNK = 1 << 20

Vectors = NDArray[np.float32]


@final
class Search:
    """Finds the nearest of n vectors.

    Args:
        x: [n, F].
    """

    def __init__(self, x: Vectors) -> None:
        self._x = x

    def nearest(self, z: Vectors, count: int) -> tuple[NDArray[np.int64], Vectors]:
        """Rows of x and squared distances, the nearest first: [Q, F] -> [Q, k], [Q, k]; k = min(count, n)."""
        kept = min(count, len(self._x))
        if len(self._x) > MANY and self._index is not None:
            distances, rows = self._index.search(np.ascontiguousarray(z, np.float32), kept)
            return rows, np.maximum(distances, 0)
        rows, found = np.empty((len(z), kept), np.int64), np.empty((len(z), kept), np.float32)
        step = max(1, CHUNK // len(self._x))
        for start in range(0, len(z), step):
            part = z[start : start + step]
            near = part @ self._x.T
            near *= -2
            near += self._squares
            best = np.argpartition(near, kept - 1, 1)[:, :kept]
            values = np.take_along_axis(near, best, 1)
            order = values.argsort(1, kind="stable")
            rows[start : start + step] = np.take_along_axis(best, order, 1)
            far = np.take_along_axis(values, order, 1) + np.einsum("qf,qf->q", part, part)[:, None]
            found[start : start + step] = np.maximum(far, 0)
        return rows, found

    @cached_property
    def _squares(self) -> Vectors:
        squares: Vectors = np.einsum("nf,nf->n", self._x, self._x)
        return squares

    @cached_property
    def _index(self) -> Any | None:
        if find_spec("faiss") is None:
            return None
        import faiss

        index = faiss.IndexFlatL2(self._x.shape[1])
        index.add(np.ascontiguousarray(self._x, np.float32))
        return index
