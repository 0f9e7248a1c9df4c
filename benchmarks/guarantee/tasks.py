"""Tasks as a person might teach them: a few classes, a few examples of each, and what is asked afterwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .vectors import VectorSet

__all__ = ["Task", "draw", "enough"]


class Task(NamedTuple):
    """Vectors of a task.

    Attributes:
        x, y: [ways · shots, F] the examples and their classes.
        known, truth: [Q, F] things of these classes, drawn from all that are left together.
        strangers: [R, F] of other classes.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    known: NDArray[np.float32]
    truth: NDArray[np.int64]
    strangers: NDArray[np.float32]


def enough(data: VectorSet, shots: int) -> bool:
    """Whether classes have examples left to ask for."""
    return min(map(len, data.rows)) >= shots + 5


def draw(data: VectorSet, random: np.random.Generator, *, ways: int, shots: int, known: int, strangers: int) -> Task:
    """A task; strangers come from the set's own if it has such and all its classes are taught.

    Of assays a task is one, of its two outcomes.
    """
    rows = data.rows
    order = (
        2 * random.integers(len(rows) // 2) + random.permutation(2) if data.paired else random.permutation(len(rows))
    )
    mixed = [random.permutation(rows[label]) for label in order[:ways]]
    if data.paired:  # far more are inactive, and the promise is for classes of the shares that were taught
        fewest = min(map(len, mixed))
        mixed = [one[:fewest] for one in mixed]
    left = np.concatenate([one[shots:] for one in mixed])
    of = np.repeat(np.arange(ways), [len(one) - shots for one in mixed])
    asked = random.choice(len(left), min(known, len(left)), replace=False)
    source = data.x if ways < len(order) else data.strangers
    others = np.concatenate([rows[label] for label in order[ways:]]) if ways < len(order) else np.arange(len(source))
    support = np.concatenate([one[:shots] for one in mixed])
    return Task(
        data.x[support],
        np.repeat(np.arange(ways), shots),
        data.x[left[asked]],
        of[asked],
        source[random.choice(others, min(strangers, len(others)), replace=False)],
    )
