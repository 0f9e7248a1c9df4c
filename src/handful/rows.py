"""The rows of a table's file as columns: CSV, TSV, JSON lines, Parquet; and labels that are none."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import DataError, MissingExtraError
from .files import storage_errors

__all__ = [
    "KINDS",
    "LABELS",
    "SMILES",
    "TEXTS",
    "decoded",
    "doubt_minus_one",
    "numbered_columns",
    "parsed_json",
    "read_columns",
]

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
TEXTS, LABELS = ("text", "sentence", "utterance", "content"), ("label", "class", "category", "intent")
SMILES = ("smiles", "canonical_smiles", "isomeric_smiles")
"""Names of columns that are found unless others are said."""


def read_columns(path: Path, *, encoding: str = "utf-8") -> dict[str, list[Any]]:
    """The columns of a table's file, by name; as `numbered_columns`."""
    return numbered_columns(path, encoding=encoding)[0]


def numbered_columns(path: Path, *, encoding: str = "utf-8") -> tuple[dict[str, list[Any]], list[int]]:
    """The columns of a .csv, .tsv, .jsonl or .parquet file, by name; and what number each row has in the file.

    A .csv may be separated by semicolons or tabs, as spreadsheets write it where commas are in numbers; what begins
    with the mark of UTF-16 or UTF-32 is read as that.

    Raises:
        DataError: not such a file, in another encoding, rows of other lengths than the first.
        StorageError: no such file, no permission.
        MissingExtraError: Parquet without the extra `tables`.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise DataError(f"{path}: expected a file {', '.join(KINDS)}, got {kind or 'no ending'!r}")
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if kind == ".parquet":
        found = _parquet(path)
        return found, list(range(1, 1 + len(next(iter(found.values()), []))))
    lines = decoded(path, content, encoding)
    return _json_lines(path, lines) if kind in (".jsonl", ".ndjson") else _separated(path, lines, kind)


def decoded(path: Path, content: bytes, encoding: str) -> str:
    """The text of a file; what begins with the mark of UTF-16 or UTF-32 is read as that.

    Raises:
        DataError: in another encoding, or no such encoding.
    """
    try:
        codec = codecs.lookup(encoding).name
        if codec == "utf-8":
            wide = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)  # the first begins with that of UTF-16
            marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            codec = "utf-32" if content.startswith(wide) else "utf-16" if marked else "utf-8-sig"
            _refuse_unmarked(path, content, codec)
        return content.decode(codec)
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        raise DataError(
            f'{path}: line {place} is not {encoding}; say its encoding (encoding = "cp1252" is usual for older '
            "spreadsheets), or save it as UTF-8"
        ) from error
    except (LookupError, UnicodeError) as error:  # the latter of a name that is no text, and of "undefined"
        raise DataError(f"{path}: {error}; expected an encoding that Python knows, such as utf-8 or cp1252") from error


def _refuse_unmarked(path: Path, content: bytes, codec: str) -> None:
    """Latin letters in UTF-16 are UTF-8 as well, with a zero beside each."""
    even, odd = (content[start:1000:2].count(0) for start in (0, 1))
    if codec == "utf-8-sig" and 8 * max(even, odd) > len(content[:1000]):
        guess = "utf-16-le" if odd > even else "utf-16-be"
        raise DataError(f'{path}: in UTF-16 without its mark; say so (encoding = "{guess}"), or save it as UTF-8')


def doubt_minus_one(labels: Sequence[str], place: str) -> None:
    """Where classes are numbered from 0, -1 says that none is known: in data sets of Hugging Face, in scikit-learn.

    Beside two classes it may be a third (-1, 0, 1), which is warned of, beside 1 alone the other one.

    Args:
        labels: numbers, as texts; where labels were given as texts in memory, -1 is said to be a class.
        place: for the messages.

    Raises:
        DataError: it can hardly be a class.
    """
    labels = [label.removesuffix(".0") for label in labels]
    others = set(labels) - {"-1"}
    if "-1" not in labels or others == {"1"} or not all(label.isdecimal() for label in others):
        return
    remedy = "leave out examples whose class is not known; if -1 is a class, give it another name"
    if len(others) not in (1, 2):
        count = labels.count("-1")
        raise DataError(f"{place}, example {labels.index('-1')}: expected a label, got -1 ({count} of these); {remedy}")
    warnings.warn(f"{place}: -1 is taken as a class; {remedy}", stacklevel=2)


def _separated(path: Path, content: str, kind: str) -> tuple[dict[str, list[Any]], list[int]]:
    """Rows are numbered as spreadsheets do, where the first holds the names and empty ones count."""
    columns, numbers = dict[str, list[Any]](), list[int]()
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=_separator(content, kind), strict=True)
    rows = enumerate(reader, 1)
    try:
        names = [name.strip() for name in next((cells for _, cells in rows if cells), [])]
        while names.count("") > 1 and not names[-1]:  # spreadsheets write columns that hold nothing
            names.pop()
        if not names or len(set(names)) < len(names):
            got = ", ".join(map(repr, _twice(names))) + " more than once; rename them" if names else "none"
            raise DataError(f"{path}: expected a first line of different column names, got {got}")
        columns = {name: [] for name in names}
        for number, cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if not any(cell.strip() for cell in cells[len(names) :]):
                cells = cells[: len(names)]
            if len(cells) != len(names):
                raise DataError(
                    f"{path}: line {reader.line_num}: expected {len(names)} cells ({', '.join(names)}), got "
                    f"{len(cells)}; put quotes around cells that hold the separator"
                )
            for name, cell in zip(names, cells, strict=True):
                columns[name].append(cell)
            numbers.append(number)
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: {error}; a cell in quotes ends with the next, so double those in it, and "
            f"holds at most {csv.field_size_limit():,} characters (JSON lines may hold more)"
        ) from error
    return columns, numbers


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _separator(content: str, kind: str) -> str:
    """What stands between cells: of a .csv a comma, unless the first line has none outside of quotes."""
    if kind == ".tsv":
        return "\t"
    line = re.match(r'(?:"[^"]*"|[^"\r\n])*', content.lstrip("\r\n"))
    first = re.sub(r'"[^"]*"', "", line[0]) if line else ""
    return next((sign for sign in ";\t" if sign in first and "," not in first), ",")


def _json_lines(path: Path, content: str) -> tuple[dict[str, list[Any]], list[int]]:
    """A key that a line does not have is an empty cell: many programs leave out what is null."""
    rows, numbers = list[dict[str, Any]](), list[int]()
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parsed_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is not JSON ({error}); expected an object a line") from error
        if not isinstance(row, dict):
            keys = f" of the keys {', '.join(rows[0])}" if rows else ""
            raise DataError(f"{path}: line {number}: expected an object{keys}, got {line[:60]!r}")
        rows.append(row)
        numbers.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, numbers


def parsed_json(content: str) -> Any:
    """What JSON says, with "?" in place of half characters (\\ud800), which nothing can write or read again."""
    found = json.loads(content)
    if re.search(r"\\u[dD][89a-fA-F]", content):
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    return found


def _parquet(path: Path) -> dict[str, list[Any]]:
    if find_spec("pyarrow") is None:
        raise MissingExtraError("reading Parquet needs pyarrow: pip install 'handful[tables]'")
    import pyarrow
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}); get it again") from error
    if twice := _twice(found.column_names):
        raise DataError(f"{path}: expected different column names, got {', '.join(twice)} more than once; rename them")
    return {name: _cells(found[name]) for name in found.column_names}


def _cells(column: Any) -> list[Any]:
    """Of pyarrow's; times that Python's do not reach, or that are finer than microseconds, as texts."""
    try:
        cells: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        cells = column.cast("string").to_pylist()
    return cells
