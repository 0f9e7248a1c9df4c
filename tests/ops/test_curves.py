import numpy as np
import pytest

from handful.ops.curves import delta_auprc, roc_auc


def test_areas_by_hand() -> None:
    y, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.8, 0.1])
    assert roc_auc(y, score) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert delta_auprc(np.array([1, 0, 1, 0]), np.array([4.0, 3, 2, 1])) == pytest.approx((1 + 2 / 3) / 2 - 0.5)


def test_guessing_gains_nothing() -> None:
    y = np.arange(10) % 5 // 4
    assert roc_auc(y, np.zeros(10)) == 0.5
    assert delta_auprc(y, np.zeros(10)) == 0
