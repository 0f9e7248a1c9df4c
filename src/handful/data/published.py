"""What the loaders of published pictures share: splits by class, and archives or folders made into a stored pool."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..files import storage_errors
from ..pictures import SUFFIXES, Form, decode, in_parallel
from .archives import Member, members
from .cache import data_folder, load_pool, store_examples
from .pool import ClassPool

__all__ = [
    "LARGEST",
    "Named",
    "add_pictures",
    "class_table",
    "classes_of",
    "expect_counts",
    "members_in",
    "picture_names",
    "store_classes",
    "stored",
    "with_splits",
]

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2")
LARGEST = 1 << 26
"""Bytes of one picture's file."""


class Named(NamedTuple):
    """A picture of a published set: class, name among the class's pictures, [channels, height, width], and its file."""

    name: str
    key: str
    pixels: np.ndarray
    place: str


def class_table(name: str) -> list[dict[str, str]]:
    """The published split that comes with Handful: rows of 'split', 'class', and perhaps 'name'."""
    content = (files("handful") / "data" / "splits" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(content.splitlines()))


def with_splits(pool: ClassPool, rows: Iterable[Mapping[str, str]]) -> ClassPool:
    """The pool with the splits of these rows, those whose classes are all there."""
    number = {name: index for index, name in enumerate(pool.names)}
    splits: dict[str, list[str]] = {}
    for row in rows:
        splits.setdefault(row["split"], []).append(row["class"])
    whole = {split: names for split, names in splits.items() if all(name in number for name in names)}
    return replace(pool, splits={split: tuple(number[name] for name in names) for split, names in whole.items()})


def members_in(source: Path, wanted: re.Pattern[str], *, largest: int = LARGEST) -> Iterator[Member]:
    """The wanted files of an archive, or of a folder's archives, or, where these hold none, of the folder itself."""
    with storage_errors(source, "read"):
        if source.is_file():
            yield from members(source, wanted, largest=largest)
            return
        archives = sorted(path for path in source.iterdir() if path.is_file() and path.name.lower().endswith(ARCHIVES))
    found = False
    for member in (member for path in archives for member in members(path, wanted, largest=largest)):
        found = True
        yield member
    if not found:
        yield from members(source, wanted, largest=largest)


def add_pictures(
    place: str,
    source: Path,
    wanted: re.Pattern[str],
    form: Form,
    check: Callable[[Mapping[str, Sequence[str]]], None],
    expected: str,
) -> Path:
    """Store a published set from archives or a folder. Nothing is unpacked to disk.

    Args:
        place: name of the stored pool.
        source: an archive, a folder of archives, or a folder of what is in them.
        wanted: finds a picture's class ('name') and its name in the class ('key') in the name of its file.
        form: of the stored pictures.
        check: told the names of each class's pictures; raises a DataError if they are not the published ones.
        expected: what `source` should be, for errors.

    Returns:
        The folder of the stored pool.

    Raises:
        DataError: nothing found, unreadable, two different pictures of one name, or not as published.
    """

    def read(member: Member) -> Named:
        match = wanted.search(member.name)
        assert match is not None
        return Named(match["name"], match["key"], decode(member.content, member.place, form), member.place)

    found: dict[tuple[str, str], np.ndarray] = {}
    for one in in_parallel(f"reading {place}", read, members_in(source, wanted), None):
        if not np.array_equal(found.setdefault((one.name, one.key), one.pixels), one.pixels):
            raise DataError(f"{one.place}: differs from another picture {one.key} of class {one.name}; keep only one")
    if not found:
        raise DataError(f"{source}: no pictures of {place} found; expected {expected}")
    keys: dict[str, list[str]] = {}
    for name, key in sorted(found):
        keys.setdefault(name, []).append(key)
    check(keys)
    parts = (torch.from_numpy(np.stack([found.pop((name, key)) for key in keys[name]])) for name in keys)
    return store_classes(place, parts, {name: len(of) for name, of in keys.items()}, form.shape, source)


def store_classes(
    place: str, parts: Iterable[Tensor], counts: Mapping[str, int], shape: Sequence[int], source: Path
) -> Path:
    """Store uint8 examples that come class by class; returns the folder of the stored pool."""
    folder, names = data_folder() / place, list(counts)
    whole = (sum(counts.values()), *shape)
    about = {"source": source.name}
    store_examples(folder, parts, whole, torch.uint8, names, list(counts.values()), list(range(len(names))), about)
    return folder


def stored(place: str, title: str, remedy: str) -> ClassPool:
    """A stored pool.

    Raises:
        DataError: not there, or broken; says what to do.
    """
    try:
        return load_pool(data_folder() / place)
    except DataError as error:
        broken = f" ({error})" if (data_folder() / place).exists() else ""
        raise DataError(f"{title} is not on this machine{broken}; {remedy}") from error


def expect_counts(title: str, source: Path, counts: Mapping[str, int]) -> Callable[[Mapping[str, Sequence[str]]], None]:
    """A check that there are these classes, and of each so many pictures."""
    return partial(_expect, title, source, counts)


def _expect(title: str, source: Path, counts: Mapping[str, int], keys: Mapping[str, Sequence[str]]) -> None:
    found = Counter({name: len(of) for name, of in keys.items()})
    problems = [
        f"class {name}: expected {count} pictures, found {found[name]}"
        for name, count in counts.items()
        if found[name] != count
    ]
    problems += [f"class {name}: not a published class" for name in found if name not in counts]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{source}: not {title}: {'; '.join(problems[:5])}{more}. Get it again from its source")


def picture_names(pattern: str) -> re.Pattern[str]:
    """A pattern for files of pictures, whatever their ending: hidden ones and those of a Mac's archives never match."""
    endings = "|".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return re.compile(rf"^(?!.*(?:^|/)(?:\.|__MACOSX)).*{pattern}\.(?:{endings})$", re.IGNORECASE)


def classes_of(source: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Where each class lies in a folder that holds a folder or a tar for each."""
    for name in names:
        for path in (source / name, source / f"{name}.tar"):
            if path.exists():
                yield name, path
                break
