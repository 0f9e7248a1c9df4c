"""Sums over the examples of each class, for classes of any sizes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["class_means"]


def class_means(z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Tensor:
    """Mean (weighted mean) of the examples of each class: [B, S, F], [B, S] in [0, ways) -> [B, ways, F]."""
    member = one_hot(y, ways).to(z.dtype)  # [B, S, N]
    if weight is not None:
        member = member * weight.to(z.dtype).unsqueeze(-1)
    return member.transpose(1, 2) @ z / member.sum(1).unsqueeze(-1)
