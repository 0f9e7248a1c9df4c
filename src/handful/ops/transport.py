"""Optimal transport between weighted sets, in batches: entropic plans by Sinkhorn's iterations in the log domain.

Cuturi 2013, arXiv:1306.0895. A plan that must fit to a tolerance is found by Newton's steps on the same dual problem
(Brauer, Clason, Lorenz & Wirth 2017, arXiv:1710.06635), with Sinkhorn's wherever they gain more: a few iterations where
Sinkhorn needs hundreds. Its gradient is that of its limit, by the implicit function theorem (Luise, Rudi, Pontil &
Ciliberto 2018, arXiv:1805.11897), so that no iteration needs to be kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ShapeError, SpecError
from ..kernels.functions import Function
from .precision import double_where_there, log_mass

__all__ = ["sinkhorn"]

SINKHORN_STEPS = 10
"""Before the first of Newton's, which costs as much as several: many problems need no more."""

BLOCKS = 1e-12
"""What the diagonal of the derivative's system gets on top, as a share of it."""

DAMPING, DAMPING_FACTOR = 0.01, 3.0
"""Of Newton's first step, as a share of the Hessian's diagonal, and how it falls after a step that gains, and rises."""


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
            Gradients are then those of the limit, the first derivative only. None: all steps are made, Sinkhorn's, and
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
    if not cost.numel():
        return torch.zeros_like(cost)
    if tolerance is None:
        return _iterate(kernel, row, column, steps)
    plan: Tensor = _Limit.apply(kernel, row, column, steps, tolerance)
    return plan


def _iterate(kernel: Tensor, row: Tensor, column: Tensor, steps: int) -> Tensor:
    log_row, log_column = log_mass(row), log_mass(column)
    v = torch.zeros_like(column)
    for _ in range(steps):
        u = log_row - torch.logsumexp(kernel + v.unsqueeze(-2), -1)  # [..., n]
        v = log_column - torch.logsumexp(kernel + u.unsqueeze(-1), -2)  # [..., m]
    return (kernel + u.unsqueeze(-1) + v.unsqueeze(-2)).exp()


def _solve(kernel: Tensor, row: Tensor, column: Tensor, steps: int, tolerance: float) -> Tensor:
    """The plan of kernel [P, n, m] by ascent of the dual D(v) = ⟨column, v⟩ + ⟨row, u(v)⟩, where u(v) fits the rows."""
    plan = torch.empty_like(kernel)
    left = torch.arange(len(kernel), device=kernel.device)  # the problems that are not finished, as all that follows
    damping = torch.full_like(row[:, 0], DAMPING)
    v = torch.where(column > 0, 0.0, -torch.inf).to(kernel)
    u, _ = _ascend(v, kernel, row, column)
    for step in range(steps):
        scaled = kernel + u.unsqueeze(-1)  # [P, n, m]
        sinkhorn_v = log_mass(column) - torch.logsumexp(scaled, -2)
        fitted = (scaled + sinkhorn_v.unsqueeze(-2)).exp()  # its columns are right
        done = (fitted.sum(-1) - row).abs().sum(-1) <= tolerance * row.sum(-1)  # [P]
        if step == steps - 1 or bool(done.all()):
            plan[left] = fitted
            break
        if bool(done.any()):
            plan[left[done]], more = fitted[done], ~done
            left, kernel, row, column, damping = (part[more] for part in (left, kernel, row, column, damping))
            scaled, sinkhorn_v, v = scaled[more], sinkhorn_v[more], v[more]
        sinkhorn_u, least = _ascend(sinkhorn_v, kernel, row, column)
        if step < SINKHORN_STEPS:
            u, v = sinkhorn_u, sinkhorn_v
            continue
        newton_v = v + _newton_step((scaled + v.unsqueeze(-2)).exp(), row, column, damping)
        newton_u, value = _ascend(newton_v, kernel, row, column)
        gains = value >= least  # not where it is not finite
        u = torch.where(gains.unsqueeze(-1), newton_u, sinkhorn_u)
        v = torch.where(gains.unsqueeze(-1), newton_v, sinkhorn_v)
        damping = torch.where(gains, damping / DAMPING_FACTOR, (damping * DAMPING_FACTOR).clamp(max=1))
    return plan


def _ascend(v: Tensor, kernel: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """u [P, n] that fits the rows, and D [P]."""
    u = log_mass(row) - torch.logsumexp(kernel + v.unsqueeze(-2), -1)
    return u, torch.where(column > 0, column * v, 0.0).sum(-1) + torch.where(row > 0, row * u, 0.0).sum(-1)


def _newton_step(plan: Tensor, row: Tensor, column: Tensor, damping: Tensor) -> Tensor:
    """Newton's step of v [P, m] from a plan whose rows are right, damped as Levenberg and Marquardt do."""
    arrive = plan.sum(-2)  # [P, m]
    share = torch.where(row > 0, 1 / row, 0.0).unsqueeze(-1)  # [P, n, 1]
    diagonal = torch.where(column > 0, arrive * (1 + damping.unsqueeze(-1)), 1.0)
    # of rank m - 1, as adding to u what v loses changes nothing: made whole by a matrix that the solution cancels
    whole = arrive.unsqueeze(-1) * arrive.unsqueeze(-2) / arrive.sum(-1)[..., None, None]
    bend = torch.diag_embed(diagonal) - plan.mT @ (share * plan) + whole
    step: Tensor = torch.linalg.solve_ex(bend, (column - arrive).unsqueeze(-1)).result
    return step.squeeze(-1)


class _Limit(Function):
    """The plan P = exp(kernel + u ⊕ v) with the right marginals, and its derivative as the solution of

    diag(row) du + P dv = d row − (P ∘ d kernel)1,    Pᵀ du + diag(column) dv = d column − (P ∘ d kernel)ᵀ1.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, row: Tensor, column: Tensor, steps: int, tolerance: float) -> Tensor:
        wide = double_where_there(kernel.device)
        problems = (kernel.flatten(0, -3) if kernel.dim() > 2 else kernel.unsqueeze(0)).to(wide)
        leave, arrive = (mass.reshape(-1, mass.shape[-1]).to(wide) for mass in (row, column))
        plan = _solve(problems, leave, arrive, steps, tolerance).view_as(kernel)
        ctx.save_for_backward(plan)
        return plan.to(kernel.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (plan,) = ctx.saved_tensors
        row, column = plan.sum(-1), plan.sum(-2)
        moved = plan * slope.to(plan.dtype)
        share = torch.where(column > 0, 1 / column, 0.0).unsqueeze(-2)  # [..., 1, m]
        arrive = moved.sum(-2, keepdim=True)  # [..., 1, m]
        target = (moved - plan * share * arrive).sum(-1, keepdim=True)  # [..., n, 1]
        # of rank n − 1, as adding to u what v loses changes nothing: made whole by a matrix that the solution cancels;
        # plans that fall into blocks are of still less, each block changing nothing: a trace more on the diagonal
        whole = row.unsqueeze(-1) * row.unsqueeze(-2) / row.sum(-1)[..., None, None]
        diagonal = torch.where(row > 0, row, 1.0) * (1 + BLOCKS)
        u = torch.linalg.solve(torch.diag_embed(diagonal) - (plan * share) @ plan.mT + whole, target)  # [..., n, 1]
        v = share * (arrive - (plan * u).sum(-2, keepdim=True))  # [..., 1, m]
        slopes = (moved - plan * (u + v), u.squeeze(-1), v.squeeze(-2))
        return *(leaf.to(slope.dtype) for leaf in slopes), None, None
