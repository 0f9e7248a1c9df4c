from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from handful.data import fsmol, sider, tox21
from handful.data.fsmol import add_fsmol
from handful.data.molecules import add_sider, add_tox21
from handful.data.raw import RawFile, add_raw
from handful.errors import DataError, DownloadError, UnknownNameError

pytest.importorskip("rdkit")
MOLECULES = sys.modules["handful.data.molecules"]
FSMOL = sys.modules["handful.data.fsmol"]
SMILES = ["CCO", "CCN", "c1ccccc1", "CC(=O)O", "C[PH](=O)(=O)O", "CCCC"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no network."""
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)
    return tmp_path / "home"


def stand_in(name: str, content: bytes) -> RawFile:
    return RawFile(name, hashlib.sha256(content).hexdigest())


def added(tmp_path: Path, place: str, files: dict[str, bytes]) -> list[RawFile]:
    """What `data add` does with made-up files; what stands for the published ones."""
    source = tmp_path / f"source-{place}"
    source.mkdir()
    for index, content in enumerate(files.values()):
        (source / f"some{index}{'.gz' if content[:2] == gzip.compress(b'')[:2] else ''}").write_bytes(content)
    published = [stand_in(name, content) for name, content in files.items()]
    add_raw(place, source, published)
    return published


def test_tox21(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assays = [f"A{number}" for number in range(12)]
    lines = [",".join([*assays, "mol_id", "SMILES", "rdkit_pass"])]
    lines += [
        ",".join(
            ["" if (row, number) == (0, 0) else f"{(row + number) % 2}.0" for number in range(12)] + ["T", one, "True"]
        )
        for row, one in enumerate(SMILES)
    ]
    (file,) = added(tmp_path, "tox21", {"tox21.csv.gz": gzip.compress("\n".join(lines).encode())})
    monkeypatch.setattr(MOLECULES, "TOX21", file)
    pool = tox21()
    assert {split: len(members) for split, members in pool.splits.items()} == {"train": 7, "val": 2, "test": 3}
    assert pool.split("test").names == ("A9", "A10", "A11")
    assert pool.counts.tolist() == [5] + [6] * 11, "what was not measured is no result"
    assert pool.y[5:11].tolist() == [1, 0, 1, 0, 1, 0]
    assert (pool.shape, pool.protocol.metric, pool.protocol.support) == ((2048,), "auc", "balanced")
    assert pool.rows[5:11].tolist() == [5, 0, 1, 2, 3, 4], "one row for each molecule"
    assert torch.equal(pool.examples, tox21().examples)
    assert tox21(features="maccs").shape == (167,)
    assert tox21(features="graph", atoms=9).shape == (9, 18)


def test_sider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [f"kind {number}" for number in range(26)] + ["last, of all"]
    lines = ["smiles," + ",".join(f'"{kind}"' for kind in kinds)]
    lines += [f"{one}," + ",".join(str((row + number) % 2) for number in range(27)) for row, one in enumerate(SMILES)]
    (file,) = added(tmp_path, "sider", {"sider.csv": "\n".join(lines).encode()})
    monkeypatch.setattr(MOLECULES, "SIDER", file)
    pool = sider(features="maccs")
    assert {split: len(members) for split, members in pool.splits.items()} == {"train": 18, "val": 3, "test": 6}
    assert pool.split("test").names[-1] == "last, of all"


def test_fsmol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "assay\tsmiles\tlabel\tlog_value\trelation\tassay_type"
    chains = ["C" * (length + 1) for length in range(33)]

    def table(*assays: str) -> bytes:
        rows = [f"{assay}\t{one}\t{row % 2}\t{row / 4}\t=\tB" for assay in assays for row, one in enumerate(chains)]
        rows += [f"{assays[0]}\tCO\t1\t\t=\tB", f"{assays[0]}\tCN\t0\t3.0\t>\tB", f"few{assays[0]}\tCN\t0\t3.0\t=\tB"]
        return "\n".join([header, *rows]).encode()

    contents = {"fsmol_train.tsv": table("T1", "T2"), "fsmol_valid.tsv": table("V"), "fsmol_test.tsv": table("E")}
    files = added(tmp_path, "fsmol", contents)
    monkeypatch.setattr(FSMOL, "TABLES", dict(zip(("train", "val", "test"), files, strict=True)))
    pool = fsmol(features="maccs")
    assert pool.split("train").names == ("T1", "T2", "fewT1")
    assert pool.split("val").counts.tolist() == [35, 1]
    assert pool.protocol == ("delta_auprc", "stratified", "assays")
    values = fsmol(features="maccs", target="value", splits=["test"])
    assert (values.names, values.counts.tolist(), values.protocol.metric) == (("E",), [33], "mse")
    assert values.y[:3].tolist() == [0, 0.25, 0.5]
    with pytest.raises(UnknownNameError, match="active, value"):
        fsmol(target="log")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="test, train, val"):
        fsmol(splits=["valid"])  # type: ignore[list-item]


def molecule(smiles: str, row: int, **changes: object) -> dict[str, object]:
    """A line of the authors' release."""
    made = {"SMILES": smiles, "Property": f"{row % 2}.0", "Assay_ID": "A", "RegressionProperty": 10.0}
    made |= {"LogRegressionProperty": row / 4, "Relation": "=", "AssayType": "B", "fingerprints": [0, 1]}
    return made | changes


def release(folder: Path, **changes: object) -> Path:
    """A small release, unpacked: two assays of train, one of valid, one of test."""
    chains = ["C" * (length + 1) for length in range(33)]
    for split, assay in (("train", "T2"), ("train", "T1"), ("valid", "V"), ("test", "E")):
        lines = [molecule(one, row) for row, one in enumerate(chains)]
        lines += [molecule("CO", 1, LogRegressionProperty=None), molecule("CN", 0, **changes)]
        path = folder / "fs-mol" / split / f"{assay}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return folder / "fs-mol"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits of that size."""
    monkeypatch.setattr(FSMOL, "ASSAYS", {"train": 2, "val": 1, "test": 1})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [False, True])
def test_fsmol_as_its_authors_release_it(tmp_path: Path, packed: bool) -> None:
    source = release(tmp_path / "source", Relation=">")
    if packed:
        with tarfile.open(tmp_path / "fsmol.tar", "w") as tar:
            tar.add(source, "fs-mol")
        source = tmp_path / "fsmol.tar"
    folder = add_fsmol(source)
    pool = fsmol(features="maccs")
    assert pool.split("train").names == ("T1", "T2")
    assert pool.split("val").counts.tolist() == [35]
    values = fsmol(features="maccs", target="value", splits=["test"])
    assert (values.names, values.counts.tolist()) == (("E",), [33])
    assert values.y[:3].tolist() == [0, 0.25, 0.5]
    table = folder / "release_test.tsv"
    table.write_text(table.read_text().replace("CO", "CS"))
    with pytest.raises(DataError, match=r"release_test\.tsv: broken; run `handful data add fsmol"):
        fsmol(features="maccs", splits=["test"])


@pytest.mark.usefixtures("small")
def test_a_release_that_is_damaged_or_not_whole(tmp_path: Path, home: Path) -> None:
    with pytest.raises(DataError, match=r"E\.jsonl\.gz, line 35: expected a molecule with SMILES, Property.*'high'"):
        add_fsmol(release(tmp_path / "odd", Property="high"))
    source = release(tmp_path / "half")
    (source / "train" / "T1.jsonl.gz").unlink()
    with pytest.raises(DataError, match="expected at least 2 assays of train, found 1"):
        add_fsmol(source)
    whole = (source / "valid" / "V.jsonl.gz").read_bytes()
    (source / "valid" / "V.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"V\.jsonl\.gz: cut short or damaged"):
        add_fsmol(source)
    assert not (home / "fsmol").exists(), "nothing is kept of what is refused"


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"sider\.csv is not on this machine.*handful data add sider --from PATH"):
        sider()
    monkeypatch.setattr(MOLECULES, "TOX21", MOLECULES.TOX21._replace(url="http://127.0.0.1:9/tox21.csv.gz"))
    with pytest.raises(DownloadError, match="handful data add tox21"):
        tox21()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "sider.csv").write_text("smiles,a\nC,1\n")
    for function in (add_tox21, add_sider, add_fsmol):
        with pytest.raises(DataError, match="found none with their content"):
            function(tmp_path / "source")
