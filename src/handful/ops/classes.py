"""Sums over the examples of each class, for classes of any sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["class_means", "membership"]


def membership(y: Tensor, ways: int, weight: Tensor | None = None, *, dtype: torch.dtype) -> Tensor:
    """How much each example counts in each class: [B, S] in [0, ways), weights [B, S] -> [B, S, ways]."""
    member = one_hot(y, ways).to(dtype)
    return member if weight is None else member * weight.to(dtype).unsqueeze(-1)


def class_means(z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Tensor:
    """Mean (weighted mean) of the examples of each class: [B, S, F], [B, S] in [0, ways) -> [B, ways, F]."""
    member = membership(y, ways, weight, dtype=z.dtype)  # [B, S, N]
    return member.transpose(1, 2) @ z / member.sum(1).unsqueeze(-1)
