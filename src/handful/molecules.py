"""Molecules from SMILES to numbers by RDKit, of the extra `molecules`: fingerprints, or graphs for `message_passing`.

Morgan fingerprints: Rogers & Hahn 2010, doi:10.1021/ci100050t (radius 2: ECFP4). MACCS keys: Durant, Leland, Henry &
Nourse 2002, doi:10.1021/ci010132r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import DataError, MissingExtraError, ShapeError, unknown_name

__all__ = ["COLUMNS", "NEIGHBORS", "Features", "canonical_smiles", "molecule_features", "molecule_shape"]

Features = Literal["morgan", "counts", "maccs", "graph"]
"""What becomes of a molecule: [2048] bits or counts of circular substructures, [167] MACCS keys, or [atoms, 18]."""

BITS, RADIUS, KEYS = 2048, 2, 167
COLUMNS = (119, 7, 9, 5, 2, 2)
"""Of an atom: how many values element, degree, charge (+ 4), hydrogens, aromatic and in a ring may have."""
NEIGHBORS = 6
"""Neighbors of an atom that are kept: their numbers from 1 on, 0 for none; and after them as many kinds of bonds."""
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
MOST_ATOMS = 254
LONGEST = 20_000


def molecule_shape(features: Features, atoms: int = 64) -> tuple[int, ...]:
    """The shape of a molecule's features.

    Raises:
        UnknownNameError: no such features.
        ShapeError: a graph of less than one atom, or more than a byte can number.
    """
    if features not in get_args(Features):
        raise unknown_name("features of molecules", features, get_args(Features))
    if not 1 <= atoms <= MOST_ATOMS:
        raise ShapeError(f"molecules: expected 1 to {MOST_ATOMS} atoms, got {atoms}")
    sizes = {"morgan": (BITS,), "counts": (BITS,), "maccs": (KEYS,), "graph": (atoms, len(COLUMNS) + 2 * NEIGHBORS)}
    return sizes[features]


def molecule_features(
    smiles: Sequence[str],
    features: Features = "morgan",
    *,
    atoms: int = 64,
    places: Sequence[str] | None = None,
    any_valence: bool = False,
    advance: Callable[[float], object] = lambda _: None,
) -> NDArray[np.uint8]:
    """The features of each molecule: [M, *shape] of small whole numbers, uint8.

    Args:
        smiles: M of them.
        features: "morgan" (which of 2048 hashed substructures up to two bonds around an atom there are), "counts" (how
            many of each, up to 255), "maccs" (which of 166 keys), or "graph" (atoms, their neighbors and bonds).
        atoms: of a graph; a larger molecule keeps its first ones.
        places: where each stands, as errors say it.
        any_valence: let atoms have more bonds than RDKit allows, as older versions of it did.
        advance: told how many molecules were done, now and then.

    Raises:
        MissingExtraError: the extra `molecules` is not installed.
        DataError: a SMILES that RDKit cannot read; names its place.
    """
    shape = molecule_shape(features, atoms)
    found = np.zeros((len(smiles), *shape), np.uint8)
    numbers = _numbers(features)
    for row, molecule in enumerate(_molecules(smiles, places, any_valence)):
        numbers(molecule, found[row])
        if row % 256 == 255:
            advance(256)
    return found


def canonical_smiles(smiles: Sequence[str], places: Sequence[str] | None = None) -> list[str]:
    """The one SMILES that RDKit writes for each molecule, however it was written; raises as `molecule_features`."""
    molecules = _molecules(smiles, places, any_valence=False)
    from rdkit import Chem

    return [str(Chem.MolToSmiles(molecule)) for molecule in molecules]


def _molecules(smiles: Sequence[str], places: Sequence[str] | None, any_valence: bool) -> Iterator[Any]:
    if find_spec("rdkit") is None:
        raise MissingExtraError("molecules need rdkit: pip install 'handful[molecules]'")
    return (
        _molecule(one, f"molecule {row + 1}" if places is None else places[row], any_valence)
        for row, one in enumerate(smiles)
    )


def _molecule(smiles: str, place: str, any_valence: bool) -> Any:
    from rdkit import Chem, rdBase

    if isinstance(smiles, str):
        smiles = smiles.encode("utf-8", "replace").decode()  # RDKit takes no half characters
    with rdBase.BlockLogs():
        molecule = None
        if isinstance(smiles, str) and smiles.strip() and len(smiles) <= LONGEST:
            molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is None or not molecule.GetNumAtoms():
            raise DataError(
                f"{place}: expected a molecule as SMILES, such as CC(=O)O, got {str(smiles)[:60]!r}; mend or remove it"
            )
        try:
            if any_valence:
                Chem.SanitizeMol(molecule, Chem.SANITIZE_ALL ^ Chem.SANITIZE_PROPERTIES)
                molecule.UpdatePropertyCache(strict=False)
            else:
                Chem.SanitizeMol(molecule)
            molecule = Chem.RemoveHs(molecule, updateExplicitCount=True, sanitize=False)  # [H]O[H] is O
        except ValueError as error:  # all of RDKit's errors of chemistry
            raise DataError(
                f"{place}: SMILES {smiles[:60]!r} is not a possible molecule ({str(error).splitlines()[0]}); "
                "mend or remove it"
            ) from None
        Chem.AssignStereochemistry(molecule, cleanIt=True)
    return molecule


def _numbers(features: Features) -> Callable[[Any, NDArray[np.uint8]], None]:
    """What writes the features of a molecule into a row of zeros."""
    if features == "graph":
        return _graph
    if features == "maccs":
        return _maccs
    return _counts if features == "counts" else _bits


def _maccs(molecule: Any, row: NDArray[np.uint8]) -> None:
    from rdkit.Chem.rdMolDescriptors import GetMACCSKeysFingerprint

    row[list(GetMACCSKeysFingerprint(molecule).GetOnBits())] = 1


def _bits(molecule: Any, row: NDArray[np.uint8]) -> None:
    row[:] = _morgan().GetFingerprintAsNumPy(molecule)


def _counts(molecule: Any, row: NDArray[np.uint8]) -> None:
    row[:] = np.minimum(_morgan().GetCountFingerprintAsNumPy(molecule), 255)


@cache
def _morgan() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def _graph(molecule: Any, row: NDArray[np.uint8]) -> None:
    first = len(COLUMNS)
    for number, atom in enumerate(molecule.GetAtoms()):
        if number == len(row):
            return
        about = (
            atom.GetAtomicNum() or COLUMNS[0] - 1,  # a wildcard
            atom.GetDegree(),
            atom.GetFormalCharge() + 4,
            atom.GetTotalNumHs(),
            atom.GetIsAromatic(),
            atom.IsInRing(),
        )
        row[number, :first] = [min(max(value, 0), most - 1) for value, most in zip(about, COLUMNS, strict=True)]
        bonds = [(bond.GetOtherAtomIdx(number), str(bond.GetBondType())) for bond in atom.GetBonds()]
        kept = [(other, kind) for other, kind in bonds if other < len(row)][:NEIGHBORS]
        for slot, (other, kind) in enumerate(kept, first):
            row[number, slot] = other + 1
            row[number, slot + NEIGHBORS] = 1 + (BONDS.index(kind) if kind in BONDS else len(BONDS))
