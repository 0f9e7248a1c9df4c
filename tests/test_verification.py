import math

import numpy as np
import pytest
import torch

from handful.errors import DataError, ShapeError
from handful.verification import Pairs, equal_error_rate, mean_average_precision, pairs_within_folds, verify


def features(noise: float, classes: int = 20, each: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    centers = torch.randn(classes, 1, 16)
    return (centers + noise * torch.randn(classes, each, 16)).flatten(0, 1), torch.arange(classes).repeat_interleave(
        each
    )


def test_pairs_are_those_of_a_fold() -> None:
    z, y = features(0.5, classes=6, each=3)
    pairs = pairs_within_folds(z, y, folds=3)
    assert len(pairs.same) == 3 * 15  # two classes of three a fold
    assert pairs.same.sum() == 6 * 3
    assert np.bincount(pairs.fold).tolist() == [15, 15, 15]
    assert np.array_equal(pairs.similarity, pairs_within_folds(z, y, folds=3).similarity)
    every = torch.nn.functional.cosine_similarity(z[:, None].double(), z[None].double(), dim=-1)
    assert np.isin(pairs.similarity.round(9), every.numpy().round(9)).all()


def test_what_can_be_told_apart_and_what_cannot() -> None:
    clear, blind = (verify(pairs_within_folds(*features(noise), folds=5)) for noise in (0.01, 1e6))
    assert (clear.auc, clear.eer, clear.tar.value) == (1.0, 0.0, 1.0)
    assert clear.accuracy.value > 0.98
    assert blind.auc == pytest.approx(0.5, abs=0.1)
    assert blind.eer == pytest.approx(0.5, abs=0.1)
    assert blind.accuracy.value == pytest.approx(0.5, abs=0.1)


def test_the_threshold_of_other_folds_keeps_the_rate() -> None:
    pairs = pairs_within_folds(*features(1.0, classes=60), folds=5)
    for far in (0.3, 0.05):
        found = verify(pairs, far=far)
        assert found.far.value == pytest.approx(far, abs=0.02)
    assert verify(pairs, far=0.3).tar.value > verify(pairs, far=0.05).tar.value


@pytest.mark.parametrize(
    ("same", "similarity", "rate"),
    [([1, 1, 0, 0], [4, 3, 2, 1], 0.0), ([1, 0, 1, 0], [4, 3, 2, 1], 0.5), ([0, 0, 1, 1], [4, 3, 2, 1], 1.0),
     ([1, 1, 0, 1, 0, 0], [6, 5, 4, 3, 2, 1], 1 / 3), ([1, 0], [1, 1], 0.5)],
)  # fmt: skip
def test_equal_error_rate(same: list[int], similarity: list[int], rate: float) -> None:
    assert equal_error_rate(same, similarity) == pytest.approx(rate)


def test_retrieval_by_hand() -> None:
    z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [0.0, 1.0]])
    y = torch.tensor([0, 1, 0, 2])  # the first finds its like in the second place, and so does the third
    assert mean_average_precision(z, y).value == pytest.approx(0.5)


def test_what_cannot_be_asked() -> None:
    z, y = features(1.0, classes=4, each=2)
    with pytest.raises(DataError, match="10 folds need 20 classes, there are 4"):
        pairs_within_folds(z, y)
    with pytest.raises(ShapeError, match=r"features \[M, F\]"):
        pairs_within_folds(z[0], y)
    with pytest.raises(DataError, match="no pair of one class"):
        pairs_within_folds(z[::2], torch.arange(4), folds=2)
    with pytest.raises(DataError, match=r"in \(0, 1\)"):
        verify(pairs_within_folds(z, y, folds=2), far=0)
    with pytest.raises(DataError, match="there is none"):
        mean_average_precision(z[::2], torch.arange(4))
    for ask in (mean_average_precision, lambda z, y: pairs_within_folds(z, y, folds=2)):
        with pytest.raises(ShapeError, match=r"features \[M, F\]"):
            ask(z[1:], y)
        with pytest.raises(DataError, match="features of example 3 are not finite"):
            ask(z.index_fill(0, torch.tensor([3]), math.nan), y)


@pytest.mark.parametrize("same", [[1, 1, 1], [0, 0], [1]])
def test_pairs_of_one_kind_have_no_equal_error_rate(same: list[int]) -> None:
    with pytest.raises(DataError, match="of one class and of different classes"):
        equal_error_rate(same, np.arange(len(same)))
    with pytest.raises(DataError, match="all with a similarity"):
        equal_error_rate([0, 1], [0.5, math.nan])


@pytest.mark.parametrize(
    ("same", "fold"), [([1, 0], [0, 0]), ([1, 0, 0, 0], [0, 0, 1, 1]), ([1, 0, 1, 1], [0, 0, 1, 1]), ([], [])]
)
def test_a_threshold_needs_another_fold_with_both_kinds_of_pairs(same: list[int], fold: list[int]) -> None:
    pairs = Pairs(np.arange(float(len(same))), np.array(same, dtype=bool), np.array(fold, dtype=np.int64))
    with pytest.raises(DataError, match="expected two folds or more, each with pairs of one class and of different"):
        verify(pairs)
