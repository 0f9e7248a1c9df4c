"""Ridge regression on the classes as a frozen rule, and where a new example would rank if it were one more of a class.

Targets are 1 for an example's class and 0 for the others; vectors are scaled to length 1 and given a constant 1, so
that the strength λ means the same everywhere. The score of an example is its margin the wrong way among the answers of
the ridge that has not seen it: the greatest answer for another class less the answer for its own.

Adding an example z with target t moves the fit by a rank-one term (Sherman & Morrison 1950): with k the vector of
x_iᵀA⁻¹z and q = zᵀA⁻¹z, the answers for all examples become f + k/(1+q) · (t − f(z)) and their leverages h − k²/(1+q);
answers without the example itself follow as in `ops.ridge`. So one product with the examples serves all classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .mean_ranks import Ranks

__all__ = [
    "RidgeMargin",
    "adding_to_ridge",
    "fit_ridge_margin",
    "ridge_answers",
    "ridge_leave_one_out",
    "ridge_ranks",
]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


class RidgeMargin(NamedTuple):
    """What n examples of K classes taught; r is the rank of their matrix, whose right singular vectors are V."""

    strength: float
    y: Integers  # [n]
    size: Floats  # [K], sum of weights
    v: Floats  # [F + 1, r]
    inside: Floats  # [n, r], the examples times V
    shrink: Floats  # [r], 1 / (s² + λ)
    w: Floats  # [F + 1, K]
    answers: Floats  # [n, K], of the fit that has seen all
    leverage: Floats  # [n]


def fit_ridge_margin(
    x: Floats, y: Integers, ways: int, strength: float = 1.0, weight: Floats | None = None
) -> RidgeMargin:
    """The fit, by one singular value decomposition.

    Args:
        x: [n, F], finite, none zero.
        y: [n] in [0, ways), every class at least once.
        ways: K.
        strength: λ > 0.
        weight: [n] above zero, as if an example were there so often; `ridge_ranks` needs None.
    """
    y = np.asarray(y, np.int64)
    design = _design(np.asarray(x, np.float32 if x.dtype == np.float32 else np.float64))
    root = np.sqrt(np.ones(len(y)) if weight is None else weight).astype(design.dtype)
    u, s, vt = np.linalg.svd(design * root[:, None], full_matrices=False)
    sums = np.zeros((ways, len(s)), design.dtype)
    np.add.at(sums, y, u * root[:, None])  # Yᵀ U
    shrink = 1 / (s * s + strength)
    w = (vt.T * (s * shrink)) @ sums.T
    inside = design @ vt.T
    size = np.bincount(y, None if weight is None else weight, ways).astype(design.dtype)
    return RidgeMargin(strength, y, size, vt.T, inside, shrink, w, design @ w, (inside * inside) @ shrink)


def ridge_answers(state: RidgeMargin, z: Floats) -> Floats:
    """One for each class: [Q, F] -> [Q, K]."""
    found: Floats = _design(np.asarray(z, state.w.dtype)) @ state.w
    return found


def ridge_leave_one_out(state: RidgeMargin, weight: Floats | None = None) -> Floats:
    """The answers for each example of the ridge that has not seen it (or one of its copies): [n, K]."""
    rows = np.arange(len(state.y))
    left = state.leverage if weight is None else state.leverage * np.minimum(weight, 1)
    found: Floats = state.answers.copy()
    found[rows, state.y] -= left
    return found / (1 - left[:, None])


def adding_to_ridge(state: RidgeMargin, z: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """As `adding_to_means`; a distance is the answer times −1."""
    rows = np.arange(len(state.y))
    for k, q, asked in _coupled(state, z):
        step = k / (1 + q)  # [n]
        kept = 1 - state.leverage + k * step
        before = step[:, None] * asked - state.answers
        before[rows, state.y] += 1 - kept
        before /= kept[:, None]
        yield before, before - (step / kept)[:, None], -asked


def _coupled(state: RidgeMargin, z: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each new example k [n], q and its answers [K]."""
    z = _design(np.asarray(z, state.w.dtype))
    inside = z @ state.v  # [Q, r]
    k = (inside * state.shrink) @ state.inside.T  # [Q, n]
    outside = np.maximum((z * z).sum(1) - (inside * inside).sum(1), 0)
    q = (inside * inside) @ state.shrink + outside / state.strength  # [Q]
    return zip(k, q, z @ state.w, strict=True)


def ridge_ranks(state: RidgeMargin, z: Floats, *, strictly: bool = False) -> Ranks:
    """As `mean_ranks`: for each new example and class, how many examples are at least as strange."""
    each = [_ranks(state, *one, strictly) for one in _coupled(state, z)]
    ways = len(state.size)
    return Ranks(
        np.array([count for count, _ in each], np.int64).reshape(-1, ways),
        np.array([own for _, own in each], np.int64).reshape(-1, ways),
    )


def _ranks(state: RidgeMargin, k: Floats, q: Floats, asked: Floats, strictly: bool) -> tuple[Integers, Integers]:
    ways, y, rows = len(state.size), state.y, np.arange(len(state.y))
    step = k / (1 + q)  # [n]
    kept = 1 - state.leverage + k * step  # 1 − h, after adding
    answers = state.answers - step[:, None] * asked  # [n, K], as if the new target were zero
    own = answers[rows, y] - (1 - kept)
    answers[rows, y] = -np.inf
    best = answers.argmax(1)
    top = answers[rows, best]
    score = _greatest_other(asked) - asked  # [K], of the new example
    bar = score + (1 if strictly else -1) * 1024 * np.finfo(asked.dtype).eps * max(1.0, float(np.abs(asked).max()))
    if ways == 1:
        top = np.zeros_like(top)
    in_own = top - own - step >= bar[y] * kept  # the class of the example is the one that the new one is added to
    answers[rows, best] = -np.inf
    second = answers.max(1) if ways > 1 else top
    answers[rows, best] = top
    answers += step[:, None]
    others = np.maximum(answers, top[:, None], out=answers)
    others[rows, best] = np.maximum(top + step, second)
    others -= own[:, None]
    hits = others >= bar * kept[:, None]
    hits[rows, y] = in_own
    counted = np.bincount(y[in_own], minlength=ways)
    return hits.sum(0), counted


def _greatest_other(f: Floats) -> Floats:
    if len(f) == 1:
        return np.zeros_like(f)
    second, first = np.partition(f, -2)[-2:]
    other = np.full_like(f, first)
    other[f.argmax()] = second
    return other


def _design(x: Floats) -> Floats:
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(x.dtype).tiny)
    return np.concatenate([unit, np.ones((len(x), 1), x.dtype)], 1)
