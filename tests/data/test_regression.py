from __future__ import annotations

from pathlib import Path

import pytest
import torch

from handful.data import AssayEpisodes, regression
from handful.errors import DataError, StorageError, UnknownNameError
from handful.spec import Spec, build, load_data


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ten made-up curves of twelve points: task t is y = t·x + 1."""
    rows = [
        f"curve {t},{row},{x / 4},{t * x / 4 + a}" for t in range(10) for row, x in enumerate(range(12)) for a in (1,)
    ]
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(["Task,,x,y", *rows]))
    return path


def test_a_table_of_tasks(table: Path) -> None:
    pool = regression(path=str(table))
    assert pool.names == tuple(f"curve {t}" for t in range(10))
    assert (pool.shape, pool.ways, pool.counts.tolist()) == ((1,), None, [12] * 10), "an index is no feature"
    assert {name: len(part) for name, part in pool.splits.items()} == {"train": 6, "val": 2, "test": 2}
    episodes = AssayEpisodes(pool, shots=4, queries=3, batch=10)
    episode, draw = episodes[0], episodes.draw(0)
    assert isinstance(episode.query.x, torch.Tensor)
    assert (episode.query.x.shape, episode.query.y.shape) == ((10, 3, 1), (10, 3, 1))
    slopes = torch.from_numpy(episodes.assay_of(draw)).view(10, 1, 1)
    assert torch.allclose(episode.query.y, slopes * episode.query.x + 1)
    parts = regression(path=str(table), within=True, split={"train": 0.5, "test": 0.5})
    assert (parts.split("test").names[0], parts.counts.tolist()) == ("curve 0/test", [6] * 20)


def test_a_column_may_stand_alone(table: Path) -> None:
    pool, wanted = regression(path=str(table), targets="x", features="y"), regression(path=str(table))
    assert torch.equal(pool.y, wanted.examples)
    assert torch.equal(pool.examples, wanted.y)


def test_a_folder_of_tables(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "curves"
    folder.mkdir()
    for name, header, values in (("b.csv", "x,y", "1,2"), ("a.tsv", "y\tX", "2\t1"), ("notes.txt", "", "")):
        (folder / name).write_text(f"{header}\n{values}\n{values}")
    pool = regression(path=str(folder))
    assert (pool.names, pool.counts.tolist(), pool.splits) == (("a", "b"), [2, 2], {})
    assert pool.gather(pool.rows).flatten().tolist() == [1] * 4
    (folder / "c.jsonl").write_text('{"x": [1, 2], "y": 1}')
    with pytest.raises(DataError, match=r"c\.jsonl: expected 1 numbers in x, as in the files before, got 2"):
        regression(path=str(folder))
    (folder / "c.jsonl").write_text('{"z": 1, "y": 1}')
    with pytest.raises(UnknownNameError, match=r"c\.jsonl 'x'"):
        regression(path=str(folder))
    (folder / "c.jsonl").rename(folder / "a.csv")
    with pytest.raises(DataError, match="a task in one file, 'a' is in several"):
        regression(path=str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="one a task; there are none"):
        regression(path=str(tmp_path / "empty"))
    with pytest.raises(StorageError):
        regression(path=str(tmp_path / "nowhere.csv"))


def test_several_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("who,a,b,y1,y2,c\n" + "\n".join(f"{row % 3},{row},1,{row},2,3" for row in range(12)))
    pool = regression(path=str(path), task="who")
    assert (pool.shape, pool.y.shape) == ((3,), (12, 2))
    assert pool.gather(pool.rows)[:2].tolist() == [[0, 1, 3], [3, 1, 3]]
    assert AssayEpisodes(pool, shots=2, queries=2)[0].support.y.shape == (1, 2, 2)
    assert regression(path=str(path), task="who", targets=["c"], features=["B"]).y.tolist() == [[3.0]] * 12


@pytest.mark.parametrize(
    ("content", "options", "error", "said"),
    [
        ("task,x,y\na,1,two\n", {}, DataError, "row 1 of column 'y': expected a finite number"),
        ("task,x,y\n,1,2\n", {}, DataError, r"rows \[1\] have no 'task'"),
        ("task,x,y\n", {}, DataError, "expected rows"),
        ("task,y\na,1\n", {}, DataError, "a column of numbers beside y"),
        ("task,x,y\na,1,2\n", {"least": 2}, DataError, "no task has 2 rows, the largest has 1"),
        ("x,y\n1,2\n", {}, UnknownNameError, "'task'"),
        ("task,x,z\na,1,2\n", {}, UnknownNameError, "'y'"),
        ("task,x,y\na,1,2\n", {"features": ["z"]}, UnknownNameError, "'z'"),
    ],
)
def test_tables_that_are_none(
    tmp_path: Path, content: str, options: dict[str, object], error: type[Exception], said: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(error, match=said):
        regression(path=str(path), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["maml", "conditional_neural_process", "r2d2"])
def test_regression_learners_take_them(table: Path, name: str) -> None:
    spec = Spec.of(
        {
            "learner": {"name": name, **({} if name == "r2d2" else {"outputs": 1})},
            "encoder": {"name": "mlp", "shape": [1], "hidden": [8]},
            "data": {"name": "regression", "path": str(table)},
            "train": {"shots": 4, "queries": 4, "batch": 2, "steps": 1},
        }
    )
    loss = build(spec).loss(spec.train.draw_from(load_data(spec))[0])
    loss.backward()
    assert loss > 0
