"""A user's own table: CSV, TSV, JSON lines, Parquet, or a DataFrame."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, unknown_name
from ..files import expanded
from ..rows import LABELS, TEXTS, doubt_minus_one, read_columns
from .pool import ClassPool
from .splitting import Split, split_pool
from .texts import Reading, text_pool

__all__ = [
    "INDEX",
    "Columns",
    "called",
    "cells_of",
    "check_lengths",
    "chosen_columns",
    "class_of",
    "columns_pool",
    "frequent",
    "holds_several",
    "known_column",
    "label_of",
    "labels_of",
    "listed",
    "named_columns",
    "numbers_of",
    "table",
]

Columns = Mapping[str, Sequence[Any]]
INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
"""The names of columns that pandas writes, and reads again, for the numbers of rows."""


def table(
    *,
    path: str,
    label: str = "label",
    text: str | None = None,
    features: str | Sequence[str] | None = None,
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 64,
    encoding: str = "utf-8",
    least: int = 1,
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
) -> ClassPool:
    """Texts or vectors from a file of rows.

    Args:
        path: .csv, .tsv (with a line of column names), .jsonl (an object a line) or .parquet (extra `tables`).
        label, text, features, reading, model, length: as `columns_pool`.
        encoding: of a CSV, TSV or JSONL file.
        least: leave out classes of fewer rows.
        split, within, split_seed: as `split_pool`.

    Raises:
        DataError: not such a file, in another encoding, cells missing; or as `columns_pool`.
        StorageError: no such file, no permission.
    """
    file = expanded(path)
    pool = columns_pool(
        read_columns(file, encoding=encoding),
        label=label,
        text=text,
        features=features,
        reading=reading,
        model=model,
        length=length,
        what=str(file),
    )
    return split_pool(frequent(pool, least, str(file)), split, within=within, seed=split_seed)


def frequent(pool: ClassPool, least: int, what: str) -> ClassPool:
    """Without the classes of fewer rows than `least`. Raises DataError if that are all."""
    kept = [index for index, count in enumerate(pool.counts.tolist()) if count >= least]
    if not kept:
        raise DataError(f"{what}: no class has {least} rows, the largest has {int(pool.counts.max())}")
    return pool.subset(kept)


def columns_pool(
    columns: Any,
    *,
    label: str = "label",
    text: str | None = None,
    features: str | Sequence[str] | None = None,
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 64,
    what: str = "table",
) -> ClassPool:
    """A pool of a table's rows, without splits.

    Args:
        columns: a pandas DataFrame, a pyarrow Table, or a mapping from column names to sequences.
        label: the column of classes; where none is called 'label', 'class', 'category' or 'intent' is.
        text: the column of texts; by default 'text' if there is one and no `features` are named, or else 'sentence',
            'utterance' or 'content' that holds texts. Names are found in small letters and capitals.
        features: columns of numbers, or one column of lists of numbers; by default all but the label and an index
            (a column without a name, or `__index_level_0__`).
        reading, model, length: what becomes of texts, see `text_pool`.
        what: what errors call the table.

    Raises:
        UnknownNameError: no such column.
        DataError: no rows, one without a label (also -1 among numbers from 0), a text that is none, a value that is not
            a finite number; two columns of one name, or columns of different lengths; a data set of Hugging Face.
    """
    named = named_columns(columns)
    label, text, chosen = chosen_columns(named, label, text, features, what)
    check_lengths(named, [label, *chosen], what)
    classes = labels_of(named, label, what)
    doubt_minus_one(classes, what)
    if text is not None:
        texts = [_plain(value) for value in named[text]]
        return text_pool(texts, classes, what=what, reading=reading, model=model, length=length)
    return ClassPool.from_labels(numbers_of(named, chosen, what), classes)


def chosen_columns(
    named: Columns, label: str, text: str | None, features: str | Sequence[str] | None, what: str
) -> tuple[str, str | None, list[str]]:
    """The columns of labels, of texts, if examples are texts, and all that examples are made of; as `columns_pool`."""
    found = known_column(named, LABELS if label == "label" else (str(label),), what)
    if text is not None:
        text = called(named, (str(text),)) or str(text)
    elif features is None:
        others = {name: column for name, column in named.items() if name != found}
        text = called(others, ("text",)) or called({n: others[n] for n in others if _holds_texts(others[n])}, TEXTS)
    chosen = [text] if text is not None else listed(features)
    for name in chosen or []:
        if name not in named:
            raise unknown_name(f"column of {what}", name, named)
    if chosen is None:
        chosen = [name for name in named if name != found and not INDEX.fullmatch(name)]
    if not chosen:
        raise DataError(f"{what}: expected a column of texts, or of numbers, beside {found!r}; there is none")
    return found, text, list(chosen)


def listed(names: str | Sequence[str] | None) -> list[str] | None:
    """Names of columns, of which one may stand alone."""
    if names is None:
        return None
    return [str(names)] if isinstance(names, str) or not hasattr(names, "__iter__") else [str(name) for name in names]


def called(named: Columns, names: Sequence[str]) -> str | None:
    """The first of these names that a column has, or one column alone has in other letters or between spaces."""
    for name in names:
        alike = [one for one in named if one.strip().lower() == name.strip().lower()]
        if name in named or len(alike) == 1:
            return name if name in named else alike[0]
    return None


def known_column(named: Columns, names: Sequence[str], what: str) -> str:
    """As `called`. Raises UnknownNameError if there is none."""
    found = called(named, names)
    if found is None:
        raise unknown_name(f"column of {what}", names[0], named)
    return found


def _holds_texts(column: Sequence[Any]) -> bool:
    return any(isinstance(value, str) and cells_of(value) is None for value in column)


def check_lengths(named: Columns, names: Sequence[str], what: str) -> None:
    """Raises DataError unless these columns have rows, and as many."""
    lengths = {name: len(named[name]) for name in names}
    if len({*lengths.values()}) > 1:
        raise DataError(f"{what}: expected columns of one length, got {lengths}")
    if not any(lengths.values()):
        raise DataError(f"{what}: expected rows, there are none")


def labels_of(named: Columns, name: str, what: str) -> list[str]:
    """The label of each row, from the column of this name. Raises DataError if some have none, or several."""
    if several := [row for row, value in enumerate(named[name], 1) if holds_several(value)]:
        raise DataError(f"{what}: {_rows(several)} have several {name!r}; expected one class each")
    labels = [label_of(value) for value in named[name]]
    if missing := [row for row, value in enumerate(labels, 1) if value is None]:
        raise DataError(f"{what}: {_rows(missing)} have no {name!r}; label them")
    return [value for value in labels if value is not None]


def _rows(numbers: Sequence[int]) -> str:
    return f"rows {numbers[:5]}{' ...' if len(numbers) > 5 else ''}"


def class_of(label: Any, column: str) -> str:
    """The name of the class in a cell of this column. Raises DataError if it holds none, or several."""
    if holds_several(label):
        raise DataError(f"several in {column}")
    if (name := label_of(label)) is None:
        raise DataError(f"no {column}")
    return name


def holds_several(label: Any) -> bool:
    """Whether a cell of labels is a list of them, or the like."""
    return isinstance(label, list | tuple | set | Mapping | np.ndarray)


def label_of(value: Any) -> str | None:
    """The name of a class without spaces around it; None where there is none: nothing, NaN, pandas' NA."""
    value = _plain(value)
    try:
        missing = value is None or bool(value != value)
    except (TypeError, ValueError):  # of NA, or of an array, nobody can say
        missing = True
    return None if missing else str(value).strip() or None


def cells_of(value: Any) -> list[float] | None:
    """The numbers of a cell, one or a list of them; None if some are not finite as examples hold them."""
    try:
        cells = [float(cell) for cell in (value if isinstance(value, list | tuple | np.ndarray | Tensor) else [value])]
    except (TypeError, ValueError, OverflowError):
        return None
    most = torch.finfo(torch.get_default_dtype()).max
    return cells if cells and all(abs(cell) <= most for cell in cells) else None


def named_columns(columns: Any) -> Columns:
    """The columns of a DataFrame or the like by name, as lists. Raises DataError for what is none."""
    if isinstance(getattr(columns, "features", None), Mapping):  # which also have names of classes
        raise DataError("table: expected columns, got a data set of Hugging Face; give it to dataset_pool")
    if hasattr(columns, "collect"):  # polars' LazyFrame
        raise DataError(f"table: expected a DataFrame, got a {type(columns).__name__}; collect() it")
    names = getattr(columns, "column_names", getattr(columns, "columns", None))  # pyarrow's, or pandas'
    if twice := [name for name, count in Counter(map(str, () if names is None else names)).items() if count > 1]:
        raise DataError(f"table: expected different column names, got {', '.join(twice)} more than once; rename them")
    if hasattr(columns, "to_pydict"):
        columns = columns.to_pydict()
    elif names is not None:
        return {str(name): _listed(columns[name]) for name in names}
    if not isinstance(columns, Mapping):
        raise DataError(f"table: expected a DataFrame or a mapping from names to columns, got {type(columns).__name__}")
    return {str(name): _listed(column) for name, column in columns.items()}


def _listed(column: Any) -> list[Any]:
    """Cells as Python has them: a series' of pandas or polars, an array's, a tensor's, or of any sequence."""
    cells = column.tolist() if isinstance(column, Tensor) else column
    return list(cells.to_list() if hasattr(cells, "to_list") else cells)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | Tensor) and np.prod(value.shape) == 1 else value


def numbers_of(named: Columns, names: Sequence[str], what: str) -> Tensor:
    """[M, F] float64 of columns of numbers, side by side. Raises DataError for what is no finite number."""
    return torch.cat([_numbers(named[name], name, what) for name in names], 1)


def _numbers(column: Sequence[Any], name: str, what: str) -> Tensor:
    """[M, width] of a column of numbers, of numbers in text, or of lists of numbers."""
    rows: list[list[float]] = []
    for row, value in enumerate(column, 1):
        cells = cells_of(value)
        if cells is None or (rows and len(cells) != len(rows[0])):
            wanted = f" (a list of {len(rows[0])})" if rows and len(rows[0]) > 1 else ""
            raise DataError(
                f"{what}: row {row} of column {name!r}: expected a finite number{wanted}, got {str(value)[:40]!r}; "
                "clean it (decimals have a point), or name other columns (features, text)"
            )
        rows.append(cells)
    return torch.tensor(rows, dtype=torch.float64)
