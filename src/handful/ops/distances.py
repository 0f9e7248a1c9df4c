"""How far apart things are, in batches of tasks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import precise

__all__ = ["cosine_similarities", "distances", "squared_distances"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² summed over features, by one matrix product: [B, Q, F], [B, N, F] -> [B, Q, N].

    Both are first moved to the center of b, so that little cancels, and mixed precision is left outside.
    """
    with torch.autocast(a.device.type, enabled=False):
        a = precise(a)
        b = b.to(a.dtype)
        center = b.mean(-2, keepdim=True)
        return _squared_distances(a - center, b - center)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)  # [B, Q, N]
    return torch.baddbmm(squares, a, b.transpose(-1, -2), alpha=-2)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖: [B, Q, F], [B, N, F] -> [B, Q, N]. Where it is 0 its gradient is 0, not infinite as the root's."""
    square = squared_distances(a, b)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def cosine_similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between a_i and b_j: [..., Q, F], [..., N, F] -> [..., Q, N]. 0 for a vector of zeros."""
    with torch.autocast(a.device.type, enabled=False):
        a = precise(a)
        return F.normalize(a, dim=-1) @ F.normalize(b.to(a.dtype), dim=-1).mT
