"""Queries of none of a task's classes: how well they are told from the others by the logits alone.

A query counts as known by one number made of its logits; strangers should have smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["KNOWN_BY", "area_under_curve", "false_acceptance"]


def _margin(logits: Tensor) -> Tensor:
    best = logits.topk(min(2, logits.shape[-1]), -1).values
    return best[..., 0] - best[..., -1]


KNOWN_BY: dict[str, Callable[[Tensor], Tensor]] = {
    "logit": lambda logits: logits.amax(-1),
    "probability": lambda logits: logits.softmax(-1).amax(-1),
    "energy": lambda logits: logits.logsumexp(-1),
    "margin": _margin,
}
"""Scores of logits [..., N]: the greatest logit, the greatest probability (Hendrycks & Gimpel 2017, arXiv:1610.02136),
the logarithm of the sum of exponentials (Liu et al. 2020, arXiv:2010.03759), the lead over the second."""


def area_under_curve(known: Tensor, strange: Tensor) -> Tensor:
    """How often a known query scores higher than a stranger, a tie counting half: [B, Q], [B, T] -> [B].

    It is the area under the ROC curve (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """
    known, strange = known.unsqueeze(2), strange.unsqueeze(1)  # not by their difference, which infinite ones lack
    return ((known > strange).double() + (known == strange).double() / 2).mean((1, 2))  # of [B, Q, T]


def false_acceptance(known: Tensor, strange: Tensor, accepted: float = 0.95) -> Tensor:
    """Share of strangers that are taken for known where this share of the known is, at least: [B, Q], [B, T] -> [B]."""
    order = known.sort(1, descending=True).values
    place = min(known.shape[1], max(1, -int(-accepted * known.shape[1] // 1))) - 1
    return (strange >= order[:, place, None]).double().mean(1)
