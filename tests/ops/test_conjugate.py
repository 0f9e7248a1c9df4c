import itertools

import pytest
import torch
from torch import Tensor

from handful.ops.conjugate import conjugate_gradients

pytestmark = pytest.mark.usefixtures("float64")


def systems(batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Symmetric positive definite matrices and right sides."""
    root = torch.randn(batch, size, size)
    return root @ root.mT / size + 0.5 * torch.eye(size), torch.randn(batch, size)


def test_converges_in_as_many_steps_as_unknowns() -> None:
    a, b = systems(4, 12)
    exact = torch.linalg.solve(a, b)

    def error(iterations: int) -> float:
        x = conjugate_gradients(lambda v: (a @ v.unsqueeze(2)).squeeze(2), b, iterations=iterations)
        return float((x - exact).norm())

    errors = [error(iterations) for iterations in range(13)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert errors[12] < 1e-6 * errors[0]
    assert error(16) < 1e-9


def test_systems_do_not_influence_each_other() -> None:
    a, b = systems(3, 6)
    a[1], b[2] = torch.eye(6), 0  # solved at once, and not to be asked
    x = conjugate_gradients(lambda v: (a @ v.unsqueeze(2)).squeeze(2), b, iterations=20)
    for task in range(3):
        alone = conjugate_gradients(lambda v, m=a[task]: v @ m, b[task : task + 1], iterations=20)  # type: ignore[misc]
        assert torch.allclose(x[task : task + 1], alone, atol=1e-12)
    assert torch.allclose(x[1], b[1])
    assert not x[2].any()


def test_where_a_matrix_is_not_positive_it_stops() -> None:
    x = conjugate_gradients(lambda v: -v, torch.ones(1, 3), iterations=5)
    assert x.tolist() == [[0.0, 0.0, 0.0]]
