"""Classes that are described: by attributes, names or pictures of another kind. Zero-shot tasks drawn from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..episode import Episode, Query, Support
from ..errors import DataError
from ..ops.seeds import generator
from .episodes import Range, count_of, range_of, seed_of
from .pool import ClassPool

__all__ = ["DescribedPool", "ZeroShotEpisodes"]


@dataclass(frozen=True, eq=False)
class DescribedPool:
    """A pool of examples, and one of the descriptions of its classes, by the same names in the same order.

    Args:
        examples: the examples, and the splits.
        descriptions: one or more descriptions of each class; other classes, and the order, do not matter.

    Raises:
        DataError: a class without a description.
    """

    examples: ClassPool
    descriptions: ClassPool

    def __post_init__(self) -> None:
        number = {name: index for index, name in enumerate(self.descriptions.names)}
        missing = [name for name in self.examples.names if name not in number]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(f"described pool: class {missing[0]!r}{more} has no description; expected at least one")
        own = self.descriptions.subset([number[name] for name in self.examples.names])
        object.__setattr__(self, "descriptions", own)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.examples.shape

    @property
    def digest(self) -> str:
        """As `ClassPool.digest`, of examples and descriptions."""
        return self.examples.digest + self.descriptions.digest

    def split(self, name: str) -> DescribedPool:
        """Only the classes of a split, as `ClassPool.split`."""
        return DescribedPool(self.examples.split(name), self.descriptions)


class ZeroShotEpisodes:
    """Batches of zero-shot tasks: the support's x are descriptions; `[t]` is a pure function of (data, seed, t).

    Args:
        data: the described classes to draw from (one split: `data.split("train")`).
        ways: classes a task; a (least, greatest) pair is drawn from for each batch.
        shots: descriptions of a class; or a pair, likewise.
        queries: query examples a class.
        batch: B, tasks a batch.
        seed: another seed is another sequence of tasks.

    Raises:
        DataError: more ways than classes, a class with fewer examples or descriptions, or a number below 1.
    """

    def __init__(
        self,
        data: DescribedPool,
        *,
        ways: Range = 5,
        shots: Range = 1,
        queries: int = 15,
        batch: int = 1,
        seed: int = 0,
    ) -> None:
        self.data, self.seed = data, seed_of(seed)
        self.ways, self.shots = range_of("ways", ways), range_of("shots", shots)
        self.queries, self.batch = count_of("queries", queries), count_of("batch", batch)
        classes = data.examples.classes
        if self.ways[1] > classes:
            raise DataError(
                f"episodes: {self.ways[1]} ways need as many classes, the pool has {classes}: ask for fewer ways"
            )
        needs = (("descriptions", data.descriptions, self.shots[1]), ("examples", data.examples, self.queries))
        for what, pool, need in needs:
            for name, count in zip(pool.names, pool.counts.tolist(), strict=True):
                if count < need:
                    raise DataError(f"episodes: class {name!r} has {count} {what}, tasks need {need}: ask for fewer")

    def __getitem__(self, t: int) -> Episode:
        """The t-th batch of tasks, t ≥ 0."""
        if t < 0:
            raise IndexError(f"episodes are numbered from 0, got {t}")
        random = generator("zero-shot", self.seed, t)
        ways, shots = (int(random.integers(low, high + 1)) for low, high in (self.ways, self.shots))
        classes = random.random((self.batch, self.data.examples.classes)).argsort(1)[:, :ways]  # [B, N]
        a, support_y = _picked(random, self.data.descriptions, classes, shots)
        x, query_y = _picked(random, self.data.examples, classes, self.queries)
        return Episode(Support(a, support_y, ways, described=True), Query(x, query_y))

    def __iter__(self) -> Iterator[Episode]:
        """All batches, without end."""
        return (self[t] for t in itertools.count())


def _picked(
    random: np.random.Generator, pool: ClassPool, classes: NDArray[np.int64], number: int
) -> tuple[Tensor, Tensor]:
    """So many distinct examples of each class, shuffled, and their labels: [B, N·number, *shape], [B, N·number]."""
    counts, starts = pool.counts.numpy()[classes], pool.starts.numpy()[classes]  # [B, N]
    order = random.random((*classes.shape, int(counts.max())))
    order[np.arange(order.shape[-1]) >= counts[..., None]] = 2
    rows = starts[..., None] + order.argsort(-1)[..., :number]  # [B, N, number]
    labels = np.broadcast_to(np.arange(classes.shape[1])[:, None], rows.shape)
    rows, labels = rows.reshape(len(rows), -1), labels.reshape(len(rows), -1)
    shuffle = random.random(rows.shape).argsort(-1)
    rows, labels = (np.take_along_axis(array, shuffle, -1) for array in (rows, labels))
    return pool.gather(torch.from_numpy(rows)), torch.from_numpy(labels)
