"""Ranks do not depend on the unit that vectors are measured in; that they are right is tested in test_conformal.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from handful.ops.mean_ranks import mean_ranks
from handful.ops.nearest_mean import fit_nearest_mean


@pytest.mark.parametrize("power", [-40, -30, -10, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_of_any_length_are_ranked_alike(dtype: Any, power: int) -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 4)
    means = 3 * random.normal(size=(6, 8))
    x = (means[y] + random.normal(size=(len(y), 8))).astype(dtype)
    z = (means + random.normal(size=(6, 8))).astype(dtype)
    scale = dtype(2.0**power)
    expected = mean_ranks(fit_nearest_mean(x, y, 6, "squared"), z)
    assert expected.all.min() == 0, "some class is refused, and would not be if all looked equal"
    found = mean_ranks(fit_nearest_mean(x * scale, y, 6, "squared"), z * scale)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_examples_far_from_zero_are_ties(dtype: Any) -> None:
    """Rounding makes distances of them, which say nothing."""
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 8)), 12, 0).astype(dtype) * dtype(1000.1)
    y = np.repeat(np.arange(3), 4)
    ranks = mean_ranks(fit_nearest_mean(x, y, 3, "squared"), x[:1] * (1 + np.finfo(dtype).eps))
    assert (ranks.all == 12).all()
