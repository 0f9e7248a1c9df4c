"""MetaOptNet: a support vector machine in a learned embedding answers a task.

Paper: Lee, Maji, Ravichandran & Soatto 2019, arXiv:1904.03758.
    α (eq. 8) -> crammer_singer        w_k = Σ_n α_n^k f(x_n) (eq. 7) -> Machine.w        γ (eq. 12) -> scale
Departures:
    1. The dual is solved to rounding by projected gradients, not by a few steps of an interior-point method.
    2. As the authors' code, δ = 1 is added to the diagonal of the kernel, which the paper does not say. It makes the
       solution unique, so that it has a gradient.
    3. No label smoothing.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...errors import SpecError
from ...learner import EmbeddingLearner
from ...ops.classes import membership
from ...ops.svm import crammer_singer

__all__ = ["Machine", "MetaOptNet"]


class Machine(NamedTuple):
    """What a support taught."""

    w: Tensor  # [B, F, N]


@final
class MetaOptNet(EmbeddingLearner):
    """A linear multi-class support vector machine on features; gradients pass through its optimum.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        box: C, the price of a margin that is missed.
        damping: δ, added to the diagonal of the kernel.
        scale: γ at the start, of the logits.

    Raises:
        SpecError: a box or damping of zero or below.
    """

    paper = "Lee, Maji, Ravichandran & Soatto 2019, arXiv:1904.03758"
    kind = "closed_form"

    def __init__(self, encoder: nn.Module, *, box: float = 0.1, damping: float = 1.0, scale: float = 1.0) -> None:
        super().__init__(encoder)
        if box <= 0 or damping <= 0:
            raise SpecError(f"MetaOptNet: expected box and damping above 0, got {box} and {damping}")
        self.box, self.damping = box, damping
        self.scale = nn.Parameter(placed(torch.tensor(float(scale)), encoder))

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Machine:
        """The machine with the widest margins (eq. 6); a missed margin costs as much as the example weighs."""
        member = membership(y, ways, weight, dtype=z.dtype)
        return Machine(z.mT @ crammer_singer(z @ z.mT, member, box=self.box, damping=self.damping).to(z.dtype))

    def predict_features(self, state: Machine, z: Tensor) -> Tensor:
        """Logits γ·w_kᵀf(x) (eq. 12)."""
        return self.scale * (z @ state.w)  # [B, Q, N]
