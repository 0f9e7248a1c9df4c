import pytest
import torch
from scipy.stats import trim_mean

from handful.ops.robust import class_medians, class_trimmed_means

pytestmark = pytest.mark.usefixtures("float64")


def ragged() -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.tensor([0, 1, 0, 2, 0, 1, 0, 2, 2, 2, 2])
    return torch.randn(4, 11, 3), torch.stack([y[torch.randperm(11)] for _ in range(4)])


def test_medians_are_those_of_each_class_and_feature() -> None:
    z, y = ragged()
    found = class_medians(z, y, 3)
    for task in range(4):
        for label in range(3):
            own = z[task][y[task] == label]
            assert torch.allclose(found[task, label], own.quantile(0.5, 0, interpolation="midpoint"))


def test_trimmed_means_are_scipys_where_whole_examples_are_left_out() -> None:
    z, y = torch.randn(2, 10, 3), torch.tensor([[0, 1] * 5] * 2)
    found = class_trimmed_means(z, y, 2, 0.2)
    for task in range(2):
        for label in range(2):
            own = z[task][y[task] == label]
            assert torch.allclose(found[task, label], torch.as_tensor(trim_mean(own.numpy(), 0.2)))


def test_trimming_goes_from_the_mean_to_the_median() -> None:
    z, y = ragged()
    means = torch.stack([torch.stack([z[t][y[t] == k].mean(0) for k in range(3)]) for t in range(4)])
    assert torch.allclose(class_trimmed_means(z, y, 3, 0.0), means)
    assert torch.allclose(class_trimmed_means(z, y, 3, 0.499999), class_medians(z, y, 3), atol=1e-4)


def test_weights_count_examples() -> None:
    z, y = torch.randn(1, 5, 3), torch.zeros(1, 5).long()
    weight = torch.tensor([[2.0, 1.0, 0.0, 1.0, 1.0]])
    rows = [0, 0, 1, 3, 4]
    for center in (class_medians, lambda z, y, ways, weight=None: class_trimmed_means(z, y, ways, 0.3, weight)):
        assert torch.allclose(center(z, y, 1, weight), center(z[:, rows], y, 1))
