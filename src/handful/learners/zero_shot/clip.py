"""CLIP: examples and descriptions meet in one space, each picking the other out of all.

Paper: Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger & Sutskever 2021,
arXiv:2103.00020, figure 3.
    W_i -> projection of the encoder's features        W_t and the text encoder -> describer        t -> log_scale
    logits = exp(t) · cos -> similarity                loss_i, loss_t -> losses
Departures:
    1. A task is the batch. Of several queries of a class each is a right answer to its description: the target is
       spread evenly over them. With one query a class it is the paper's loss.
    2. A class with several descriptions is the mean of their unit vectors, made a unit vector (the paper's prompts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders.mlp import MLP
from ...encoders.placing import placed
from ...errors import SpecError
from ...ops.classes import class_means
from ...ops.ranking import symmetric_losses
from ...zero_shot_learner import ZeroShotLearner

__all__ = ["CLIP"]

GREATEST = math.log(100)
"""Of t, as in the paper."""


@final
class CLIP(ZeroShotLearner):
    """Cosine similarities at a learned temperature, trained by the symmetric contrastive loss.

    Args:
        encoder: of examples; it says its `out_features`.
        description: shape of a description; None: that of an example.
        dimensions: F, of the common space.
        hidden: widths of hidden layers from a description to its embedding.
        temperature: at the start; t = log(1/temperature).

    Raises:
        SpecError: a temperature that is not positive.
        ShapeError: sizes that are not known, or an encoder that must be adapted.
    """

    paper = "Radford et al. 2021, arXiv:2103.00020"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        description: Sequence[int] | None = None,
        dimensions: int = 64,
        hidden: Sequence[int] = (),
        temperature: float = 0.07,
    ) -> None:
        super().__init__(encoder, description=description)
        if not temperature > 0:
            raise SpecError(f"CLIP: expected a temperature above 0, got {temperature}")
        self.projection = placed(nn.Linear(self.features, dimensions, bias=False), encoder)
        self.describer = placed(MLP(shape=self.description, hidden=hidden, outputs=dimensions), encoder)
        self.log_scale = nn.Parameter(placed(torch.tensor(-math.log(temperature)), encoder))

    def codes(self, a: Tensor, y: Tensor, ways: int, weight: Tensor | None) -> Tensor:
        """Unit vectors of the described classes."""
        t = F.normalize(self.describer(a.flatten(0, 1)), dim=-1).view(*y.shape, -1)  # [B, S, F]
        return F.normalize(class_means(t, y, ways, weight), dim=-1)  # [B, N, F]

    def similarity(self, z: Tensor, c: Tensor) -> Tensor:
        """exp(t) · cos."""
        excess = (self.log_scale - GREATEST).clamp(min=0).detach()  # a constant: t keeps a gradient to come back by
        return (self.log_scale - excess).exp() * F.normalize(self.projection(z), dim=-1) @ c.mT  # [B, Q, N]

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """½ (loss_i + loss_t)."""
        return symmetric_losses(logits, y)
