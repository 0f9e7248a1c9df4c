"""A look at a user's own data before anything is trained: what is there, what is wrong, what it is good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, HandfulError, StorageError, UnknownNameError
from ..files import files_in, storage_errors
from ..pictures import SUFFIXES, in_parallel, unread
from ..rows import KINDS, LABELS, SMILES, TEXTS, doubt_minus_one, read_columns
from .advice import Assays, Groups, advice_on, advice_on_columns, advice_on_folders, advice_on_texts, columns_seen
from .folder import passed_over, picture_files
from .looks import Look, alike, measured_looks, picture_look, point_looks, relation_look, row_looks, same_groups
from .own_molecules import Measured, Target, measured_columns, measurements
from .own_relations import holds_relations, relation_columns, relation_rows, relation_table
from .regression import holds_points, point_tables
from .tables import Columns, called, chosen_columns, label_of, numbers_of

__all__ = ["Report", "check_data"]

TINY, HUGE = 32, 24_000_000
"""Sides in pixels below which a picture is tiny; pixels above which it is huge."""
MOST = 20_000
"""Pictures that are compared in pairs; of more, only the first so many."""


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        path, kind: the data, "pictures", "texts", "relations" (columns `head` and `tail`, or a file .json), "molecules"
            (a column `smiles`), "measurements" of these in assays, "points" of regression tasks (columns `task` and
            `y`, or a folder of tables), or "numbers".
        classes: examples a class, of the readable ones; of measurements, those of each outcome of each assay; of
            points, those of each task.
        unreadable: what a loader would refuse, and why.
        tiny, huge: pictures with a side under 32 pixels, or of more than 24 million.
        duplicates: groups of the same content; of texts, by row from 1 on.
        near: groups of nearly the same: pictures resized or saved again, texts that differ in case and signs.
        contradictions: those of `duplicates` and `near` whose members are of different classes.
        leaks: those whose members are of different splits.
        passed_over: files of a folder that are not pictures, by their ending.
        empty: folders without pictures.
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
    leaks: Sequence[Sequence[str]]
    passed_over: Mapping[str, int]
    empty: Sequence[str]
    imbalance: float
    advice: Sequence[str]

    def table(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def check_data(
    path: Path,
    *,
    label: str = "label",
    text: str | None = None,
    features: str | Sequence[str] | None = None,
    assay: str | None = None,
    task: str = "task",
    targets: str | Sequence[str] | None = None,
    encoding: str = "utf-8",
    nested: bool = False,
) -> Report:
    """Look through pictures, texts, relations, molecules, numbers or points, as their loaders would.

    Args:
        path: a folder (of pictures, or of tables that are a regression task each), or a file .csv, .tsv, .jsonl or
            .parquet; or .json, of relations.
        label, text, features, encoding: of a table, as in `table`.
        assay: of a table with a column `smiles`, as in `molecules`.
        task, targets: of regression tasks, as in `regression`; with `targets` the data are such tasks.
        nested: of a folder, as in `folder`.

    Raises:
        DataError: neither, or nothing in it.
        UnknownNameError: no such column.
        StorageError: nothing there, no permission.
        MissingExtraError: molecules without the extra `molecules`, Parquet without `tables`.
    """
    if not path.exists():
        raise StorageError(f"{path}: no such file or folder; expected a folder of class folders, or a table")
    if targets is not None or (path.is_dir() and _of_tables(path)):
        return _check_points(path, task, targets, features, encoding)
    if path.is_dir():
        return _check_pictures(path, nested)
    if path.suffix.lower() in KINDS:
        return _check_table(path, label, text, features, assay, task, encoding)
    if path.suffix.lower() == ".json":
        return _check_relations(path, label, text, encoding)
    raise DataError(
        f"{path}: expected a folder of class folders of pictures, or a table {', '.join(KINDS)} (.json of relations)"
    )


def _check_pictures(root: Path, nested: bool) -> Report:
    files = picture_files(root, nested=nested)
    found = list(in_parallel(f"looking at {root.name}", picture_look, files, len(files)))
    looks = [one for one in found if isinstance(one, Look)]
    compared = looks[:MOST]
    vectors = np.stack([one.likeness for one in compared]) if compared else np.zeros((0, 256), np.float32)
    others, empty = passed_over(root)
    said = [] if nested else advice_on_folders(root, files)
    if phone := unread(files_in(root)):
        said.append(phone)
    if len(looks) > MOST:
        said.append(f"only the first {MOST:,} pictures were compared for those that are nearly the same")
    return _report(
        root,
        "pictures",
        looks,
        [one for one in found if isinstance(one, str)],
        [[compared[i] for i in group] for group in alike(vectors)],
        tiny=[one.place for one in looks if min(one.size) < TINY],
        huge=[one.place for one in looks if one.size[0] * one.size[1] > HUGE],
        others=others,
        empty=empty,
        said=said,
    )


def _check_table(
    path: Path,
    label: str,
    text: str | None,
    features: str | Sequence[str] | None,
    assay: str | None,
    task: str,
    encoding: str,
) -> Report:
    columns = read_columns(path, encoding=encoding)
    smiles = None if text is not None or features is not None or called(columns, TEXTS) else called(columns, SMILES)
    molecules = smiles is not None
    if molecules:
        target = _target(columns, label, assay)
        measured = measured_columns(columns, label=label, assay=assay, target=target, what=str(path))
        if measured.label is None or measured.assay is not None:
            return _check_assays(path, columns, measured, target)
    if smiles is None and features is None and holds_relations(columns, text):
        return _check_relations(path, label, text, encoding)
    if label == "label" and text is None and smiles is None and holds_points(columns, task):
        return _check_points(path, task, None, features, encoding)
    if label == "label" and called(columns, LABELS) is None:
        raise UnknownNameError(
            f"{path}: expected a column 'label' of classes, or 'task' and 'y' of regression tasks; name that of the "
            f"classes (label), or those of tasks and targets (task, targets), of {columns_seen(columns)}"
        )
    label, text, chosen = chosen_columns(columns, label, smiles or text, features, str(path))
    if not columns[label]:
        raise DataError(f"{path}: expected rows, there are none")
    kind = "numbers" if text is None else "molecules" if molecules else "texts"
    looks, problems = row_looks(columns, kind, label, chosen)
    try:
        doubt_minus_one([name for name in map(label_of, columns[label]) if name is not None], str(path))
    except DataError as error:
        problems.append(str(error))
    said = advice_on_columns(columns, label, chosen) if kind == "numbers" else []
    if kind == "texts":
        said = advice_on_texts(columns[chosen[0]])
    return _report(path, kind, looks, problems, same_groups(looks, by_likeness=True), said=said)


def _check_relations(path: Path, label: str, text: str | None, encoding: str) -> Report:
    columns, places = relation_table(path, encoding)
    chosen = relation_columns(columns, label, text, "head", "tail", str(path))
    found, problems = relation_rows(columns, chosen, places, str(path))
    try:
        doubt_minus_one([name for _, name, _ in found], str(path))
    except DataError as error:
        problems.append(str(error))
    several = sum(one.several for *_, one in found)
    said = [
        f"{several} hold an entity several times, of which the first is taken: the columns {chosen.head}_start and "
        f"{chosen.tail}_start say another"
    ]
    looks = [relation_look(*one) for one in found]
    near = same_groups(looks, by_likeness=True)
    return _report(path, "relations", looks, problems, near, said=said if several else ())


def _target(columns: Columns, label: str, assay: str | None) -> Target:
    """Whether assays hold outcomes or, as most of their cells are neither 0 nor 1, values."""
    try:
        chosen = measured_columns(columns, label=label, assay=assay)
    except HandfulError:  # no column of either
        return "value"
    if chosen.label is not None and chosen.assay is None:  # of classes
        return "active"
    found, problems = measurements(columns, chosen)
    return "value" if len(problems) > len(found) else "active"


def _check_assays(path: Path, columns: Columns, measured: Measured, target: Target) -> Report:
    looks, problems = measured_looks(columns, measured, target)
    if not columns[measured.smiles]:
        raise DataError(f"{path}: expected rows, there are none")
    names = Counter(one.name for one in looks)
    assays = dict.fromkeys(one.likeness[0] for one in looks)
    fewest = [
        names[assay] if target == "value" else min(names[f"{assay} = {own}"] for own in (0, 1)) for assay in assays
    ]
    near = same_groups(looks, by_likeness=True)
    return _report(path, "measurements", looks, problems, near, assays=Assays(fewest, target))


def _of_tables(root: Path) -> bool:
    """Whether tables, and neither folders nor pictures, are in a folder."""
    with storage_errors(root, "read"):
        inside = [path for path in root.iterdir() if path.name[0] != "."]
    kinds = {path.suffix.lower() for path in inside}
    return not kinds.isdisjoint(KINDS) and kinds.isdisjoint(SUFFIXES) and not any(path.is_dir() for path in inside)


def _check_points(
    path: Path, task: str, targets: str | Sequence[str] | None, features: str | Sequence[str] | None, encoding: str
) -> Report:
    looks, problems, widths = list[Look](), list[str](), None
    for table in point_tables(path, task, targets, features, encoding):
        found, wrong = point_looks(table)
        looks, problems = looks + found, problems + wrong
        if not wrong:
            parts = [numbers_of(table.columns, names, str(table.file)) for names in (table.features, table.targets)]
            shape = tuple(part.shape[1] for part in parts)
            widths = widths or shape
            if shape != widths:
                problems.append(
                    f"{table.file.name}: expected {widths[0]} features and {widths[1]} targets, as in the "
                    f"files before, got {shape[0]} and {shape[1]}"
                )
    tasks = Counter(one.name for one in looks)
    return _report(path, "points", looks, problems, (), assays=Assays([*tasks.values()], "value"))


def _report(
    path: Path,
    kind: str,
    looks: Sequence[Look],
    unreadable: Sequence[str],
    near: Sequence[Sequence[Look]],
    *,
    tiny: Sequence[str] = (),
    huge: Sequence[str] = (),
    others: Mapping[str, int] | None = None,
    empty: Sequence[str] = (),
    said: Sequence[str] = (),
    assays: Assays | None = None,
) -> Report:
    classes = Counter(one.name for one in looks)
    duplicates = same_groups(looks)
    near = [group for group in near if len({one.digest for one in group}) > 1]
    against = [group for group in [*duplicates, *near] if len({one.name for one in group}) > 1]
    leaks = [group for group in [*duplicates, *near] if len({one.split for one in group}) > 1]
    counts = sorted(classes.values())

    def places(groups: Sequence[Sequence[Look]]) -> list[list[str]]:
        return [[one.place for one in group] for group in groups]

    found = Groups(len(duplicates), len(against), len(leaks))
    return Report(
        path=str(path),
        kind=kind,
        examples=len(looks),
        classes=dict(sorted(classes.items())),
        unreadable=list(unreadable),
        tiny=list(tiny),
        huge=list(huge),
        duplicates=places(duplicates),
        near=places(near),
        contradictions=places(against),
        leaks=places(leaks),
        passed_over=dict(others or {}),
        empty=list(empty),
        imbalance=counts[-1] / counts[0] if counts else 0.0,
        advice=[*said, *advice_on(kind, counts, unreadable, found, assays)],
    )
