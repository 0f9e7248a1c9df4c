"""Losses of scores between queries and classes, [B, Q, N]."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

__all__ = ["ranking_losses", "symmetric_losses"]


def ranking_losses(scores: Tensor, y: Tensor, margin: float) -> Tensor:
    """Σ_{j≠y} max(0, margin − s_y + s_j) of each query (Frome et al. 2013, eq. 1): [B, Q, N], [B, Q] -> [B, Q]."""
    right = scores.gather(-1, y.unsqueeze(-1))  # [B, Q, 1]
    hinge = (margin - right + scores).clamp_min(0)
    return (hinge * (1 - one_hot(y, scores.shape[-1]).to(scores.dtype))).sum(-1)


def symmetric_losses(logits: Tensor, y: Tensor) -> Tensor:
    """Half the cross-entropy of classes given a query and half that of queries given a class: [B, Q, N] -> [B].

    A class with several queries spreads its target evenly over them; one without any takes no part
    (Radford et al. 2021, figure 3, where each class has one).
    """
    queries = cross_entropy(logits.transpose(1, 2), y, reduction="none").mean(1)  # [B]
    member = one_hot(y, logits.shape[-1]).to(logits.dtype)  # [B, Q, N]
    count = member.sum(1)  # [B, N]
    each = -(logits.log_softmax(1) * member).sum(1) / count.clamp_min(1)  # [B, N]
    present = (count > 0).to(logits.dtype)
    return (queries + each.sum(1) / present.sum(1)) / 2
