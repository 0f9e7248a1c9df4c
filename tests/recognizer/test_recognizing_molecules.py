from __future__ import annotations

import sys
from pathlib import Path

import pytest

from handful.checkpoint import save_checkpoint
from handful.errors import DataError, MissingExtraError
from handful.recognizer import open_recognizer, teach
from handful.recognizer.inputs import kind_of
from handful.spec import Spec, build

pytest.importorskip("rdkit")

ACIDS = ["CC(=O)O", "CCC(=O)O", "CCCC(=O)O", "CC(C)C(=O)O", "OC(=O)c1ccccc1"]
AMINES = ["CN", "CCN", "CCCN", "CC(C)N", "NCc1ccccc1"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"{one},acid" for one in ACIDS] + [f"{one},amine" for one in AMINES]
    path = tmp_path / "molecules.csv"
    path.write_text("\n".join(["SMILES,Class", *rows]))
    return path


def test_a_table_of_molecules(table: Path, tmp_path: Path) -> None:
    with teach(table, tmp_path / "mine") as made:
        assert made.collection.settings["kind"] == "molecules"
        answer = made.recognize("OC(=O)CCCC")
        assert (answer.label, answer.source) == ("acid", "OC(=O)CCCC")
        assert answer.nearest[0].text == "CCCC(=O)O", "the reason is shown as SMILES"
    (tmp_path / "new.csv").write_text("smiles\nCCCCN\nCCCCC(=O)O\n")
    with open_recognizer(tmp_path / "mine") as again:
        assert [one.label for one in again.recognize_many([tmp_path / "new.csv", "CCCCCN"])] == [
            "amine",
            "acid",
            "amine",
        ]
        with pytest.raises(DataError, match=r"is example 2 of acid already"):
            again.add("acid", ["OC(=O)CC"])  # written another way


def test_molecules_in_memory_by_other_keys() -> None:
    made = teach({"acid": ACIDS, "amine": AMINES}, encoder="maccs")
    assert made.collection.encoder.features == 167
    assert made.recognize("CCCCN").label == "amine"


def test_which_tables_are_of_molecules(table: Path, tmp_path: Path) -> None:
    assert kind_of(table) == "molecules"
    both = tmp_path / "both.csv"
    both.write_text("smiles,text,label\nC,methane,gas\n")
    assert kind_of(both) == "texts"
    assert kind_of({"a": ["C"]}) == "texts"
    with pytest.raises(DataError, match="encoder 'ngrams' takes texts, and these are molecules"):
        teach(table, encoder="ngrams")


@pytest.mark.parametrize("smiles", ["C1CC", "C(C)(C)(C)(C)C", "not one"])
def test_a_broken_smiles_is_named_by_its_line(tmp_path: Path, smiles: str) -> None:
    path = tmp_path / "molecules.csv"
    path.write_text(f"smiles,label\nCCO,a\n{smiles},b\n")
    with pytest.raises(DataError, match=r"molecules\.csv:3: .*mend or remove it"):
        teach(path)


def test_half_characters_of_an_argument(table: Path) -> None:
    made = teach(table)
    with pytest.raises(DataError, match=r"asked:0: expected a molecule as SMILES, .* got 'C\?'"):
        made.recognize("C\udce9")
    made.add("a", ["CCCCCCC \udce9"])  # what follows a space is a name
    assert made.collection.preview(made.recognize("CCCCCCC").nearest[0].id) == "CCCCCCC ?"


def test_without_rdkit(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["handful.molecules"], "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"handful\[molecules\]"):
        teach(table)


@pytest.mark.parametrize("features", ["morgan", "graph"])
def test_an_encoder_that_was_trained_on_molecules(table: Path, tmp_path: Path, features: str) -> None:
    graph = {"name": "message_passing", "shape": [12, 18], "width": 8, "layers": 1}
    encoder = graph if features == "graph" else {"name": "mlp", "shape": [2048], "hidden": [16]}
    data = {"name": "tox21", "features": features} | ({"atoms": 12} if features == "graph" else {})
    spec = Spec.of(
        {"learner": {"name": "prototypical"}, "encoder": encoder, "data": data, "train": {"shots": 1, "steps": 1}}
    )
    save_checkpoint(tmp_path / "trained", build(spec), spec, step=0)
    with teach(table, tmp_path / "mine", encoder=str(tmp_path / "trained")) as made:
        assert made.collection.encoder.features == 16
        (molecule,) = [one for one in made.recognize("CCN").nearest if one.text == "CCN"]
        assert molecule.distance == pytest.approx(0, abs=1e-6)
