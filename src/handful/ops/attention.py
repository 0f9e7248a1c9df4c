"""Attention over the examples of a support, each counted as often as its weight says."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import log_mass

__all__ = ["attend", "class_evidence"]


def attend(scores: Tensor, values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of the values by the softmax of their scores: [..., Q, S], [..., S, F] -> [..., Q, F].

    Args:
        scores: [..., Q, S], −∞ where a value is not looked at.
        values: [..., S, F].
        weight: [..., S] how often each value counts; 1 if None.
    """
    if weight is not None:
        scores = scores + log_mass(weight.to(scores.dtype)).unsqueeze(-2)
    return torch.softmax(scores, -1) @ values


def class_evidence(scores: Tensor, member: Tensor) -> Tensor:
    """Logarithm of the sum of exp(score) over the examples of each class: [B, Q, S], [B, S, N] -> [B, Q, N].

    Its softmax over classes is the softmax of the scores over examples, summed in each class. `member` says how often
    each example counts in each class (`ops.classes.membership`).
    """
    return (scores.unsqueeze(-1) + log_mass(member).unsqueeze(1)).logsumexp(2)
