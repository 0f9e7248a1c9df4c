"""Where a new example would rank if it were one more of a class, by the nearest class mean.

Full conformal prediction asks, for each class, what the scores of all examples become when the new one is added to it.
Adding one example changes one mean, so nothing is fitted again. With D[i, c] the distance of example i to mean c,
e[i] its distance to the new example and f[c] that of the new example to mean c, the distance after adding is

    D'[i, c] = A[c] D[i, c] + B[c] e[i] + C[c]

for squared distances (A = n/(n+1), B = 1/(n+1), C = −AB f) and for cosines alike. Each example keeps its nearest
few classes; for all others D is bounded from below, and almost none needs to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .nearest_mean import CHUNK, NearestMean, between, nearest_other, prepared, to_means
from .rows import alike, least_other, squares

__all__ = ["Ranks", "adding_to_means", "mean_ranks"]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

BLOCK = 256
TOGETHER = 16
"""New examples whose distances to all others are one product, however many these are."""
ENDLESS = 1e-9


class Ranks(NamedTuple):
    """How many examples score at least (or more than) the new one, for each class that it might be of."""

    all: Integers  # [Q, K], of all examples
    own: Integers  # [Q, K], of the examples of that class


def adding_to_means(state: NearestMean, z: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each new example: distances by leave-one-out before [n, K] and after [n, K] it is added; its own [K].

    Of `after` the column of a class is what it becomes if the new one is added to that class.
    """
    z, rows = prepared(state, z), np.arange(len(state.x))
    before = to_means(state, state.x)
    shared = before.copy()
    before[rows, state.y] = state.own
    for e, f in zip(between(state, z, squares(z), state.x, state.squares), to_means(state, z), strict=True):
        moved = _moved(state, f)
        after = moved.factor * shared + moved.share * e[:, None] + moved.shift
        after[rows, state.y] = _own_after(state, e, f)
        yield before, np.maximum(after, 0, out=after), f


def mean_ranks(state: NearestMean, z: Floats, *, strictly: bool = False) -> Ranks:
    """For each new example and class: how many examples are at least as strange, after it is added to that class.

    Args:
        state: of examples without weights.
        z: [Q, F].
        strictly: count only those that are stranger, without ties.
    """
    z = prepared(state, z)
    counted, own_counted = np.empty((len(z), len(state.size)), np.int64), np.empty((len(z), len(state.size)), np.int64)
    step = max(TOGETHER, CHUNK // len(state.x))
    for start in range(0, len(z), step):
        part = z[start : start + step]
        to_examples = between(state, part, squares(part), state.x, state.squares)
        for index, (e, f) in enumerate(zip(to_examples, to_means(state, part), strict=True), start):
            counted[index], own_counted[index] = _ranks(state, e, f, strictly)
    return Ranks(counted, own_counted)


def _ranks(state: NearestMean, e: Floats, f: Floats, strictly: bool) -> tuple[Integers, Integers]:
    ways, y, near, base = len(state.size), state.y, state.near_class, state.score
    rounding = 256 * np.finfo(f.dtype).eps * max(float(e.max()), float(f.max()), _noise(state))
    bar = (f + (rounding if strictly else -rounding)) / np.sqrt(np.maximum(least_other(f), rounding * ENDLESS))  # [K]
    count = len(y) - np.searchsorted(state.order, bar)  # as if no score but the new one's depended on the class
    # its own class: the mean moves toward the new one
    now = _own_after(state, e, f) >= bar[y] * np.sqrt(nearest_other(state))
    own = np.bincount(y[now], minlength=ways)
    count += own - np.bincount(y[base >= bar[y]], minlength=ways)
    if ways == 1:
        return count, own
    moved = _moved(state, f)
    after = moved.factor[near] * state.near + moved.share[near] * e[:, None] + moved.shift[near]  # [n, T]
    rest = np.full(len(y), np.inf, f.dtype) if near.shape[1] == 1 else state.near[:, 1]
    after[:, 0] = np.minimum(after[:, 0], rest)
    np.minimum(after[:, 1:], state.near[:, :1], out=after[:, 1:])
    bars = bar[near]
    np.sqrt(np.maximum(after, 0, out=after), out=after)
    now, was = state.own[:, None] >= bars * after, base[:, None] >= bars
    count += np.bincount(near[now & ~was], minlength=ways) - np.bincount(near[was & ~now], minlength=ways)
    if near.shape[1] < ways - 1:
        count += _count_far(state, bar, e, moved)
    return count, own


def _noise(state: NearestMean) -> float:
    """Distances that rounding alone makes between equal examples, about; above zero."""
    if state.metric == "cosine":
        return 1e-12
    return max(float(np.square(8 * np.finfo(state.x.dtype).eps * state.center).sum()), 1e-30)


class _Moved(NamedTuple):
    """A, B and C of the distances to each mean after the new example is added to it."""

    factor: Floats  # [K]
    share: Floats
    shift: Floats


def _count_far(state: NearestMean, bar: Floats, e: Floats, moved: _Moved) -> Integers:
    """For each class, the examples that do not count yet and to which its mean, by moving, comes nearer than theirs.

    Only classes beyond an example's nearest ones: their distance is at least that of the last of those.
    """
    count = np.zeros(len(bar), np.int64)
    finite = np.flatnonzero(np.isfinite(state.own))

    def within(classes: Integers, rows: Integers) -> Integers:
        """Those of the rows that may count for one of these classes, of which the first has the least bar."""
        least = moved.factor[classes].min() * state.near[rows, -1] + moved.share[classes].min() * e[rows]
        least += moved.shift[classes].min()
        np.sqrt(np.maximum(least, 0, out=least), out=least)
        found: Integers = rows[state.own[rows] >= bar[classes[0]] * least]
        return found

    for group in alike(state.size):
        group, among = group[bar[group].argsort()], finite
        start, width = 0, 1
        while start < len(group) and len(among):
            among = within(group[start:], among)  # for the classes that are left: bars rise, so they get fewer
            classes = group[start : start + width]
            start, width = start + width, min(2 * width, BLOCK)
            rows = within(classes, among)
            for first in range(0, len(rows), 4 * BLOCK):
                at = rows[first : first + 4 * BLOCK]
                after = to_means(state, state.x[at], classes) * moved.factor[classes]
                after += moved.share[classes] * e[at, None] + moved.shift[classes]
                np.sqrt(np.maximum(after, 0, out=after), out=after)
                more = (state.own[at, None] >= bar[classes] * after) & (state.score[at, None] < bar[classes])
                row, column = np.nonzero(more)
                beyond = (state.near_class[at[row]] != classes[column, None]).all(1)
                beyond &= state.y[at[row]] != classes[column]
                count += np.bincount(classes[column[beyond]], minlength=len(count))
    return count


def _moved(state: NearestMean, f: Floats) -> _Moved:
    if state.metric == "cosine":
        s = state.length
        root = np.sqrt(np.maximum(s * s + 2 * s * (1 - f) + 1, np.finfo(f.dtype).tiny))
        return _Moved(s / root, 1 / root, 1 - (s + 1) / root)
    share = 1 / (state.size + 1)
    factor = state.size * share
    return _Moved(factor, share, -factor * share * f)


def _own_after(state: NearestMean, e: Floats, f: Floats) -> Floats:
    """Distance of each example to the mean of the others of its class and the new one."""
    n, y = state.size[state.y], state.y
    if state.metric == "cosine":
        s = state.length[y]
        r = s * (1 - state.to_own)
        g, h = 1 - e, s * (1 - f[y])
        root = np.sqrt(np.maximum(s * s + 2 + 2 * (h - r - g), np.finfo(f.dtype).tiny))
        return 1 - (r - 1 + g) / root
    own = np.where(n > 1, state.own, 0)
    return own * ((n - 1) * (n * n - 1) / n**3) + e * ((n + 1) / n**2) - f[y] / n
