"""Rules with a closed form that answer on frozen vectors, by name, each with its temperature."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .choosing import Chosen, Rule, rule_distances
from .conformal import Head
from .nearest_mean import NearestMean, fit_nearest_mean, leave_one_out
from .refitting import refit_nearest_mean
from .ridge_margin import fit_ridge_margin, ridge_leave_one_out
from .temperature import Calibration, calibrate

__all__ = ["HEADS", "HeadName", "Linear", "as_linear", "fit_head", "refit_head", "strangeness"]

Floats = NDArray[np.floating]
HeadName = Literal["squared", "cosine", "ridge"]
HEADS: dict[str, str] = {
    "squared": "the nearest class mean by squared distance",
    "cosine": "the nearest class mean by cosine",
    "ridge": "ridge regression on the classes",
}


def fit_head(
    name: str,
    x: Floats,
    y: NDArray[np.int64],
    ways: int,
    weight: Floats | None = None,
    calibration: Calibration | None = None,
) -> tuple[Rule, Calibration]:
    """A head, and the temperature of its probabilities, from examples that are each judged without themselves.

    Args:
        name: of `HEADS`.
        x: [n, F], finite; none zero but for "squared".
        y: [n] in [0, ways), every class at least once.
        ways: K.
        weight: [n] above zero, as if an example were there so often.
        calibration: what was found from these examples before, to be taken as it is.
    """
    if name == "ridge":
        ridge = fit_ridge_margin(x, y, ways, weight=weight)
        if calibration is not None:
            return ridge, calibration
        rows = np.flatnonzero(ridge.size[y] > (1 if weight is None else np.minimum(weight, 1)))
        without = -ridge_leave_one_out(ridge, weight)[rows]
        guess = _gap(rule_distances(ridge, x), y) / 4
        return ridge, calibrate(without, y[rows], weight=None if weight is None else weight[rows], guess=guess or 0.25)
    head = fit_nearest_mean(x, y, ways, "cosine" if name == "cosine" else "squared", weight)
    return head, _calibrated(head, weight) if calibration is None else calibration


def refit_head(
    before: NearestMean, x: Floats, y: NDArray[np.int64], ways: int, was: NDArray[np.int64]
) -> tuple[Rule, Calibration]:
    """As `fit_head`, of examples most of which were fitted before; arguments are those of `refit_nearest_mean`."""
    head = refit_nearest_mean(before, x, y, ways, was)
    return head, _calibrated(head)


def _calibrated(head: NearestMean, weight: Floats | None = None) -> Calibration:
    rows, without = leave_one_out(head)
    guess = float(np.median(head.near[:, 0])) / 4 if head.near.size else 1.0
    w = None if weight is None else weight[rows]
    return calibrate(without, head.y[rows], weight=w, guess=guess or 1.0)


def strangeness(head: Head, z: Floats) -> Floats:
    """How far new examples are from each class, in the head's own measure: [Q, F] -> [Q, K]."""
    if isinstance(head, Chosen):
        return rule_distances(head.rules[head.best], z)
    return rule_distances(head, z) if isinstance(head, Rule) else head.distances(z)


def _gap(far: Floats, y: NDArray[np.int64]) -> float:
    """How much nearer an example is to its own class than to the next one, in the middle: [n, K] -> one number."""
    if far.shape[1] < 2:
        return 0.0
    rows = np.arange(len(y))
    others = far.copy()
    others[rows, y] = np.inf
    return max(0.0, float(np.median(others.min(1) - far[rows, y])))


class Linear(NamedTuple):
    """A head as one product: probabilities are softmax((z − center) w + b), of z at length 1 if `unit`."""

    w: Floats  # [F, K]
    b: Floats  # [K]
    center: Floats  # [F]; of squared distances, so that little is left to round
    unit: bool


def as_linear(head: Rule | Chosen, temperature: float) -> Linear:
    """What a head's probabilities come down to: that of ‖z − m‖² which is the same for all classes drops out."""
    if isinstance(head, Chosen):
        head = head.rules[head.best]
    if not isinstance(head, NearestMean):
        return Linear(head.w[:-1] / temperature, head.w[-1] / temperature, np.zeros(len(head.w) - 1), True)
    if head.metric == "cosine":
        return Linear(head.means.T / temperature, np.zeros_like(head.size), head.center, True)
    b = -np.square(head.means.astype(np.float64)).sum(1) / temperature
    return Linear(2 * head.means.T / temperature, b, head.center, False)
