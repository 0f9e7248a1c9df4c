"""A user's own molecules: a table of SMILES and their classes, or of what was measured of them in assays."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import Tensor

from ..errors import DataError, unknown_name
from ..files import expanded
from ..molecules import Features, canonical_smiles
from ..rows import LABELS, SMILES, doubt_minus_one, read_columns
from .assays import AssayPool, AssayProtocol
from .molecules import Measurement, features_of, pool_of
from .pool import ClassPool
from .splitting import Split, split_assays, split_pool
from .tables import Columns, called, cells_of, known_column, label_of, labels_of
from .texts import grouped

__all__ = ["ASSAYS", "Measured", "Target", "measured_columns", "measurements", "molecules"]

Target = Literal["active", "value"]
ASSAYS = ("assay", "task")
"""Names of the column that says the assay of a row, unless another is said."""


class Measured(NamedTuple):
    """What the columns of a table of molecules are.

    Attributes:
        smiles: the molecules.
        label: of each row its class, or, beside `assay`, its result; None where `assays` hold the results.
        assay: of each row the assay.
        assays: columns of results, each of one assay.
    """

    smiles: str
    label: str | None
    assay: str | None
    assays: tuple[str, ...]


def molecules(
    *,
    path: str,
    smiles: str | None = None,
    label: str = "label",
    assay: str | None = None,
    assays: Sequence[str] | None = None,
    target: Target = "active",
    features: Features = "morgan",
    atoms: int = 64,
    encoding: str = "utf-8",
    least: int = 1,
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
    skip_unreadable: bool = False,
) -> ClassPool | AssayPool:
    """Molecules of a table: of classes, or measured in assays.

    A column of labels makes classes. With a column of assays too, each row is a molecule's result in an assay. Without
    a column of labels, all columns that hold nothing but outcomes (0, 1 or an empty cell) are an assay each.

    Args:
        path: .csv, .tsv (with a line of column names), .jsonl (an object a line) or .parquet (extra `tables`).
        smiles: the column of molecules; by default 'smiles', 'canonical_smiles' or 'isomeric_smiles'. Names are found
            in small letters and capitals.
        label: the column of classes or results; where none is called 'label', 'class', 'category' or 'intent' is, and
            of values 'value' or 'y'.
        assay: the column of assays; by default 'assay' or 'task', if there is one.
        assays: columns of results, an assay each, instead of `label`.
        target: of assays: whether a molecule is "active" (1) or not (0), judged by the area under the ROC curve; or
            the "value" that was measured, any number: a regression. An empty cell was not measured.
        features, atoms: what becomes of a molecule, as `molecule_features`.
        encoding: of a CSV, TSV or JSONL file.
        least: leave out classes of fewer molecules, and assays of fewer values or fewer of either outcome (so always
            those of one outcome only).
        split, within, split_seed: as `split_pool`; of assays as `split_assays`.
        skip_unreadable: leave out molecules that RDKit cannot read, with a warning, instead of refusing them all.

    Raises:
        UnknownNameError: no such column, target or features.
        DataError: not such a file, a row without a label, SMILES that are none (each named), a result that is none.
        StorageError: no such file, no permission.
        MissingExtraError: the extra `molecules` is not installed.
    """
    file = expanded(path)
    columns = read_columns(file, encoding=encoding)
    chosen = measured_columns(
        columns, smiles=smiles, label=label, assay=assay, assays=assays, target=target, what=str(file)
    )
    contents = [label_of(one) or "" for one in columns[chosen.smiles]]
    if not contents:
        raise DataError(f"{file}: expected rows, there are none")
    number, x = _read(contents, features, atoms, skip_unreadable, str(file))
    if chosen.label is not None and chosen.assay is None:
        labels = labels_of(columns, chosen.label, str(file))
        doubt_minus_one(labels, str(file))
        rows = [(name, number[one]) for name, one in zip(labels, contents, strict=True) if one in number]
        often = Counter(name for name, _ in rows)
        rows = [(name, row) for name, row in rows if often[name] >= least]
        if not rows:
            raise DataError(f"{file}: no class has {least} molecules, the largest has {max(often.values())}")
        named = [name for name, _ in rows]
        examples = x[[row for _, row in rows]].float()  # bytes of classes would be read as pictures
        return split_pool(grouped(examples, named), split, within=within, seed=split_seed)
    found, problems = measurements(columns, chosen, target)
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{file}: {'; '.join(problems[:5])}{more}")
    results = [one for _, one in found if one.smiles in number]
    names = _usable(results, target, least, str(file))
    protocol = (
        AssayProtocol("mse", "any", "assays") if target == "value" else AssayProtocol("auc", "balanced", "assays")
    )
    pool = pool_of(
        [one for one in results if one.assay in names], {}, protocol, lambda own: x[[number[one] for one in own]]
    )
    return split_assays(pool, split, within=within, seed=split_seed)


def measured_columns(
    columns: Columns,
    *,
    smiles: str | None = None,
    label: str = "label",
    assay: str | None = None,
    assays: Sequence[str] | None = None,
    target: Target = "active",
    what: str = "table",
) -> Measured:
    """What the columns of a table of molecules are; as `molecules`.

    Raises:
        UnknownNameError: no such column, or target.
        DataError: no column of classes or results.
    """
    if target not in ("active", "value"):
        raise unknown_name("target of molecules", target, ("active", "value"))
    of_molecules = known_column(columns, SMILES if smiles is None else (smiles,), what)
    if assays is not None:
        named = tuple(known_column(columns, (name,), what) for name in assays)
        if not named:
            raise DataError(f"{what}: expected one or more columns in `assays`, got none")
        return Measured(of_molecules, None, None, named)
    usual = (*LABELS, *(("value", "y") if target == "value" else ()))
    of_labels = called(columns, usual if label == "label" else (label,))
    of_assays = called(columns, ASSAYS) if assay is None else known_column(columns, (assay,), what)
    if of_labels is None and (label != "label" or of_assays is not None):
        raise unknown_name(f"column of {what}", label, columns)
    if of_labels is not None:
        if of_assays is None and target == "value":  # one assay
            return Measured(of_molecules, None, None, (of_labels,))
        return Measured(of_molecules, of_labels, of_assays, ())
    outcomes = [] if target == "value" else [name for name in columns if _holds_outcomes(columns[name])]
    if not outcomes:
        kind = "values" if target == "value" else "outcomes 0 and 1"
        raise DataError(
            f"{what}: expected a column of classes or results (label), or columns of {kind} (assays), got "
            f"{', '.join(columns)[:200]}; name them"
        )
    return Measured(of_molecules, None, None, tuple(outcomes))


def measurements(
    columns: Columns, chosen: Measured, target: Target = "active"
) -> tuple[list[tuple[int, Measurement]], list[str]]:
    """Every result in assays with its row from 0 on, assay by assay as they come; and what cells are none, from row 1.

    An empty cell is no result.
    """
    found: list[tuple[int, Measurement]] = []
    problems: list[str] = []
    contents = [label_of(one) or "" for one in columns[chosen.smiles]]
    for column in chosen.assays or (str(chosen.label),):
        names = [column] * len(contents) if chosen.assay is None else map(label_of, columns[chosen.assay])
        for row, (name, cell) in enumerate(zip(names, columns[column], strict=True)):
            if label_of(cell) is None:
                continue
            value = _result(cell, target)
            if name is None:
                problems.append(f"row {row + 1}: no {chosen.assay}")
            elif value is None:
                wanted = "a finite number" if target == "value" else '0 or 1 (target = "value" takes any number)'
                problems.append(f"row {row + 1} of column {column!r}: expected {wanted}, got {str(cell)[:40]!r}")
            else:
                found.append((row, Measurement(name, contents[row], value)))
    return found, problems


def _read(
    contents: Sequence[str], features: Features, atoms: int, skip: bool, what: str
) -> tuple[dict[str, int], Tensor]:
    """The features of the different molecules, and the row of each by its SMILES."""
    places: dict[str, str] = {}
    for row, one in enumerate(contents, 1):
        places.setdefault(one, f"{what}: row {row}")
    read = partial(features_of, title=what, features=features, atoms=atoms)
    try:
        x = read(list(places), places=list(places.values()))
    except DataError:
        problems = _unreadable(places)
        if not problems:
            raise
        good = [one for one in places if one not in problems]
        if not good or not skip:
            said = f"{_cannot(problems, places, what)}; mend or remove them, or leave them out (skip_unreadable = true)"
            raise DataError(said) from None
        warnings.warn(f"{_cannot(problems, places, what)}. They are left out", stacklevel=3)
        return {one: row for row, one in enumerate(good)}, read(good, places=[places[one] for one in good])
    return {one: row for row, one in enumerate(places)}, x


def _unreadable(places: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with each SMILES that is none."""
    problems = {}
    for one, place in places.items():
        try:
            canonical_smiles([one], [place])
        except DataError as error:
            problems[one] = str(error).removesuffix("; mend or remove it")
    return problems


def _cannot(problems: Mapping[str, str], places: Mapping[str, str], what: str) -> str:
    named = [problem.removeprefix(f"{what}: ") for problem in problems.values()]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    return f"{what}: {len(named)} of {len(places)} molecules cannot be read: {'; '.join(named[:5])}{more}"


def _result(cell: Any, target: Target) -> float | None:
    """The number of a cell; None for what cannot be a result."""
    cells = cells_of(cell)
    if cells is None or len(cells) > 1 or (target == "active" and cells[0] not in (0, 1)):
        return None
    return cells[0] if target == "value" else int(cells[0])


def _holds_outcomes(column: Sequence[Any]) -> bool:
    cells = [cell for cell in column if label_of(cell) is not None]
    return bool(cells) and all(_result(cell, "active") is not None for cell in cells)


def _usable(found: Sequence[Measurement], target: Target, least: int, what: str) -> set[str]:
    """The assays with enough results, of which there is one at least."""
    outcomes = Counter((one.assay, 0 if target == "value" else int(one.y)) for one in found)
    fewest = {
        name: min(outcomes[name, own] for own in ((0,) if target == "value" else (0, 1)))
        for name in dict.fromkeys(one.assay for one in found)
    }
    kept = {name for name, count in fewest.items() if count >= least}
    if not kept:
        kind = "values" if target == "value" else "molecules of either outcome"
        raise DataError(f"{what}: no assay has {least} {kind}, the best has {max(fewest.values(), default=0)}")
    return kept
