"""Baseline: a linear classifier is fitted anew for each task, on the features of an encoder trained by classification.

Paper: Chen, Liu, Kira, Wang & Huang 2019, arXiv:1904.04232.
    W_b -> classifier        W_n -> Linear        C(·|W) = softmax(Wᵀf_θ(x)) -> predict_features
Departures:
    1. Fitted by gradient steps on the whole support, of a rate that does not overshoot. The authors take 100 epochs of
       batches of 4, of rate 0.01 with momentum 0.9 (dampened by as much) and weight decay 0.001.
    2. W and b start from zero, so that classes are alike; the authors' from random numbers.
    3. Pre-training sees batches that hold as many examples of each of their classes.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ...ops.classes import membership
from ...ops.ridge import Linear
from ...pretrained_learner import PretrainedLearner

__all__ = ["Baseline"]


@final
class Baseline(PretrainedLearner):
    """Softmax regression by gradient descent on features.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the steps.
        steps: gradient steps on the support.
        rate: of each. None: 0.1, or less where features are so long that it would overshoot: 2 over the mean of their
            squared lengths.
        decay: weight decay.

    Raises:
        SpecError: fewer than one step.
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    paper = "Chen, Liu, Kira, Wang & Huang 2019, arXiv:1904.04232"
    kind = "baseline"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int | None = None,
        steps: int = 100,
        rate: float | None = None,
        decay: float = 0.001,
    ) -> None:
        super().__init__(encoder, classes=classes)
        if steps < 1:
            raise SpecError(f"baseline: expected at least 1 step, got {steps}")
        self.steps, self.rate, self.decay = steps, rate, decay

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Linear:
        """W, b −= rate · ∇CE, `steps` times."""
        member = membership(y, ways, weight, dtype=z.dtype)
        member = member / member.sum((1, 2), keepdim=True)  # the mean over examples
        count = member.sum(-1, keepdim=True)
        with torch.no_grad():  # the curvature of the cross-entropy is at most half the mean of the squared lengths
            safe = 2 / (count * z.square().sum(-1, keepdim=True)).sum(1, keepdim=True)  # [B, 1, 1]
            rate = safe.clamp(max=0.1) if self.rate is None else torch.full_like(safe, self.rate)
        w, b = z.new_zeros(len(z), z.shape[2], ways), z.new_zeros(len(z), ways)
        for _ in range(self.steps):
            wrong = count * torch.softmax(z @ w + b.unsqueeze(1), -1) - member  # [B, S, N] ∂CE/∂logits
            w = w - rate * (z.mT @ wrong + self.decay * w)
            b = b - rate.squeeze(-1) * (wrong.sum(1) + self.decay * b)
        return Linear(w, b)

    def predict_features(self, state: Linear, z: Tensor) -> Tensor:
        """Logits Wᵀf(x) + b."""
        return state(z)  # [B, Q, N]
