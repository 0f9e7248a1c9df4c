import math

import pytest
import torch
from torch.autograd import gradcheck

from handful.ops.stein import rbf_kernel, stein_direction

pytestmark = pytest.mark.usefixtures("float64")


def test_kernel_and_repulsion_against_the_definition() -> None:
    """The repulsion by finite differences of the kernel in its first argument, at the fixed bandwidth."""
    theta = torch.randn(2, 4, 3)
    k, repulsion = rbf_kernel(theta)
    for task in range(2):
        pairs = [(i, j) for i in range(4) for j in range(i)]
        h = sorted(float((theta[task, i] - theta[task, j]).square().sum()) for i, j in pairs)[2] / math.log(4)

        def kernel(a: torch.Tensor, b: torch.Tensor, h: float = h) -> torch.Tensor:
            return (-(a - b).square().sum() / h).exp()

        for m in range(4):
            total = torch.zeros(3)
            for j in range(4):
                assert torch.allclose(k[task, j, m], kernel(theta[task, j], theta[task, m]))
                for axis in range(3):
                    step = 1e-6 * torch.eye(3)[axis]
                    up, down = (kernel(theta[task, j] + sign * step, theta[task, m]) for sign in (1, -1))
                    total[axis] += (up - down) / 2e-6
            assert torch.allclose(repulsion[task, m], total, atol=1e-7)


def test_one_particle_follows_its_score() -> None:
    scores = torch.randn(2, 1, 5)
    assert torch.equal(stein_direction(torch.randn(2, 1, 5), scores), scores)


def test_particles_in_one_place_stay_finite() -> None:
    direction = stein_direction(torch.zeros(1, 3, 2), torch.ones(1, 3, 2))
    assert torch.allclose(direction, torch.ones(1, 3, 2))


def test_half_precision() -> None:
    theta, scores = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    direction = stein_direction(theta.bfloat16(), scores.bfloat16())
    assert direction.dtype == torch.bfloat16
    assert torch.allclose(direction.to(theta), stein_direction(theta, scores), atol=0.05)


def test_derivatives() -> None:
    theta, scores = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 4, 3, requires_grad=True)
    assert gradcheck(stein_direction, (theta, scores))


def test_particles_find_a_normal_distribution() -> None:
    theta = 0.1 * torch.randn(1, 60, 1) - 3
    for _ in range(500):
        theta = theta + 0.3 * stein_direction(theta, (2.0 - theta) / 0.25)  # N(2, ½²)
    assert float(theta.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(theta.std()) == pytest.approx(0.5, abs=0.05)
