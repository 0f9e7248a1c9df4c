from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from handful.ops.cross_conformal import fold_ranks, folds_of, margins, miss_bound


@pytest.mark.parametrize(
    ("examples", "most", "folds", "size"),
    [(1, 50, 1, 1), (7, 50, 7, 1), (50, 50, 50, 1), (51, 50, 25, 2), (101, 50, 33, 3), (1000, 50, 50, 20)],
)
def test_folds(examples: int, most: int, folds: int, size: int) -> None:
    found = folds_of(examples, most)
    assert found.held.shape == (folds, size)
    assert found.kept.shape == (folds, examples - size)
    for held, kept in zip(*found, strict=True):
        assert sorted([*held, *kept]) == list(range(examples))
    assert len(np.unique(found.held)) == folds * size == found.examples


def test_the_bound() -> None:
    assert miss_bound(25, 25, 0.1) == pytest.approx(0.2)
    assert miss_bound(1, 1, 0.1) == pytest.approx(0.2)
    assert miss_bound(100, 10, 0.1) == pytest.approx(0.2 + 0.9 / 11)  # of pairs
    assert miss_bound(10_000, 10, 0.1) == pytest.approx(0.2 + 2 * 0.9 * 9 / 10_010)  # of p-values
    assert miss_bound(4, 2, 0.5) == 1


def test_margins() -> None:
    found = margins(np.array([[1.0, 3.0, 2.0], [1.0, np.inf, 1.0], [np.inf, np.inf, 5.0], [np.inf] * 3]))
    expected = [[-1, 2, 1], [0, np.inf, 0], [np.inf, np.inf, 5], [np.inf] * 3]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(margins(np.array([[2.0]])), [[2.0]])


def test_ranks_are_counted_one_by_one() -> None:
    random = np.random.default_rng(0)
    held, asked = random.integers(0, 4, (5, 2)).astype(float), random.integers(0, 4, (3, 5, 3)).astype(float)
    held[0, 0] = asked[0, 1, 2] = np.inf
    y = random.integers(0, 3, (5, 2))
    for strictly in (False, True):
        found = fold_ranks(held, y, asked, strictly=strictly)
        for q in range(3):
            for c in range(3):
                hits = [
                    (held[k, i] > asked[q, k, c]) if strictly else (held[k, i] >= asked[q, k, c])
                    for k in range(5)
                    for i in range(2)
                ]
                mine = [hit for hit, label in zip(hits, y.ravel(), strict=True) if label == c]
                assert (found.all[q, c], found.own[q, c]) == (sum(hits), sum(mine))


def forgetful(x: np.ndarray, y: np.ndarray, z: np.ndarray, ways: int) -> np.ndarray:
    """Distances by a rule without a closed form: each class's median in each direction. [Q, F] -> [Q, ways]."""
    found = np.full((len(z), ways), np.inf)
    for label in np.unique(y):
        found[:, label] = np.abs(z - np.median(x[y == label], 0)).sum(1)
    return found


@pytest.mark.parametrize(("examples", "most"), [(24, 50), (24, 4), (12, 50)])
def test_coverage_on_exchangeable_data(examples: int, most: int) -> None:
    """At least as bounded, to binomial accuracy; and near the level that is aimed at."""
    random, epsilon, tasks, inside = np.random.default_rng(3), 0.15, 500, 0
    folds = folds_of(examples, most)
    for _ in range(tasks):
        centers = 1.2 * random.normal(size=(3, 4))
        labels = random.integers(0, 3, examples + 1)
        x = centers[labels] + random.normal(size=(examples + 1, 4))
        held, asked = [], []
        for out, kept in zip(*folds, strict=True):
            scores = margins(forgetful(x[kept], labels[kept], np.concatenate([x[out], x[-1:]]), 3))
            held.append(scores[np.arange(len(out)), labels[out]])
            asked.append(scores[-1])
        ranks = fold_ranks(np.array(held), labels[folds.held], np.array(asked)[None])
        inside += bool((ranks.all[0, labels[-1]] + 1) / (folds.examples + 1) > epsilon + 1e-9)
    assert binom.cdf(inside, tasks, 1 - miss_bound(folds.examples, len(folds.held), epsilon)) > 1e-3
    aimed = 1 - np.floor(epsilon * (folds.examples + 1)) / (folds.examples + 1)
    assert abs(inside / tasks - aimed) < 0.06
