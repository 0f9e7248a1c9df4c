from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from handful import Episodes
from handful.data import AssayEpisodes, AssayPool, ClassPool, molecules
from handful.data.check import check_data
from handful.errors import DataError, UnknownNameError
from handful.spec import Spec, build, load_data

pytest.importorskip("rdkit")
TAILS = ("O", "N", "F", "Cl", "C#N", "S", "c1ccccc1", "C(=O)O")
SMILES = ["C" * length + tail for length in range(2, 8) for tail in TAILS]
"""48 made-up molecules."""
ASSAYS = {"oxygen": "O", "nitrogen": "N", "halogen": "l", "ring": "c1"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))


def written(path: Path, header: str, rows: list[list[object]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return path


def outcome(smiles: str, assay: str) -> int:
    return int(ASSAYS[assay] in smiles)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """As Tox21's own file: a column an assay, what was not measured empty; the first molecule was measured in none."""
    rows = [
        [*("" if row == 0 else f"{outcome(one, assay)}.0" for assay in ASSAYS), f"M{row}", one, "True"]
        for row, one in enumerate(SMILES)
    ]
    return written(tmp_path / "wide.csv", ",".join([*ASSAYS, "mol_id", "SMILES", "passed"]), rows)


@pytest.fixture
def long(tmp_path: Path) -> Path:
    rows: list[list[object]] = [[assay, one, outcome(one, assay)] for assay in ASSAYS for one in SMILES]
    return written(tmp_path / "long.csv", "Assay,smiles,label", rows)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    rows: list[list[object]] = [[one, TAILS[row % len(TAILS)]] for row, one in enumerate(SMILES)]
    return written(tmp_path / "classes.csv", "smiles,class", rows)


def assays_of(pool: ClassPool | AssayPool) -> AssayPool:
    assert isinstance(pool, AssayPool)
    return pool


def test_a_column_an_assay(wide: Path) -> None:
    pool = assays_of(molecules(path=str(wide)))
    assert pool.names == tuple(ASSAYS)
    assert pool.counts.tolist() == [47] * 4, "what was not measured is no result"
    assert pool.y[:47].tolist() == [outcome(one, "oxygen") for one in SMILES[1:]]
    assert (pool.shape, len(pool.examples), pool.protocol) == ((2048,), 47, ("auc", "balanced", "assays"))
    assert {name: len(part) for name, part in pool.splits.items()} == {"train": 2, "val": 1, "test": 1}
    two = molecules(path=str(wide), assays=["Ring", "oxygen"], features="graph", atoms=9)
    assert (two.names, two.shape) == (("ring", "oxygen"), (9, 18))
    parts = molecules(path=str(wide), within=True)
    assert parts.split("test").names == tuple(f"{name}/test" for name in ASSAYS)


def test_a_row_a_result(long: Path, wide: Path) -> None:
    pool = assays_of(molecules(path=str(long), features="maccs", split={"train": ["ring"], "test": ["oxygen"]}))
    assert (pool.names, pool.split("test").names, pool.shape) == (tuple(ASSAYS), ("oxygen",), (167,))
    other = molecules(path=str(wide), features="maccs").split("all")
    assert torch.equal(pool.gather(pool.rows[1:48]), other.gather(assays_of(other).rows[:47])), "the same molecules"
    long.write_text(long.read_text().replace("Assay,smiles,label", "kind,structure,result"))
    again = molecules(path=str(long), smiles="structure", label="result", assay="kind", features="maccs")
    assert again.names == pool.names


def test_values_are_a_regression(tmp_path: Path) -> None:
    rows = [{"smiles": one, "task": name, "value": len(one) / 2} for name in "abc" for one in SMILES[:20]]
    rows.append({"smiles": "CCO", "task": "few", "value": None})
    path = tmp_path / "values.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    pool = assays_of(molecules(path=str(path), target="value", features="maccs"))
    assert (pool.names, pool.ways, pool.protocol.metric) == (("a", "b", "c"), None, "mse")
    assert AssayEpisodes(pool, shots=3, queries=4)[0].query.y.shape == (1, 4, 1)
    alone = molecules(path=str(path), target="value", assays=["value"], within=True, least=2)
    assert alone.names == ("value/train", "value/val", "value/test")
    with pytest.raises(DataError, match=r"row 2 of column 'value': expected 0 or 1 \(target = \"value\" takes any"):
        molecules(path=str(path), label="value")


def test_classes(classes: Path) -> None:
    pool = molecules(path=str(classes))
    assert isinstance(pool, ClassPool)
    assert (pool.names, pool.counts.tolist()) == (tuple(sorted(TAILS)), [6] * 8)
    assert {name: len(part) for name, part in pool.splits.items()} == {"train": 4, "val": 2, "test": 2}
    x = Episodes(pool.split("test"), ways=2, shots=1, queries=2)[0].support.x
    assert isinstance(x, torch.Tensor)
    assert {*x.unique().tolist()} == {0.0, 1.0}, "bits, not brightness"
    with pytest.raises(DataError, match="no class has 7 molecules, the largest has 6"):
        molecules(path=str(classes), least=7)


@pytest.mark.parametrize("features", ["maccs", "graph"])
@pytest.mark.parametrize("name", ["prototypical", "maml"])
@pytest.mark.parametrize("table", ["long", "classes"])
def test_every_kind_of_learner_takes_them(features: str, name: str, table: str, request: pytest.FixtureRequest) -> None:
    graph, keys = {"name": "message_passing", "shape": [9, 18], "width": 8}, {"name": "mlp", "shape": [167]}
    data = {"name": "molecules", "path": str(request.getfixturevalue(table)), "features": features, "atoms": 9}
    tasks = {"shots": 2, "queries": 2, "batch": 2, "steps": 1} | ({"ways": 2} if table == "classes" else {})
    learner = {"name": name} | ({"outputs": 2} if name == "maml" else {})
    encoder = graph if features == "graph" else keys
    spec = Spec.of({"learner": learner, "encoder": encoder, "data": data, "train": tasks})
    made = build(spec)
    loss = made.loss(spec.train.draw_from(load_data(spec))[0])
    loss.backward()
    assert loss > 0
    assert any(bool(leaf.grad.any()) for leaf in made.parameters() if leaf.grad is not None)


def test_molecules_that_cannot_be_read(wide: Path) -> None:
    wide.write_text(wide.read_text().replace(",CCO,", ",no((,").replace(",CCF,", ",C[AlH3](O)(O)O,") + "\n1,,,,M,,True")
    wanted = r"wide\.csv: 3 of 49 molecules cannot be read: row 1: expected .*'no\(\('; row 3: .*row 49.*got ''; mend"
    with pytest.raises(DataError, match=wanted):
        molecules(path=str(wide))
    with pytest.warns(UserWarning, match=r"3 of 49 molecules cannot be read.*They are left out"):
        pool = assays_of(molecules(path=str(wide), skip_unreadable=True))
    assert pool.counts.tolist() == [46] * 4
    wide.write_text("smiles,label\nno((,a\n")
    with pytest.raises(DataError, match="1 of 1 molecules cannot be read"):
        molecules(path=str(wide), skip_unreadable=True)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ("smiles,label\n", {}, "expected rows"),
        ("smiles,label\nCCO,\n", {}, r"rows \[1\] have no 'label'"),
        (
            "smiles,x\nCCO,2\n",
            {},
            r"results \(label\), or columns of outcomes 0 and 1 \(assays\)",
        ),
        ("smiles,x\nCCO,2\n", {"target": "value"}, "columns of values"),
        ("smiles,assay,label\nCCO,,1\n", {}, "row 1: no assay"),
        ("smiles,assay,label\nCCO,a,yes\n", {}, "row 1 of column 'label': expected 0 or 1 .*got 'yes'"),
        ("smiles,assay,label\nCCO,a,1\nCC,a,1\n", {}, "no assay has 1 molecules of either outcome, the best has 0"),
        ("smiles,a\nCCO,1\nCC,0\n", {"least": 2}, "no assay has 2 molecules of either outcome, the best has 1"),
        ("smiles,a\nCCO,1\n", {"assays": []}, "one or more columns in `assays`"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, table: str, options: dict[str, object], said: str) -> None:
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(DataError, match=said):
        molecules(path=str(tmp_path / "t.csv"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smiles": "structure"}, "'structure'"),
        ({"label": "activity"}, "'activity'"),
        ({"assay": "protein"}, "'protein'"),
        ({"assays": ["x"]}, "'x'"),
        ({"target": "log"}, "active, value"),
        ({"features": "ecfp"}, "counts, graph, maccs, morgan"),
    ],
)
def test_names_that_are_not_there(long: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        molecules(path=str(long), **options)  # type: ignore[arg-type]


def test_a_look_at_assays(wide: Path, long: Path, classes: Path, tmp_path: Path) -> None:
    report = check_data(wide)
    assert (report.kind, report.examples) == ("measurements", 4 * 47)
    assert (report.classes["oxygen = 0"], report.classes["oxygen = 1"]) == (36, 11)
    assert report.advice[-1] == (
        'to be trained on ([data] name = "molecules"): 4 assays give shots = 1, queries = 5 of each outcome; splits by '
        "assay"
    ), "5 molecules of one outcome are the fewest"
    long.write_text(long.read_text() + "\nring,OCC,1\nring,no((,1\nring,CCC,2")
    report = check_data(long)
    assert report.contradictions == report.near == [["row 145", "row 193"]]
    assert [one.partition(":")[0] for one in report.unreadable] == ["row 194", "row 195 of column 'label'"]
    assert "1 group of the same or nearly the same with different outcomes: decide which is right" in report.advice
    assert any("skip_unreadable = true" in advice for advice in report.advice)
    assert '[data] name = "molecules"' in check_data(classes).advice[-1]
    rows: list[list[object]] = [[one, len(one)] for one in SMILES]
    values = check_data(written(tmp_path / "v.csv", "smiles,y", rows))
    assert values.classes == {"y": 48}
    assert 'target = "value"): 1 assay give' in values.advice[-1]
    long.write_text(long.read_text().replace("Assay", "kind"))
    assert check_data(long, assay="kind").kind == "measurements"
    assert check_data(written(tmp_path / "few.csv", "smiles,a", [["CCO", 1], ["CC", 0]])).advice[-1] == (
        "to be trained on: too few measurements of each outcome; add some, or assays"
    )
