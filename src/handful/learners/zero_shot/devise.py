"""DeViSE: examples are mapped to the vectors of their classes, and a wrong class costs if it comes near the right one.

Paper: Frome, Corrado, Shlens, Bengio, Dean, Ranzato & Mikolov 2013, "DeViSE: A Deep Visual-Semantic Embedding Model",
NeurIPS 26, doi:10.5555/2999792.2999849.
    t_j, the unit vector of class j -> Described.c        M -> projection        v(image) -> the encoder's features
    loss, eq. 1: Σ_j max(0, margin − t_label·M v + t_j·M v) -> losses
Departures:
    1. The sum is over the classes of a task; the paper stops at the first wrong class that costs, drawn at random.
    2. A class with several descriptions is the mean of their unit vectors, made a unit vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders.placing import placed
from ...errors import SpecError
from ...ops.classes import class_means
from ...ops.ranking import ranking_losses
from ...zero_shot_learner import ZeroShotLearner

__all__ = ["DeViSE"]


@final
class DeViSE(ZeroShotLearner):
    """A linear map from example features to given class vectors, trained by a hinge on dot products.

    Args:
        encoder: of examples; it says its `out_features`.
        description: shape of a description, a class vector; None: that of an example.
        margin: by which the right class must lead.

    Raises:
        ShapeError: sizes that are not known, or an encoder that must be adapted.
        SpecError: a margin that is not above 0.
    """

    paper = "Frome, Corrado, Shlens, Bengio, Dean, Ranzato & Mikolov 2013, doi:10.5555/2999792.2999849"

    def __init__(self, encoder: nn.Module, *, description: Sequence[int] | None = None, margin: float = 0.1) -> None:
        super().__init__(encoder, description=description)
        if not margin > 0:
            raise SpecError(f"DeViSE: expected a margin above 0, got {margin}")
        self.margin = margin
        self.projection = placed(nn.Linear(self.features, prod(self.description), bias=False), encoder)

    def codes(self, a: Tensor, y: Tensor, ways: int, weight: Tensor | None) -> Tensor:
        """t_j, as given and of unit length."""
        t = F.normalize(a.flatten(2), dim=-1)  # [B, S, F]
        return F.normalize(class_means(t, y, ways, weight), dim=-1)  # [B, N, F]

    def similarity(self, z: Tensor, c: Tensor) -> Tensor:
        """t_j·M v."""
        return self.projection(z) @ c.mT  # type: ignore[no-any-return]  # [B, Q, N]

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """The hinge of eq. 1, mean over queries."""
        return ranking_losses(logits, y, self.margin).mean(1)
