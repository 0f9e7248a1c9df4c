"""The nearest class mean as a frozen rule, and where a new example would rank if it were one more of a class.

Full conformal prediction asks, for each class, what the scores of all examples become when the new one is added to it.
Adding one example changes one mean, so nothing is fitted again. With D[i, c] the distance of example i to mean c,
e[i] its distance to the new example and f[c] that of the new example to mean c, the distance after adding is

    D'[i, c] = A[c] D[i, c] + B[c] e[i] + C[c]

for squared distances (A = n/(n+1), B = 1/(n+1), C = −AB f) and for cosines alike. Each example keeps its nearest
few classes; for all others D is bounded from below, and almost none needs to be looked at.

The score of an example is d/√o: d its distance to the mean of its own class, made without it, o that to the nearest
other mean. It is the geometric mean of d, which knows what is far from everything, and of d/o, which knows what is
between classes; it tells strangers better than d/o alone on all data that was tried (`docs/guarantee-figures.md`). An
example that is alone in its class has no such mean: its score is infinite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rows import alike, class_sums, least_other, squares, unit

__all__ = [
    "Metric",
    "NearestMean",
    "Ranks",
    "adding_to_means",
    "distances",
    "fit_nearest_mean",
    "leave_one_out",
    "mean_ranks",
    "nearest_others",
    "scored",
    "to_means",
]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Metric = Literal["squared", "cosine"]

NEIGHBORS = 16
CHUNK = 1 << 18
BLOCK = 256
TOGETHER = 16
"""New examples whose distances to all others are one product, however many these are."""
ENDLESS = 1e-9


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


class Ranks(NamedTuple):
    """How many examples score at least (or more than) the new one, for each class that it might be of."""

    all: Integers  # [Q, K], of all examples
    own: Integers  # [Q, K], of the examples of that class


def fit_nearest_mean(x: Floats, y: Integers, ways: int, metric: Metric, weight: Floats | None = None) -> NearestMean:
    """Means, and each example's distances.

    Args:
        x: [n, F], finite; for cosines none is zero.
        y: [n] in [0, ways), every class at least once.
        ways: K.
        metric: squared Euclidean distance, or 1 − cosine.
        weight: [n], as if an example were there so often; `mean_ranks` needs None.
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
        other = _between(state, state.x[rows], state.squares[rows], state.means, means2)
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
    other = _nearest_other(state)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(other > 0, state.own / np.sqrt(other), np.inf)
    return state._replace(score=score, order=np.sort(score))


def distances(state: NearestMean, z: Floats) -> Floats:
    """Of new examples to every mean: [Q, F] -> [Q, K]."""
    return to_means(state, _prepared(state, z))


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


def adding_to_means(state: NearestMean, z: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each new example: distances by leave-one-out before [n, K] and after [n, K] it is added; its own [K].

    Of `after` the column of a class is what it becomes if the new one is added to that class.
    """
    z, rows = _prepared(state, z), np.arange(len(state.x))
    before = to_means(state, state.x)
    shared = before.copy()
    before[rows, state.y] = state.own
    for e, f in zip(_between(state, z, squares(z), state.x, state.squares), to_means(state, z), strict=True):
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
    z = _prepared(state, z)
    counted, own_counted = np.empty((len(z), len(state.size)), np.int64), np.empty((len(z), len(state.size)), np.int64)
    step = max(TOGETHER, CHUNK // len(state.x))
    for start in range(0, len(z), step):
        part = z[start : start + step]
        to_examples = _between(state, part, squares(part), state.x, state.squares)
        for index, (e, f) in enumerate(zip(to_examples, to_means(state, part), strict=True), start):
            counted[index], own_counted[index] = _ranks(state, e, f, strictly)
    return Ranks(counted, own_counted)


def _ranks(state: NearestMean, e: Floats, f: Floats, strictly: bool) -> tuple[Integers, Integers]:
    ways, y, near, base = len(state.size), state.y, state.near_class, state.score
    rounding = 256 * np.finfo(f.dtype).eps * max(float(e.max()), float(f.max()), 1e-12)
    bar = (f + (rounding if strictly else -rounding)) / np.sqrt(np.maximum(least_other(f), rounding * ENDLESS))  # [K]
    count = len(y) - np.searchsorted(state.order, bar)  # as if no score but the new one's depended on the class
    # its own class: the mean moves toward the new one
    now = _own_after(state, e, f) >= bar[y] * np.sqrt(_nearest_other(state))
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


def _prepared(state: NearestMean, z: Floats) -> Floats:
    z = np.asarray(z, state.x.dtype)
    return unit(z) if state.metric == "cosine" else z - state.center


def to_means(state: NearestMean, z: Floats, classes: Integers | slice = slice(None)) -> Floats:
    """Of prepared rows [m, F] to the means of some classes: [m, classes]."""
    means = state.means[classes]
    return _between(state, z, squares(z), means, squares(means))


def _between(state: NearestMean, a: Floats, a2: Floats, b: Floats, b2: Floats) -> Floats:
    found: Floats = a @ b.T
    if state.metric == "cosine":
        return np.subtract(1, found, out=found)
    found *= -2
    found += a2[:, None]
    found += b2
    return np.maximum(found, 0, out=found)


def _nearest_other(state: NearestMean) -> Floats:
    """[n]; 1 where there is no other class, so that a score is the distance itself."""
    return state.near[:, 0] if state.near.shape[1] else np.ones_like(state.own)
