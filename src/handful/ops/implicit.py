"""Solutions of convex problems, differentiable without keeping how they were found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Operator", "conjugate_gradients", "implicit"]

Operator = Callable[[Tensor], Tensor]
"""A symmetric linear map of [B, ...], each task by itself."""


def conjugate_gradients(operator: Operator, b: Tensor, *, steps: int, tolerance: float) -> Tensor:
    """x with operator(x) = b, for a positive semidefinite operator with b in its range: [B, ...] -> [B, ...].

    A task is finished, and left alone, when its residual is `tolerance` times as long as b (Hestenes & Stiefel 1952,
    doi:10.6028/jres.049.044). At most so many steps.
    """
    x, residual = torch.zeros_like(b), b
    direction, square = residual, _dot(residual, residual)
    enough = tolerance**2 * square
    for _ in range(steps):
        active = square > enough
        if not bool(active.any()):
            break
        image = operator(direction)
        step = torch.where(active, square / torch.where(active, _dot(direction, image), 1), 0)
        x, residual = x + step * direction, residual - step * image
        now = torch.where(active, _dot(residual, residual), square)
        direction = torch.where(active, residual + now / torch.where(active, square, 1) * direction, direction)
        square = now
    return x


def implicit(solution: Tensor, slope: Tensor, solve: Operator) -> Tensor:
    """The solution x of slope(x, u) = 0 after one more Newton step, with its derivative in u.

    By the implicit function theorem dx/du = −H⁻¹ ∂slope/∂u, which is what the step x − H⁻¹ slope has for a derivative
    where x and H are held fixed. So no iteration needs to be kept. The first derivative only.

    Args:
        solution: [B, ...] without a graph.
        slope: [B, ...] at this solution, with its graph in u.
        solve: H⁻¹, symmetric, on tensors without a graph.
    """
    return solution - _Solved.apply(slope, solve)  # type: ignore[no-any-return, no-untyped-call]


class _Solved(torch.autograd.Function):
    """H⁻¹ of a tensor; the way back is H⁻¹ again."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, solve: Operator) -> Tensor:
        ctx.solve = solve
        return solve(slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor, None]:
        return ctx.solve(direction), None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each task, with as many axes as they have."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
