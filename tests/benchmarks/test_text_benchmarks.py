"""The figures on texts run to their end on made-up vectors, and the page agrees with the rows that are kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.texts import frozen, intents, metric, page, pictures_by_name, relations, sentences, setfit, zero_shot
from torch import Tensor

from handful.data import ClassPool, DescribedPool
from handful.data.splitting import split_pool

ROOT = Path(__file__).parents[2]
NAMES = [f"class_{index}" for index in range(12)]
ORIGIN = {
    "commit": "0123456789abcdef",
    "date": "2026-01-01",
    "machine": {"processor": "P", "cores": 2, "threads": 1},
    "versions": {"torch": "2"},
}


def vectors(names: list[str] | tuple[str, ...], count: int = 12, features: int = 6) -> ClassPool:
    """Unit vectors around a center that hangs on the name."""
    parts = []
    for name in names:
        random = torch.Generator().manual_seed(sum(map(ord, name.rpartition(" ")[2])))
        parts.append(torch.randn(1, features, generator=random) + 0.4 * torch.randn(count, features, generator=random))
    x = torch.nn.functional.normalize(torch.cat(parts), dim=1)
    return split_pool(ClassPool.grouped(x, [count] * len(names), names))


def made_up(name: str) -> sentences.Sentences:
    pool = vectors(NAMES)
    part = np.array((["train"] * 6 + ["val"] * 3 + ["test"] * 3) * 12)
    y = np.repeat(np.arange(12), 12)
    return sentences.Sentences([f"text {row}" for row in range(144)], pool.examples, y, part, NAMES)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up data in the place of the real, and few tasks."""
    for module in (intents, frozen, metric, setfit):
        monkeypatch.setattr(module, "intents", made_up)
    monkeypatch.setattr(metric, "layers", doubled)
    monkeypatch.setattr(metric.Metric, "out_features", 12)
    for name, value in {"KEPT": 6, "STEPS": 6, "SHOTS": (1, 2), "SHARES": (0.0, 0.5)}.items():
        monkeypatch.setattr(metric, name, value)
    metric.learned.cache_clear()
    few = {"ridge 1": "ridge 1", "prototypes, cosine": "prototypes, cosine", "nearest neighbor": "nearest neighbor"}
    monkeypatch.setattr(intents, "HEADS", few)
    monkeypatch.setattr(intents, "SHOTS", (1, 2))
    monkeypatch.setattr(intents, "TASKS", 20)
    monkeypatch.setattr(intents, "head", lambda name, _: sentences_head(name))
    monkeypatch.setattr(intents, "episodes", lambda *_: (np.linspace(0.5, 1, 20), 0.1))
    monkeypatch.setattr(intents, "POOLS", dict.fromkeys(sentences.INTENTS, lambda: vectors(NAMES)))


def doubled(name: str, share: float) -> Tensor:
    """Two layers of the same."""
    z = made_up(name).z
    return torch.nn.functional.normalize(torch.cat([share * z, z], 1))


def sentences_head(name: str) -> Any:
    from benchmarks.texts.heads import head

    return head(name, 6)


def rows_of(found: Any) -> list[dict[str, Any]]:
    return [row | ORIGIN for row in found]


@pytest.mark.usefixtures("small")
def test_intents_and_setfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = rows_of(intents.run([], 0))
    assert {row["part"] for row in first} == {"val", "test"}
    assert all(0 <= row["value"] <= 1 for row in first)
    assert next(intents.run(first, 0), None) is None, "nothing is measured twice"
    answers = SimpleNamespace(predict=lambda texts, batch_size: np.zeros(len(texts), np.int64))
    monkeypatch.setattr(setfit, "_trained", lambda *_: (answers, 30.0, 31.0))
    monkeypatch.setattr(setfit, "version", lambda _: "0")
    jobs = [setfit.Job("banking77", 1, 0, pairs, names) for names in (False, True) for pairs in (5, 10)]
    rivals = rows_of(setfit.run([], 100.0, jobs))
    assert [row["value"] for row in rivals] == [1 / 12] * 4, "one class of twelve"
    assert next(setfit.run([], -1.0, jobs), None) is None, "the budget is spent"
    import json

    meta = rows_of(metric.run([], 0))
    assert {(row["part"], row["learned"], row["share"]) for row in meta} >= {("val", True, 0.5), ("test", False, None)}
    assert next(metric.run(meta, 0), None) is None, "nothing is measured twice"
    for name, rows in (("setfit", rivals), ("intents", first), ("metric", meta)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    monkeypatch.setattr(frozen, "sentence_vectors", lambda texts: made_up("").z[: len(texts)])
    monkeypatch.setattr(metric, "vectors", lambda texts, **_: made_up("").z[: len(texts)])
    monkeypatch.setattr(frozen, "head", lambda name, _: sentences_head(name))
    ours = rows_of(frozen.run([], 0, tmp_path))
    assert [(row["metric"], row["names"]) for row in ours] == list(itertools.product((False, True), repeat=2))
    assert next(frozen.run(ours, 0, tmp_path), None) is None
    said = page.page({"intents": first, "metric": meta, "setfit": rivals, "frozen": ours})
    assert "| BANKING77 | alike | – | no |" in said
    assert "| BANKING77 | ridge 1 |" in said
    assert said.count("5: 8.3, 10: 8.3") == 2, "by sentences alone, and with names"


@pytest.mark.usefixtures("small")
def test_a_metric_lets_alike_lie_together() -> None:
    """It learns from other classes than it is asked for, and keeps the directions in which sentences lie."""
    matrix = metric.learned(0.5, ("clinc150", "hwu64"))
    assert matrix.shape == (6, 12)
    z = metric.features("banking77", 0.5, ("clinc150", "hwu64"))
    assert z.shape == (144, 6)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(144))
    data = made_up("banking77")._replace(z=z)
    assert metric.accuracies(data, 2, "test").mean() > 0.5, "one of twelve by chance"


def test_relations_names_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "TASKS", 20)
    monkeypatch.setattr(relations, "CANDIDATES", ("ridge 1", "prototypes"))
    monkeypatch.setattr(relations, "_pool", lambda place, reading: vectors(NAMES))
    told = rows_of(relations.run([], 0))
    assert {row["noise"] for row in told} == {0.0, 0.1, 0.3, 0.5}
    assert all(0.5 < row["told"]["logit"]["auroc"] <= 1 for row in told if row["told"])
    assert next(relations.run(told, 0), None) is None

    pools = dict.fromkeys(zero_shot.INTENTS, lambda: vectors([name.replace("_", " ") for name in NAMES], 15))
    monkeypatch.setattr(zero_shot, "INTENTS", pools)
    monkeypatch.setattr(zero_shot, "fewrel", lambda: split_pool(vectors([f"P{n} name{n}" for n in range(16)], 15), {
        "train": 0.5, "test": 0.5
    }))  # fmt: skip
    monkeypatch.setattr(zero_shot, "TASKS", 20)
    monkeypatch.setattr(zero_shot, "WORDINGS", {"intents": ("{name}", "{name}!"), "fewrel": ("{name}",)})
    monkeypatch.setattr(zero_shot, "_about", lambda data, name: {"name": name})
    monkeypatch.setattr(zero_shot, "_episodes", lambda described, part: np.ones(20))
    monkeypatch.setattr(zero_shot, "sentence_vectors", named)
    named_rows = rows_of(zero_shot.run([], 0))
    assert {row["wording"] for row in named_rows if row["part"] == "test"} == {"{name}"}, "a sign led nowhere"
    assert all(row["value"] > 0.5 for row in named_rows if row["part"] == "test")

    parts = pictures_by_name.Parts(
        DescribedPool(vectors(NAMES[:6]), vectors(NAMES, 1)), vectors(NAMES[:6]), vectors(NAMES[6:9], 16),
        vectors(NAMES[9:], 16), vectors(NAMES, 1),
    )  # fmt: skip
    about = SimpleNamespace(spec=SimpleNamespace(encoder=SimpleNamespace(name="conv4"), digest="d"), step=1)
    for name, value in {"_parts": lambda _: parts, "load_checkpoint": lambda _: about, "STEPS": 3, "TASKS": 20}.items():
        monkeypatch.setattr(pictures_by_name, name, value)
    monkeypatch.setattr(pictures_by_name, "SEEDS", range(2))
    monkeypatch.setattr(pictures_by_name, "WAYS", 3)
    pictures = rows_of(pictures_by_name.run([], 0, Path()))
    assert len(pictures) == 8
    said = page.page({"relations": told, "zero-shot": named_rows, "pictures-by-name": pictures})
    for heading in ("### Wrong labels", "### Strangers", "names and descriptions alone", "mini-ImageNet by name"):
        assert heading in said


def named(texts: list[str]) -> Tensor:
    """The center that `vectors` gives a class of this name; of another text, nothing alike."""
    return vectors(texts).examples.view(len(texts), -1, 6).mean(1)


def test_parts_and_supports_are_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"all": [(f"text {row}", f"intent {row % 4}") for row in range(80)]}
    monkeypatch.setattr(sentences, "intent_texts", lambda _: {part: list(rows) for part, rows in texts.items()})
    made = {"x": torch.zeros(80, 2)}
    monkeypatch.setattr(sentences, "text_pool", lambda *_, **__: SimpleNamespace(examples=made["x"]))
    data = sentences.intents("hwu64")
    assert [data.names[label] for label in data.y] == [f"intent {int(text.split()[1]) % 4}" for text in data.texts]
    rows = sentences.shown(data, 3, seed=1)
    assert data.y[rows].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert set(data.part[rows]) == {"train"}
    assert np.array_equal(rows, sentences.shown(data, 3, seed=1))
    assert not np.array_equal(rows, sentences.shown(data, 3, seed=2))
    assert len(data.rows("test")) == 40
    assert len(data.rows("test", 7)) == 7
    hits = np.arange(13) % 3 == 0
    assert np.array_equal(sentences.unpacked(sentences.packed(hits), 13), hits)


def test_the_page_agrees_with_the_rows() -> None:
    kept = page.read(ROOT / "results" / "texts")
    assert (ROOT / "docs" / "texts-figures.md").read_text() == page.page(kept)
