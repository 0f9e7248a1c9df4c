import pytest
import torch

from handful.ops.attention import attend, class_evidence
from handful.ops.classes import membership

pytestmark = pytest.mark.usefixtures("float64")


def test_attention_is_a_mean_by_softmax_and_weights_count_values() -> None:
    scores, values = torch.randn(2, 4, 3), torch.randn(2, 3, 5)
    assert torch.allclose(attend(scores, values), scores.softmax(-1) @ values)
    weight = torch.tensor([[2.0, 1.0, 0.0]] * 2)
    rows = [0, 0, 1]
    assert torch.allclose(attend(scores, values, weight), attend(scores[..., rows], values[:, rows]))
    assert bool(attend(torch.tensor([[[0.0, -torch.inf, 0.0]]]), torch.ones(1, 3, 2)).isfinite().all())


def test_evidence_sums_attention_in_each_class() -> None:
    scores, y = torch.randn(2, 4, 5), torch.tensor([[0, 1, 2, 1, 1], [2, 2, 0, 1, 0]])
    member = membership(y, 3, dtype=scores.dtype)
    expected = scores.softmax(-1) @ member
    assert torch.allclose(class_evidence(scores, member).softmax(-1), expected)
    large = class_evidence(1000 * scores, member)
    assert bool(large.isfinite().all())


def test_an_example_of_weight_zero_has_no_gradient() -> None:
    scores = torch.randn(1, 1, 3, requires_grad=True)
    member = membership(torch.tensor([[0, 1, 1]]), 2, torch.tensor([[1.0, 0.0, 1.0]]), dtype=scores.dtype)
    class_evidence(scores, member).square().sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert bool(scores.grad.isfinite().all())
    assert scores.grad[0, 0, 1] == 0
