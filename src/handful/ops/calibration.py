"""Whether a learner is as sure as it is right."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["expected_calibration_error", "interval_coverage"]


def expected_calibration_error(logits: Tensor, y: Tensor, *, bins: int = 15) -> Tensor:
    """Mean distance between confidence and accuracy over bins of confidence, each by its share of the answers.

    Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017, arXiv:1706.04599 (eq. 3), with bins of equal width.

    Args:
        logits: [..., N]; confidence is the greatest probability.
        y: [...] the right classes.
        bins: how many; at least 1.
    """
    confidence, answer = logits.softmax(-1).flatten(0, -2).max(1)
    right = (answer == y.flatten()).to(confidence.dtype)
    slot = (confidence * bins).ceil().long().clamp(1, bins) - 1  # (0, 1/bins], (1/bins, 2/bins], ...
    gaps = torch.zeros(bins, dtype=confidence.dtype, device=confidence.device)
    return gaps.index_add(0, slot, confidence - right).abs().sum() / len(right)


def interval_coverage(members: Tensor, y: Tensor, *, level: float = 0.9) -> Tensor:
    """The share of targets inside the central interval of the members' outputs that should hold `level` of them.

    Args:
        members: [B, L, Q, *out] outputs of L members.
        y: [B, Q, *out] targets.
        level: in (0, 1).
    """
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=members.dtype, device=members.device)
    low, high = members.quantile(ends, dim=1)
    inside: Tensor = (low <= y) & (y <= high)
    return inside.to(members.dtype).mean()
