"""A user's own pictures: a folder that holds a folder of pictures for each class."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import DataError, LabelError
from ..files import storage_errors
from ..pictures import SUFFIXES, Fit, Form, decode, in_parallel
from .cache import cached_pool
from .pool import ClassPool
from .splitting import Split, divided, split_pool

__all__ = ["PictureFile", "folder", "picture_files"]

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of folders that hold the classes of a split, and the split."""


class PictureFile(NamedTuple):
    """A picture in a folder of class folders."""

    path: Path
    name: str  # of its class
    split: str | None


def folder(
    *,
    path: str,
    size: int | tuple[int, int] = 84,
    channels: int = 3,
    fit: Fit = "crop",
    nested: bool = False,
    least: int = 1,
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
    skip_unreadable: bool = False,
) -> ClassPool:
    """Pictures of a folder as [channels, height, width] uint8. The first load decodes them, later ones map a file.

    Args:
        path: holds a folder for each class; or folders train, val and test, each of which does.
        size: pixels of a side, or (height, width).
        channels: 3 for color, 1 for gray.
        fit: "crop" what protrudes, "stretch", or "pad" with black.
        nested: classes are the innermost folders, named 'birds/robin'; otherwise the outermost, with all they hold.
        least: leave out classes of fewer pictures.
        split, within, split_seed: as `split_pool`; without `split`, folders train, val and test are the splits,
            of classes or, with `within`, of the examples of each class.
        skip_unreadable: leave out files that cannot be read, with a warning, instead of refusing them all.

    Raises:
        DataError: no pictures, unreadable ones (each named), or none left.
        LabelError: a class in two folders of splits.
        StorageError: no such folder, no permission.
    """
    form, root = Form.of(size, channels, fit), Path(path).expanduser().resolve()
    files = picture_files(root, nested=nested)
    own = list(dict.fromkeys(file.split for file in files if file.split is not None))
    if own and split is not None:
        raise DataError(f"{root}: its folders {', '.join(own)} are the splits; leave `split` out, or name one of them")
    options = {"path": str(root), "form": list(form), "nested": nested, "skip": skip_unreadable}
    place = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]
    with storage_errors(root, "read"):
        stamps = [[str(file.path), *_stamp(file.path)] for file in files]
    key = {**options, "files": hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}
    pool = cached_pool(f"folder-{place}", key, lambda: _decoded(root, files, form, skip_unreadable))
    kept = [index for index, count in enumerate(pool.counts.tolist()) if count >= least]
    if not kept:
        raise DataError(f"{root}: no class has {least} pictures, the largest has {int(pool.counts.max())}")
    pool = pool.subset(kept) if len(kept) < pool.classes else pool
    return _by_folders(root, pool, within) if own else split_pool(pool, split, within=within, seed=split_seed)


def picture_files(root: Path, *, nested: bool = False) -> list[PictureFile]:
    """The pictures of a folder of class folders, sorted; hidden files and files of other kinds are passed over.

    Raises:
        DataError: none there, or some that lie in no class folder.
        StorageError: no such folder, no permission.
    """
    with storage_errors(root, "read"):
        paths = list(_walk(root))
    first = {path.relative_to(root).parts[0] for path in paths}
    divided_by_folders = bool(paths) and first <= set(SPLITS) and "train" in first
    files, outside = [], []
    for path in paths:
        parts = path.relative_to(root).parts[:-1]
        split = SPLITS[parts[0]] if divided_by_folders else None
        inside = parts[1:] if divided_by_folders else parts
        if inside:
            files.append(PictureFile(path, "/".join(inside) if nested else inside[0], split))
        else:
            outside.append(path)
    expected = "expected a folder for each class with its pictures inside: PATH/robin/1.jpg"
    if outside:
        raise DataError(f"{root}: {_listed([str(path) for path in outside])} in no class folder; {expected}")
    if not files:
        raise DataError(f"{root}: no pictures ({', '.join(sorted(SUFFIXES))}) found; {expected}")
    return sorted(files, key=lambda file: (file.split or "", file.name, file.path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _walk(root: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(root, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place, name)


def _decoded(root: Path, files: Sequence[PictureFile], form: Form, skip: bool) -> ClassPool:
    """The pictures of each class, of each split by itself: 'train:robin'."""
    problems: list[str] = []
    names: list[str] = []
    pictures = torch.empty(len(files), *form.shape, dtype=torch.uint8)
    read = in_parallel(f"reading {root.name}", partial(_read, form=form), files, len(files))
    for file, found in zip(files, read, strict=True):
        if isinstance(found, str):
            problems.append(found)
        else:
            pictures[len(names)] = torch.from_numpy(found)
            names.append(file.name if file.split is None else f"{file.split}:{file.name}")
    if problems:
        told = f"{root}: {len(problems)} of {len(files)} pictures cannot be read: {_listed(problems, '; ')}"
        if not skip or not names:
            raise DataError(f"{told}. Mend or remove them, or leave them out (skip_unreadable = true)")
        warnings.warn(f"{told}. They are left out", stacklevel=2)
    counts = Counter(names)
    classes = list(dict.fromkeys(name.rpartition(":")[2] for name in counts))
    families = [classes.index(name.rpartition(":")[2]) for name in counts]
    return ClassPool.grouped(pictures[: len(names)], list(counts.values()), list(counts), families=families)


def _read(file: PictureFile, form: Form) -> np.ndarray | str:
    """The picture, or why there is none."""
    try:
        return decode(file.path.read_bytes(), str(file.path), form)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{file.path}: {error.strerror or error}"


def _by_folders(root: Path, pool: ClassPool, within: bool) -> ClassPool:
    parts = [(name, split, count) for (split, _, name), count in zip(
        (name.partition(":") for name in pool.names), pool.counts.tolist(), strict=True
    )]  # fmt: skip
    if within:
        return divided(pool.examples.index_select(0, pool.rows()), parts)
    twice = [name for name, count in Counter(name for name, *_ in parts).items() if count > 1]
    if twice:
        raise LabelError(
            f"{root}: classes {_listed(twice)} are in several of its splits; give each class to one split, or set "
            "within = true if the splits divide the examples of each class"
        )
    splits: dict[str, list[int]] = {}
    for index, (_, split, _) in enumerate(parts):
        splits.setdefault(split, []).append(index)
    names = tuple(name for name, *_ in parts)
    by_split = {split: tuple(members) for split, members in splits.items()}
    return ClassPool(pool.examples, pool.starts, pool.counts, names, pool.families, by_split)


def _listed(items: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return separator.join(items[:5]) + more
