"""FS-Mol: assays of ChEMBL, from single tables or from its authors' release of a file for each assay.

Source: Stanley et al. 2021 (NeurIPS datasets and benchmarks).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from ..errors import DataError, unknown_name
from ..files import storage_errors, write_file
from ..molecules import Features
from ..progress import progress
from .archives import Member, members
from .assays import AssayPool, AssayProtocol
from .cache import data_folder
from .molecules import Measurement, features_of, pool_of
from .raw import RawFile, add_raw, raw_files

__all__ = ["add_fsmol", "fsmol"]

TABLES = {
    "train": RawFile("fsmol_train.tsv", "00a272aa748c3209f39fa42ed2837f9bea80517f9b4c50bacc69d691e1814d10"),
    "val": RawFile("fsmol_valid.tsv", "d7287a7d320525d4e112117ea9b98065156391d51ee379fe124a4b99aaba7785"),
    "test": RawFile("fsmol_test.tsv", "2e53a21b0efad21ee25410cfb3473b08b291c55a20127fd32d16b462a66f502f"),
}
COLUMNS = ("assay", "smiles", "label", "log_value", "relation", "assay_type")
RELEASE = re.compile(r"(^|/)(?P<split>train|valid|test)/(?P<assay>[^/]+)\.jsonl\.gz$")
"""Where the release keeps an assay: a line for each molecule."""
FIELDS = ("SMILES", "Property", "LogRegressionProperty", "Relation", "AssayType")
ASSAYS = {"train": 4935, "val": 39, "test": 157}
"""How many a split has at least, so that half a release is noticed."""
LARGEST = 1 << 28  # bytes of an assay's file
LEAST = 32
"""Exact values that an assay needs to become a regression task."""


def fsmol(
    *,
    target: Literal["active", "value"] = "active",
    features: Features = "morgan",
    atoms: int = 64,
    splits: Sequence[Literal["train", "val", "test"]] = ("train", "val", "test"),
) -> AssayPool:
    """FS-Mol: 4,935, 39 and 157 assays of ChEMBL for train, val and test; measured by ΔAUPRC, or mean squared error.

    Args:
        target: "active", or the "value" that was measured, −log₁₀ of a concentration: a regression. Then only exact
            values count, and assays with at least 32 of them.
        features, atoms: as `tox21`.
        splits: those that are needed; train has nine tenths of the molecules.

    Raises:
        DataError, MissingExtraError: as `sider`.
        UnknownNameError: no such target or split.
    """
    if target not in ("active", "value"):
        raise unknown_name("target of FS-Mol", target, ("active", "value"))
    for name in splits:
        if name not in TABLES:
            raise unknown_name("split of FS-Mol", name, TABLES)
    found: list[Measurement] = []
    assays: dict[str, list[str]] = {}
    for split, path in _tables(splits).items():
        part = list(_measurements(path, target))
        found += part
        assays[split] = list(dict.fromkeys(one.assay for one in part))
    protocol = (
        AssayProtocol("mse", "any", "assays")
        if target == "value"
        else AssayProtocol("delta_auprc", "stratified", "assays")
    )
    read = partial(features_of, title="FS-Mol", features=features, atoms=atoms)
    return pool_of(found, assays, protocol, read)


def add_fsmol(source: Path) -> Path:
    """Keep FS-Mol from what is at hand: the single tables, known by their content, or the authors' release.

    Where a split was added as both, `fsmol` reads the release.

    Args:
        source: a table or a folder of them; or the release, `fsmol.tar` or the folder it was unpacked to, in which
            `train`, `valid` and `test` hold a `.jsonl.gz` for each assay. Splits may be missing, not assays.

    Raises:
        DataError: neither; a damaged file, one that lacks a field, or fewer assays than a split has.
        StorageError: full disk, no permission.
    """
    if not source.is_dir() and not re.search(r"\.(tar(\.\w+)?|tgz|zip)$", source.name):
        return add_raw("fsmol", source, list(TABLES.values()))
    rows: dict[str, list[str]] = {}
    assays: dict[str, set[str]] = {}
    with progress("reading FS-Mol", sum(ASSAYS.values())) as advance:
        for member in members(source, RELEASE, largest=LARGEST):
            place = RELEASE.search(member.name)
            assert place is not None
            split = {"valid": "val"}.get(place["split"], place["split"])
            rows.setdefault(split, []).extend(_rows(member, place["assay"]))
            assays.setdefault(split, set()).add(place["assay"])
            advance(1)
    if not rows:
        return add_raw("fsmol", source, list(TABLES.values()))
    for split, names in assays.items():
        if len(names) < ASSAYS[split]:
            raise DataError(
                f"{source}: expected at least {ASSAYS[split]} assays of {split}, found {len(names)}; "
                "get the whole release, or leave the split out"
            )
    folder = data_folder() / "fsmol"
    for split, lines in rows.items():
        content = "\n".join(["\t".join(COLUMNS), *lines]).encode()
        write_file(folder / f"release_{split}.tsv", content)
        write_file(folder / f"release_{split}.sha256", hashlib.sha256(content).hexdigest())
    return folder


def _tables(splits: Sequence[str]) -> dict[str, Path]:
    """The table of each split: from the release if that was added, else the published one."""
    folder = data_folder() / "fsmol"
    found = {split: folder / f"release_{split}.tsv" for split in splits}
    for split, path in found.items():
        digest = path.with_suffix(".sha256")
        if not digest.is_file():
            file = TABLES[split]
            found[split] = raw_files("fsmol", [file], "fsmol")[file.name]
            continue
        with storage_errors(path, "read"):
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest.read_text():
                raise DataError(f"{path}: broken; run `handful data add fsmol --from PATH` again")
    return found


def _rows(member: Member, assay: str) -> Iterator[str]:
    """The lines of the table for an assay of the release."""
    try:
        with gzip.open(io.BytesIO(member.content), "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    molecule = json.loads(line)
                    smiles, label, value, *others = (molecule[field] for field in FIELDS)
                    exact = "" if value is None or not math.isfinite(float(value)) else str(value)
                    yield "\t".join(map(str, (assay, smiles, int(float(label)), exact, *others)))
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(
                        f"{member.place}, line {number}: expected a molecule with {', '.join(FIELDS)} ({error!r})"
                    ) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{member.place}: cut short or damaged ({error}); get it again") from error


def _measurements(path: Path, target: str) -> Iterable[Measurement]:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    if target == "active":
        return (Measurement(assay, smiles, int(label)) for assay, smiles, label, *_ in rows)
    exact = [
        Measurement(assay, smiles, float(value))
        for assay, smiles, _, value, relation, _ in rows
        if relation == "=" and value
    ]
    number: dict[str, int] = {}
    for one in exact:
        number[one.assay] = number.get(one.assay, 0) + 1
    return (one for one in exact if number[one.assay] >= LEAST)
