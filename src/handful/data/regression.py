"""A user's own regression tasks: a table with a column that says the task, or a folder of tables, one a task."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, UnknownNameError
from ..files import expanded, storage_errors
from ..rows import KINDS, LABELS, read_columns
from .assays import AssayPool, AssayProtocol
from .splitting import Split, split_assays
from .tables import INDEX, Columns, called, known_column, labels_of, listed, numbers_of

__all__ = ["PointTable", "holds_points", "point_tables", "regression", "regression_columns"]

TARGETS = ("y", "target", "value")
NUMBERED = re.compile(r"y_?\d+")
"""Names of several columns of targets: y1, y2 ... or y_1, y_2 ..."""


def regression(
    *,
    path: str,
    task: str = "task",
    targets: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    encoding: str = "utf-8",
    least: int = 1,
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
) -> AssayPool:
    """Regression tasks of a table, or of a folder of tables: points (x, y), of each task by themselves.

    Numbers are taken as they are: bring x and y of all tasks to a scale of about one before.

    Args:
        path: .csv, .tsv (with a line of column names), .jsonl (an object a line) or .parquet (extra `tables`); or a
            folder of such files, each a task that is named after it.
        task: the column that says the task of a row; not of a folder.
        targets: columns of numbers, or of lists of numbers, that are to be told; by default 'y', 'target' or 'value',
            or else y1, y2 and so on. Names are found in small letters and capitals.
        features: columns of numbers that they are told from; by default all others but an index.
        encoding: of CSV, TSV and JSONL files.
        least: leave out tasks of fewer rows.
        split, within, split_seed: as `split_assays`, of tasks.

    Raises:
        UnknownNameError: no such column.
        DataError: not such a file, a row without a task, a value that is not a finite number, files of other columns.
        StorageError: no such file or folder, no permission.
    """
    place = expanded(path)
    names, xs, ys = list[str](), list[Tensor](), list[Tensor]()
    for table in point_tables(place, task, targets, features, encoding):
        file, columns = str(table.file), table.columns
        rows = len(columns[table.targets[0]])
        names += [table.file.stem] * rows if table.task is None else labels_of(columns, table.task, file)
        for part, chosen in ((xs, table.features), (ys, table.targets)):
            part.append(numbers_of(columns, chosen, file))
            if part[-1].shape[1] != part[0].shape[1]:
                raise DataError(
                    f"{file}: expected {part[0].shape[1]} numbers in {', '.join(chosen)}, as in the files before, got "
                    f"{part[-1].shape[1]}"
                )
    often = Counter(names)
    kept = {name: number for number, name in enumerate(name for name, count in often.items() if count >= least)}
    if not kept:
        raise DataError(f"{place}: no task has {least} rows, the largest has {max(often.values())}")
    number = torch.tensor([kept.get(name, -1) for name in names])
    order = number.argsort(stable=True)[int((number < 0).sum()) :]
    x, y = (torch.cat(part)[order].to(torch.get_default_dtype()) for part in (xs, ys))
    pool = AssayPool(
        x, torch.arange(len(x)), y, number[order].bincount(), tuple(kept), {}, AssayProtocol("mse", "any", "assays")
    )
    return split_assays(pool, split, within=within, seed=split_seed)


class PointTable(NamedTuple):
    """A file of points, and which of its columns are what; `task` is None where the file is one task."""

    file: Path
    columns: Columns
    task: str | None
    targets: list[str]
    features: list[str]


def point_tables(
    place: Path, task: str, targets: str | Sequence[str] | None, features: str | Sequence[str] | None, encoding: str
) -> Iterator[PointTable]:
    """The table, or the tables of a folder, each with rows; arguments and errors as of `regression`."""
    for file in _files(place) if place.is_dir() else [place]:
        columns = read_columns(file, encoding=encoding)
        of_tasks = None if place.is_dir() else task
        of_tasks, targets, features = regression_columns(columns, of_tasks, targets, features, str(file))
        if not columns[targets[0]]:
            raise DataError(f"{file}: expected rows, there are none")
        yield PointTable(file, columns, of_tasks, targets, features)


def holds_points(columns: Columns, task: str = "task") -> bool:
    """Whether a table has a column of tasks, the usual ones of targets, and none of labels."""
    targets = called(columns, TARGETS) or any(NUMBERED.fullmatch(name.strip().lower()) for name in columns)
    return called(columns, LABELS) is None and called(columns, (task,)) is not None and bool(targets)


def regression_columns(
    columns: Columns,
    task: str | None,
    targets: str | Sequence[str] | None,
    features: str | Sequence[str] | None,
    what: str,
) -> tuple[str | None, list[str], list[str]]:
    """The columns of tasks (None where there is none to be), of targets, and of features; as `regression`."""

    def found(name: str) -> str:
        return known_column(columns, (name,), what)

    if task is not None and called(columns, (task,)) is None:
        raise UnknownNameError(
            f"{what}: expected a column {task!r} that says the task of a row; name another (task) of "
            f"{', '.join(columns)}, or give a folder of tables, one a task"
        )
    of_tasks, targets, features = None if task is None else found(task), listed(targets), listed(features)
    if targets is None:
        usual = called(columns, TARGETS)
        targets = [usual] if usual else [name for name in columns if NUMBERED.fullmatch(name.strip().lower())]
    if not targets:
        raise UnknownNameError(
            f"{what}: expected a column 'y', 'target' or 'value' of targets, or several 'y1', 'y2' and so on; name "
            f"another (targets) of {', '.join(columns)}"
        )
    of_targets = [found(name) for name in targets]
    if features is None:
        features = [name for name in columns if name not in (of_tasks, *of_targets) and not INDEX.fullmatch(name)]
    of_features = [found(name) for name in features]
    if not of_features:
        raise DataError(f"{what}: expected a column of numbers beside {', '.join(of_targets)}; there is none")
    return of_tasks, of_targets, of_features


def _files(folder: Path) -> list[Path]:
    """The tables of a folder, in the order of their names."""
    with storage_errors(folder, "read"):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in KINDS and file.name[0] != ".")
    names = [file.stem for file in files]
    if not files:
        raise DataError(f"{folder}: expected tables ({', '.join(KINDS)}), one a task; there are none")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{folder}: expected a task in one file, {twice[0]!r} is in several; rename or join them")
    return files
