from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from handful.ops.nearest_mean import NearestMean, fit_nearest_mean
from handful.recognizer import doctor
from handful.recognizer.doctor import likely_mislabeled


def planted(share: float, seed: int = 0) -> tuple[NearestMean, set[int]]:
    """Ten of each digit, some with a wrong label."""
    random = np.random.default_rng(seed)
    pixels, digits = load_digits(return_X_y=True)
    rows = np.concatenate([random.choice(np.flatnonzero(digits == k), 10, replace=False) for k in range(10)])
    y = digits[rows]
    wrong = random.choice(100, round(100 * share), replace=False)
    y[wrong] = (y[wrong] + random.integers(1, 10, len(wrong))) % 10
    return fit_nearest_mean(pixels[rows].astype(np.float32), y, 10, "squared"), {*wrong.tolist()}


def test_most_planted_labels_are_found_and_most_found_were_planted() -> None:
    hits = found = all_wrong = 0
    for seed in range(8):
        state, wrong = planted(0.1, seed)
        named = [doubt.row for doubt in likely_mislabeled(state)]
        hits, found, all_wrong = hits + len({*named} & wrong), found + len(named), all_wrong + len(wrong)
    assert hits / all_wrong > 0.75
    assert hits / found > 0.6


def test_it_says_what_each_looks_like() -> None:
    x = np.array([[0.0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9], [0.5, 0.5]])
    y = np.array([0, 0, 0, 1, 1, 1, 1])
    (doubt,) = likely_mislabeled(fit_nearest_mean(x, y, 2, "squared"))
    assert (doubt.row, doubt.looks) == (6, 0)
    assert doubt.like in (0, 1, 2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    state, _ = planted(0.2)
    whole = likely_mislabeled(state)
    monkeypatch.setattr(doctor, "CHUNK", 300)
    assert likely_mislabeled(state) == whole


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 2, 3]])
def test_of_little_nothing_is_said(y: list[int]) -> None:
    x = np.array([[0.0], [5], [0.1], [5.1]])
    assert likely_mislabeled(fit_nearest_mean(x, np.array(y), max(y) + 1, "squared")) == []
