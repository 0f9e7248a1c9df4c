"""How well a rule does on all examples and a new one, each judged without itself, for each class of the new one.

This is what a rule may be chosen by without breaking a promise: it takes the new example for one of the others. The
distances of an example to the classes, by a rule that has not seen it, change in one place when the new one is added to
a class: that class. So there are two matrices for a new example, before and after, and nothing is fitted.

The loss is the cross-entropy of softmax(−distance / T) with Platt's smoothed targets, as in `ops.temperature`, at the
best of a few T. Examples that are alone in their class are not judged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mean_ranks import adding_to_means
from .nearest_mean import NearestMean
from .ridge_margin import RidgeMargin, adding_to_ridge

__all__ = ["Judged", "judge"]

Floats = NDArray[np.floating]
TEMPERATURES = 2.0 ** -np.arange(1, 9, 2)
"""Each a quarter of the one before."""


class Judged(NamedTuple):
    """For each new example and class that it is added to."""

    loss: Floats  # [Q, K], mean over those who can be judged
    share: Floats  # [Q, K], how many can


def judge(head: NearestMean | RidgeMargin, z: Floats) -> Judged:
    """The loss of all n + 1, for new examples z [Q, F]. The head knows two classes at least."""
    ways = len(head.size)
    sizes = np.bincount(head.y, minlength=ways)
    alone = sizes[head.y] == 1
    count = (sizes > 0) + (len(head.y) - alone.sum()) + (sizes == 1)
    adding = adding_to_means(head, z) if isinstance(head, NearestMean) else adding_to_ridge(head, z)
    scales = _scales(head, z)
    sums = [_losses(*one, head.y, sizes, scale) for one, scale in zip(adding, scales, strict=True)]
    loss = np.array(sums).reshape(-1, ways) / np.maximum(count, 1)
    return Judged(loss, np.broadcast_to(count / (len(head.y) + 1), loss.shape))


def _scales(head: NearestMean | RidgeMargin, z: Floats) -> Floats:
    """What temperatures are multiples of: with squared distances the scatter of all and the new one; [Q]."""
    if isinstance(head, RidgeMargin) or head.metric == "cosine":
        return np.ones(len(z))
    n, moved = len(head.x), np.asarray(z, np.float64) - head.center
    mean = (head.x.sum(0) + moved) / (n + 1)  # [Q, F]
    scatter = (head.squares.sum() + np.square(moved).sum(1)) / (n + 1) - np.square(mean).sum(1)
    found: Floats = np.maximum(scatter, np.finfo(np.float64).tiny)
    return found


def _losses(
    before: Floats, after: Floats, asked: Floats, y: NDArray[np.int64], sizes: NDArray[np.int64], scale: float
) -> Floats:
    """Sums over the judged, for each class that the new one is added to: [K].

    Args:
        before: [n, K], distances by leave-one-out to each class that the new one is not added to.
        after: [n, K], to each class if the new one is added to it.
        asked: [K], of the new one.
        y: [n].
        sizes: [K], examples of each class.
        scale: of temperatures.
    """
    before, after, asked = before.astype(np.float64), after.astype(np.float64), asked.astype(np.float64)
    n, ways = before.shape
    rows, classes, alone = np.arange(n), np.arange(ways), sizes[y] == 1
    before[alone, y[alone]] = after[alone, y[alone]]  # stands in for what is not there, and is taken out below
    own, sums, smooth = before[rows, y], before.sum(1), 1 / (n + 3)
    rest = smooth / (ways - 1)
    wanted = (1 - smooth) * own[:, None] + rest * ((sums - own)[:, None] - before + after)  # [n, K], mean distance
    wanted[rows, y] = (1 - smooth) * after[rows, y] + rest * (sums - own)
    wanted_asked = (1 - smooth) * asked + rest * (asked.sum() - asked)
    judged = ~alone[:, None] | (classes == y[:, None])
    first = before.argmin(1)
    least = before[rows, first][:, None]
    power = np.exp((least - before) / (scale * TEMPERATURES[0]))
    before[rows, first] = np.inf
    second = before.min(1)
    power_rest = np.exp((second[:, None] - before) / (scale * TEMPERATURES[0]))  # without the nearest class
    best = np.full(ways, np.inf)
    for temperature in scale * TEMPERATURES:
        others = np.log(np.maximum(power.sum(1, keepdims=True) - power, 1)) - least / temperature  # but one: [n, K]
        others[rows, first] = np.log(power_rest.sum(1)) - second / temperature
        each = np.where(judged, wanted / temperature + np.logaddexp(others, -after / temperature), 0).sum(0)
        new = (wanted_asked - asked.min()) / temperature + np.log(np.exp((asked.min() - asked) / temperature).sum())
        best = np.minimum(best, each + np.where(sizes > 0, new, 0))
        for part in (power, power_rest, power, power_rest):  # to the fourth
            np.square(part, out=part)
    return best
