"""What may be wrong with the examples themselves: labels, copies, numbers, strangers among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..collection import Example
from ..ops.nearest_mean import NearestMean

__all__ = ["Finding", "examine", "likely_mislabeled"]

COMPARED = 20_000
COPY = 0.02
IMBALANCE = 3
CHUNK = 1 << 20


class Finding(NamedTuple):
    """Something to look at.

    Attributes:
        kind: mislabeled, copy, imbalance, outlier.
        ids: the examples, or none.
        message: in words.
    """

    kind: str
    ids: tuple[int, ...]
    message: str


def examine(examples: tuple[Example, ...], state: NearestMean, names: tuple[str, ...]) -> list[Finding]:
    """Everything found, what matters most first.

    Args:
        examples: n of them.
        state: their nearest means.
        names: of the classes.
    """
    neighbor, distance = _nearest_neighbors(state) if 1 < len(examples) <= COMPARED else (None, None)
    found: list[Finding] = []
    if neighbor is not None and distance is not None:
        for row in likely_mislabeled(state, neighbor):
            one, like = examples[row], examples[int(neighbor[row])]
            looks = names[int(state.near_class[row, 0])]
            found.append(
                Finding(
                    "mislabeled",
                    (one.id, like.id),
                    f"{_shown(one)} is labeled {one.label} but looks like {looks}; nearest is {_shown(like)}",
                )
            )
    found += _copies(examples, neighbor, distance)
    found += _imbalance(state, names)
    found += _outliers(examples, state)
    return found


def likely_mislabeled(state: NearestMean, neighbor: NDArray[np.int64] | None = None) -> list[int]:
    """Rows whose label is doubted twice, the most doubtful first.

    Without the example, another class's mean is nearer than its own; and its nearest neighbor is of another class.
    Of classes of one or two nothing is said.
    """
    if not state.near.shape[1]:
        return []
    if neighbor is None:
        neighbor, _ = _nearest_neighbors(state)
    other = state.near[:, 0]
    doubted = (state.size[state.y] > 2) & (state.own > other) & (state.y[neighbor] != state.y)
    rows = np.flatnonzero(doubted)
    order = np.argsort(-(state.own[rows] / np.maximum(other[rows], np.finfo(other.dtype).tiny)), kind="stable")
    return [int(row) for row in rows[order]]


def _nearest_neighbors(state: NearestMean) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Of each example the nearest other one, and its squared distance."""
    x, squares = state.x, state.squares
    neighbor, distance = np.empty(len(x), np.int64), np.empty(len(x), x.dtype)
    step = max(1, CHUNK // len(x))
    for start in range(0, len(x), step):
        rows = np.arange(start, min(start + step, len(x)))
        found = squares[rows, None] + squares - 2 * (x[rows] @ x.T)
        found[np.arange(len(rows)), rows] = np.inf
        neighbor[rows] = found.argmin(1)
        distance[rows] = np.maximum(found[np.arange(len(rows)), neighbor[rows]], 0)
    return neighbor, distance


def _copies(
    examples: tuple[Example, ...], neighbor: NDArray[np.int64] | None, distance: NDArray[np.floating] | None
) -> Iterator[Finding]:
    by_content: dict[str, list[Example]] = {}
    for one in examples:
        by_content.setdefault(one.sha256, []).append(one)
    for group in by_content.values():
        if len(group) > 1:
            yield Finding(
                "copy",
                tuple(one.id for one in group),
                f"{', '.join(map(_shown, group[:4]))} are the same: a promise counts on different examples; keep one",
            )
    if neighbor is None or distance is None:
        return
    near = distance <= COPY * np.median(distance)
    for row in np.flatnonzero(near):
        one, like = examples[row], examples[int(neighbor[row])]
        seen_from_there = near[neighbor[row]] and neighbor[neighbor[row]] == row and like.id < one.id
        if one.sha256 != like.sha256 and not seen_from_there:
            yield Finding(
                "copy",
                (one.id, like.id),
                f"{_shown(one)} and {_shown(like)} are nearly the same: a promise counts on different examples",
            )


def _imbalance(state: NearestMean, names: tuple[str, ...]) -> Iterator[Finding]:
    sizes = np.bincount(state.y, minlength=len(names))
    if sizes.max() > IMBALANCE * sizes.min():
        most, fewest = names[int(sizes.argmax())], names[int(sizes.argmin())]
        yield Finding(
            "imbalance",
            (),
            f"{most} has {sizes.max()} examples and {fewest} {sizes.min()}: the promise over all says little about "
            f"{fewest}; add to it",
        )


def _outliers(examples: tuple[Example, ...], state: NearestMean) -> Iterator[Finding]:
    rows = np.flatnonzero(np.isfinite(state.own))
    if len(rows) < 8:
        return
    low, high = np.quantile(state.own[rows], [0.25, 0.75])
    for row in rows[state.own[rows] > high + 3 * (high - low)]:
        one = examples[row]
        yield Finding("outlier", (one.id,), f"{_shown(one)} is far from the other examples of {one.label}: look at it")


def _shown(one: Example) -> str:
    return f"example {one.id} ({one.source[-60:]})"
