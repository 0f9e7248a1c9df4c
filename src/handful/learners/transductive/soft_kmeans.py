"""Soft k-means: prototypes are refined by the queries, as far as each is likely to be of the class.

Paper: Ren, Triantafillou, Ravi, Snell, Swersky, Tenenbaum, Larochelle & Zemel 2018, arXiv:1803.00676.
    p_c (eq. 1) -> Labeled.means        z̃_{j,c}, p̃_c (eq. 3) -> share, c
Departures:
    1. The queries themselves are the unlabeled set; the authors have one beside them.
    2. `steps` refinements; the authors make one.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from ...errors import SpecError
from ...learner import EmbeddingLearner
from ...ops.classes import membership
from ...ops.distances import squared_distances
from ...ops.precision import precise
from ...ops.rectification import Labeled

__all__ = ["SoftKMeans"]


@final
class SoftKMeans(EmbeddingLearner):
    """Nearest refined class mean, by squared Euclidean distance.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        steps: refinements.

    Raises:
        SpecError: fewer than one.
    """

    paper = "Ren et al. 2018, arXiv:1803.00676"
    kind = "transductive"
    uses_queries = True

    def __init__(self, encoder: nn.Module, *, steps: int = 1) -> None:
        super().__init__(encoder)
        if steps < 1:
            raise SpecError(f"soft k-means: expected at least 1 step, got {steps}")
        self.steps = steps

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Labeled:
        """The support as it is."""
        z = precise(z)
        return Labeled(z, membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Labeled, z: Tensor) -> Tensor:
        """Logits −‖f(x) − p̃_c‖² after eq. 3, `steps` times."""
        z, c = precise(z), state.means  # [B, Q, F], [B, N, F]
        for _ in range(self.steps):
            share = (-squared_distances(z, c)).softmax(-1)  # [B, Q, N]
            total = state.member.sum(1) + share.sum(1)
            c = (state.member.mT @ state.z + share.mT @ z) / total.unsqueeze(-1)
        return -squared_distances(z, c)  # [B, Q, N]
