"""Molecules and what was measured of them: Tox21, SIDER.

Sources: MoleculeNet (Wu et al. 2018, arXiv:1703.00564); the few-shot tasks as Altae-Tran et al. 2017, arXiv:1611.03199.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..molecules import Features, molecule_features, molecule_shape
from ..progress import progress
from .assays import AssayPool, AssayProtocol
from .cache import cached_pool
from .pool import ClassPool
from .raw import RawFile, adder, raw_files

__all__ = ["Measurement", "add_sider", "add_tox21", "features_of", "pool_of", "sider", "tox21"]

TOX21 = RawFile(
    "tox21.csv.gz",
    "ade7b50c096de117f7c1a52b267224bf2603e730cd3d0bf12289731d000a6894",
    "https://raw.githubusercontent.com/oxpig/topological-pretraining/1cfa5f705be7bb73c4115cca9db8ded160d09c54/data/"
    "tox21.csv.gz",
)
SIDER = RawFile("sider.csv", "71efc6ac4ca82d6545bc512509863281be0f17234afd7adaf71a71899988302e")
add_tox21 = adder("tox21", [TOX21])
add_sider = adder("sider", [SIDER])


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
    read = partial(features_of, title=title, features=features, atoms=atoms)
    return pool_of(found, members, AssayProtocol("auc", "balanced", "supports"), read)


def pool_of(
    found: Sequence[Measurement],
    members: Mapping[str, Sequence[str]],
    protocol: AssayProtocol,
    read: Callable[[Sequence[str]], Tensor],
) -> AssayPool:
    """A pool of these measurements, and of what becomes of their molecules, each read once.

    Args:
        found: every measurement; those of an assay keep their order.
        members: the assays of each split.
        protocol: how tasks are made and judged.
        read: from SMILES to their features, as `features_of`.
    """
    names = list(dict.fromkeys(one.assay for one in found))
    number = {name: index for index, name in enumerate(names)}
    order = sorted(found, key=lambda one: number[one.assay])  # stable
    smiles = list(dict.fromkeys(one.smiles for one in order))
    row = {one: index for index, one in enumerate(smiles)}
    y = torch.tensor([one.y for one in order], dtype=torch.float32 if protocol.metric == "mse" else torch.int64)
    return AssayPool(
        read(smiles),
        torch.tensor([row[one.smiles] for one in order]),
        y,
        torch.bincount(torch.tensor([number[one.assay] for one in order])),
        tuple(names),
        {split: tuple(number[name] for name in own) for split, own in members.items()},
        protocol,
    )


def features_of(
    smiles: Sequence[str], *, title: str, features: Features, atoms: int, places: Sequence[str] | None = None
) -> Tensor:
    """[M, *shape] uint8 of molecules, made once, and found again by the hash of the SMILES.

    Args:
        smiles: M of them.
        title: what they are called while they are read.
        features, atoms: as `molecule_features`.
        places: where each of a user's own stands; of published ones, whose atoms may have any valence, None.

    Raises:
        DataError: a SMILES that is none.
        MissingExtraError: the extra `molecules` is not installed.
    """
    version = 2 if any("[H]" in one for one in smiles) else 1  # 1 took such hydrogens for atoms
    about = [version, features, molecule_shape(features, atoms), list(smiles), *(["own"] if places else [])]
    digest = hashlib.sha256(json.dumps(about).encode())

    def make() -> ClassPool:
        with progress(f"reading {title}", len(smiles)) as advance:
            found = molecule_features(
                smiles, features, atoms=atoms, places=places, any_valence=not places, advance=advance
            )
        return ClassPool.grouped(torch.from_numpy(found), [len(found)], ["molecules"])

    name = f"molecules-{digest.hexdigest()[:16]}"
    return cached_pool(name, {"sha256": digest.hexdigest(), "features": features}, make).examples
