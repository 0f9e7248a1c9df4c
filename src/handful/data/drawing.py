"""What episodes draw: numbers, orders, shares and labels, for many tasks at once; pure functions of a generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["apportioned", "distinct", "exchanged", "members", "ragged_shots", "shuffled"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def distinct(random: np.random.Generator, n: Integers, k: int) -> Integers:
    """[..., k] distinct integers in [0, n), uniform and in random order (Floyd's algorithm, then a shuffle)."""
    chosen = np.empty((*n.shape, k), dtype=np.int64)
    uniform = random.random((k, *n.shape))
    for i in range(k):
        top = n - k + i
        candidate = (uniform[i] * (top + 1)).astype(np.int64)
        taken = (chosen[..., :i] == candidate[..., None]).any(-1)
        chosen[..., i] = np.where(taken, top, candidate)
    return shuffled(random, chosen)[0]


def shuffled(random: np.random.Generator, *arrays: Integers) -> tuple[Integers, ...]:
    """The arrays [..., K] in one random order along the last axis, another for each row."""
    order = random.random(arrays[0].shape).argsort(-1)
    return tuple(np.take_along_axis(array, order, -1) for array in arrays)


def ragged_shots(random: np.random.Generator, batch: int, ways: int, shots: int) -> Integers:
    """[B, N] shots from 1 to 2·shots − 1 that add up to ways·shots: of two classes one gives what the other gets."""
    given = random.integers(0, shots, (batch, ways // 2))
    odd = np.zeros((batch, ways % 2), dtype=np.int64)
    return shots + shuffled(random, np.concatenate([given, -given, odd], axis=1))[0]


def apportioned(shares: Floats, most: int, total: int) -> NDArray[np.bool_]:
    """[B, N, most] which places are taken: `total` in each task, the first ones of each class, by its share [B, N].

    Webster's method, where no class gets more than it has places.
    """
    batch, ways = shares.shape
    quotients = (shares[..., None] / (np.arange(most) + 0.5)).reshape(batch, -1)
    taken = np.zeros(quotients.shape, dtype=bool)
    np.put_along_axis(taken, np.argsort(-quotients, axis=1, kind="stable")[:, :total], True, 1)
    return taken.reshape(batch, ways, most)


def exchanged(random: np.random.Generator, y: Integers, ways: int, share: float) -> Integers:
    """Labels [B, S], of which a share has changed places with labels of other classes.

    One example of each class is chosen, then a second of each, until there are enough. Those chosen in one turn stand
    in a ring of random order, and each takes the label of the next: another class, and any as likely. One alone cannot
    change places, so where one would be left over, one more or one less is chosen.
    """
    batch, examples = y.shape
    wrong = np.full((batch, 1), round(share * examples))
    wrong = np.where(wrong % ways == 1, wrong + 2 * random.integers(0, 2, wrong.shape) - 1, wrong)
    count = (y[..., None] == np.arange(ways)).sum(1)  # [B, N]
    place = (y + random.random(y.shape)).argsort(1).argsort(1)
    turn = place - np.take_along_axis(count.cumsum(1) - count, y, 1)  # [B, S] random within each class
    order = (turn + random.random(y.shape)).argsort(1)
    ring, turn, at = np.take_along_axis(y, order, 1), np.take_along_axis(turn, order, 1), np.arange(examples)
    first = np.maximum.accumulate(np.where(np.diff(turn, axis=1, prepend=-1) > 0, at, 0), axis=1)
    last = (at == wrong - 1) | (np.diff(turn, axis=1, append=examples) > 0)
    moved = np.take_along_axis(ring, np.where(at >= wrong, at, np.where(last, first, (at + 1) % examples)), 1)
    noisy = np.empty_like(y)
    np.put_along_axis(noisy, order, moved, 1)
    return noisy


def members(families: Integers) -> tuple[Integers, Integers]:
    """[families, most] the classes of each family, padded, and how many each has."""
    _, family, sizes = np.unique(families, return_inverse=True, return_counts=True)
    table = np.zeros((len(sizes), sizes.max()), dtype=np.int64)
    order = np.argsort(family, kind="stable")
    position = np.arange(len(family)) - np.repeat(sizes.cumsum() - sizes, sizes)
    table[family[order], position] = order
    return table, sizes
