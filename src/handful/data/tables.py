"""A user's own table: CSV, TSV, JSON lines, Parquet, a DataFrame, or arrays in an npz file."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, MissingExtraError, unknown_name
from ..files import storage_errors
from .pool import ClassPool
from .splitting import Split, split_pool
from .texts import Reading, text_pool

__all__ = ["arrays", "columns_pool", "read_columns", "table"]

Columns = Mapping[str, Sequence[Any]]
KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def table(
    *,
    path: str,
    label: str = "label",
    text: str | None = None,
    features: Sequence[str] | None = None,
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
    file = Path(path).expanduser()
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
    kept = [index for index, count in enumerate(pool.counts.tolist()) if count >= least]
    if not kept:
        raise DataError(f"{file}: no class has {least} rows, the largest has {int(pool.counts.max())}")
    return split_pool(pool.subset(kept), split, within=within, seed=split_seed)


def arrays(
    *,
    path: str,
    x: str = "x",
    y: str = "y",
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
) -> ClassPool:
    """Examples and labels from the arrays of an .npz file: uint8 are pictures, all other numbers become floats.

    Args:
        path: of the file.
        x: name of the array of examples [M, *shape].
        y: name of the array of labels [M], integers or texts.
        split, within, split_seed: as `split_pool`.

    Raises:
        DataError: not an npz file, pickled objects inside, no such array; or as `ClassPool.from_labels`.
        StorageError: no such file, no permission.
    """
    file = Path(path).expanduser()
    with storage_errors(file, "read"):
        file.open("rb").close()
    try:
        with np.load(file, allow_pickle=False) as content:
            for name in (x, y):
                if name not in content:
                    raise unknown_name(f"array in {file}", name, content.files)
            found = content[x], content[y]
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: expected an .npz file of plain arrays (numpy.savez), {error}") from error
    return split_pool(ClassPool.from_labels(*found), split, within=within, seed=split_seed)


def columns_pool(
    columns: Any,
    *,
    label: str = "label",
    text: str | None = None,
    features: Sequence[str] | None = None,
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 64,
    what: str = "table",
) -> ClassPool:
    """A pool of a table's rows, without splits.

    Args:
        columns: a pandas DataFrame, a pyarrow Table, or a mapping from column names to sequences.
        label: the column of classes.
        text: the column of texts; by default 'text' if there is one and no `features` are named.
        features: columns of numbers, or one column of lists of numbers; by default all but the label.
        reading, model, length: what becomes of texts, see `text_pool`.
        what: what errors call the table.

    Raises:
        UnknownNameError: no such column.
        DataError: a row without a label, a text that is none, a value that is not a finite number.
    """
    named = _named(columns)
    if text is None and features is None and "text" in named:
        text = "text"
    for name in [label, *([text] if text is not None else features or [])]:
        if name not in named:
            raise unknown_name(f"column of {what}", name, named)
    labels = [_plain(value) for value in named[label]]
    missing = [row for row, value in enumerate(labels, 1) if value is None or value in ("",) or value != value]
    if missing:
        raise DataError(f"{what}: rows {missing[:5]}{' ...' if len(missing) > 5 else ''} have no {label!r}; label them")
    names = [str(value) for value in labels]
    if text is not None:
        texts = [_plain(value) for value in named[text]]
        return text_pool(texts, names, what=what, reading=reading, model=model, length=length)
    chosen = [name for name in named if name != label] if features is None else list(features)
    if not chosen:
        raise DataError(f"{what}: expected a column of texts, or of numbers, beside {label!r}; there is none")
    return ClassPool.from_labels(torch.cat([_numbers(named[name], name, what) for name in chosen], 1), names)


def _named(columns: Any) -> Columns:
    if hasattr(columns, "to_pydict"):  # pyarrow
        columns = columns.to_pydict()
    if hasattr(columns, "columns"):  # pandas
        return {str(name): columns[name].tolist() for name in columns.columns}
    if not isinstance(columns, Mapping):
        raise DataError(f"table: expected a DataFrame or a mapping from names to columns, got {type(columns).__name__}")
    return {str(name): list(column) for name, column in columns.items()}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _numbers(column: Sequence[Any], name: str, what: str) -> Tensor:
    """[M, width] of a column of numbers, of numbers in text, or of lists of numbers."""
    rows: list[list[float]] = []
    for row, value in enumerate(column, 1):
        try:
            cells = [float(cell) for cell in (value if isinstance(value, list | tuple | np.ndarray) else [value])]
        except (TypeError, ValueError):
            cells = [math.nan]
        if not all(map(math.isfinite, cells)) or (rows and len(cells) != len(rows[0])):
            wanted = f" (a list of {len(rows[0])})" if rows and len(rows[0]) > 1 else ""
            raise DataError(
                f"{what}: row {row} of column {name!r}: expected a finite number{wanted}, got {str(value)[:40]!r}; "
                "clean it, or name other columns (features, text)"
            )
        rows.append(cells)
    return torch.tensor(rows, dtype=torch.float64)


def read_columns(path: Path, *, encoding: str = "utf-8") -> dict[str, list[Any]]:
    """The columns of a .csv, .tsv, .jsonl or .parquet file, by name; raises as `table`."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise DataError(f"{path}: expected a file {', '.join(KINDS)}, got {kind or 'no ending'!r}")
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if kind == ".parquet":
        return _parquet(path)
    try:
        lines = content.decode("utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding)
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        raise DataError(
            f'{path}: line {place} is not {encoding}; say its encoding (encoding = "cp1252" is usual for older '
            "spreadsheets), or save it as UTF-8"
        ) from error
    except LookupError as error:
        raise DataError(f"{path}: {error}; expected an encoding that Python knows, such as utf-8 or cp1252") from error
    return _json_lines(path, lines) if kind in (".jsonl", ".ndjson") else _separated(path, lines, kind)


def _separated(path: Path, content: str, kind: str) -> dict[str, list[Any]]:
    reader = csv.reader(content.splitlines(keepends=True), delimiter="\t" if kind == ".tsv" else ",", strict=True)
    columns: dict[str, list[Any]] = {}
    try:
        names = next(reader, [])
        if not names or len(set(names)) < len(names):
            raise DataError(f"{path}: expected a first line of different column names, got {names}")
        columns = {name: [] for name in names}
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                raise DataError(
                    f"{path}: line {reader.line_num}: expected {len(names)} cells ({', '.join(names)}), got "
                    f"{len(cells)}; put quotes around cells that hold the separator"
                )
            for name, cell in zip(names, cells, strict=True):
                columns[name].append(cell)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    return columns


def _json_lines(path: Path, content: str) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is not JSON ({error}); expected an object a line") from error
        if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
            keys = f" of the keys {', '.join(rows[0])}" if rows else ""
            raise DataError(f"{path}: line {number}: expected an object{keys}, got {line[:60]!r}")
        rows.append(row)
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _parquet(path: Path) -> dict[str, list[Any]]:
    if find_spec("pyarrow") is None:
        raise MissingExtraError("reading Parquet needs pyarrow: pip install 'handful[tables]'")
    import pyarrow
    import pyarrow.parquet

    try:
        found: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}); get it again") from error
    return found
