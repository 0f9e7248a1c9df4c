"""How far apart things are, in batches of tasks."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["squared_distances"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² summed over features, by one matrix product: [B, Q, F], [B, N, F] -> [B, Q, N].

    Both are first moved to the center of b, so that little cancels, and mixed precision is left outside.
    """
    with torch.autocast(a.device.type, enabled=False):
        precise = torch.promote_types(a.dtype, torch.float32)
        a, b = a.to(precise), b.to(precise)
        center = b.mean(-2, keepdim=True)
        return _squared_distances(a - center, b - center)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)  # [B, Q, N]
    return torch.baddbmm(squares, a, b.transpose(-1, -2), alpha=-2)
