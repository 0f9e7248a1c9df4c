"""What a version of a collection taught: a pure function of its examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..collection import Snapshot
from ..ops.choosing import Chosen
from ..ops.conformal import Head
from ..ops.head_choice import fit_named
from ..ops.nearest_mean import NearestMean, leave_one_out
from ..ops.ridge_margin import RidgeMargin, ridge_leave_one_out
from ..ops.temperature import Calibration
from .descriptions import name_vectors, without_them
from .embedders import Embedder
from .fitting import fit
from .search import Search

__all__ = ["Learned", "learn", "to_add_next"]

WEAK = 0.5
"""Share of mistakes among examples judged without themselves, beyond which another encoder is advised."""


class Learned(NamedTuple):
    """The fitted rule, and what is needed beside it to answer."""

    snapshot: Snapshot
    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    counts: dict[str, int]  # the same by name
    head: Head
    calibration: Calibration
    search: Search
    y: NDArray[np.int64]  # of the examples of the snapshot


def learn(
    snapshot: Snapshot,
    head_name: str,
    embedder: Embedder,
    calibration: Calibration | None = None,
    before: Learned | None = None,
) -> Learned:
    """Fit a head, and its probabilities if they are not given, to a version; with what another version taught, sooner.

    The same as without `before`, but for rounding.
    """
    names, told = snapshot.labels, name_vectors(snapshot)
    snapshot = without_them(snapshot)
    number = {name: index for index, name in enumerate(names)}
    y = np.array([number[one.label] for one in snapshot.examples], np.int64)
    x = snapshot.vectors
    if told is None:
        known = None if before is None else (before.head, _rows_before(snapshot, before.snapshot))
        head, calibration = fit(head_name, x, y, len(names), embedder, calibration, known)
    else:
        head, calibration = fit_named(x, y, told)
    sizes = np.bincount(y, minlength=len(names))
    counts = dict(zip(names, sizes.tolist(), strict=True))
    return Learned(snapshot, names, sizes, counts, head, calibration, Search(x), y)


def _rows_before(snapshot: Snapshot, before: Snapshot) -> NDArray[np.int64]:
    """Of each example its row in another version, -1 if it was not there: [n]."""
    number = {one.id: row for row, one in enumerate(before.examples)}
    return np.array([number.get(one.id, -1) for one in snapshot.examples], np.int64)


def to_add_next(learned: Learned) -> str:
    """Which class needs examples most, in words; or that another head is needed."""
    sizes = learned.sizes
    fewest = int(sizes.argmin())
    if not sizes[fewest]:
        return f"add examples of {learned.names[fewest]}: all that is known of it is its name"
    if sizes[fewest] < 2:
        return f"add a second example of {learned.names[fewest]}: of one alone nothing can be learned about its spread"
    if len(learned.names) == 1:
        return "add another class, or ask away: with one class all that can be said is whether a thing is like it"
    y, mistaken = _mistaken(learned.head)
    if len(y) and 1 - mistaken.mean() <= 1 / len(sizes):
        return (
            f"take another head or encoder: this one recognizes {round(100 * (1 - mistaken.mean()))}% of its examples "
            "when they are judged without themselves, no more than guessing would"
        )
    wrong = np.bincount(y, mistaken, len(sizes)) / sizes
    hardest = int(wrong.argmax())
    if wrong[hardest] == 0 and sizes[fewest] == sizes.max():
        return (
            "every example is recognized without itself, and no class has fewer: ask away, and add what it gets wrong"
        )
    if wrong[hardest] == 0:
        return f"every example is recognized without itself; {learned.names[fewest]} has the fewest: add to it"
    advice = (
        f"add examples of {learned.names[hardest]}: {round(100 * wrong[hardest])}% of its examples are taken for "
        "others when judged without themselves"
    )
    if mistaken.mean() > WEAK:
        advice += (
            f"; of all examples {round(100 * mistaken.mean())}%: try a stronger encoder (--with, docs/encoders.md) too"
        )
    return advice


def _mistaken(head: Head) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels of the examples that are not alone in their class; which are taken for others without themselves."""
    if isinstance(head, Chosen):
        head = head.rules[head.best]
    if isinstance(head, NearestMean):
        rows, far = leave_one_out(head)
    elif isinstance(head, RidgeMargin):
        rows = np.flatnonzero(head.size[head.y] > 1)
        far = -ridge_leave_one_out(head)[rows]
    else:
        rows, far = np.arange(len(head.y)), head.without
    return head.y[rows], far.argmin(1) != head.y[rows]
