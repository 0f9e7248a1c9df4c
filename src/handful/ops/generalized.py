"""Generalized zero-shot learning: classes seen in training and classes only described compete."""

from __future__ import annotations

from torch import Tensor

__all__ = ["calibrated_stacking", "harmonic_mean"]


def harmonic_mean(seen: float, unseen: float) -> float:
    """2·seen·unseen/(seen + unseen); 0 if both are 0 (Xian, Schiele & Akata 2017, arXiv:1703.04394, eq. 6)."""
    return 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


def calibrated_stacking(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits [..., N] with a penalty on the classes seen in training (Chao et al. 2016, arXiv:1605.04253, eq. 3).

    Args:
        logits: [..., N].
        seen: [N] whether each class was seen.
        penalty: taken from the logits of seen classes, which training made too great.
    """
    return logits - penalty * seen.to(logits)
