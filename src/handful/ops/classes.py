"""Sums over the examples of each class, for classes of any sizes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["class_means", "members"]


def members(z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Tensor:
    """How much each example counts in each class, 0 outside its own: [B, S, *], [B, S] in [0, ways) -> [B, S, ways]."""
    member = one_hot(y, ways).to(z.dtype)
    return member if weight is None else member * weight.to(z.dtype).unsqueeze(-1)


def class_means(z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Tensor:
    """Mean (weighted mean) of the examples of each class: [B, S, F], [B, S] in [0, ways) -> [B, ways, F]."""
    member = members(z, y, ways, weight)  # [B, S, N]
    return member.transpose(1, 2) @ z / member.sum(1).unsqueeze(-1)
