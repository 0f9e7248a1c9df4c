"""Optimal transport between weighted sets, in batches: entropic plans by Sinkhorn's iterations in the log domain.

Cuturi 2013, arXiv:1306.0895. The gradient of a converged plan is that of its limit, by the implicit function theorem
(Luise, Rudi, Pontil & Ciliberto 2018, arXiv:1805.11897), so that no iteration needs to be kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ShapeError, SpecError

__all__ = ["sinkhorn"]


def sinkhorn(
    cost: Tensor,
    row: Tensor,
    column: Tensor,
    *,
    regularization: float,
    steps: int = 1000,
    tolerance: float | None = None,
) -> Tensor:
    """The plan P ≥ 0 that minimizes ⟨P, cost⟩ + regularization · Σ P (log P − 1), P1 = row, Pᵀ1 = column.

    Leading axes are problems of their own: an answer does not depend on the other problems. The marginal of the
    columns is exact, that of the rows as good as the iterations. Rows and columns without mass stay empty.

    Args:
        cost: [..., n, m].
        row: [..., n] mass that leaves; not negative, not all zero.
        column: [..., m] mass that arrives; of the same sum as `row`.
        regularization: above 0, in units of cost: smaller is nearer to the unregularized plan, and slower.
        steps: iterations; with a tolerance, at most so many.
        tolerance: a problem is finished when its rows are wrong by at most this share of its mass, all together.
            Gradients are then those of the limit, the first derivative only. None: all steps are made, and
            gradients are those of these steps.

    Returns:
        The plan [..., n, m].

    Raises:
        ShapeError: row and column do not fit the cost.
        SpecError: a regularization of zero or below, or fewer than one step.
    """
    if cost.shape[:-1] != row.shape or (*cost.shape[:-2], cost.shape[-1]) != tuple(column.shape):
        raise ShapeError(
            f"sinkhorn: expected cost [..., n, m], row [..., n] and column [..., m], "
            f"got {tuple(cost.shape)}, {tuple(row.shape)} and {tuple(column.shape)}"
        )
    if regularization <= 0 or steps < 1:
        raise SpecError(
            f"sinkhorn: expected a regularization above 0 and at least one step, got {regularization} and {steps}"
        )
    kernel = -cost / regularization
    if tolerance is None:
        return _iterate(kernel, row, column, steps, None)
    plan: Tensor = _Limit.apply(kernel, row, column, steps, tolerance)  # type: ignore[no-untyped-call]
    return plan


def _iterate(kernel: Tensor, row: Tensor, column: Tensor, steps: int, tolerance: float | None) -> Tensor:
    log_row, log_column = _log(row), _log(column)
    u = v = None
    done = torch.zeros(row.shape[:-1], dtype=torch.bool, device=row.device)  # [...]
    for _ in range(steps):
        reach = torch.logsumexp(kernel if v is None else kernel + v.unsqueeze(-2), -1)  # [..., n]
        if tolerance is not None and u is not None:
            wrong = ((u + reach).exp() - row).abs().sum(-1)
            done = wrong <= tolerance * row.sum(-1)
            if bool(done.all()):
                break
        new_u = log_row - reach
        u = new_u if u is None else torch.where(done.unsqueeze(-1), u, new_u)
        new_v = log_column - torch.logsumexp(kernel + u.unsqueeze(-1), -2)  # [..., m]
        v = new_v if v is None else torch.where(done.unsqueeze(-1), v, new_v)
    assert u is not None
    assert v is not None
    return (kernel + u.unsqueeze(-1) + v.unsqueeze(-2)).exp()


def _log(mass: Tensor) -> Tensor:
    """log, −∞ at 0 without a gradient."""
    empty = mass == 0
    return torch.where(empty, -torch.inf, torch.where(empty, 1.0, mass).log())


class _Limit(torch.autograd.Function):
    """The plan P = exp(kernel + u ⊕ v) with the right marginals, and its derivative as the solution of

    diag(row) du + P dv = d row − (P ∘ d kernel)1,    Pᵀ du + diag(column) dv = d column − (P ∘ d kernel)ᵀ1.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, row: Tensor, column: Tensor, steps: int, tolerance: float) -> Tensor:
        plan = _iterate(kernel, row, column, steps, tolerance)
        ctx.save_for_backward(plan)
        return plan

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (plan,) = ctx.saved_tensors
        row, column = plan.sum(-1), plan.sum(-2)
        moved = plan * slope
        share = torch.where(column > 0, 1 / column, 0.0).unsqueeze(-2)  # [..., 1, m]
        arrive = moved.sum(-2, keepdim=True)  # [..., 1, m]
        target = (moved - plan * share * arrive).sum(-1, keepdim=True)  # [..., n, 1]
        # of rank n − 1, as adding to u what v loses changes nothing: made whole by a matrix that the solution cancels
        whole = row.unsqueeze(-1) * row.unsqueeze(-2) / row.sum(-1)[..., None, None]
        diagonal = torch.where(row > 0, row, 1.0)
        u = torch.linalg.solve(torch.diag_embed(diagonal) - (plan * share) @ plan.mT + whole, target)  # [..., n, 1]
        v = share * (arrive - (plan * u).sum(-2, keepdim=True))  # [..., 1, m]
        return moved - plan * (u + v), u.squeeze(-1), v.squeeze(-2), None, None
