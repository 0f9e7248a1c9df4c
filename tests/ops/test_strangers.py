import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from handful.ops.strangers import KNOWN_BY, area_under_curve, false_acceptance


def test_the_area_is_scikit_learns() -> None:
    known, strange = torch.randn(3, 20).round(decimals=1) + 0.5, torch.randn(3, 9).round(decimals=1)
    labels = np.r_[np.ones(20), np.zeros(9)]
    expected = [roc_auc_score(labels, torch.cat([a, b])) for a, b in zip(known, strange, strict=True)]
    assert area_under_curve(known, strange).tolist() == pytest.approx(expected)


def test_infinite_scores_tie_like_others() -> None:
    known, strange = torch.tensor([[torch.inf, torch.inf, 1.0]]), torch.tensor([[torch.inf, 2.0]])
    assert area_under_curve(known, strange).item() == pytest.approx((2 / 2 + 2) / 6)


def test_false_acceptance_keeps_the_share_of_known() -> None:
    known = torch.arange(40.0)[None]  # 95% of 40 are 38: the threshold is 2
    strange = torch.tensor([[1.0, 1.5, 2.0, 50.0]])
    assert false_acceptance(known, strange).item() == 0.5
    assert false_acceptance(known[:, :1], strange).item() == 1.0
    assert false_acceptance(known, strange, accepted=1.0).item() == 1.0


def test_scores_of_logits() -> None:
    logits = torch.tensor([[[2.0, 0.0, -1.0]]])
    total = np.exp([2, 0, -1]).sum()
    found = {name: score(logits).item() for name, score in KNOWN_BY.items()}
    assert found == pytest.approx(
        {"logit": 2.0, "probability": np.exp(2) / total, "energy": np.log(total), "margin": 2.0}
    )
    assert KNOWN_BY["margin"](logits[..., :1]).item() == 0
