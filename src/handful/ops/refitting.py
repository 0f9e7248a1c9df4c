"""The nearest class mean fitted again after a few examples came or went: only what changed is measured.

Distances to a mean depend on the examples of its class alone, so those to classes that stayed are known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .nearest_mean import CHUNK, NEIGHBORS, NearestMean, fit_nearest_mean, nearest_others, scored, to_means
from .rows import class_sums, squares, unit

__all__ = ["refit_nearest_mean"]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

MOST_CHANGED = 0.25
"""Share of examples and classes beyond which all is fitted at once instead."""
OFF_CENTER = 0.01
"""How far the mean may move from the center, squared, as a share of the mean squared length, before all is refitted."""


def refit_nearest_mean(before: NearestMean, x: Floats, y: Integers, ways: int, was: Integers) -> NearestMean:
    """As `fit_nearest_mean` to rounding, of examples most of which were fitted before: what changed is measured anew.

    Args:
        before: without weights.
        x: [n, F] as for `fit_nearest_mean`.
        y: [n] in [0, ways), every class at least once; a class may have another number than before.
        ways: K.
        was: [n] which row of `before` each one was, with the same vector; -1: new.
    """
    y, old, there = np.asarray(y, np.int64), was[was >= 0], np.flatnonzero(was >= 0)
    # a class is what it was if it has the same examples
    same = np.full(ways, -1)
    same[y[there]] = before.y[old]
    stays = np.bincount(y[there], before.y[old] == same[y[there]], ways) == np.bincount(y, minlength=ways)
    stays &= np.bincount(y, minlength=ways) == np.where(same >= 0, before.size[same], 0)
    changed, number = np.flatnonzero(~stays), np.full(len(before.size), -1)
    number[same[stays]] = np.flatnonzero(stays)
    near_class = np.full((len(y), before.near.shape[1]), -1)
    near_class[there] = number[before.near_class[old]]
    anew = (was < 0) | ~stays[y] | (near_class < 0).any(1)
    if before.near.shape[1] != min(NEIGHBORS, ways - 1) or anew.mean() + len(changed) / ways > MOST_CHANGED:
        return fit_nearest_mean(x, y, ways, before.metric)
    kind, now = before.x.dtype, np.empty((len(y), before.x.shape[1]), before.x.dtype)
    np.take(before.x, was, 0, out=now, mode="clip")  # no second copy of all
    now[was < 0] = unit(x[was < 0].astype(kind)) if before.metric == "cosine" else x[was < 0] - before.center
    length2 = squares(now)
    if before.metric == "squared" and np.square(now.mean(0)).sum() > OFF_CENTER * length2.mean():
        return fit_nearest_mean(x, y, ways, before.metric)
    size, of_changed = np.bincount(y, minlength=ways).astype(kind), np.flatnonzero(~stays[y])
    length, means = np.empty(ways, kind), np.empty((ways, now.shape[1]), kind)
    length[stays], means[stays] = before.length[same[stays]], before.means[same[stays]]
    place = np.cumsum(~stays) - 1
    sums = class_sums(now[of_changed], place[y[of_changed]], len(changed))
    length[changed] = np.linalg.norm(sums, axis=1)
    by = np.maximum(length[changed], np.finfo(kind).tiny) if before.metric == "cosine" else size[changed]
    means[changed] = sums / by[:, None]
    to_own, near = np.empty(len(y), kind), np.empty(near_class.shape, kind)
    to_own[there], near[there] = before.to_own[old], before.near[old]
    no = np.empty(0, kind)
    state = NearestMean(
        before.metric, before.center, now, y, size, means, length, length2, to_own, no, near, near_class, no, no
    )
    rows = np.flatnonzero(anew)
    to_own[rows], near[rows], near_class[rows] = nearest_others(state, rows)
    step = max(1, CHUNK // max(1, len(changed)))
    for start in range(0, len(y), step):  # classes that changed may be among the nearest now
        far = to_means(state, now[start : start + step], changed)
        rows = start + np.flatnonzero((far < near[start : start + step, -1:]).any(1) & ~anew[start : start + step])
        every = np.concatenate([near[rows], far[rows - start]], 1)
        numbers = np.concatenate([near_class[rows], np.broadcast_to(changed, (len(rows), len(changed)))], 1)
        order = every.argsort(1, kind="stable")[:, : near.shape[1]]
        near[rows] = np.take_along_axis(every, order, 1)
        near_class[rows] = np.take_along_axis(numbers, order, 1)
    return scored(state, np.ones(len(y), kind))
