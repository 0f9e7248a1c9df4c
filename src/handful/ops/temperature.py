"""From distances to probabilities that mean what they say.

A class has the probability softmax(−distance / T). T makes the examples most likely when each is judged by a rule that
has not seen it. Guo et al. 2017, arXiv:1706.04599, with the targets of Platt 1999 (n + 1 of n + 2 right), so that a
handful of examples without a mistake does not make the answer certain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "calibrate", "calibration_error", "probabilities"]

Floats = NDArray[np.floating]
BINS = 10


class Calibration(NamedTuple):
    """A temperature, and how good its probabilities were on the examples, each judged without itself."""

    temperature: float
    examples: int  # it was found from; 0: a guess from the distances between classes
    accuracy: float
    log_loss: float
    error: float  # expected calibration error


def calibrate(
    distance: Floats, y: NDArray[np.int64], *, weight: Floats | None = None, guess: float = 1.0
) -> Calibration:
    """The temperature for examples judged without themselves.

    Args:
        distance: [n, K], of each example to each class, learned without the example.
        y: [n] in [0, K).
        weight: [n] how much each counts.
        guess: the temperature where there is no example to find it from, or one class only.
    """
    n, ways = distance.shape
    w = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    if n == 0 or ways < 2 or w.sum() == 0:
        return Calibration(guess, 0, float("nan"), float("nan"), float("nan"))
    distance = distance.astype(np.float64)
    distance -= distance.min(1, keepdims=True)
    given, w = w, w / w.sum()
    rows, count = np.arange(n), n if weight is None else float(np.sum(weight))
    smooth = 1 / (count + 2)
    own = distance[rows, y]
    wanted = w @ ((1 - smooth) * own + smooth / (ways - 1) * (distance.sum(1) - own))  # mean distance of the targets
    scale = float(w @ distance.mean(1))
    if scale <= 0:
        return Calibration(guess, 0, float("nan"), float("nan"), float("nan"))

    inverse = _least(distance, w, wanted, np.log(1e-3 / scale), np.log(1e4 / scale))
    p = _softmax(-distance * np.exp(inverse))
    hit = p.argmax(1) == y
    loss = -float(w @ np.log(np.maximum(p[rows, y], np.finfo(np.float64).tiny)))
    accuracy = float(given[hit].sum() / given.sum())  # of all hits the same sum twice, so 1 and nothing less
    error = calibration_error(p.max(1), hit, weight=weight)
    return Calibration(float(np.exp(-inverse)), n, min(1.0, accuracy), loss, error)


def _least(distance: Floats, w: Floats, wanted: float, low: float, high: float) -> float:
    """The logarithm of 1 / T, between low and high, with the least loss, which is convex in 1 / T.

    By Newton's method on the loss's slope; where that leads astray, by halving. (Not SciPy's: an export does without.)
    """
    at = low
    for _ in range(200):
        p = _softmax(-distance * np.exp(at))
        mean = (p * distance).sum(1)
        slope = float(wanted - w @ mean)
        low, high = (at, high) if slope < 0 else (low, at)
        curve = float(np.exp(at) * (w @ ((p * np.square(distance)).sum(1) - np.square(mean))))
        after = at - slope / curve if curve > 0 else high
        if not low < after < high:
            after = (low + high) / 2
        if abs(after - at) < 1e-10:
            return after
        at = after
    return at


def probabilities(distance: Floats, temperature: float) -> NDArray[np.float64]:
    """softmax(−distance / T): [Q, K]. Where all are known to differ by far, the nearest gets 1."""
    return _softmax(-(distance.astype(np.float64)) / temperature)


def calibration_error(confidence: Floats, hit: NDArray[np.bool_], *, weight: Floats | None = None) -> float:
    """Expected calibration error: mean of |share of hits − mean confidence| over ten equal bins of confidence.

    Naeini, Cooper & Hauskrecht 2015.
    """
    w = np.ones(len(hit)) if weight is None else np.asarray(weight, np.float64)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, w * (hit - confidence), BINS)
    return float(np.abs(gap).sum() / w.sum())


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = np.exp(logits - logits.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)  # type: ignore[no-any-return]
