from __future__ import annotations

import numpy as np
import pytest

from handful.ops.representatives import representatives


def plain(z: np.ndarray, taught: np.ndarray, count: int, weight: np.ndarray) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        cost = {}
        for one in set(range(len(z))) - set(chosen):
            stands = np.concatenate([taught, z[[*chosen, one]]])
            cost[one] = (weight * ((z[:, None] - stands) ** 2).sum(2).min(1)).sum()
        chosen.append(min(cost, key=lambda row: cost[row]))
    return chosen


@pytest.mark.parametrize("weighted", [False, True])
def test_each_brings_all_nearest_to_what_is_chosen(weighted: bool) -> None:
    random = np.random.default_rng(0)
    z, taught = random.normal(size=(30, 3)), random.normal(size=(4, 3))
    weight = random.random(30) if weighted else np.ones(30)
    nearest = ((z[:, None] - taught) ** 2).sum(2).min(1)
    found = representatives(z, nearest, 8, weight=weight if weighted else None)
    assert found.tolist() == plain(z, taught, 8, weight)


def test_all_of_them_and_what_is_taught_last() -> None:
    z = np.array([[0.0], [1], [10], [11], [12]])
    found = representatives(z, np.array([0.0, 1, 100, 121, 144]), 5)
    assert found[0] == 3  # the middle of what is far
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]
    assert found[-1] == 0
    assert representatives(z, np.zeros(5), 2, weight=np.zeros(5)).tolist() == [0, 1]
