"""Conjugate gradients for many systems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Operator", "conjugate_gradients"]

Operator = Callable[[Tensor], Tensor]
"""A symmetric linear map of [B, ...], each system by itself."""


def conjugate_gradients(operator: Operator, b: Tensor, *, iterations: int, tolerance: float = 1e-10) -> Tensor:
    """x with operator(x) = b, for B positive semidefinite operators with b in their range: [B, ...] -> [B, ...].

    Exact after as many iterations as unknowns, but for rounding. A system stays as it is once its residual is
    `tolerance` times as long as b, or where its operator is found not to be positive (Hestenes & Stiefel 1952,
    doi:10.6028/jres.049.044). At most so many iterations.
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = _dot(b, b)
    least = tolerance**2 * square
    for _ in range(iterations):
        image = operator(direction)
        curvature = _dot(direction, image)
        active = (square > least) & (curvature > 0)
        if not bool(active.any()):
            break
        step = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
        x, residual = x + step * direction, residual - step * image
        now = torch.where(active, _dot(residual, residual), square)
        turned = residual + now / torch.where(active, square, 1.0) * direction
        direction, square = torch.where(active, turned, direction), now
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product in each system, with as many axes as they have."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
