"""Examples as they are looked at and compared, before anything is trained: what `check_data` reports on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..molecules import canonical_smiles
from ..pictures import Form, formed, opened
from .folder import PictureFile
from .own_molecules import Measured, Target, measurements
from .regression import PointTable
from .relations import Relation
from .tables import cells_of, class_of, label_of
from .texts import check_text, words_of

__all__ = [
    "Look",
    "alike",
    "measured_looks",
    "picture_look",
    "point_looks",
    "relation_look",
    "row_looks",
    "same_groups",
]

SMALL = Form(16, 16, 1, "stretch", "box", (16, 16))
"""The gray pictures that are compared."""
ALIKE = 0.99
"""Correlation of two of them from which on the pictures are nearly the same."""


class Look(NamedTuple):
    """An example as it is compared: where it is, its class, its content's hash and its likeness."""

    place: str
    name: str
    digest: bytes
    likeness: Any  # hashable and equal where two are nearly the same; or a vector
    size: tuple[int, int] = (0, 0)
    split: str | None = None


def picture_look(file: PictureFile) -> Look | str:
    """A picture as it is loaded, but small and gray; or why it cannot be."""
    try:
        content = file.path.read_bytes()
        with opened(content, str(file.path)) as image:
            size = image.size
            pixels = formed(image, str(file.path), SMALL).astype(np.float32).ravel()
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{file.path}: {error.strerror or error}"
    pixels = pixels - pixels.mean()
    length = float(np.linalg.norm(pixels))
    vector = pixels / length if length > 16 else np.zeros_like(pixels)  # a blank picture is like no other
    return Look(str(file.path), file.name, hashlib.sha256(content).digest(), vector, size, file.split)


def row_looks(
    columns: Mapping[str, Sequence[Any]], kind: str, label: str, chosen: Sequence[str]
) -> tuple[list[Look], list[str]]:
    """The rows that a loader would take, and what is wrong with each of the others.

    Args:
        columns: of one length.
        kind: "texts", "molecules" or "numbers".
        label: the column of classes.
        chosen: the columns of examples; of texts and molecules, one.
    """
    looks, problems = [], []
    widths: dict[str, int] = {}
    for number, (cell, *values) in enumerate(zip(*(columns[name] for name in (label, *chosen)), strict=True), 1):
        try:
            name = class_of(cell, label)
            content, likeness = (
                _numbers(values, chosen, widths) if kind == "numbers" else _text(values[0], kind, chosen)
            )
        except DataError as error:
            problems.append(f"row {number}: {error}")
        else:
            looks.append(Look(f"row {number}", name, content.encode(), likeness))
    return looks, problems


def measured_looks(
    columns: Mapping[str, Sequence[Any]], chosen: Measured, target: Target
) -> tuple[list[Look], list[str]]:
    """The results in assays that a loader would take, and what is wrong with others; as `measurements`.

    Two are alike if they are of one molecule in one assay. Of outcomes the class is 'assay = 1'; of values, 'assay'.
    """
    found, wrong = measurements(columns, chosen, target)
    canonical: dict[str, str | None] = {}
    problems: list[str] = []
    for row, one in enumerate(columns[chosen.smiles], 1):
        smiles = label_of(one) or ""
        if smiles not in canonical:
            canonical[smiles] = None
            try:
                canonical[smiles] = canonical_smiles([smiles], [chosen.smiles])[0]
            except DataError as error:
                problems.append(f"row {row}: {error}")
    looks = []
    for row, (assay, smiles, result) in found:
        if canonical[smiles] is not None:
            place = f"row {row + 1} of {assay}" if chosen.assays else f"row {row + 1}"
            name = assay if target == "value" else f"{assay} = {result}"
            looks.append(Look(place, name, f"{assay}\n{smiles}".encode(), (assay, canonical[smiles])))
    return looks, problems + wrong


def relation_look(place: str, name: str, one: Relation) -> Look:
    """A sentence with its two entities; alike are others of the same words, with the same of them as entities."""
    words = [word.lower() for word in one.words if word.isalnum()]
    entities = (sum(word.isalnum() for word in one.words[:first]) for first in one.places)
    return Look(place, name, repr((one.text, one.spans)).encode(), (*(words or [one.text]), *entities))


def point_looks(table: PointTable) -> tuple[list[Look], list[str]]:
    """The points that a loader would take, and what is wrong with each other row; a class is a task.

    Two are the same if they are of one task.
    """
    file, columns, task, targets, features = table
    rows, place = len(columns[targets[0]]), "" if task else f"{file.name}, "
    name = task or ""  # that of an index, which is no feature
    own = {one: columns[one] for one in (*features, *targets)}
    looks, problems = row_looks({**own, name: columns[task] if task else [file.stem] * rows}, "numbers", name, [*own])
    made = [
        one._replace(place=place + one.place, digest=f"{one.name}\n".encode() + one.digest, likeness=None)
        for one in looks
    ]
    return made, [place + problem for problem in problems]


def _text(value: Any, kind: str, chosen: Sequence[str]) -> tuple[str, str]:
    """What a text or molecule is, and what it is like."""
    text = check_text(value, chosen[0])
    if kind == "molecules":
        return text, canonical_smiles([text], [chosen[0]])[0]
    return text, " ".join(word for word in words_of(text) if word.isalnum()) or text


def _numbers(values: Sequence[Any], chosen: Sequence[str], widths: dict[str, int]) -> tuple[str, str]:
    """What the cells of a row are, as many in a column as in its first row."""
    found = []
    for value, name in zip(values, chosen, strict=True):
        cells = cells_of(value)
        if cells is None or widths.setdefault(name, len(cells)) != len(cells):
            wanted = f" (a list of {widths[name]})" if widths.get(name, 1) > 1 else ""
            raise DataError(f"column {name!r}: expected a finite number{wanted}, got {str(value)[:40]!r}")
        found += cells
    return repr(found), repr(found)


def alike(vectors: np.ndarray) -> list[list[int]]:
    """The groups of rows of [M, F] unit vectors that are nearly the same as another of the group.

    Rows are joined block by block and no pairs are kept, of which there may be half of M².
    """
    group = np.arange(len(vectors))
    for start in range(0, len(vectors), 256):
        close = vectors[start : start + 256] @ vectors[start:].T > ALIKE  # [256, M - start]
        for row in np.flatnonzero(close.sum(1) > 1):
            joined = group[start:][close[row]]
            if (joined != joined[0]).any():
                group[np.isin(group, np.unique(joined))] = joined.min()
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [part.tolist() for part in parts if len(part) > 1]


def same_groups(looks: Sequence[Look], *, by_likeness: bool = False) -> list[list[Look]]:
    """The groups of two and more of the same content, or of an equal likeness."""
    groups: dict[Any, list[Look]] = {}
    for one in looks:
        groups.setdefault(one.likeness if by_likeness else one.digest, []).append(one)
    return [group for group in groups.values() if len(group) > 1]
