import pytest
import torch

from handful.ops.conjugate import conjugate_gradients
from handful.ops.implicit import implicit

pytestmark = pytest.mark.usefixtures("float64")


def test_conjugate_gradients_solve_and_leave_finished_tasks_alone() -> None:
    a = torch.randn(4, 6, 6)
    a = a @ a.mT + 0.1 * torch.eye(6)
    b = torch.randn(4, 6, 2)
    b[2] = 0
    operator = lambda v: torch.stack([a[:, :, :] @ v[..., k : k + 1] for k in range(2)], -1).squeeze(2)  # noqa: E731
    x = conjugate_gradients(operator, b, iterations=200, tolerance=1e-12)
    assert torch.allclose(a @ x, b, atol=1e-9)
    assert torch.equal(x[2], torch.zeros(6, 2))
    alone = conjugate_gradients(lambda v: a[1:2] @ v, b[1:2], iterations=200, tolerance=1e-12)
    assert torch.allclose(alone, x[1:2], atol=1e-12)


def test_the_derivative_of_a_solution() -> None:
    """Of x with x³ + x = u: dx/du = 1 / (3x² + 1), whatever found it."""
    u = torch.tensor([[0.5], [2.0], [30.0]], requires_grad=True)
    x = torch.zeros_like(u).detach()
    for _ in range(100):
        x = x - (x**3 + x - u.detach()) / (3 * x**2 + 1)
    solved = implicit(x, x**3 + x - u, lambda v: v / (3 * x**2 + 1))
    assert torch.allclose(solved, x)
    (slope,) = torch.autograd.grad(solved.sum(), u)
    assert torch.allclose(slope, 1 / (3 * x**2 + 1))
