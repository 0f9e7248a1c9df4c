"""Molecules and what was measured of them: Tox21, SIDER, FS-Mol.

Sources: Tox21 and SIDER as MoleculeNet has them (Wu et al. 2018, arXiv:1703.00564), their few-shot tasks as Altae-Tran
et al. 2017, arXiv:1611.03199; FS-Mol, Stanley et al. 2021 (NeurIPS datasets and benchmarks).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import unknown_name
from ..molecules import Features, molecule_features, molecule_shape
from ..progress import progress
from .assays import AssayPool, AssayProtocol
from .cache import cached_pool
from .pool import ClassPool
from .raw import RawFile, adder, raw_files

__all__ = ["add_fsmol", "add_sider", "add_tox21", "fsmol", "sider", "tox21"]

TOX21 = RawFile(
    "tox21.csv.gz",
    "ade7b50c096de117f7c1a52b267224bf2603e730cd3d0bf12289731d000a6894",
    "https://raw.githubusercontent.com/oxpig/topological-pretraining/1cfa5f705be7bb73c4115cca9db8ded160d09c54/data/"
    "tox21.csv.gz",
)
SIDER = RawFile("sider.csv", "71efc6ac4ca82d6545bc512509863281be0f17234afd7adaf71a71899988302e")
FSMOL = {
    "train": RawFile("fsmol_train.tsv", "00a272aa748c3209f39fa42ed2837f9bea80517f9b4c50bacc69d691e1814d10"),
    "val": RawFile("fsmol_valid.tsv", "d7287a7d320525d4e112117ea9b98065156391d51ee379fe124a4b99aaba7785"),
    "test": RawFile("fsmol_test.tsv", "2e53a21b0efad21ee25410cfb3473b08b291c55a20127fd32d16b462a66f502f"),
}
LEAST = 32
"""Exact values that an assay of FS-Mol needs to become a regression task."""

add_tox21 = adder("tox21", [TOX21])
add_sider = adder("sider", [SIDER])
add_fsmol = adder("fsmol", list(FSMOL.values()))


class Measurement(NamedTuple):
    """A molecule in an assay."""

    assay: str
    smiles: str
    y: float


def tox21(*, features: Features = "morgan", atoms: int = 64) -> AssayPool:
    """Tox21: 12 assays of toxicity, 7,831 molecules; measured by ROC-AUC.

    Splits as published: the last 3 assays are test. The first 9 are train (7) and val (2); "train+val" are the
    published 9.

    Args:
        features: what becomes of a molecule, see `molecule_features`.
        atoms: of a graph.

    Raises:
        DownloadError: no network; the file can be added.
        DataError: the file is not what was published.
        MissingExtraError: the extra `molecules` is not installed.
    """
    path = raw_files("tox21", [TOX21], "tox21")[TOX21.name]
    rows = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
    assays = list(rows[0])[:-3]  # the last are mol_id, SMILES and rdkit_pass
    return _outcomes("Tox21", rows, "SMILES", assays, (2, 3), features, atoms)


def sider(*, features: Features = "morgan", atoms: int = 64) -> AssayPool:
    """SIDER: 27 kinds of side effects of 1,427 drugs; measured by ROC-AUC.

    Splits as published: the last 6 are test. The first 21 are train (18) and val (3). Arguments as `tox21`.

    Raises:
        DataError, MissingExtraError: as `tox21`, or the file is not on this machine.
    """
    path = raw_files("sider", [SIDER], "sider")[SIDER.name]
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    return _outcomes("SIDER", rows, "smiles", list(rows[0])[1:], (3, 6), features, atoms)


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
    for split in splits:
        if split not in FSMOL:
            raise unknown_name("split of FS-Mol", split, FSMOL)
    paths = raw_files("fsmol", [FSMOL[split] for split in splits], "fsmol")
    found: list[Measurement] = []
    members: dict[str, list[str]] = {}
    for split in splits:
        part = list(_fsmol_rows(paths[FSMOL[split].name], target))
        found += part
        members[split] = list(dict.fromkeys(one.assay for one in part))
    protocol = (
        AssayProtocol("mse", "any", "assays")
        if target == "value"
        else AssayProtocol("delta_auprc", "stratified", "assays")
    )
    return _pool("FS-Mol", found, members, protocol, features, atoms)


def _fsmol_rows(path: Path, target: str) -> Iterable[Measurement]:
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


def _outcomes(
    title: str,
    rows: Sequence[dict[str, str]],
    column: str,
    assays: Sequence[str],
    last: tuple[int, int],
    features: Features,
    atoms: int,
) -> AssayPool:
    """The assays in the columns of a table; `last` are how many are val and how many, after these, test."""
    found = [Measurement(assay, row[column], int(float(row[assay]))) for assay in assays for row in rows if row[assay]]
    first, second = len(assays) - sum(last), len(assays) - last[1]
    members = {"train": assays[:first], "val": assays[first:second], "test": assays[second:]}
    return _pool(title, found, members, AssayProtocol("auc", "balanced", "supports"), features, atoms)


def _pool(
    title: str,
    found: Sequence[Measurement],
    members: dict[str, Sequence[str]] | dict[str, list[str]],
    protocol: AssayProtocol,
    features: Features,
    atoms: int,
) -> AssayPool:
    names = list(dict.fromkeys(one.assay for one in found))
    number = {name: index for index, name in enumerate(names)}
    order = sorted(found, key=lambda one: number[one.assay])  # stable
    smiles = list(dict.fromkeys(one.smiles for one in order))
    row = {one: index for index, one in enumerate(smiles)}
    y = torch.tensor([one.y for one in order], dtype=torch.float32 if protocol.metric == "mse" else torch.int64)
    return AssayPool(
        _features(title, smiles, features, atoms),
        torch.tensor([row[one.smiles] for one in order]),
        y,
        torch.bincount(torch.tensor([number[one.assay] for one in order])),
        tuple(names),
        {split: tuple(number[name] for name in own) for split, own in members.items()},
        protocol,
    )


def _features(title: str, smiles: Sequence[str], features: Features, atoms: int) -> Tensor:
    """Made once, and found again by the hash of the SMILES."""
    digest = hashlib.sha256(json.dumps([1, features, molecule_shape(features, atoms), list(smiles)]).encode())

    def make() -> ClassPool:
        with progress(f"reading {title}", len(smiles)) as advance:
            found = molecule_features(smiles, features, atoms=atoms, any_valence=True, advance=advance)
        return ClassPool.grouped(torch.from_numpy(found), [len(found)], ["molecules"])

    name = f"molecules-{digest.hexdigest()[:16]}"
    return cached_pool(name, {"sha256": digest.hexdigest(), "features": features}, make).examples
