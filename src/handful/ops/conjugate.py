"""Conjugate gradients (Hestenes & Stiefel 1952) for many systems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["conjugate_gradients"]


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, *, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """x with A x = b, for B symmetric positive definite matrices A: [B, P].

    Exact after P iterations, but for rounding. A system stays as it is once its residual is `tolerance` of b, or where
    A is found not to be positive definite.

    Args:
        apply: A of a vector for each system, [B, P] -> [B, P].
        b: [B, P].
        iterations: at most so many products with A.
        tolerance: of the residual's norm to that of b.
    """
    x, r, p = torch.zeros_like(b), b, b
    rr = b.square().sum(1, keepdim=True)  # [B, 1]
    least = tolerance**2 * rr
    for _ in range(iterations):
        product = apply(p)
        curvature = (p * product).sum(1, keepdim=True)
        active = (rr > least) & (curvature > 0)
        if not bool(active.any()):
            break
        alpha = torch.where(active, rr / torch.where(active, curvature, 1.0), 0.0)
        x, r = x + alpha * p, r - alpha * product
        new = r.square().sum(1, keepdim=True)
        p = r + torch.where(active, new / torch.where(active, rr, 1.0), 0.0) * p
        rr = torch.where(active, new, rr)
    return x
