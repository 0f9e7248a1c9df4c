import pytest
import torch

from handful.ops.classes import class_means

pytestmark = pytest.mark.usefixtures("float64")


def test_by_hand_ragged() -> None:
    z = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [10.0, -4.0]]])
    y = torch.tensor([[1, 1, 0]])
    assert torch.equal(class_means(z, y, 2), torch.tensor([[[10.0, -4.0], [2.0, 1.0]]]))
    weighted = class_means(z, y, 2, torch.tensor([[3.0, 1.0, 0.5]]))
    assert torch.equal(weighted, torch.tensor([[[10.0, -4.0], [1.5, 0.5]]]))


def test_every_task_by_itself_against_a_loop() -> None:
    z, y = torch.randn(4, 9, 5), torch.stack([torch.randperm(9) % 3 for _ in range(4)])
    weight = torch.rand(4, 9)
    plain, weighted = class_means(z, y, 3), class_means(z, y, 3, weight)
    for task in range(4):
        for label in range(3):
            mine, w = z[task, y[task] == label], weight[task, y[task] == label, None]
            assert torch.allclose(plain[task, label], mine.mean(0))
            assert torch.allclose(weighted[task, label], (w * mine).sum(0) / w.sum())


def test_equal_weights_are_none_and_weight_zero_leaves_out() -> None:
    z, y = torch.randn(2, 6, 3), torch.arange(6).remainder(2).expand(2, 6)
    assert torch.allclose(class_means(z, y, 2, torch.full((2, 6), 0.3)), class_means(z, y, 2))
    weight = torch.ones(2, 6)
    weight[:, 5] = 0
    assert torch.allclose(class_means(z, y, 2, weight), class_means(z[:, :5], y[:, :5], 2))


def test_weights_of_another_type_and_gradients() -> None:
    z, y = torch.randn(2, 4, 3, requires_grad=True), torch.tensor([[0, 1, 0, 1], [1, 1, 0, 1]])
    assert class_means(z, y, 2, torch.ones(2, 4, dtype=torch.int64)).dtype == torch.float64
    weight = torch.rand(2, 4, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, w: class_means(z, y, 2, w), (z, weight))
