"""What to label next: which of many unlabeled things would teach the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.conformal import p_values
from ..ops.heads import strangeness
from ..ops.representatives import representatives
from ..ops.temperature import probabilities
from .fitting import kept
from .inputs import Item
from .learned import Learned

__all__ = ["Suggestion", "rank", "suggestions"]

LOOKED_AT = 4096


@dataclass(frozen=True)
class Suggestion:
    """Something that is worth a label.

    Attributes:
        source: what it is.
        label: the most probable class, to confirm or to correct.
        probability: of it.
        candidates: classes that it may be of, the most probable first; none: unlike every example, perhaps a new class.
    """

    source: str
    label: str
    probability: float
    candidates: tuple[str, ...]

    def table(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def rank(learned: Learned, z: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of z, what teaches most first.

    Those that stand best for all others, each counted by how unsure it is: 1 − (first − second probability). Of more
    than 4,096, as many are looked at, evenly spaced.

    Args:
        learned: what is taught.
        z: [M, F].
        count: how many; all if there are fewer.
    """
    rows = np.arange(len(z)) if len(z) <= LOOKED_AT else np.linspace(0, len(z) - 1, LOOKED_AT).astype(np.int64)
    z = z[rows]
    p = probabilities(strangeness(learned.head, z), learned.calibration.temperature)
    unsure = np.ones(len(z))
    if p.shape[1] > 1:
        second, first = np.partition(p, -2)[:, -2:].T
        unsure = 1 - (first - second)
    if learned.snapshot.examples:
        to_taught = learned.search.nearest(z, 1)[1][:, 0]
    else:  # classes are known by their names alone: farther than all are from each other
        to_taught = np.full(len(z), 4 * np.square(z - z.mean(0)).sum(1).max())
    return rows[representatives(z, to_taught, min(count, len(z)), weight=unsure)]


def suggestions(
    learned: Learned, items: Sequence[Item], z: NDArray[np.float32], count: int, epsilon: float
) -> list[Suggestion]:
    """The things to label next, what teaches most first."""
    chosen = rank(learned, z, count)
    p = probabilities(strangeness(learned.head, z[chosen]), learned.calibration.temperature)
    stays = kept(learned.head, p_values(learned.head, z[chosen]), learned.sizes, epsilon)
    found = []
    for row, likely, inside in zip(chosen, p, stays, strict=True):
        order = np.argsort(-likely, kind="stable")
        possible = tuple(learned.names[label] for label in order[inside[order]])
        source = items[row].preview or items[row].source
        found.append(Suggestion(source, learned.names[order[0]], float(likely[order[0]]), possible))
    return found
