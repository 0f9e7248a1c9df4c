"""Baseline++: as Baseline, with classifiers by cosine, in training and in tasks.

Paper: Chen, Liu, Kira, Wang & Huang 2019, arXiv:1904.04232.
    w_j -> CosineHead.w        s_ij = cos(f(x_i), w_j) -> predict_features / scale
Departures:
    1. Fitted by gradient steps on the whole support. The authors take 100 epochs of batches of 4, of rate 0.01 with
       momentum 0.9 (dampened by as much) and weight decay 0.001.
    2. w starts from the class means of unit features, so that classes are alike; the authors' from random numbers.
    3. One scale for all classes; the authors' code learns a factor for each.
    4. No weight decay: a cosine does not see the length of w.
    5. `center`: unit features are moved by the mean of the task's class means, and made unit features again, so that
       what all classes share decides nothing (SimpleShot's centering, by the task's own support).
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...errors import SpecError
from ...ops.classes import class_means, membership
from ...pretrained_learner import PretrainedLearner

__all__ = ["BaselinePlus", "CosineHead"]


class CosineHead(NamedTuple):
    """What a support taught."""

    w: Tensor  # [B, N, F]
    mean: Tensor  # [B, 1, F], zero unless centered


@final
class BaselinePlus(PretrainedLearner):
    """Softmax regression on cosines, by gradient descent.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the steps.
        steps: gradient steps on the support.
        rate: of each.
        scale: of cosines, to logits; the authors' code: 2 up to 200 training classes, else 10.
        center: take the support's mean from features first.

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
        rate: float = 0.1,
        scale: float = 10.0,
        center: bool = False,
    ) -> None:
        super().__init__(encoder, classes=classes, scale=scale)
        if steps < 1:
            raise SpecError(f"baseline++: expected at least 1 step, got {steps}")
        self.steps, self.rate, self.scale, self.center = steps, rate, scale, center

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> CosineHead:
        """w −= rate · ∇CE, `steps` times; the gradient of cos(z, w) in w is z, less its part along w, over ‖w‖."""
        z = normalize(z, dim=-1)
        mean = class_means(z, y, ways, weight).mean(1, keepdim=True)  # [B, 1, F]
        mean = mean if self.center else torch.zeros_like(mean)
        z = normalize(z - mean, dim=-1)
        member = membership(y, ways, weight, dtype=z.dtype)
        member = member / member.sum((1, 2), keepdim=True)  # the mean over examples
        count = member.sum(-1, keepdim=True)
        w = class_means(z, y, ways, weight)
        for _ in range(self.steps):
            length = w.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            unit = w / length
            wrong = count * (self.scale * z @ unit.mT).softmax(-1) - member  # [B, S, N] ∂CE/∂logits
            slope = wrong.mT @ z  # [B, N, F]
            slope = slope - (slope * unit).sum(-1, keepdim=True) * unit
            w = w - self.rate * self.scale * slope / length
        return CosineHead(w, mean)

    def predict_features(self, state: CosineHead, z: Tensor) -> Tensor:
        """Logits scale · cos(f(x), w)."""
        z = normalize(normalize(z, dim=-1) - state.mean, dim=-1)
        return self.scale * z @ normalize(state.w, dim=-1).mT  # [B, Q, N]
