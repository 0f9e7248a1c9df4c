from __future__ import annotations

import numpy as np
import pytest

from handful.recognizer import search
from handful.recognizer.search import Search


def plain(x: np.ndarray, z: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    distances = ((z[:, None] - x) ** 2).sum(2)
    rows = distances.argsort(1, kind="stable")[:, :count]
    return rows, np.take_along_axis(distances, rows, 1)


@pytest.mark.parametrize("chunk", [10, 1 << 20])
@pytest.mark.parametrize("examples", [2, 50])
def test_the_nearest_are_those_of_all_distances(chunk: int, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CHUNK", chunk)
    random = np.random.default_rng(0)
    x, z = (random.normal(size=(n, 6)).astype(np.float32) for n in (examples, 7))
    rows, distances = Search(x).nearest(z, 3)
    expected, far = plain(x, z, 3)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, far, atol=1e-5)
    assert Search(x).nearest(x, 1)[1].min() >= 0


def test_faiss_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra faiss is not installed")
    random = np.random.default_rng(0)
    x, z = (random.normal(size=(n, 16)).astype(np.float32) for n in (500, 20))
    ours, far = Search(x).nearest(z, 3)
    monkeypatch.setattr(search, "MANY", 499)
    asked = Search(x)
    rows, distances = asked.nearest(z, 3)
    assert asked._index is not None
    np.testing.assert_array_equal(rows, ours)
    np.testing.assert_allclose(distances, far, rtol=1e-4, atol=1e-5)


def test_many_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MANY", 4)
    monkeypatch.setattr(search, "find_spec", lambda _: None)
    x = np.eye(5, dtype=np.float32)
    np.testing.assert_array_equal(Search(x).nearest(x, 1)[0][:, 0], np.arange(5))
