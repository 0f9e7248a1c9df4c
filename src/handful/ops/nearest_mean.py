"""The nearest class mean as a frozen rule.

The score of an example is d/√o: d its distance to the mean of its own class, made without it, o that to the nearest
other mean. It is the geometric mean of d, which knows what is far from everything, and of d/o, which knows what is
between classes; it tells strangers better than d/o alone on all data that was tried (`docs/guarantee-figures.md`). An
example that is alone in its class has no such mean: its score is infinite.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rows import class_sums, squares, unit

__all__ = [
    "CHUNK",
    "NEIGHBORS",
    "Metric",
    "NearestMean",
    "between",
    "distances",
    "fit_nearest_mean",
    "leave_one_out",
    "nearest_other",
    "nearest_others",
    "prepared",
    "scored",
    "to_means",
]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Metric = Literal["squared", "cosine"]

NEIGHBORS = 16
CHUNK = 1 << 18


class NearestMean(NamedTuple):
    """What n examples of K classes taught. Floats are of the examples' precision."""

    metric: Metric
    center: Floats  # [F], subtracted first (squared distances)
    x: Floats  # [n, F], centered, or of length 1 (cosine)
    y: Integers  # [n]
    size: Floats  # [K], sum of weights
    means: Floats  # [K, F], of length 1 (cosine)
    length: Floats  # [K], of the sum of a class (cosine)
    squares: Floats  # [n], squared lengths of the examples
    to_own: Floats  # [n], distance to the mean of the own class
    own: Floats  # [n], the same with the mean made without the example; infinite if alone
    near: Floats  # [n, T], distances to the nearest other classes, ascending
    near_class: Integers  # [n, T]
    score: Floats  # [n], before anything is added
    order: Floats  # [n], the scores sorted


def fit_nearest_mean(x: Floats, y: Integers, ways: int, metric: Metric, weight: Floats | None = None) -> NearestMean:
    """Means, and each example's distances.

    Args:
        x: [n, F], finite; for cosines none is zero.
        y: [n] in [0, ways), every class at least once.
        ways: K.
        metric: squared Euclidean distance, or 1 − cosine.
        weight: [n], as if an example were there so often; ranks need None.
    """
    kind: type[np.floating] = np.float32 if x.dtype == np.float32 else np.float64
    x, y = np.asarray(x, kind), np.asarray(y, np.int64)
    w = np.ones(len(x), kind) if weight is None else np.asarray(weight, kind)
    size = np.bincount(y, w, ways).astype(kind)
    if metric == "cosine":
        center = np.zeros(x.shape[1], kind)
        x = unit(x)
    else:
        center = (w @ x / w.sum()).astype(kind)  # moves nothing but rounding errors
        x = x - center
    sums = class_sums(x, y, ways, w)
    length = np.linalg.norm(sums, axis=1)
    means = sums / (np.maximum(length, np.finfo(kind).tiny) if metric == "cosine" else size)[:, None]
    no = np.empty(0, kind)
    state = NearestMean(metric, center, x, y, size, means, length, squares(x), no, no, no[:, None], y[:, None], no, no)
    to_own, near, near_class = nearest_others(state, np.arange(len(x)))
    state = state._replace(to_own=to_own, near=near, near_class=near_class)
    return scored(state, w)


def nearest_others(state: NearestMean, every: Integers) -> tuple[Floats, Floats, Integers]:
    """Of these rows [m] the distance to the own mean [m], to the nearest others [m, T], and which these are [m, T]."""
    ways, kind, means2 = len(state.size), state.x.dtype, squares(state.means)
    kept = min(NEIGHBORS, ways - 1)
    to_own = np.empty(len(every), kind)
    near, near_class = np.empty((len(every), kept), kind), np.empty((len(every), kept), np.int64)
    step = max(1, CHUNK // ways)
    for start in range(0, len(every), step):
        part, rows = slice(start, start + step), every[start : start + step]
        other = between(state, state.x[rows], state.squares[rows], state.means, means2)
        at = (np.arange(len(other)), state.y[rows])
        to_own[part], other[at] = other[at], np.inf
        if kept:
            near_class[part] = np.argpartition(other, kept - 1, 1)[:, :kept]
            taken = np.take_along_axis(other, near_class[part], 1)
            order = taken.argsort(1, kind="stable")
            near[part] = np.take_along_axis(taken, order, 1)
            near_class[part] = np.take_along_axis(near_class[part], order, 1)
    return to_own, near, near_class


def scored(state: NearestMean, w: Floats) -> NearestMean:
    """With the score of each example, of weights w [n]; their distances to means are there."""
    state = state._replace(own=_own_without(state, w))
    other = nearest_other(state)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(other > 0, state.own / np.sqrt(other), np.inf)
    return state._replace(score=score, order=np.sort(score))


def distances(state: NearestMean, z: Floats) -> Floats:
    """Of new examples to every mean: [Q, F] -> [Q, K]."""
    return to_means(state, prepared(state, z))


def leave_one_out(state: NearestMean, *, most: int = CHUNK) -> tuple[Integers, Floats]:
    """Which examples [m], and their distances [m, K] to all means, each made without the example itself.

    Examples alone in their class are left out; of many, evenly spaced ones are taken, so that about `most` numbers
    come back.
    """
    rows = np.flatnonzero(np.isfinite(state.own))
    if len(rows) * len(state.size) > most:
        rows = rows[:: -(-len(rows) * len(state.size) // most)]
    found = to_means(state, state.x[rows])
    found[np.arange(len(rows)), state.y[rows]] = state.own[rows]
    return rows, found


def _own_without(state: NearestMean, w: Floats) -> Floats:
    """Distance of each example to the mean of its class made without it, or without one of its copies."""
    total, left = state.size[state.y], np.minimum(w, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if state.metric == "cosine":
            s = state.length[state.y]
            r = s * (1 - state.to_own)
            own: Floats = 1 - (r - left) / np.sqrt(np.maximum(s * s - 2 * left * r + left * left, 0))
        else:
            own = state.to_own * (total / (total - left)) ** 2
    own[total - left <= 1e-6 * total] = np.inf
    return own


def prepared(state: NearestMean, z: Floats) -> Floats:
    """New examples [Q, F] as those of the rule: centered, or of length 1."""
    z = np.asarray(z, state.x.dtype)
    return unit(z) if state.metric == "cosine" else z - state.center


def to_means(state: NearestMean, z: Floats, classes: Integers | slice = slice(None)) -> Floats:
    """Of prepared rows [m, F] to the means of some classes: [m, classes]."""
    means = state.means[classes]
    return between(state, z, squares(z), means, squares(means))


def between(state: NearestMean, a: Floats, a2: Floats, b: Floats, b2: Floats) -> Floats:
    """Distances of prepared rows a [m, F] to b [l, F], whose squared lengths are a2 and b2: [m, l]."""
    found: Floats = a @ b.T
    if state.metric == "cosine":
        return np.subtract(1, found, out=found)
    found *= -2
    found += a2[:, None]
    found += b2
    return np.maximum(found, 0, out=found)


def nearest_other(state: NearestMean) -> Floats:
    """[n]; 1 where there is no other class, so that a score is the distance itself."""
    return state.near[:, 0] if state.near.shape[1] else np.ones_like(state.own)
