import math
from typing import Any

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from handful.errors import ShapeError, SpecError
from handful.ops.transport import sinkhorn

pytestmark = pytest.mark.usefixtures("float64")


def problems(count: int = 4, n: int = 5, m: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    row, column = torch.rand(count, n) + 0.1, torch.rand(count, m) + 0.1
    return torch.rand(count, n, m), row / row.sum(-1, keepdim=True), column / column.sum(-1, keepdim=True)


def linear_program(cost: Tensor, row: Tensor, column: Tensor) -> Tensor:
    n, m = cost.shape
    leave = torch.eye(n).repeat_interleave(m, 1)
    arrive = torch.eye(m).repeat(1, n)
    masses = torch.cat([row, column]).numpy()
    found = linprog(cost.flatten().numpy(), A_eq=torch.cat([leave, arrive]).numpy(), b_eq=masses)
    return torch.as_tensor(found.x).view(n, m)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("regularization", [0.05, 0.02, 0.005])
def test_plans_that_fall_into_blocks_have_gradients(regularization: float, dtype: torch.dtype) -> None:
    """Such plans are nearly permutations: adding to one block's u what its v loses changes nothing."""
    blocks = torch.eye(3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    for agrees in (torch.eye(6), blocks):
        cost = (1 - agrees + 0.01 * torch.rand(6, 6)).to(dtype).requires_grad_()
        mass = torch.full((6,), 1 / 6, dtype=dtype)
        plan = sinkhorn(cost, mass, mass, regularization=regularization, tolerance=1e-6)
        (slope,) = torch.autograd.grad((plan * torch.rand(6, 6, dtype=dtype)).sum(), cost)
        assert bool(slope.isfinite().all())
        assert slope.dtype == dtype
        assert float(slope.sum(0).abs().max()) < 1e-3  # moving all costs of a column changes nothing


@pytest.mark.parametrize("options", [{"steps": 500}, {"tolerance": 1e-12}])
def test_marginals_hold_and_the_plan_scales_rows_and_columns(options: dict[str, Any]) -> None:
    cost, row, column = problems()
    plan = sinkhorn(cost, row, column, regularization=0.1, **options)
    assert torch.allclose(plan.sum(-1), row, atol=1e-12)
    assert torch.allclose(plan.sum(-2), column, atol=1e-15)
    scaling = plan.log() + cost / 0.1  # u ⊕ v: its mixed differences vanish
    mixed = scaling - scaling[:, :1] - scaling[:, :, :1] + scaling[:, :1, :1]
    assert torch.allclose(mixed, torch.zeros_like(mixed), atol=1e-9)


def test_small_regularization_comes_to_the_linear_program() -> None:
    cost, row, column = problems(3)
    best = torch.stack([linear_program(*problem) for problem in zip(cost, row, column, strict=True)])
    for regularization in (0.3, 0.1, 0.03, 0.01):
        plan = sinkhorn(cost, row, column, regularization=regularization, steps=20_000, tolerance=1e-10)
        gap = ((plan - best) * cost).sum((-2, -1))
        assert bool((gap > -1e-9).all())
        assert bool((gap < regularization * math.log(15)).all()), "the entropy of a plan of 5 times 3 is at most log 15"
    assert torch.allclose(plan, best, atol=0.05)
    assert bool((gap < 1e-3).all())


def test_costs_far_larger_than_the_regularization_do_not_overflow() -> None:
    cost, row, column = problems()
    plan = sinkhorn(1000 * cost.float(), row.float(), column.float(), regularization=0.5, steps=200)
    assert bool(plan.isfinite().all())
    assert torch.allclose(plan.sum(-2), column.float(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tolerance_is_met_in_a_few_steps_where_sinkhorn_needs_thousands(dtype: torch.dtype) -> None:
    problem = [part.to(dtype) for part in problems(6, 40, 5)]
    few = sinkhorn(*problem, regularization=0.02, steps=40, tolerance=1e-6)
    plain = sinkhorn(*problem, regularization=0.02, steps=40)
    many = sinkhorn(*(part.double() for part in problem), regularization=0.02, steps=30_000)
    wrong = [(plan.sum(-1) - problem[1]).abs().sum(-1).max() for plan in (few, plain)]
    assert wrong[0] < 2e-6
    assert wrong[1] > 1e-3
    assert torch.allclose(few.double(), many, atol=1e-6)


@pytest.mark.parametrize("options", [{"steps": 3}, {"tolerance": 1e-13}])
def test_gradients_match_finite_differences(options: dict[str, Any]) -> None:
    cost, row, column = (leaf.requires_grad_() for leaf in problems(2))

    def scaled(cost: Tensor, row: Tensor, column: Tensor) -> Tensor:  # marginals that stay of one sum
        row, column = row / row.sum(-1, keepdim=True), column / column.sum(-1, keepdim=True)
        return sinkhorn(cost, row, column, regularization=0.3, **options)

    assert torch.autograd.gradcheck(scaled, (cost, row, column), atol=1e-7)


def test_the_gradient_of_the_limit_is_that_of_many_steps() -> None:
    cost, row, column = problems()
    slope = torch.randn_like(cost)
    found = []
    for options in ({"steps": 400}, {"tolerance": 1e-14}):
        leaves = [leaf.clone().requires_grad_() for leaf in (cost, row, column)]
        plan = sinkhorn(*leaves, regularization=0.2, **options)  # type: ignore[arg-type]
        cost_slope, *mass = torch.autograd.grad((plan * slope).sum(), leaves)
        found.append([cost_slope, *(leaf - leaf.mean(-1, keepdim=True) for leaf in mass)])  # one sum: up to a constant
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_a_problem_does_not_depend_on_the_others() -> None:
    cost, row, column = problems(4)
    cost[0] *= 10  # takes longest
    together = sinkhorn(cost, row, column, regularization=0.05, tolerance=1e-3)
    for one in range(4):
        alone = sinkhorn(cost[one], row[one], column[one], regularization=0.05, tolerance=1e-3)
        assert torch.equal(alone, together[one])


@pytest.mark.parametrize("options", [{"steps": 50}, {"tolerance": 1e-12}])
def test_what_has_no_mass_stays_empty(options: dict[str, Any]) -> None:
    cost, row, column = problems(1)
    row[0, 2] = column[0, 1] = 0
    row, column = row / row.sum(), column / column.sum()
    keep_row, keep_column = torch.tensor([0, 1, 3, 4]), torch.tensor([0, 2])
    cost.requires_grad_()
    plan = sinkhorn(cost, row, column, regularization=0.2, **options)
    less = sinkhorn(cost[:, keep_row][:, :, keep_column], row[:, keep_row], column[:, keep_column], regularization=0.2)
    assert not plan[0, 2].any()
    assert not plan[0, :, 1].any()
    assert torch.allclose(plan[:, keep_row][:, :, keep_column], less, atol=1e-10)
    (slope,) = torch.autograd.grad((plan * cost).sum(), cost)
    assert bool(slope.isfinite().all())


@pytest.mark.parametrize("options", [{"steps": 5}, {"tolerance": 1e-6}])
def test_nothing_leaves_nothing(options: dict[str, Any]) -> None:
    plan = sinkhorn(torch.zeros(2, 0, 3), torch.zeros(2, 0), torch.zeros(2, 3), regularization=0.1, **options)
    assert plan.shape == (2, 0, 3)


def test_what_does_not_fit_is_refused() -> None:
    cost, row, column = problems()
    with pytest.raises(ShapeError, match=r"expected cost \[\.\.\., n, m\]"):
        sinkhorn(cost, column, row, regularization=0.1)
    with pytest.raises(SpecError, match="a regularization above 0"):
        sinkhorn(cost, row, column, regularization=0.0)
