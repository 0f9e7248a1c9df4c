"""Zero-shot prototypical networks: a class is the embedding of its description.

Paper: Snell, Swersky & Zemel 2017, arXiv:1703.05175, sections 2.6 and 3.3.
    v_k, meta-data of class k -> support.x        g_ϑ -> describer        c_k = g_ϑ(v_k)/‖g_ϑ(v_k)‖ -> Described.c
    f_φ -> projection of the encoder's features
Departures:
    1. A class with several descriptions is the mean of their embeddings, made a unit vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders.mlp import MLP
from ...encoders.placing import placed
from ...learner import task_losses
from ...ops.classes import class_means
from ...ops.distances import squared_distances
from ...zero_shot_learner import ZeroShotLearner

__all__ = ["ZeroShotPrototypical"]


@final
class ZeroShotPrototypical(ZeroShotLearner):
    """Nearest described class, by squared Euclidean distance to prototypes of unit length.

    Args:
        encoder: of examples; it says its `out_features`.
        description: shape of a description; None: that of an example.
        dimensions: F, of the common space.
        hidden: widths of hidden layers from a description to its embedding; () is the paper's linear map.

    Raises:
        ShapeError: sizes that are not known, or an encoder that must be adapted.
    """

    paper = "Snell, Swersky & Zemel 2017, arXiv:1703.05175"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        description: Sequence[int] | None = None,
        dimensions: int = 64,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__(encoder, description=description)
        self.projection = placed(nn.Linear(self.features, dimensions), encoder)
        self.describer = placed(MLP(shape=self.description, hidden=hidden, outputs=dimensions), encoder)

    def codes(self, a: Tensor, y: Tensor, ways: int, weight: Tensor | None) -> Tensor:
        """c_k, of unit length."""
        g = self.describer(a.flatten(0, 1)).view(*y.shape, -1)  # [B, S, F]
        return F.normalize(class_means(g, y, ways, weight), dim=-1)  # [B, N, F]

    def similarity(self, z: Tensor, c: Tensor) -> Tensor:
        """−‖f(x) − c_k‖² (eq. 2)."""
        return -squared_distances(self.projection(z), c)  # [B, Q, N]

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return task_losses(logits, y)
