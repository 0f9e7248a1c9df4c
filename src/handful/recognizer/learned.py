"""What a version of a collection taught: a pure function of its examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..collection import Snapshot
from ..ops.conformal import Head
from ..ops.head_choice import fit_named
from ..ops.nearest_mean import NearestMean
from ..ops.temperature import Calibration
from .descriptions import name_vectors, without_them
from .embedders import Embedder
from .fitting import fit
from .search import Search

__all__ = ["Learned", "learn", "to_add_next"]


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


def learn(snapshot: Snapshot, head_name: str, embedder: Embedder, calibration: Calibration | None = None) -> Learned:
    """Fit a head, and its probabilities if they are not given, to a version."""
    names, told = snapshot.labels, name_vectors(snapshot)
    snapshot = without_them(snapshot)
    number = {name: index for index, name in enumerate(names)}
    y = np.array([number[one.label] for one in snapshot.examples], np.int64)
    x = snapshot.vectors
    if told is None:
        head, calibration = fit(head_name, x, y, len(names), embedder, calibration)
    else:
        head, calibration = fit_named(x, y, told)
    sizes = np.bincount(y, minlength=len(names))
    counts = dict(zip(names, sizes.tolist(), strict=True))
    return Learned(snapshot, names, sizes, counts, head, calibration, Search(x), y)


def to_add_next(learned: Learned, head: NearestMean) -> str:
    """Which class needs examples most, in words."""
    sizes = learned.sizes
    fewest = int(sizes.argmin())
    if not sizes[fewest]:
        return f"add examples of {learned.names[fewest]}: all that is known of it is its name"
    if sizes[fewest] < 2:
        return f"add a second example of {learned.names[fewest]}: of one alone nothing can be learned about its spread"
    if len(learned.names) == 1:
        return "add another class, or ask away: with one class all that can be said is whether a thing is like it"
    wrong = np.bincount(head.y, head.own > head.near[:, 0], len(sizes)) / sizes
    hardest = int(wrong.argmax())
    if wrong[hardest] == 0:
        return f"every example is recognized without itself; {learned.names[fewest]} has the fewest: add to it"
    return (
        f"add examples of {learned.names[hardest]}: {round(100 * wrong[hardest])}% of its examples are taken for "
        "others when judged without themselves"
    )
