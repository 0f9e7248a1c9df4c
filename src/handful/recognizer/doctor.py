"""What may be wrong with the examples themselves: labels, copies, numbers, strangers among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..collection import Example
from ..ops.nearest_mean import NearestMean, distances, fit_nearest_mean

__all__ = ["Doubt", "Finding", "examine", "likely_mislabeled"]

COMPARED = 20_000
COPY = 0.02
IMBALANCE = 3
CHUNK = 1 << 20
NEARER = 1.3


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


class Doubt(NamedTuple):
    """An example that seems to be of another class, and the nearest one that it is like."""

    row: int
    looks: int
    like: int


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
        for row, looks, near in likely_mislabeled(state, neighbor):
            one, like = examples[row], examples[near]
            found.append(
                Finding(
                    "mislabeled",
                    (one.id, like.id),
                    f"{_shown(one)} is labeled {one.label} but looks like {names[looks]}; near is {_shown(like)}",
                )
            )
    found += _copies(examples, neighbor, distance)
    found += _imbalance(state, names)
    found += _outliers(examples, state)
    return found


def likely_mislabeled(state: NearestMean, neighbor: NDArray[np.int64] | None = None) -> list[Doubt]:
    """Examples whose label is doubted twice, the most doubtful first; of classes of one or two nothing is said.

    First by a rule in which wrong labels still have their say: another class's mean is nearer than its own, made
    without it, and its nearest neighbor is of another class. Then all are judged anew without those: another mean is
    nearer by far (1.3 times), and the nearest of the others is of another class.
    """
    present, label = np.unique(state.y, return_inverse=True)  # of some classes only the name may be known
    if len(present) < 2:
        return []
    ways, large = len(present), np.bincount(label)[label] > 2
    if neighbor is None:
        neighbor, _ = _nearest_neighbors(state)
    kept = ~(large & (state.own > state.near[:, 0]) & (label[neighbor] != label))
    kept |= np.bincount(label, kept, ways)[label] == 0  # a class has to be something
    trusted = np.flatnonzero(kept)
    judge = fit_nearest_mean(state.x[trusted], label[trusted], ways, "squared")
    own_without = np.full(len(state.x), np.nan, state.x.dtype)
    own_without[trusted] = judge.own
    doubts: list[tuple[float, Doubt]] = []
    step = max(1, CHUNK // max(ways, len(trusted)))
    for start in range(0, len(state.x), step):
        part = np.arange(start, min(start + step, len(state.x)))
        here, y = np.arange(len(part)), label[part]
        far = distances(judge, state.x[part])  # [m, K]
        own = np.where(np.isfinite(own_without[part]), own_without[part], far[here, y])
        far[here, y] = np.inf
        looks = far.argmin(1)
        other = far[here, looks]
        doubted = np.flatnonzero(large[part] & (own > NEARER * other))
        near = trusted[_nearest(state, part[doubted], trusted)[0]]
        for one, like in zip(doubted, near, strict=True):
            if label[like] != y[one]:
                doubt = Doubt(int(part[one]), int(present[looks[one]]), int(like))
                doubts.append((float(other[one] / own[one]), doubt))
    return [doubt for _, doubt in sorted(doubts, key=lambda one: one[0])]


def _nearest_neighbors(state: NearestMean) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Of each example the nearest other one, and its squared distance."""
    every = np.arange(len(state.x))
    step = max(1, CHUNK // len(every))
    parts = [_nearest(state, every[start : start + step], every) for start in range(0, len(every), step)]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([distance for _, distance in parts])


def _nearest(
    state: NearestMean, rows: NDArray[np.int64], among: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Of each of these rows the place in `among` of the nearest other example, and its squared distance."""
    others = state.x if len(among) == len(state.x) else state.x[among]
    found = state.x[rows] @ others.T
    found *= -2
    found += state.squares[rows, None]
    found += state.squares[among]
    found[rows[:, None] == among] = np.inf
    nearest = found.argmin(1)
    return nearest, np.maximum(found[np.arange(len(rows)), nearest], 0)


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
