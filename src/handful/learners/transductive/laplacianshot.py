"""LaplacianShot: queries that are neighbors are of one class.

Paper: Masud Ziko, Dolz, Granger & Ben Ayed 2020, arXiv:2006.15486.
    a_q (eq. 2) -> unary        w(x_q, x_p), of k nearest neighbors -> affinity        bound updates (eq. 6) -> y
Departures:
    1. Features are of length one, without the mean of the training classes (SimpleShot has that).
    2. The logits are the last −a + λ·Wy; their softmax is the paper's y.
    3. Rectified prototypes are weighted means, and the support keeps its labels. The authors' code divides the weighted
       sums by the number of examples, so that prototypes are shorter than features; of features that are not centered
       (departure 1) the shortest then takes most queries.
The authors' code counts a query among its own neighbors and then leaves it out: its k of 3 is 2 here. Their λ is tuned
on validation classes, among 0.1 to 1.5.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...errors import SpecError
from ...ops.classes import membership
from ...ops.distances import squared_distances
from ...ops.rectification import Labeled, rectified, shifted
from ...pretrained_learner import PretrainedLearner

__all__ = ["LaplacianShot"]


@final
class LaplacianShot(PretrainedLearner):
    """Nearest class mean, smoothed over neighboring queries.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the steps.
        neighbors: k, of a query beside itself.
        strength: λ, of the agreement of neighbors.
        steps: bound updates.
        rectify: improve the class means by the queries first, as the authors do.

    Raises:
        SpecError: fewer than one neighbor or step.
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    paper = "Masud Ziko, Dolz, Granger & Ben Ayed 2020, arXiv:2006.15486"
    kind = "transductive"
    uses_queries = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int | None = None,
        neighbors: int = 2,
        strength: float = 1.0,
        steps: int = 20,
        rectify: bool = True,
    ) -> None:
        super().__init__(encoder, classes=classes)
        if neighbors < 1 or steps < 1:
            raise SpecError(f"LaplacianShot: expected at least 1 neighbor and step, got {neighbors} and {steps}")
        self.neighbors, self.strength, self.steps, self.rectify = neighbors, strength, steps, rectify

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Labeled:
        """The support, of length one."""
        return Labeled(normalize(z, dim=-1), membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Labeled, z: Tensor) -> Tensor:
        """Logits −a + λ·Wy after all bound updates."""
        z = normalize(z, dim=-1)
        means = state.means
        if self.rectify:
            z = shifted(state, z)
            means = rectified(state, z, 10.0, shares=True)
        unary = squared_distances(z, means)  # [B, Q, N]
        affinity = self._affinity(z)
        logits = -unary
        for _ in range(self.steps):
            logits = -unary + self.strength * affinity @ logits.softmax(-1)
        return logits

    def _affinity(self, z: Tensor) -> Tensor:
        """[B, Q, Q] 1 for the k queries that are nearest to a query, beside itself."""
        queries = z.shape[1]
        distance = squared_distances(z, z).detach()
        itself = torch.eye(queries, dtype=torch.bool, device=z.device)
        nearest = (
            distance.masked_fill(itself, torch.inf)
            .topk(min(self.neighbors, max(queries - 1, 0)), largest=False)
            .indices
        )
        return torch.zeros_like(distance).scatter(2, nearest, 1)
