"""A data set as few-shot learning sees it: examples grouped by class, split by class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..episode import as_floats
from ..errors import DataError, LabelError, ShapeError, unknown_name
from ..rows import doubt_minus_one

__all__ = ["ClassPool", "members_of", "rotations", "symmetries"]


@dataclass(frozen=True, eq=False)
class ClassPool:
    """Examples grouped by class. Splits share the examples; nothing is copied.

    Attributes:
        examples: [M, *shape], the examples of a class side by side; uint8 (pictures, read as value / 255)
            or float. May be memory-mapped.
        starts, counts: [C] where each class begins in `examples`, and how many it has.
        names: C class names.
        families: [C] classes that are variants of one original (a character and its rotations) share a number.
        splits: class numbers by split name. No class, and no family, is in two splits, but for the parts of classes
            whose examples were divided (`split_pool`, `within`).
    """

    examples: Tensor
    starts: Tensor
    counts: Tensor
    names: tuple[str, ...]
    families: Tensor
    splits: Mapping[str, tuple[int, ...]]

    @staticmethod
    def from_labels(
        x: Tensor | np.ndarray,
        y: Sequence[str] | Sequence[int] | Tensor | np.ndarray,
        *,
        splits: Mapping[str, Iterable[object]] | None = None,
    ) -> ClassPool:
        """A pool from examples and their labels, in any order.

        Args:
            x: [M, *shape]. uint8 are pictures and read as value / 255; all other numbers, integers too, become
                floats of the same value.
            y: M labels: strings or integers. Class names are their `str`; bytes, as in HDF5 files, are read as UTF-8.
                Among integers from 0, -1 says that no class is known, and is refused; as a string it is a class.
            splits: class names (or the labels themselves) by split name; classes not named belong to no split.

        Raises:
            ShapeError, DataError, LabelError: sizes differ, nothing there, not finite, a class in two splits.
        """
        if np.ma.is_masked(x) or np.ma.is_masked(y):
            raise DataError("pool: expected an array without masked values; fill them or leave their examples out")
        x, labels = _numbers(x), np.asarray(y, dtype=object)
        if x.ndim == 0 or len(x) == 0:
            raise DataError("pool: expected at least one example, got none")
        if labels.shape != (len(x),):
            raise ShapeError(f"pool: expected one label for each of the {len(x)} examples, got {labels.shape}")
        if x.dtype != torch.uint8:
            x = x.to(torch.get_default_dtype())
            if not bool(torch.isfinite(x).all()):
                rows = (~torch.isfinite(x.reshape(len(x), -1)).all(1)).nonzero().flatten().tolist()
                raise DataError(
                    f"pool: examples {rows[:5]}{' ...' if len(rows) > 5 else ''} hold NaN or infinite values; "
                    "expected finite numbers: clean or drop them"
                )
        values, inverse, counts = _classes(labels, y)
        if values.dtype.kind in "if":
            doubt_minus_one(list(map(str, values[inverse])), "pool")
        order = torch.from_numpy(np.argsort(inverse, kind="stable"))
        names = tuple(map(_name, values))
        return ClassPool.grouped(x[order], counts.tolist(), names, splits=splits)

    @staticmethod
    def grouped(
        examples: Tensor,
        counts: Sequence[int],
        names: Sequence[str],
        *,
        families: Sequence[int] | None = None,
        splits: Mapping[str, Iterable[object]] | None = None,
    ) -> ClassPool:
        """A pool from examples that already stand class by class; arguments as the attributes, splits by name."""
        if sum(counts) != len(examples) or len(counts) != len(names):
            raise ShapeError(
                f"pool: {len(names)} names and counts adding up to {sum(counts)} do not fit {len(examples)} examples"
            )
        if families is not None and len(families) != len(names):
            raise ShapeError(f"pool: expected a family for each of the {len(names)} classes, got {len(families)}")
        number = {name: index for index, name in enumerate(names)}
        if len(number) != len(names):
            raise LabelError("pool: class names must differ")
        by_split: dict[str, tuple[int, ...]] = {}
        owner: dict[str, str] = {}
        for split, labels in (splits or {}).items():
            members = list(map(_name, labels))
            for name in members:
                if name not in number:
                    raise unknown_name(f"class of split {split!r}", name, number)
                if name in owner:
                    raise LabelError(f"class {name!r} is in split {owner[name]!r} and in {split!r}; expected in one")
                owner[name] = split
            by_split[split] = tuple(number[name] for name in members)
        relative: dict[int, str] = {}
        for name, split in owner.items():
            other = relative.setdefault(number[name] if families is None else families[number[name]], name)
            if owner[other] != split:
                raise LabelError(
                    f"classes {other!r} of split {owner[other]!r} and {name!r} of {split!r} are of one family; "
                    "expected a family in one split"
                )
        size = torch.tensor(list(counts))
        return ClassPool(
            examples,
            size.cumsum(0) - size,
            size,
            tuple(names),
            torch.arange(len(names)) if families is None else torch.tensor(list(families)),
            by_split,
        )

    def __repr__(self) -> str:
        splits = "".join(f", {name} {len(members)}" for name, members in self.splits.items())
        about = f"{self.classes} classes{splits and f' ({splits[2:]})'}, {int(self.counts.sum())} examples"
        return f"<ClassPool: {about} {list(self.shape)} of {str(self.examples.dtype).removeprefix('torch.')}>"

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.examples.shape[1:])

    @property
    def digest(self) -> str:
        """SHA-256 of the classes (names, places, families), the splits and every example: equal digests, equal data."""
        classes = self.names, self.starts.tolist(), self.counts.tolist(), self.families.tolist()
        splits = sorted((name, tuple(members)) for name, members in self.splits.items())
        about = hashlib.sha256(repr((classes, splits, self.shape, str(self.examples.dtype))).encode())
        about.update(self.examples.contiguous().numpy().data)
        return about.hexdigest()

    def split(self, name: str) -> ClassPool:
        """Only the classes of a split; several splits as 'train+val'; everything as 'all'.

        A class whose examples were divided (`split_pool`, `within`) is one again where several of its parts are asked
        for; then examples are copied.
        """
        groups = [*members_of(name, self.splits, self.names, self.families.tolist()).items()]
        chosen = [number for _, group in groups for number in group]
        if len(groups) == len(chosen):
            return replace(self, splits={}) if name == "all" else self.subset(chosen)
        counts = [int(self.counts[group].sum()) for _, group in groups]
        rows = self.subset(chosen).rows()
        examples = self.examples if torch.equal(rows, torch.arange(len(self.examples))) else self.take(rows)
        (families, names) = zip(*(key for key, _ in groups), strict=True)
        return ClassPool.grouped(examples, counts, names, families=families)

    def subset(self, classes: Sequence[int]) -> ClassPool:
        """Only the classes of these numbers, in this order. Examples are shared, not copied.

        Raises:
            DataError: no class, one twice, or a number that no class has.
        """
        if not classes or len({*classes}) < len(classes) or min(classes) < 0 or max(classes) >= self.classes:
            raise DataError(
                f"pool: expected one or more different class numbers from 0 to {self.classes - 1}, got {list(classes)}"
            )
        index = torch.tensor(list(classes), dtype=torch.long)
        names = tuple(self.names[i] for i in classes)
        return ClassPool(self.examples, self.starts[index], self.counts[index], names, self.families[index], {})

    def rows(self) -> Tensor:
        """[m] the rows of `examples` that belong to these classes, class by class."""
        spans = zip(self.starts.tolist(), self.counts.tolist(), strict=True)
        return torch.cat([torch.arange(start, start + count) for start, count in spans])

    def take(self, rows: Tensor) -> Tensor:
        """The examples of these rows as they are, by one gather: [*rows, *shape]."""
        return self.examples.index_select(0, rows.flatten()).view(*rows.shape, *self.shape)

    def gather(self, rows: Tensor) -> Tensor:
        """The same as floats; uint8 becomes value / 255."""
        x = as_floats(self.take(rows))
        assert isinstance(x, Tensor)
        return x


def members_of(
    name: str, splits: Mapping[str, Sequence[int]], names: Sequence[str], families: Sequence[int]
) -> dict[tuple[int, str], list[int]]:
    """The numbers in a split, several as 'train+val', or 'all', by family and name; parts of what was divided are one.

    Of one family and in different splits are only such parts: they are called 'robin/train', 'robin/val'.

    Raises:
        UnknownNameError: no such split.
    """
    parts = list(splits) if name == "all" else name.split("+")
    for part in parts:
        if part not in splits:
            raise unknown_name("split", part, [*splits, "all"])
    owner = {number: part for part in parts for number in splits[part]}
    found: dict[tuple[int, str], list[int]] = {}
    for number in range(len(names)) if name == "all" else owner:
        whole = names[number].removesuffix(f"/{owner[number]}") if len(parts) > 1 and number in owner else names[number]
        found.setdefault((families[number], whole), []).append(number)
    if sum(map(len, found.values())) == len(found):  # nothing was divided, or one part only is asked for
        return {(families[number], names[number]): [number] for (number,) in found.values()}
    return found


def _numbers(x: Tensor | np.ndarray) -> Tensor:
    try:
        if not isinstance(x, Tensor):
            x = np.asarray(x, order="C")  # torch has no negative strides
            if x.dtype.kind in "Of" and x.dtype.str not in ("<f2", "<f4", "<f8"):  # numbers as objects, long ones
                x = x.astype(np.float64)
            elif not x.dtype.isnative:
                x = x.astype(x.dtype.newbyteorder("="))
        x = torch.as_tensor(x)
    except (TypeError, ValueError) as error:
        raise DataError(f"pool: expected examples as one array of numbers [M, *shape]; {error}") from error
    if x.layout is not torch.strided:
        raise DataError("pool: expected an array with all its zeros, got a sparse one; to_dense() makes it")
    if x.is_complex():
        raise DataError("pool: expected real numbers, got complex ones; stack their parts, or take the absolute value")
    return x


def _name(label: object) -> str:
    return label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else str(label)


def _classes(labels: np.ndarray, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values in order, the number of each label among them, and how often each is there."""
    try:  # NaN is looked for among objects: among strings it would turn into text
        missing = [row for row, label in enumerate(labels) if label is None or label != label]
        classes = np.unique(np.asarray(() if missing else y), return_inverse=True, return_counts=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"pool: expected labels of one kind, strings or integers; {error}") from error
    if missing:
        raise DataError(
            f"pool: examples {missing[:5]}{' ...' if len(missing) > 5 else ''} have no label (None or NaN); "
            "expected strings or integers: label them or leave them out"
        )
    return classes


def rotations(pool: ClassPool) -> ClassPool:
    """Four classes for each: the pictures turned by 0, 90, 180 and 270 degrees (Santoro et al. 2016).

    Raises:
        ShapeError: pictures are not square.
    """
    return _variants(pool, [(turn, False) for turn in range(4)])


def symmetries(pool: ClassPool) -> ClassPool:
    """Eight classes for each: the pictures under the symmetries of the square (turns, and turns of the mirror)."""
    return _variants(pool, [(turn, mirror) for mirror in (False, True) for turn in range(4)])


def _variants(pool: ClassPool, variants: list[tuple[int, bool]]) -> ClassPool:
    if len(pool.shape) < 2 or pool.shape[-1] != pool.shape[-2]:
        raise ShapeError(f"turning needs square pictures [channels, side, side], got {pool.shape}")
    x = pool.examples
    turned = [torch.rot90(x.flip(-1) if mirror else x, turn, (-2, -1)) for turn, mirror in variants]
    number, classes = len(variants), pool.classes
    suffixes = [f"/{'mirror' if mirror else 'rot'}{90 * turn:03d}" for turn, mirror in variants]
    return ClassPool(
        torch.cat(turned),
        torch.cat([pool.starts + index * len(x) for index in range(number)]),
        pool.counts.repeat(number),
        tuple(name + suffix for suffix in suffixes for name in pool.names),
        pool.families.repeat(number),
        {
            split: tuple(index * classes + member for index in range(number) for member in members)
            for split, members in pool.splits.items()
        },
    )
