"""A frozen encoder and a linear classifier for each task: ridge or logistic regression.

Paper: Tian, Wang, Krishnan, Tenenbaum & Isola 2020, arXiv:2003.11539.
    f_φ -> encoder        W, b (eq. 3) -> Linear
Departures:
    1. `head="ridge"`: least squares to one-hot labels, with an intercept.
    2. No self-distillation.
"""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor, nn
from torch.nn.functional import normalize

from ...errors import SpecError, unknown_name
from ...ops.classes import membership
from ...ops.logistic import logistic
from ...ops.ridge import Linear, ridge
from ...pretrained_learner import PretrainedLearner

__all__ = ["Frozen"]


@final
class Frozen(PretrainedLearner):
    """A linear classifier on the features of an encoder that classification has trained.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the head.
        head: "ridge" or "logistic".
        strength: λ of the head's penalty; scikit-learn's alpha for ridge and 1 / C for logistic regression.
        unit: give features length one, as the paper does.

    Raises:
        UnknownNameError: no such head.
        SpecError: a strength of zero or below.
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    paper = "Tian, Wang, Krishnan, Tenenbaum & Isola 2020, arXiv:2003.11539"
    kind = "baseline"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int | None = None,
        head: Literal["ridge", "logistic"] = "ridge",
        strength: float = 1.0,
        unit: bool = True,
    ) -> None:
        super().__init__(encoder, classes=classes)
        if head not in ("ridge", "logistic"):
            raise unknown_name("head", head, ("ridge", "logistic"))
        if strength <= 0:
            raise SpecError(f"frozen encoder: expected a strength above 0, got {strength}")
        self.head, self.strength, self.unit = head, strength, unit

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Linear:
        """W and b of the penalized regression (eq. 3)."""
        z = self._scaled(z)
        if self.head == "ridge":
            return ridge(z, membership(y, ways, dtype=z.dtype), self.strength, weight=weight, intercept=True)
        return logistic(z, membership(y, ways, weight, dtype=z.dtype), self.strength)

    def predict_features(self, state: Linear, z: Tensor) -> Tensor:
        """Logits f(x)W + b."""
        return state(self._scaled(z))  # [B, Q, N]

    def _scaled(self, z: Tensor) -> Tensor:
        return normalize(z, dim=-1) if self.unit else z
