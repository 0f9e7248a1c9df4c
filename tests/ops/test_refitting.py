"""The nearest class mean fitted again after a change is that fitted from the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from handful.ops import refitting
from handful.ops.mean_ranks import mean_ranks
from handful.ops.nearest_mean import Metric, NearestMean, fit_nearest_mean
from handful.ops.refitting import refit_nearest_mean

WAYS, EACH = 60, 5
Labels = NDArray[np.int64]


def _add_class(y: Labels, rows: Labels) -> tuple[Labels, Labels]:
    return np.concatenate([np.where(y >= 7, y + 1, y), [7, 7]]), np.concatenate([rows, [-1, -1]])


def _add_example(y: Labels, rows: Labels) -> tuple[Labels, Labels]:
    return np.concatenate([y, [3]]), np.concatenate([rows, [-1]])


def _remove_class_and_example(y: Labels, rows: Labels) -> tuple[Labels, Labels]:
    keep = (y != 11) & (np.arange(len(y)) != 0)
    return np.where(y > 11, y - 1, y)[keep], rows[keep]


def _rename(y: Labels, rows: Labels) -> tuple[Labels, Labels]:
    return np.where(y == 5, WAYS - 1, np.where(y > 5, y - 1, y)), rows


def _merge(y: Labels, rows: Labels) -> tuple[Labels, Labels]:
    return np.where(y == 9, 2, np.where(y > 9, y - 1, y)), rows


def _undo(y: Labels, rows: Labels) -> tuple[Labels, Labels]:
    """What was taken out comes back among the others."""
    return np.insert(y, 40, 8), np.insert(rows, 40, -1)


@pytest.mark.parametrize("change", [_add_class, _add_example, _remove_class_and_example, _rename, _merge, _undo])
@pytest.mark.parametrize("metric", ["squared", "cosine"])
def test_again_after_a_change_as_from_the_start(
    metric: Metric, change: Callable[[Labels, Labels], tuple[Labels, Labels]], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(WAYS), EACH)
    means = random.normal(size=(WAYS, 16)) + 3
    x = means[y] + random.normal(size=(len(y), 16))
    before = fit_nearest_mean(x, y, WAYS, metric)
    now, was = change(y, np.arange(len(y)))
    new = np.where((was < 0)[:, None], random.normal(size=(len(was), 16)) + 3, x[was])
    ways, z = int(now.max()) + 1, means[:20] + random.normal(size=(20, 16))
    whole = fit_nearest_mean(new, now, ways, metric)

    def refuse(*_: object) -> NearestMean:
        raise AssertionError("all was fitted")

    monkeypatch.setattr(refitting, "fit_nearest_mean", refuse)
    monkeypatch.setattr(refitting, "MOST_CHANGED", 0.5)
    again = refit_nearest_mean(before, new, now, ways, was)
    for name in ("size", "length", "squares", "to_own", "own", "near", "near_class", "score", "order"):
        if metric == "cosine" or name not in ("length", "squares"):  # these are told from another center
            np.testing.assert_allclose(getattr(again, name), getattr(whole, name), rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(again.means + again.center, whole.means + whole.center, rtol=1e-9)
    for one, other in zip(mean_ranks(again, z), mean_ranks(whole, z), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_is_fitted_where_most_changed_or_moved_away() -> None:
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(WAYS), EACH)
    x = random.normal(size=(len(y), 4)).astype(np.float32)
    before = fit_nearest_mean(x, y, WAYS, "squared")
    moved = refit_nearest_mean(before, x, y, WAYS, np.where(y < WAYS // 2, -1, np.arange(len(y))))
    np.testing.assert_array_equal(moved.near, before.near)
    far = np.concatenate([x, np.full((50, 4), 1e3, np.float32)])  # a sixth, far away: the center would lie elsewhere
    labels, was = np.append(y, np.full(50, WAYS)), np.append(np.arange(len(y)), np.full(50, -1))
    again = refit_nearest_mean(before, far, labels, WAYS + 1, was)
    np.testing.assert_allclose(again.center, far.mean(0), rtol=1e-5)
