"""Assays: tasks on shared examples, each with two outcomes (inactive 0, active 1) or measured values: a regression.

Unlike classes, assays overlap: one molecule may have been measured in many. A few-shot task is one assay, its support
some measurements, its queries others.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..episode import Episode, Query, Support
from ..errors import DataError, ShapeError
from ..ops.seeds import generator
from .episodes import Draw, Range, count_of, range_of, seed_of
from .pool import members_of

__all__ = ["AssayEpisodes", "AssayPool", "AssayProtocol"]

Integers = NDArray[np.int64]


class AssayProtocol(NamedTuple):
    """How a data set's few-shot tasks are made and judged."""

    metric: Literal["auc", "delta_auprc", "mse"]
    """Area under the ROC curve; average precision above guessing; mean squared error, where values were measured."""
    support: Literal["balanced", "stratified", "any"]
    """So many of each outcome; so many in all, outcomes as often as in the assay; so many, whatever they are."""
    interval: Literal["supports", "assays"]
    """What another drawing would change: the supports of these very assays, or the assays too."""


@dataclass(frozen=True, eq=False)
class AssayPool:
    """Assays on shared examples. Splits share the examples; nothing is copied.

    Attributes:
        examples: [M, *shape] floats, or uint8, small whole numbers that are read as floats of the same value. May be
            memory-mapped.
        rows: [L] of each measurement the row in `examples`, assay by assay.
        y: [L] int64 outcomes 0 or 1, or float values, [L] or several of each [L, out].
        counts: [A] measurements of each assay.
        names: A assay names.
        splits: assay numbers by split name; no assay is in two.
        protocol: how tasks are made and judged.
    """

    examples: Tensor
    rows: Tensor
    y: Tensor
    counts: Tensor
    names: tuple[str, ...]
    splits: Mapping[str, tuple[int, ...]]
    protocol: AssayProtocol

    def __post_init__(self) -> None:
        total = int(self.counts.sum())
        if not len(self.names) == len(self.counts) or not len(self.rows) == len(self.y) == total:
            raise ShapeError(
                f"assays: {len(self.names)} names and counts adding up to {total} do not fit {len(self.rows)} "
                f"rows and {len(self.y)} results"
            )
        members = [number for part in self.splits.values() for number in part]
        if len({*members}) < len(members):
            raise DataError("assays: one is in two splits; expected each in one")

    def __repr__(self) -> str:
        splits = "".join(f", {name} {len(members)}" for name, members in self.splits.items())
        about = (
            f"{len(self.names)} assays{splits and f' ({splits[2:]})'}, {len(self.y)} results of {len(self.examples)}"
        )
        return f"<AssayPool: {about} examples {list(self.shape)} of {str(self.examples.dtype).removeprefix('torch.')}>"

    @property
    def ways(self) -> int | None:
        """Two outcomes; None where values were measured."""
        return None if self.y.is_floating_point() else 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.examples.shape[1:])

    @property
    def starts(self) -> Tensor:
        """[A] where each assay begins in `rows` and `y`."""
        return self.counts.cumsum(0) - self.counts

    @property
    def digest(self) -> str:
        """SHA-256 of assays, splits, results and every example: equal digests, equal data."""
        about = repr((self.names, self.counts.tolist(), sorted(self.splits.items()), self.shape, self.protocol))
        found = hashlib.sha256(about.encode())
        for leaf in (self.rows, self.y, self.examples):
            found.update(leaf.contiguous().numpy().data)
        return found.hexdigest()

    def split(self, name: str) -> AssayPool:
        """Only the assays of a split; several splits as 'train+val'; everything as 'all'.

        An assay whose measurements were divided is one again where several of its parts are asked for.
        """
        groups = members_of(name, self.splits, self.names, [0] * len(self.names))
        starts, counts = self.starts.tolist(), self.counts.tolist()
        chosen = [number for group in groups.values() for number in group]
        kept = torch.cat([torch.arange(starts[number], starts[number] + counts[number]) for number in chosen])
        sizes = torch.tensor([sum(counts[number] for number in group) for group in groups.values()])
        names = tuple(whole for _, whole in groups)
        return AssayPool(self.examples, self.rows[kept], self.y[kept], sizes, names, {}, self.protocol)

    def gather(self, rows: Tensor) -> Tensor:
        """The examples of these rows as floats: [*rows, *shape]."""
        x = self.examples.index_select(0, rows.flatten())
        return x.to(torch.get_default_dtype()).view(*rows.shape, *self.shape)


class AssayEpisodes:
    """Batches of tasks, each one assay; `[t]` is a pure function of (pool, seed, t).

    Assays take turns in random order: each comes once before one comes again, so a number of tasks that is a multiple
    of theirs has equally many of each.

    Args:
        pool: the assays (one split: `pool.split("test")`).
        shots: support examples: of each outcome if the protocol is balanced, else in all. Or a (least, greatest) pair,
            drawn from for each batch.
        queries: query examples, counted likewise; "all": everything else, for batches of one task.
        batch: B, tasks a batch.
        seed: another seed is another sequence of tasks.

    Raises:
        DataError: an assay with fewer results than a task needs, or a number out of range.
    """

    def __init__(
        self,
        pool: AssayPool,
        *,
        shots: Range = 10,
        queries: int | Literal["all"] = 16,
        batch: int = 1,
        seed: int = 0,
    ) -> None:
        self.pool, self.seed = pool, seed_of(seed)
        self.shots, self.batch = range_of("shots", shots), count_of("batch", batch)
        self.queries = None if queries == "all" else count_of("queries", queries)
        if self.queries is None and self.batch > 1:
            raise DataError(f'episodes: queries = "all" differ in number, so expected batch = 1, got {batch}')
        self._starts, self._counts = pool.starts.numpy(), pool.counts.numpy()
        y = pool.y.numpy()
        spans = [y[start : start + count] for start, count in zip(self._starts, self._counts, strict=True)]
        outcomes = 1 if pool.ways is None else 2
        self._groups = [  # for each assay the places of each outcome, or of all values together
            [np.flatnonzero(span == outcome) if outcomes == 2 else np.arange(len(span)) for outcome in range(outcomes)]
            for span in spans
        ]
        for name, groups in zip(pool.names, self._groups, strict=True):
            self._check(name, [len(group) for group in groups])

    def __getitem__(self, t: int) -> Episode:
        """The t-th batch of tasks, t ≥ 0."""
        return self.make(self.draw(t))

    def __iter__(self) -> Iterator[Episode]:
        """All batches, without end."""
        return (self[t] for t in itertools.count())

    def make(self, draw: Draw) -> Episode:
        """The examples of a drawn batch, by one gather each for support and query."""
        support = Support(self.pool.gather(draw.support), draw.support_y, self.pool.ways)
        query = Query(self.pool.gather(draw.query), draw.query_y)
        return Episode(support, query, None if self.pool.ways is None else draw.classes)

    def draw(self, t: int) -> Draw:
        """The t-th batch of tasks as numbers. The classes of assay a are 2a and 2a + 1; of values a alone."""
        if t < 0:
            raise IndexError(f"episodes are numbered from 0, got {t}")
        random = generator("assays", self.seed, t)
        shots = int(random.integers(self.shots[0], self.shots[1] + 1))
        assays = [self._assay(t * self.batch + place) for place in range(self.batch)]
        drawn = [self._task(random, assay, shots) for assay in assays]
        support, query = (np.stack([pair[part] for pair in drawn]) for part in (0, 1))  # [B, S], [B, Q] measurements
        outcomes = len(self._groups[0])
        classes = torch.tensor(assays).unsqueeze(1) * outcomes + torch.arange(outcomes)
        rows, y = self.pool.rows, self.pool.y
        if self.pool.ways is None:
            y = y.to(torch.get_default_dtype()).view(len(y), -1)
        places = torch.from_numpy(support), torch.from_numpy(query)
        none = classes.new_zeros(len(classes), 0)
        return Draw(classes, rows[places[0]], y[places[0]], rows[places[1]], y[places[1]], none)

    def assay_of(self, draw: Draw) -> Integers:
        """[B] which assay of the pool each task is."""
        found: Integers = draw.classes[:, 0].numpy() // len(self._groups[0])
        return found

    def _assay(self, task: int) -> int:
        """The assay of a task, counted from 0 over all batches."""
        turn, place = divmod(task, len(self._groups))
        return int(generator("turns", self.seed, turn).permutation(len(self._groups))[place])

    def _task(self, random: np.random.Generator, assay: int, shots: int) -> tuple[Integers, Integers]:
        """Measurements for the support and for the queries, each in random order."""
        groups = [random.permutation(group) for group in self._groups[assay]]
        sizes = [len(group) for group in groups]
        kept = self._shares(shots, sizes)
        rest = [group[size:] for group, size in zip(groups, kept, strict=True)]
        if self.queries is not None:
            left = [len(group) for group in rest]
            rest = [group[:size] for group, size in zip(rest, self._shares(self.queries, left), strict=True)]
        support = np.concatenate([group[:size] for group, size in zip(groups, kept, strict=True)])
        query = np.concatenate(rest)
        start = self._starts[assay]
        return start + random.permutation(support), start + random.permutation(query)

    def _shares(self, number: int, sizes: Sequence[int]) -> list[int]:
        """How many of each outcome, of which there are so many."""
        if self.pool.protocol.support == "balanced" or len(sizes) == 1:
            return [number] * len(sizes)
        ones = min(max(round(number * sizes[1] / sum(sizes)), 1), number - 1)
        return [number - ones, ones]

    def _check(self, name: str, sizes: list[int]) -> None:
        most, wanted = self.shots[1], self.queries or 1
        if self.pool.protocol.support == "stratified" and min(self.shots[0], self.queries or 2) < 2:
            raise DataError("episodes: stratified sets need both outcomes: expected shots and queries of at least 2")
        kept = self._shares(most, sizes)
        left = [size - own for size, own in zip(sizes, kept, strict=True)]
        asked = self._shares(wanted, left) if self.queries and min(left) > 0 else [1] * len(sizes)
        if any(have < need for have, need in zip(left, asked, strict=True)):
            kind, what = ("task", f"{sizes[0]} results") if len(sizes) == 1 else (
                "assay", f"{sizes[0]} inactive and {sizes[1]} active molecules"
            )  # fmt: skip
            raise DataError(
                f"episodes: {kind} {name!r} has {what}; {most} shots and {self.queries or 'all other'} queries need "
                f"more: ask for fewer, or leave the {kind} out"
            )
