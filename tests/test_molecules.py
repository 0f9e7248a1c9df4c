from __future__ import annotations

import sys

import numpy as np
import pytest

from handful.errors import DataError, MissingExtraError, ShapeError, UnknownNameError
from handful.molecules import COLUMNS, NEIGHBORS, canonical_smiles, molecule_features, molecule_shape

pytest.importorskip("rdkit")


def test_fingerprints() -> None:
    smiles = ["CCO", "OCC", "c1ccccc1", "CCCCCCCC"]
    for features, most in (("morgan", 1), ("counts", 8), ("maccs", 1)):
        x = molecule_features(smiles, features)  # type: ignore[arg-type]
        assert (x.dtype, tuple(x.shape[1:])) == (np.uint8, molecule_shape(features))  # type: ignore[arg-type]
        assert np.array_equal(x[0], x[1]), "one molecule, written twice"
        assert not np.array_equal(x[0], x[2])
        assert x.max() == most or (features == "counts" and x.max() > 1)
    bits, counts = molecule_features(smiles), molecule_features(smiles, "counts")
    assert np.array_equal(bits > 0, counts > 0)


def test_a_graph_by_hand() -> None:
    (x,) = molecule_features(["C[N+](=O)[O-]"], "graph", atoms=5)
    carbon, nitrogen, oxygen, minus, nothing = x.tolist()
    first = len(COLUMNS)
    assert carbon[:first] == [6, 1, 4, 3, 0, 0]
    assert nitrogen[:first] == [7, 3, 5, 0, 0, 0]
    assert minus[:first] == [8, 1, 3, 0, 0, 0]
    assert (carbon[first : first + 2], carbon[first + NEIGHBORS]) == ([2, 0], 1)
    assert nitrogen[first : first + 4] == [1, 3, 4, 0]
    assert nitrogen[first + NEIGHBORS :][:4] == [1, 2, 1, 0]
    assert oxygen[first + NEIGHBORS] == 2
    assert nothing == [0] * 18
    benzene = molecule_features(["c1ccccc1"], "graph")[0]
    assert benzene[0, : first + NEIGHBORS + 2].tolist() == [6, 2, 4, 1, 1, 1, 2, 6, 0, 0, 0, 0, 4, 4]


def test_a_larger_molecule_keeps_its_first_atoms() -> None:
    x = molecule_features(["CCCCCC"], "graph", atoms=3)[0]
    assert x[:, 0].tolist() == [6, 6, 6]
    assert int(x[:, len(COLUMNS) : len(COLUMNS) + NEIGHBORS].max()) == 3


def test_one_smiles_for_each_molecule() -> None:
    assert canonical_smiles(["OCC", "C(O)C", "c1ccccc1C"]) == ["CCO", "CCO", "Cc1ccccc1"]


WRITTEN_OUT = [
    "[H]C([H])([H])C",
    "[H][C@@]12CCC3=CC(=O)CC[C@]3(C)[C@@]1([H])CC[C@]1(C)[C@@H](O)CC[C@@]21[H]",  # testosterone, as DrugBank has it
    "[H]n1cccc1",
    "[H]/C(C)=C([H])/C",
    "C/C([H])=N/[H]",
    "[H][N+]([H])([H])C",
    "[H]c1ccccc1",
    "[H]O[H]",
    "[H][H]",
    "[H+].[Cl-]",
    "[2H]C([2H])([2H])O",
]


@pytest.mark.parametrize("smiles", WRITTEN_OUT)
def test_hydrogens_written_out_are_those_that_are_not(smiles: str) -> None:
    from rdkit import Chem

    plain = Chem.MolToSmiles(Chem.MolFromSmiles(smiles))
    assert canonical_smiles([smiles]) == [plain]
    for features in ("morgan", "counts", "maccs", "graph"):
        for any_valence in (False, True):
            found, expected = molecule_features([smiles, plain], features, any_valence=any_valence)  # type: ignore[arg-type]
            if features == "graph":  # the order of atoms may differ
                found, expected = (np.array(sorted(x[:, : len(COLUMNS)].tolist())) for x in (found, expected))
            assert np.array_equal(found, expected), features


@pytest.mark.parametrize("smiles", ["hello", "C1CC", "", "  ", "C" * 30_000, "\ud800"])
def test_what_is_no_smiles_is_named(smiles: str) -> None:
    with pytest.raises(DataError, match=r"mine\.csv:7: expected a molecule as SMILES"):
        molecule_features(["C", smiles], places=["mine.csv:6", "mine.csv:7"])


def test_what_is_no_possible_molecule_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"molecule 2: SMILES 'C\(C\)\(C\)\(C\)\(C\)C' is not a possible molecule"):
        molecule_features(["C", "C(C)(C)(C)(C)C"])
    assert capfd.readouterr().err == ""
    for features in ("morgan", "maccs", "graph"):
        assert molecule_features(["C[PH](=O)(=O)O"], features, any_valence=True).any()  # type: ignore[arg-type]


def test_what_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="counts, graph, maccs, morgan"):
        molecule_features(["C"], "ecfp")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="1 to 254 atoms"):
        molecule_features(["C"], "graph", atoms=300)
    monkeypatch.setattr(sys.modules["handful.molecules"], "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'handful\[molecules\]'"):
        molecule_features(["C"])
