"""How far apart things are, in batches of tasks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["cosine_similarities", "squared_distances"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² summed over features, by one matrix product: [B, Q, F], [B, N, F] -> [B, Q, N]."""
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)  # [B, Q, N]
    return torch.baddbmm(squares, a, b.transpose(-1, -2), alpha=-2)


def cosine_similarities(a: Tensor, b: Tensor) -> Tensor:
    """cos(a_i, b_j): [B, Q, F], [B, N, F] -> [B, Q, N]."""
    return normalize(a, dim=-1) @ normalize(b, dim=-1).transpose(-1, -2)
