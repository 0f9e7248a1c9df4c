"""Episodes: the t-th batch of tasks is a pure function of (pool, seed, t).

No worker, rank or restart can change what task is drawn. A batch is drawn as row numbers (`draw`) and made
by one gather, so that an encoder that does not adapt can embed each example once and gather its features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from operator import index
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..episode import Episode, EpisodeSource, Query, Support
from ..errors import DataError
from ..ops.seeds import generator
from .drawing import apportioned, distinct, exchanged, members, ragged_shots, shuffled
from .pool import ClassPool
from .strangers import check_strangers, drawn_strangers

__all__ = ["Draw", "Episodes", "Range", "count_of", "drawn", "range_of", "seed_of"]

Range = int | tuple[int, int]
"""A number, or the least and the greatest of a range drawn from uniformly for each batch."""

Integers = NDArray[np.int64]


class Draw(NamedTuple):
    """A batch of tasks as numbers: classes and rows of the pool, before anything is gathered."""

    classes: Tensor  # [B, N] the class behind each label
    support: Tensor  # [B, S] rows of pool.examples
    support_y: Tensor  # [B, S]
    query: Tensor  # [B, Q]
    query_y: Tensor  # [B, Q]
    strangers: Tensor  # [B, T] rows of none of the classes

    @property
    def tasks(self) -> int:
        """B, the number of tasks."""
        return self.classes.shape[0]

    @property
    def asked(self) -> Tensor:
        """[B, Q + T] rows of the queries and then of the strangers."""
        return torch.cat([self.query, self.strangers], 1)

    def part(self, start: int, stop: int) -> Draw:
        """Tasks `start` to `stop`."""
        return Draw(*(leaf[start:stop] for leaf in self))


class Episodes:
    """Batches of classification tasks drawn from the classes of a pool.

    Each task draws `ways` classes, gives them labels in random order, and draws for each class distinct
    examples: `shots` for the support, `queries` for the query. All are uniform; with `families`, the family is,
    and then the class among those of its family.

    Args:
        pool: the classes to draw from (one split: `pool.split("train")`).
        ways: classes a task; a (least, greatest) pair is drawn from for each batch.
        shots: support examples a class; or a pair, likewise.
        queries: query examples a class.
        batch: B, tasks a batch.
        seed: another seed is another sequence of tasks.
        ragged: the classes of a task have different shots, from 1 to 2·shots − 1, and `shots` on average.
        families: draw at most one class of a family into a task (a character, but not two turns of it).
        query_balance: a task's ways · queries query examples have class shares drawn from a Dirichlet distribution of
            this concentration (Veilleux et al. 2021, arXiv:2204.11181: 2), as far as classes have examples; None: all
            classes have as many.
        label_noise: share of support labels that are wrong, exchanged at random between examples of different
            classes, so that each class keeps its number of shots.
        strangers: share of what a task asks that is of none of its classes, but of others of the pool (none of the
            above, Gao et al. 2019, arXiv:1910.07124): `Episode.strangers`, on top of the queries.

    Raises:
        DataError: more ways than classes, a class with fewer examples than a task needs, or a number out of range.
    """

    def __init__(
        self,
        pool: ClassPool,
        *,
        ways: Range = 5,
        shots: Range = 1,
        queries: int = 15,
        batch: int = 1,
        seed: int = 0,
        ragged: bool = False,
        families: bool = False,
        query_balance: float | None = None,
        label_noise: float = 0.0,
        strangers: float = 0.0,
    ) -> None:
        self.pool, self.seed = pool, seed_of(seed)
        self.ways, self.shots = range_of("ways", ways), range_of("shots", shots)
        self.queries, self.batch = count_of("queries", queries), count_of("batch", batch)
        self.ragged, self.families = ragged, families
        self.query_balance, self.label_noise, self.strangers = query_balance, label_noise, strangers
        self._starts, self._counts = pool.starts.numpy(), pool.counts.numpy()
        self._members = members(pool.families.numpy()) if families else None
        self._check()
        check_strangers(strangers, pool, self.ways[1], families=families)

    def __getitem__(self, t: int) -> Episode:
        """The t-th batch of tasks, t ≥ 0."""
        return self.make(self.draw(t))

    def make(self, draw: Draw) -> Episode:
        """The examples of a drawn batch, by one gather each for support and query."""
        ways = draw.classes.shape[1]
        return Episode(
            Support(self.pool.take(draw.support), draw.support_y, ways),
            Query(self.pool.take(draw.query), draw.query_y),
            draw.classes,
            self.pool.gather(draw.strangers) if draw.strangers.shape[1] else None,
        )

    def __iter__(self) -> Iterator[Episode]:
        """All batches, without end."""
        return (self[t] for t in itertools.count())

    def draw(self, t: int, classes: Integers | None = None) -> Draw:
        """The t-th batch of tasks as numbers; of these classes [B, N], if they are given, in the order of labels."""
        if t < 0:
            raise IndexError(f"episodes are numbered from 0, got {t}")
        random = generator("episodes", self.seed, t)
        ways, shots = (int(random.integers(low, high + 1)) for low, high in (self.ways, self.shots))
        classes = self.classes(random, ways) if classes is None else classes  # [B, N]
        ways = classes.shape[1]
        most = 2 * shots - 1 if self.ragged else shots
        some = self.queries if self.query_balance is None else self._spare(ways, most)  # of a class, at most
        picks = distinct(random, self._counts[classes], most + some)  # [B, N, most + some]
        rows = self._starts[classes][..., None] + picks
        labels = np.broadcast_to(np.arange(ways)[:, None], rows.shape)
        if self.ragged:
            chosen = np.arange(most) < ragged_shots(random, self.batch, ways, shots)[..., None]  # [B, N, most]
        else:
            chosen = np.ones((self.batch, ways, most), dtype=bool)
        support = rows[..., :most][chosen].reshape(self.batch, -1), labels[..., :most][chosen].reshape(self.batch, -1)
        query = rows[..., most:].reshape(self.batch, -1), labels[..., most:].reshape(self.batch, -1)
        if self.query_balance is not None:
            shares = generator("balance", self.seed, t).dirichlet(np.full(ways, self.query_balance), self.batch)
            kept = apportioned(shares, some, ways * self.queries).reshape(self.batch, -1)
            query = query[0][kept].reshape(self.batch, -1), query[1][kept].reshape(self.batch, -1)
        if self.label_noise:
            support = support[0], exchanged(generator("noise", self.seed, t), support[1], ways, self.label_noise)
        mixed = (*shuffled(random, *support), *shuffled(random, *query))
        number = math.ceil(ways * self.queries * self.strangers / (1 - self.strangers))
        strangers = drawn_strangers(
            generator("strangers", self.seed, t), self.pool, classes, number, families=self.families
        )
        return Draw(*[*(torch.from_numpy(array) for array in (classes, *mixed)), strangers])

    def classes(self, random: np.random.Generator, ways: int) -> Integers:
        """Classes for a batch of tasks, uniform and in random order: [B, N]."""
        if self._members is None:
            return distinct(random, np.full(self.batch, self.pool.classes), ways)
        table, sizes = self._members
        family = distinct(random, np.full(self.batch, len(sizes)), ways)
        variant = (random.random(family.shape) * sizes[family]).astype(np.int64)
        return table[family, variant]

    def _spare(self, ways: int, most: int) -> int:
        """How many queries one class may have, if not all have as many."""
        return min(ways * self.queries, int(self._counts.min()) - most)

    def _check(self) -> None:
        balance, noise = self.query_balance, self.label_noise
        if balance is not None and not (isinstance(balance, Real) and 0 < balance < math.inf):
            raise DataError(f"episodes: query_balance must be a number above 0, or None; got {self.query_balance!r}")
        if not (isinstance(noise, Real) and 0 <= noise <= 1):
            raise DataError(f"episodes: label_noise must be a share from 0 to 1, got {self.label_noise!r}")
        groups = self.pool.classes if self._members is None else len(self._members[1])
        if self.ways[1] > groups:
            what = "classes" if self._members is None else "families of classes"
            raise DataError(
                f"episodes: {self.ways[1]} ways need as many {what}, the pool has {groups}: ask for fewer ways"
            )
        support = 2 * self.shots[1] - 1 if self.ragged else self.shots[1]
        need = support + self.queries
        short = [i for i in range(self.pool.classes) if self._counts[i] < need]
        if short:
            name, count = self.pool.names[short[0]], int(self._counts[short[0]])
            more = f" (and {len(short) - 1} more classes)" if len(short) > 1 else ""
            raise DataError(
                f"episodes: class {name!r} has {count} examples{more}; "
                f"{support} shots + {self.queries} queries need {need}: ask for fewer, or leave the class out"
            )
        if self.query_balance is not None and need == int(self._counts.min()) and self.ways[1] > 1:
            name = self.pool.names[int(self._counts.argmin())]
            raise DataError(
                f"episodes: query_balance has nothing to vary: class {name!r} has "
                f"{need} examples, all of which {support} shots and {self.queries} queries take; ask for fewer queries"
            )


@runtime_checkable
class Drawing(Protocol):
    """Episodes that are numbers before they are examples."""

    def draw(self, t: int) -> Draw: ...

    def make(self, draw: Draw) -> Episode: ...


def drawn(episodes: EpisodeSource, t: int) -> tuple[Draw | Episode, Callable[[int, int], Episode]]:
    """The t-th batch, as numbers where that can be, and what makes its tasks from start to stop: only these."""
    if isinstance(episodes, Drawing):
        draw = episodes.draw(t)
        return draw, lambda start, stop: episodes.make(draw.part(start, stop))
    episode = episodes[t]
    return episode, episode.part


def count_of(what: str, value: int) -> int:
    """The number; a DataError if it is not whole or below 1."""
    try:
        number = index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise DataError(f"episodes: {what} must be a whole number of at least 1, got {value!r}")
    return number


def seed_of(value: int) -> int:
    """The number; a DataError if it is not whole."""
    try:
        return index(value)
    except TypeError:
        raise DataError(f"episodes: seed must be a whole number, got {value!r}") from None


def range_of(what: str, value: Range) -> tuple[int, int]:
    """(least, greatest) of a number or a range; a DataError if there is no such range from 1 on."""
    try:
        low, high = map(index, value if isinstance(value, Sequence) else (value, value))
    except (TypeError, ValueError):  # not whole, or not two
        low, high = 0, 0
    if not 1 <= low <= high:
        raise DataError(
            f"episodes: {what} must be a whole number of at least 1, or a range (least, greatest); got {value!r}"
        )
    return low, high
