"""Tables that are taught and asked: which of their columns hold texts or molecules, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..rows import KINDS, LABELS, SMILES, TEXTS, doubt_minus_one, numbered_columns
from .in_memory import zipped

__all__ = ["KINDS", "table_kind", "table_rows"]


def table_kind(path: Path, *, encoding: str = "utf-8") -> str:
    """texts or molecules, by the names of its columns; errors as `table_rows`."""
    names = {name.strip().lower() for name in numbered_columns(path, encoding=encoding)[0]}
    return "molecules" if names & {*SMILES} and not names & {*TEXTS} else "texts"


def table_rows(
    path: Path, kind: str, place: str, *, labeled: bool = True, encoding: str = "utf-8"
) -> list[tuple[Any, str, str]]:
    """Of each row the text or SMILES, its label (or "") and its place: `place` and the row's number in the file.

    Raises:
        DataError: no such columns, a row without a label, not such a file.
        StorageError, MissingExtraError: as `numbered_columns`.
    """
    columns, numbers = numbered_columns(path, encoding=encoding)
    contents = _column(path, columns, SMILES if kind == "molecules" else TEXTS)
    places = [f"{place}:{number}" for number in numbers]
    if not labeled:
        return [(content, "", at) for content, at in zip(contents, places, strict=True)]
    labels = _column(path, columns, LABELS)
    for label, at in zip(labels, places, strict=True):
        if label is None or (isinstance(label, str) and not label.strip()):
            raise DataError(f"{at}: expected a label, got none; leave out rows whose class is not known")
    found = zipped(contents, labels, place)
    if all(isinstance(label, str) for label in labels):  # of numbers `zipped` has thought
        doubt_minus_one([label.strip() for label in labels], place)
    return [(content, label.strip(), at) for (content, label), at in zip(found, places, strict=True)]


def _column(path: Path, columns: dict[str, list[Any]], wanted: Sequence[str]) -> list[Any]:
    names = {name.strip().lower(): name for name in reversed(columns)}
    for name in wanted:
        if name in names:
            return columns[names[name]]
    listed = ", ".join(columns)[:200] or "none"
    vectors = "; vectors are taught from an .npz with the arrays x and y" if wanted is TEXTS else ""
    raise DataError(
        f"{path}: expected a column {wanted[0]!r} (or {', '.join(wanted[1:])}), got {listed}; rename one{vectors}"
    )
