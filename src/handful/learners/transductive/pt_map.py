"""PT-MAP: features made more Gaussian, queries shared out among classes by optimal transport.

Paper: Hu, Gripon & Pateux 2021, arXiv:2006.03806.
    power transform (eq. 2) -> _transformed        M* (eq. 4, Sinkhorn) -> plan        c_j (eq. 6, 7) -> c
Departures:
    1. Features may be negative: the root is that of the size, with the sign of the feature.
    2. The authors' code centers support and queries each by their own mean, and this does so too.
The transport gives every class the same number of queries, which is an assumption about the task.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...errors import SpecError
from ...ops.classes import membership
from ...ops.distances import squared_distances
from ...ops.precision import precise
from ...ops.rectification import Labeled
from ...ops.transport import sinkhorn
from ...pretrained_learner import PretrainedLearner

__all__ = ["PTMAP"]

EPSILON = 1e-6
"""Keeps the slope of the root finite (ε of eq. 2)."""


@final
class PTMAP(PretrainedLearner):
    """Class centers and the optimal transport of queries to them, in turns.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the steps.
        power: β of the transform.
        regularity: λ: the transport's regularization is 1 / λ.
        rate: α, how far centers go in a step.
        steps: of centers.
        tolerance: of each transport, see `sinkhorn`.

    Raises:
        SpecError: fewer than one step; a power or regularity of zero or below.
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    paper = "Hu, Gripon & Pateux 2021, arXiv:2006.03806"
    kind = "transductive"
    uses_queries = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int | None = None,
        power: float = 0.5,
        regularity: float = 10.0,
        rate: float = 0.2,
        steps: int = 20,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(encoder, classes=classes)
        if steps < 1 or power <= 0 or regularity <= 0:
            raise SpecError(
                f"PT-MAP: expected at least 1 step, power and regularity above 0; got {steps}, {power}, {regularity}"
            )
        self.power, self.regularity, self.rate = power, regularity, rate
        self.steps, self.tolerance = steps, tolerance

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Labeled:
        """The support, transformed, centered and of length one."""
        z = self._transformed(z)
        support = Labeled(z, membership(y, ways, weight, dtype=z.dtype))
        return support._replace(z=normalize(support.z - support.mean, dim=-1))

    def predict_features(self, state: Labeled, z: Tensor) -> Tensor:
        """The logarithm of the last plan: how much of each query goes to each class."""
        z = self._transformed(z)
        z = normalize(z - z.mean(1, keepdim=True), dim=-1)
        c = state.means  # [B, N, F]
        for _ in range(self.steps):
            plan = self._plan(z, c)  # [B, Q, N]
            total = state.member.sum(1) + plan.sum(1)
            c = c + self.rate * ((state.member.mT @ state.z + plan.mT @ z) / total.unsqueeze(-1) - c)
        plan = self._plan(z, c)
        return plan.clamp_min(torch.finfo(plan.dtype).tiny).log()

    def _plan(self, z: Tensor, c: Tensor) -> Tensor:
        row = z.new_ones(z.shape[:2])
        column = z.new_full(c.shape[:2], z.shape[1] / c.shape[1])
        return sinkhorn(
            squared_distances(z, c), row, column, regularization=1 / self.regularity, tolerance=self.tolerance
        )

    def _transformed(self, z: Tensor) -> Tensor:
        z = precise(z)
        size = (z.abs() + EPSILON) ** self.power - EPSILON**self.power
        return normalize(z.sign() * size, dim=-1)
