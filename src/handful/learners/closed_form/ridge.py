"""R2D2: ridge regression in a learned embedding answers a task in closed form.

Paper: Bertinetto, Henriques, Torr & Vedaldi 2019, arXiv:1805.08136.
    αW (eq. 4, 6, 7) -> RidgeTask.w        λ -> 10 ** log_ridge        α (eq. 7) -> 10 ** log_scale
Departures:
    1. No β (eq. 7): the same number for all classes changes no softmax, and its gradient is zero.
    2. The smaller of the two systems is solved, F × F or S × S.
    3. Regression tasks are solved as they are, with an intercept and without the scale.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...errors import SpecError
from ...learner import EmbeddingLearner
from ...ops.classes import membership
from ...ops.ridge import ridge

__all__ = ["R2D2", "RidgeTask"]


class RidgeTask(NamedTuple):
    """What a support taught."""

    w: Tensor  # [B, F, N], or [B, F, *out] in a regression
    b: Tensor  # [B, N], or [B, *out]


@final
class R2D2(EmbeddingLearner):
    """Ridge regression from features to classes, or to targets; its strength and the scale of logits are learned.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        ridge: λ at the start.
        scale: α at the start, of the logits.

    Raises:
        SpecError: a ridge or scale of zero or below.
    """

    paper = "Bertinetto, Henriques, Torr & Vedaldi 2019, arXiv:1805.08136"
    kind = "closed_form"
    regression = True

    def __init__(self, encoder: nn.Module, *, ridge: float = 0.1, scale: float = 5.0) -> None:
        super().__init__(encoder)
        if ridge <= 0 or scale <= 0:
            raise SpecError(f"R2D2: expected ridge and scale above 0, got {ridge} and {scale}")
        self.log_ridge = nn.Parameter(placed(torch.tensor(math.log10(ridge)), encoder))
        self.log_scale = nn.Parameter(placed(torch.tensor(math.log10(scale)), encoder))

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> RidgeTask:
        """W = Xᵀ(XXᵀ + λI)⁻¹Y (eq. 6), or its twin; an example of weight w counts as w examples."""
        strength = 10**self.log_ridge
        if ways:
            w, b = ridge(z, membership(y, ways, dtype=z.dtype), strength, weight=weight)
            return RidgeTask(10**self.log_scale * w, b)  # b is zero
        out = y.shape[2:]
        w, b = ridge(z, y.reshape(*y.shape[:2], -1), strength, weight=weight, intercept=True)
        return RidgeTask(w.reshape(*w.shape[:2], *out), b.reshape(len(b), *out))

    def predict_features(self, state: RidgeTask, z: Tensor) -> Tensor:
        """Logits αXW (eq. 7) [B, Q, N], or outputs XW + b [B, Q, *out]."""
        w, b = state.w.reshape(*state.w.shape[:2], -1), state.b.reshape(len(z), 1, -1)
        return (z.to(w.dtype) @ w + b).reshape(*z.shape[:2], *state.w.shape[2:])
