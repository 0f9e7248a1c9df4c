"""Which of many things stand best for all of them, given those that are taught already.

Greedy facility location: the next one chosen is that which brings all things, each by its weight, nearest to what is
taught or chosen. Greedy choice reaches at least 1 − 1/e of the best sum (Nemhauser, Wolsey & Fisher 1978); Wei, Iyer &
Bilmes 2015 (ICML) choose examples to label so. Weights carry what is unsure: things that are recognized need no label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["representatives"]

Floats = NDArray[np.floating]


def representatives(z: Floats, to_taught: Floats, count: int, *, weight: Floats | None = None) -> NDArray[np.int64]:
    """Rows of z, the most useful first: [count].

    Args:
        z: [M, F].
        to_taught: [M] squared distance of each to the nearest example taught.
        count: at most M.
        weight: [M], not negative.
    """
    w = np.ones(len(z), z.dtype) if weight is None else weight.astype(z.dtype)
    squares = np.einsum("mf,mf->m", z, z)
    between = z @ z.T
    between *= -2
    between += squares[:, None]
    between += squares
    np.maximum(between, 0, out=between)  # [M, M]
    least = to_taught.astype(z.dtype)
    gain = w @ np.maximum(least[:, None] - between, 0)  # [M], of choosing each
    chosen = np.empty(count, np.int64)
    for place in range(count):
        best = int(gain.argmax())
        chosen[place], gain[best] = best, -np.inf
        nearer = np.flatnonzero(between[:, best] < least)
        before = np.maximum(least[nearer, None] - between[nearer], 0)
        least[nearer] = between[nearer, best]
        gain -= w[nearer] @ (before - np.maximum(least[nearer, None] - between[nearer], 0))
    return chosen
