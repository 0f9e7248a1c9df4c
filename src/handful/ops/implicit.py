"""Solutions of convex problems, differentiable without keeping how they were found."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.function import once_differentiable

from ..kernels.functions import Function
from .conjugate import Operator

__all__ = ["implicit"]


def implicit(solution: Tensor, slope: Tensor, solve: Operator) -> Tensor:
    """The solution x of slope(x, u) = 0 after one more Newton step, with its derivative in u.

    By the implicit function theorem dx/du = −H⁻¹ ∂slope/∂u, which is what the step x − H⁻¹ slope has for a derivative
    where x and H are held fixed. So no iteration needs to be kept. The first derivative only.

    Args:
        solution: [B, ...] without a graph.
        slope: [B, ...] at this solution, with its graph in u.
        solve: H⁻¹, symmetric, on tensors without a graph.
    """
    return solution - _Solved.apply(slope, solve)  # type: ignore[no-any-return]


class _Solved(Function):
    """H⁻¹ of a tensor; the way back is H⁻¹ again."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, solve: Operator) -> Tensor:
        ctx.solve = solve
        return solve(slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor, None]:
        return ctx.solve(direction), None
