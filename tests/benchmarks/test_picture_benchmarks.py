"""The benchmarks of pictures run to their end on made-up pictures. Their figures are not judged here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import pictures
from handful.checkpoint import save_checkpoint
from handful.data import DATASETS, DataSet
from handful.data.pool import ClassPool
from handful.data.splitting import Split, split_pool
from handful.spec import Spec, build
from handful.verification import Pairs

TABLE = {
    "learner": {"name": "prototypical"},
    "encoder": {"name": "conv4", "shape": [1, 16, 16], "filters": 4},
    "data": {"name": "faces"},
    "train": {"ways": 2, "steps": 1},
}


def made_up(people: int) -> ClassPool:
    random = torch.Generator().manual_seed(0)
    centers = torch.randint(40, 216, (people, 1, 1, 20, 16), generator=random)
    x = (centers + torch.randint(-40, 40, (people, 10, 1, 20, 16), generator=random)).flatten(0, 1)
    return ClassPool.grouped(x.byte(), [10] * people, [f"s{number}" for number in range(people)])


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def load(*, split: Split | None = None) -> ClassPool:
        return split_pool(made_up(16), split)

    monkeypatch.setitem(DATASETS, "faces", DataSet(load, "", "", ""))
    monkeypatch.setattr(pictures, "faces", load)
    monkeypatch.setattr(pictures, "TARGETS", {"faces": ("all", 5, {}), "digits": ("test", 5, {})})
    spec = Spec.of(TABLE)
    save_checkpoint(tmp_path / "best", build(spec), spec, step=1, notes={"commits": [None]})
    return tmp_path / "best"


@pytest.mark.parametrize("what", ["transfer", "faces"])
def test_a_page_is_made(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path, what: str) -> None:
    begin, end = (mark.format(what) for mark in pictures.MARKS)
    (tmp_path / f"{what}.md").write_text(f"# Page\n{begin}\n{end}\n")
    options = ["--checkpoint", str(checkpoint), "--tasks", "3", "--results", str(tmp_path), "--docs", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["pictures", what, *options])
    pictures.main()
    rows = json.loads((tmp_path / f"{what}.json").read_text())["rows"]
    encoders = {row["encoder"] for row in rows}
    page = (tmp_path / f"{what}.md").read_text()
    assert all(f"| {name} |" in page for name in encoders)
    if what == "transfer":
        assert encoders == {"raw pixels", "Conv4, untrained"}, "faces are no test for who was trained on them"
        assert len(rows) == 2 * 2 * 2
    else:
        assert {row["people"] for row in rows if row["trained_on"] == "faces"} == {"20 of them"}
        assert all(0 <= row["eer_interval"][0] <= row["eer"] <= row["eer_interval"][1] <= 1 for row in rows)


def test_the_interval_is_over_folds_of_people() -> None:
    same, fold = np.tile([True, False], 40), np.repeat(np.arange(4), 20)
    alike = np.where(same, 1.0, 0.0)
    assert pictures.eer_interval(Pairs(alike, same, fold)) == (0.0, 0.0)
    alike[:20] = 1 - alike[:20]  # one fold of four where everything is wrong
    low, high = pictures.eer_interval(Pairs(alike, same, fold))
    assert low < 0.25 < high


def test_features_are_of_each_picture_alone(checkpoint: Path) -> None:
    (eye,) = pictures.eyes([checkpoint], {"raw pixels", "Conv4, untrained"})
    pool = made_up(4)
    some = eye.features(pool.subset([1])).examples
    assert torch.allclose(eye.features(pool).examples[10:20], some, atol=1e-6)
