"""A look at a user's own data before anything is trained: what is there, what is wrong, what it is good for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError, StorageError, unknown_name
from ..pictures import in_parallel, opened
from .folder import PictureFile, picture_files
from .tables import KINDS, read_columns
from .texts import words_of

__all__ = ["Report", "check_data"]

TINY, HUGE = 32, 24_000_000
"""Sides in pixels below which a picture is tiny; pixels above which it is huge."""
ALIKE = 0.99
"""Correlation of two pictures of 16×16 gray pixels from which on they are nearly the same."""
MOST = 20_000
"""Pictures that are compared in pairs; of more, only the first so many."""


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        path, kind: the data, "pictures", "texts" or "numbers".
        classes: examples a class, of the readable ones.
        unreadable: what cannot be read, and why.
        tiny, huge: pictures with a side under 32 pixels, or of more than 24 million.
        duplicates: groups of the same content; of texts, by row from 1 on.
        near: groups of nearly the same: pictures resized or saved again, texts that differ in case and signs.
        contradictions: those of `duplicates` and `near` whose members are of different classes.
        imbalance: the largest class over the smallest.
        advice: what the data are good for, and what to do first.
    """

    path: str
    kind: str
    examples: int
    classes: Mapping[str, int]
    unreadable: Sequence[str]
    tiny: Sequence[str]
    huge: Sequence[str]
    duplicates: Sequence[Sequence[str]]
    near: Sequence[Sequence[str]]
    contradictions: Sequence[Sequence[str]]
    imbalance: float
    advice: Sequence[str]

    def table(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


class _Look(NamedTuple):
    """An example as it is compared: where it is, its class, its content's hash and its likeness."""

    place: str
    name: str
    digest: bytes
    likeness: Any  # hashable and equal where two are nearly the same; or a vector
    size: tuple[int, int] = (0, 0)


def check_data(path: Path, *, label: str = "label", text: str | None = None) -> Report:
    """Look through a folder of class folders of pictures, or a table of texts or numbers.

    Args:
        path: a folder, or a file .csv, .tsv, .jsonl or .parquet.
        label, text: columns of the table; texts are in 'text' by default, if there is such a column.

    Raises:
        DataError: neither, or nothing in it.
        UnknownNameError: no such column.
        StorageError: nothing there, no permission.
    """
    if not path.exists():
        raise StorageError(f"{path}: no such file or folder; expected a folder of class folders, or a table")
    if path.is_dir():
        return _check_pictures(path)
    if path.suffix.lower() in KINDS:
        return _check_table(path, label, text)
    raise DataError(f"{path}: expected a folder of class folders of pictures, or a table {', '.join(KINDS)}")


def _check_pictures(root: Path) -> Report:
    files = picture_files(root)
    found = list(in_parallel(f"looking at {root.name}", _look, files, len(files)))
    looks = [one for one in found if isinstance(one, _Look)]
    compared = looks[:MOST]
    vectors = np.stack([one.likeness for one in compared]) if compared else np.zeros((0, 256), np.float32)
    near = _groups(len(compared), _alike(vectors))
    return _report(
        root,
        "pictures",
        looks,
        [one for one in found if isinstance(one, str)],
        [[compared[i] for i in group] for group in near],
        tiny=[one.place for one in looks if min(one.size) < TINY],
        huge=[one.place for one in looks if one.size[0] * one.size[1] > HUGE],
    )


def _look(file: PictureFile) -> _Look | str:
    try:
        content = file.path.read_bytes()
        with opened(content, str(file.path)) as image:
            size = image.size
            gray = ImageOps.exif_transpose(image).convert("RGBA").convert("L").resize((16, 16), Image.Resampling.BOX)
            pixels = np.asarray(gray, np.float32).ravel()
    except (DataError, OSError) as error:
        return str(error)
    pixels = pixels - pixels.mean()
    length = float(np.linalg.norm(pixels))
    vector = pixels / length if length > 16 else np.zeros_like(pixels)  # a blank picture is like no other
    return _Look(str(file.path), file.name, hashlib.sha256(content).digest(), vector, size)


def _alike(vectors: np.ndarray) -> list[tuple[int, int]]:
    pairs = []
    for start in range(0, len(vectors), 1024):
        rows, columns = np.nonzero(vectors[start : start + 1024] @ vectors.T > ALIKE)
        pairs += [(start + int(a), int(b)) for a, b in zip(rows, columns, strict=True) if start + a < b]
    return pairs


def _check_table(path: Path, label: str, text: str | None) -> Report:
    columns = read_columns(path)
    if text is None and "text" in columns:
        text = "text"
    for name in (label, *([text] if text is not None else [])):
        if name not in columns:
            raise unknown_name(f"column of {path}", name, columns)
    rows = list(zip(*(columns[name] for name in columns if name != label), strict=True))
    looks, problems = [], []
    for number, (name, row) in enumerate(zip(columns[label], rows, strict=True), 1):
        value = row if text is None else columns[text][number - 1]
        if name in ("", None) or value in ("", None) or (isinstance(value, str) and not value.strip()):
            problems.append(f"row {number}: no {label if name in ('', None) else text}")
            continue
        likeness = (
            " ".join(word for word in words_of(str(value)) if word.isalnum()) if text is not None else repr(value)
        )
        looks.append(_Look(f"row {number}", str(name), repr(value).encode(), likeness))
    by_likeness: dict[str, list[_Look]] = {}
    for one in looks:
        by_likeness.setdefault(one.likeness, []).append(one)
    near = [group for group in by_likeness.values() if len(group) > 1]
    return _report(path, "numbers" if text is None else "texts", looks, problems, near)


def _report(
    path: Path,
    kind: str,
    looks: Sequence[_Look],
    unreadable: Sequence[str],
    near: Sequence[Sequence[_Look]],
    tiny: Sequence[str] = (),
    huge: Sequence[str] = (),
) -> Report:
    same: dict[bytes, list[_Look]] = {}
    classes: dict[str, int] = {}
    for one in looks:
        same.setdefault(one.digest, []).append(one)
        classes[one.name] = classes.get(one.name, 0) + 1
    duplicates = [group for group in same.values() if len(group) > 1]
    near = [group for group in near if len({one.digest for one in group}) > 1]
    against = [group for group in [*duplicates, *near] if len({one.name for one in group}) > 1]
    counts = sorted(classes.values())

    def places(groups: Sequence[Sequence[_Look]]) -> list[list[str]]:
        return [[one.place for one in group] for group in groups]

    return Report(
        str(path), kind, len(looks), dict(sorted(classes.items())), list(unreadable), list(tiny), list(huge),
        places(duplicates), places(near), places(against), counts[-1] / counts[0] if counts else 0.0,
        _advice(kind, counts, unreadable, duplicates, against),
    )  # fmt: skip


def _advice(
    kind: str, counts: Sequence[int], unreadable: Sequence[str], duplicates: Sequence[object], against: Sequence[object]
) -> list[str]:
    said = []
    if unreadable:
        said.append(f"{len(unreadable)} cannot be used: mend or remove them" + (
            ", or leave them out (skip_unreadable = true)" if kind == "pictures" else ""
        ))  # fmt: skip
    if against:
        said.append(
            f"{len(against)} groups of the same or nearly the same are in different classes: decide which is right"
        )
    if duplicates:
        said.append(f"{len(duplicates)} groups of duplicates: keep one of each, or a test may ask for what was taught")
    if not counts:
        return [*said, "nothing to learn from"]
    singles = sum(count == 1 for count in counts)
    if singles:
        said.append(f"{singles} classes have a single example: it can be taught, but nothing is left to test it by")
    if counts[-1] > 10 * counts[0]:
        said.append(f"the largest class has {counts[-1]} examples, the smallest {counts[0]}: episodes draw them evenly")
    if len(counts) < 2:
        return [*said, "one class: add another, there is nothing to tell apart"]
    every = "both" if len(counts) == 2 else f"all {len(counts)}"
    said.append(f"to be taught: {every} classes, one example each is enough to begin with")
    total = sum(counts)
    if total - len(counts) < 9:
        said.append("a promise of 90% needs 9 examples beside those taught (19 for 95%): there are too few for one")
    fits = _episodes(counts)
    if fits is None:
        said.append("to be trained on: too few; take an encoder trained on other data, or add classes and examples")
    else:
        ways, shots, queries, usable = fits
        more = "" if usable == len(counts) else f" (least = {shots + queries} leaves out the others)"
        said.append(
            f"to be trained on: {usable} classes give ways = {ways}, shots = {shots}, queries = {queries}{more}; "
            + ("splits by class" if usable >= 3 * ways else "few classes: divide the examples of each (within = true)")
        )
    return said


def _episodes(counts: Sequence[int]) -> tuple[int, int, int, int] | None:
    """The most demanding usual tasks that at least half of the classes can give, and two at least."""
    for shots, queries in ((5, 15), (1, 15), (5, 5), (1, 5), (1, 1)):
        usable = sum(count >= shots + queries for count in counts)
        if usable >= max(2, len(counts) // 2):
            return min(5, usable), shots, queries, usable
    return None


def _groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The connected parts of two and more."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for a, b in pairs:
        parent[root(a)] = root(b)
    groups: dict[int, list[int]] = {}
    for index in range(count):
        groups.setdefault(root(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]
