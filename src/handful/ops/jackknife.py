"""Ridge regression with intervals for single values: the jackknife+.

For each example i, the ridge that has not seen it answers the new thing, and errs on example i by R_i. The interval is
from the ⌊ε(n+1)⌋-th smallest of answer − R_i to the ⌈(1−ε)(n+1)⌉-th smallest of answer + R_i. It holds the true value
at least 1 − 2ε of the time, and in practice about 1 − ε.

Source: Barber, Candès, Ramdas & Tibshirani 2021, arXiv:1905.02928, theorem 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RidgeFit", "fit_ridge", "jackknife_interval", "ridge_values"]

Floats = NDArray[np.floating]


class RidgeFit(NamedTuple):
    """Answers (x − m) w + b for the weighted mean m of the examples; the intercept is not penalized."""

    mean: Floats  # [F]
    w: Floats  # [F]
    b: float
    v: Floats  # [F, r], right singular vectors of the centered examples
    inside: Floats  # [n, r], these times V
    shrink: Floats  # [r], 1 / (s² + λ)
    error: Floats  # [n], value less answer, of the ridge that has seen the example
    leverage: Floats  # [n]


def fit_ridge(x: Floats, y: Floats, strength: float, weight: Floats | None = None) -> RidgeFit:
    """The w and b that minimize Σ weight_i (x_i w + b − y_i)² + λ‖w‖².

    Args:
        x: [n, F].
        y: [n].
        strength: λ > 0.
        weight: [n] above zero, as if an example were there so often.
    """
    weights = np.ones(len(y)) if weight is None else weight
    root, total = np.sqrt(weights), weights.sum()
    mean, b = weights @ x / total, float(weights @ y / total)
    centered = x - mean
    u, s, vt = np.linalg.svd(centered * root[:, None], full_matrices=False)
    shrink = 1 / (s * s + strength)
    w = vt.T @ (s * shrink * (u.T @ (root * (y - b))))
    inside = centered @ vt.T
    leverage = (inside * inside) @ shrink + 1 / total
    return RidgeFit(mean, w, b, vt.T, inside, shrink, y - centered @ w - b, leverage)


def ridge_values(fit: RidgeFit, z: Floats) -> Floats:
    """[Q, F] -> [Q]."""
    found: Floats = (z - fit.mean) @ fit.w + fit.b
    return found


def jackknife_interval(fit: RidgeFit, z: Floats, epsilon: float) -> tuple[Floats, Floats]:
    """Lower and upper ends, [Q] each; infinite where there are too few examples to promise one.

    Args:
        fit: of examples without weights.
        z: [Q, F].
        epsilon: ε in (0, 1).
    """
    n = len(fit.error)
    rank = math.ceil((1 - epsilon) * (n + 1) - 1e-9)
    if rank > n or n == 1:  # without its only example there is no ridge
        return np.full(len(z), -np.inf), np.full(len(z), np.inf)
    without = fit.error / (1 - fit.leverage)  # R_i with its sign
    between = ((z - fit.mean) @ fit.v * fit.shrink) @ fit.inside.T + 1 / n  # [Q, n], x_iᵀ A⁻¹ z with the intercept
    answers = ridge_values(fit, z)[:, None] - between * without
    low, high = np.sort(answers - np.abs(without), 1), np.sort(answers + np.abs(without), 1)
    return low[:, n - rank], high[:, rank - 1]
