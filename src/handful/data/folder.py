"""A user's own pictures: a folder that holds a folder of pictures for each class."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import DataError, LabelError
from ..files import expanded, walk
from ..pictures import SUFFIXES, Fit, Form, decode, in_parallel, unread
from .cache import cached_pool
from .pool import ClassPool
from .splitting import Split, divided, split_pool

__all__ = ["PictureFile", "folder", "passed_over", "picture_files"]

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names, in small letters, of folders that hold the classes of a split, and the split."""


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
        path: holds a folder for each class; or folders train, val and test, each of which does. Links are followed.
        size: pixels of a side, or (height, width).
        channels: 3 for color, 1 for gray.
        fit: "crop" what protrudes, "stretch", or "pad" with black.
        nested: classes are the innermost folders, named 'birds/robin'; otherwise the outermost, with all they hold.
        least: leave out classes of fewer pictures.
        split, within, split_seed: as `split_pool`; without `split`, folders train, val and test are the splits,
            of classes or, with `within`, of the examples of each class.
        skip_unreadable: leave out files that cannot be read, with a warning, instead of refusing them all.

    Raises:
        DataError: no pictures, unreadable ones (each named), or none left; other folders beside those of splits.
        LabelError: a class in two folders of splits.
        StorageError: no such folder, no permission.
    """
    form, root = Form.of(size, channels, fit), expanded(path).resolve()
    files = picture_files(root, nested=nested)
    own = list(dict.fromkeys(file.split for file in files if file.split is not None))
    if own and split is not None:
        raise DataError(f"{root}: its folders {', '.join(own)} are the splits; leave `split` out, or name one of them")
    options = {"path": str(root), "form": list(form), "nested": nested, "skip": skip_unreadable}
    place = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]
    stamps = [[str(file.path), *_stamp(file.path)] for file in files]
    key = {**options, "files": hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}
    problems: list[str] = []
    pool = cached_pool(f"folder-{place}", key, lambda: _decoded(root, files, form, skip_unreadable, problems))
    pool = replace(pool, families=torch.arange(pool.classes))
    if len(pool.examples) < len(files):
        named = _listed(problems, "; ") if problems else "`handful data check` names them"
        lost = len(files) - len(pool.examples)
        warnings.warn(f"{root}: {_cannot(lost, len(files))}: {named}. They are left out", stacklevel=2)
    kept = [number for number, count in enumerate(pool.counts.tolist()) if count >= least]
    if not kept:
        raise DataError(f"{root}: no class has {least} pictures, the largest has {int(pool.counts.max())}")
    pool = pool.subset(kept) if len(kept) < pool.classes else pool
    return _by_folders(root, pool, within) if own else split_pool(pool, split, within=within, seed=split_seed)


def picture_files(root: Path, *, nested: bool = False) -> list[PictureFile]:
    """The pictures of a folder of class folders, sorted; hidden files and files of other kinds are passed over.

    Raises:
        DataError: none there, some that lie in no class folder, or folders of splits with others beside them.
        StorageError: no such folder, no permission.
    """
    there = [place / name for place, names in walk(root) for name in names]
    paths = [path for path in there if _is_picture(path)]
    parts = [path.relative_to(root).parts[:-1] for path in paths]
    of_splits = _of_splits(root, parts)
    files, outside = [], []
    for path, folders in zip(paths, parts, strict=True):
        split = SPLITS[folders[0].lower()] if of_splits else None
        inside = folders[1:] if of_splits else folders
        if inside:
            files.append(PictureFile(path, "/".join(inside) if nested else inside[0], split))
        else:
            outside.append(path)
    expected = "expected a folder for each class with its pictures inside: PATH/robin/1.jpg"
    if outside:
        raise DataError(f"{root}: {_listed([str(path) for path in outside])} in no class folder; {expected}")
    if not files:
        phone = unread(there)
        raise DataError(
            f"{root}: no pictures ({', '.join(sorted(SUFFIXES))}) found{phone and f'; {phone}'}; {expected}"
        )
    return sorted(files, key=lambda file: (file.split or "", file.name, file.path))


def passed_over(root: Path) -> tuple[dict[str, int], list[str]]:
    """What of a folder is not read: how many files of each other kind, and the folders without pictures, the outermost.

    Raises:
        StorageError: no such folder, no permission.
    """
    kinds: Counter[str] = Counter()
    places, full = [], {root}
    for place, names in walk(root):
        places.append(place)
        others = [name for name in names if not _is_picture(place / name)]
        kinds.update(Path(name).suffix.lower() or "without an ending" for name in others)
        if len(others) < len(names):
            full |= {place, *place.parents}
    empty = [str(place) for place in places if place not in full and place.parent in full]
    return dict(sorted(kinds.items())), empty


def _of_splits(root: Path, parts: Sequence[tuple[str, ...]]) -> bool:
    """Whether the outermost folders are those of splits, and not of classes that happen to be called so."""
    first = sorted({folders[0] if folders else "" for folders in parts})
    named = [name for name in first if name.lower() in SPLITS]
    splits = {SPLITS[name.lower()] for name in named}
    others = [name for name in first if name and name not in named]
    deep = any(len(folders) > 1 and folders[0] in named for folders in parts)
    if "train" in splits and len(splits) > 1 and others and deep:
        raise DataError(
            f"{root}: folders {', '.join(named)} are taken for splits, but {_listed(others)} beside them are none; "
            "move these elsewhere, or rename the first if all are classes"
        )
    return "train" in splits and len(named) == len(first)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; zeros where it cannot be looked at, as it cannot be read either."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _decoded(root: Path, files: Sequence[PictureFile], form: Form, skip: bool, problems: list[str]) -> ClassPool:
    """The pictures of each class, of each split by itself: 'train:robin'. What cannot be read goes into `problems`."""
    names: list[str] = []
    pictures = torch.empty(len(files), *form.shape, dtype=torch.uint8)
    read = in_parallel(f"reading {root.name}", partial(_read, form=form), files, len(files))
    for file, found in zip(files, read, strict=True):
        if isinstance(found, str):
            problems.append(found)
        else:
            pictures[len(names)] = torch.from_numpy(found)
            names.append(file.name if file.split is None else f"{file.split}:{file.name}")
    if problems and not (skip and names):
        raise DataError(
            f"{root}: {_cannot(len(problems), len(files))}: {_listed(problems, '; ')}. Mend or remove them, or leave "
            "them out (skip_unreadable = true)"
        )
    counts = Counter(names)
    return ClassPool.grouped(pictures[: len(names)], list(counts.values()), list(counts))


def _cannot(problems: int, files: int) -> str:
    return f"{problems} of {files} pictures cannot be read"


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
    for number, (_, split, _) in enumerate(parts):
        splits.setdefault(split, []).append(number)
    names = tuple(name for name, *_ in parts)
    by_split = {split: tuple(members) for split, members in splits.items()}
    return ClassPool(pool.examples, pool.starts, pool.counts, names, torch.arange(len(names)), by_split)


def _listed(items: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return separator.join(items[:5]) + more
