"""Splits of a pool that nobody published: by class or assay, or of the examples of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..ops.seeds import generator
from .assays import AssayPool
from .pool import ClassPool

__all__ = ["Split", "divided", "split_assays", "split_pool"]

Split = Mapping[str, float] | Mapping[str, Sequence[str]]
"""The share of each split, or the names of its classes."""

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def split_pool(pool: ClassPool, split: Split | None = None, *, within: bool = False, seed: int = 0) -> ClassPool:
    """The pool with splits by class, or within each class.

    Args:
        pool: its own splits are forgotten.
        split: the share of each split ({"train": 0.6, "test": 0.4}), or its classes' names; by default 60, 20 and 20%
            for train, val and test, two classes each where there are six; no splits if there are fewer than three.
        within: divide the examples of each class, not the classes, which are then named 'robin/train' and
            'robin/test'; a class with few examples goes to the first splits. An example and its turns stay together.
        seed: another seed is another division.

    Raises:
        DataError: shares that do not fit, more splits than classes; names of classes with `within`.
        LabelError, UnknownNameError: a class in two splits, or not in the pool.
    """
    families = list(dict.fromkeys(pool.families.tolist()))
    least = 2 if split is None and len(families) >= 2 * len(SHARES) else 1  # of one class no task can be drawn
    if split is None:
        if not within and len(families) < len(SHARES):
            return ClassPool(pool.examples, pool.starts, pool.counts, pool.names, pool.families, {})
        split = SHARES
    shares = {name: float(share) for name, share in split.items() if isinstance(share, Real)}
    if within and not shares:
        raise DataError(
            f"split: expected shares of the examples of each class (within = true), got {dict(split)}; set them, as "
            "{ train = 0.6, test = 0.4 }, or leave `within` out"
        )
    if not shares:
        return _by_name(pool, {name: list(names) for name, names in split.items() if isinstance(names, Iterable)})
    if len(shares) < len(split) or min(shares.values()) <= 0 or sum(shares.values()) > 1 + 1e-6:
        raise DataError(f"split: expected shares above 0 that add up to at most 1, got {dict(split)}")
    random = generator("split", seed)
    if within:
        return _within(pool, shares, random)
    if len(families) < len(shares):
        raise DataError(
            f"split: {len(shares)} splits need as many classes, there are {len(families)}; name fewer splits, or "
            "divide the examples of each class (within = true)"
        )
    order = random.permutation(len(families))
    bounds = _bounds(len(families), list(shares.values()), least=least)
    owner: dict[int, str] = {}
    for name, start, stop in zip(shares, [0, *bounds], bounds, strict=False):
        owner |= {families[index]: name for index in order[start:stop]}
    owners = [owner.get(family) for family in pool.families.tolist()]
    members = {name: tuple(i for i, own in enumerate(owners) if own == name) for name in shares}
    return ClassPool(pool.examples, pool.starts, pool.counts, pool.names, pool.families, members)


def split_assays(pool: AssayPool, split: Split | None = None, *, within: bool = False, seed: int = 0) -> AssayPool:
    """The pool with splits by assay, or within each assay.

    Args:
        pool: its own splits are forgotten.
        split: as `split_pool`, of assays.
        within: divide the examples, not the assays, which are then named 'SR-p53/train' and 'SR-p53/test': those of
            each outcome of each assay by these shares, rare ones first; an example is in one part of all its assays.
        seed: another seed is another division.

    Raises:
        DataError, LabelError, UnknownNameError: as `split_pool`.
    """
    counts = pool.counts.numpy()
    if not within:
        shares = SHARES if split is None and len(counts) >= len(SHARES) else split  # one assay is enough for tasks
        alike = ClassPool.grouped(pool.rows, counts.tolist(), pool.names)
        return replace(pool, splits=split_pool(alike, shares, seed=seed).splits)
    assay = np.arange(len(counts)).repeat(counts)
    group = assay if pool.ways is None else 2 * assay + pool.y.numpy()  # [L] of an assay and an outcome
    rarest = np.argsort(np.bincount(group)[group], kind="stable")
    rows, first = np.unique(pool.rows.numpy()[rarest], return_index=True)
    _, rarest, sizes = np.unique(group[rarest][first], return_inverse=True, return_counts=True)
    ordered = torch.from_numpy(rows[np.argsort(rarest, kind="stable")])
    alike = ClassPool.grouped(ordered, sizes.tolist(), [str(number) for number in range(len(sizes))])
    made = split_pool(alike, split, within=True, seed=seed)
    names = list(made.splits)
    part = np.full(len(pool.examples), -1)
    for number, name in enumerate(names):
        own = made.split(name)
        part[own.take(own.rows()).numpy()] = number
    part = part[pool.rows.numpy()]  # [L]
    kept = np.flatnonzero(part >= 0)
    key = assay[kept] * len(names) + part[kept]
    found, counts = np.unique(key, return_counts=True)
    order = torch.from_numpy(kept[np.argsort(key, kind="stable")])
    entries = [(pool.names[one // len(names)], names[one % len(names)]) for one in found]
    return replace(
        pool,
        rows=pool.rows[order],
        y=pool.y[order],
        counts=torch.from_numpy(counts),
        names=tuple(f"{name}/{split}" for name, split in entries),
        splits={name: tuple(i for i, (_, own) in enumerate(entries) if own == name) for name in names},
        protocol=pool.protocol._replace(interval="supports"),  # all parts are of these very assays
    )


def _by_name(pool: ClassPool, names: Mapping[str, Sequence[str]]) -> ClassPool:
    rows = pool.rows()
    whole = torch.equal(rows, torch.arange(len(pool.examples)))
    examples = pool.examples if whole else pool.examples.index_select(0, rows)
    return ClassPool.grouped(examples, pool.counts.tolist(), pool.names, families=pool.families.tolist(), splits=names)


def _within(pool: ClassPool, shares: Mapping[str, float], random: np.random.Generator) -> ClassPool:
    entries: list[tuple[str, str, Tensor]] = []
    orders: dict[tuple[int, int], np.ndarray] = {}  # one for the turns of a class, so that a picture's share a part
    classes = zip(pool.names, pool.starts.tolist(), pool.counts.tolist(), pool.families.tolist(), strict=True)
    for name, start, count, family in classes:
        if (family, count) not in orders:
            orders[family, count] = random.permutation(count)
        rows = torch.from_numpy(start + orders[family, count])
        bounds = _bounds(count, list(shares.values()), least=1 if count >= len(shares) else 0)
        parts = zip(shares, [0, *bounds], bounds, strict=False)
        entries += [(name, split, rows[first:last]) for split, first, last in parts if last > first]
    return divided(pool.examples.index_select(0, torch.cat([rows for *_, rows in entries])), [
        (name, split, len(rows)) for name, split, rows in entries
    ])  # fmt: skip


def divided(examples: Tensor, entries: Sequence[tuple[str, str, int]]) -> ClassPool:
    """A pool whose splits hold other examples of the same classes.

    Args:
        examples: [M, *shape], entry by entry.
        entries: class, split and number of examples. The parts of a class are of one family.
    """
    number = {name: index for index, name in enumerate(dict.fromkeys(name for name, *_ in entries))}
    counts = torch.tensor([count for *_, count in entries])
    splits = dict.fromkeys(split for _, split, _ in entries)
    return ClassPool(
        examples,
        counts.cumsum(0) - counts,
        counts,
        tuple(f"{name}/{split}" for name, split, _ in entries),
        torch.tensor([number[name] for name, *_ in entries]),
        {split: tuple(i for i, (_, own, _) in enumerate(entries) if own == split) for split in splits},
    )


def _bounds(count: int, shares: Sequence[float], least: int) -> list[int]:
    """Where each share of `count` ends: rounded, but at least `least` each, in order as long as there are any."""
    sizes = np.maximum(np.floor(np.array(shares) * count + 1e-9).astype(int), least)
    total = min(count, max(round(sum(shares) * count), int(sizes.sum())))
    while sizes.sum() > total:
        sizes[sizes.argmax()] -= 1
    while sizes.sum() < total:
        sizes[(np.array(shares) * count - sizes).argmax()] += 1
    return [int(bound) for bound in sizes.cumsum()]
