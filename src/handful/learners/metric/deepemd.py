"""DeepEMD: how much must be moved how far, from the places of one picture to those of another?

Paper: Zhang, Cai, Lin & Shen 2020, arXiv:2003.06777.
    u_i, v_j -> places        c_ij = 1 − cos (eq. 3) -> 1 − similarity        x_ij -> plan
    s_i = max(u_iᵀ · mean of v, 0) (eq. 13) -> masses        temperature -> temperature
Departures:
    1. The plan is entropic, by `ops.transport.sinkhorn` for all pairs at once, where the authors solve a linear program
       for each pair; `regularization` towards 0 is theirs. Its gradient, in the masses too, is as exact as the plan.
    2. As in the authors' code, masses have 0.001 added and places are centered over their channels before the cosine.
    3. Classes of several shots (the structured layer of section 3.4) begin from the mean of their maps and descend the
       support loss by `structured_steps` steps on the whole support; the authors draw four pictures a step.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders.maps import map_shape
from ...errors import SpecError
from ...learner import EmbeddingLearner, task_losses
from ...ops.classes import class_means
from ...ops.distances import cosine_similarities
from ...ops.transport import sinkhorn

__all__ = ["ClassMaps", "DeepEMD"]

MOMENTUM = 0.9
"""Of the structured layer's descent, dampened by as much, as in the authors' code."""


class ClassMaps(NamedTuple):
    """What a support taught."""

    p: Tensor  # [B, N, F] a map for each class


@final
class DeepEMD(EmbeddingLearner):
    """Earth mover's distance between the places of maps.

    Args:
        encoder: any module from [examples, *shape] to [examples, F] whose `out_maps` says the shape of its maps.
        temperature: what similarities are multiplied by.
        regularization: of the transport plan, in units of 1 − cosine.
        tolerance: how well a plan must fit the masses of its rows, as a share of all mass.
        iterations: of Sinkhorn, at most.
        structured_steps: steps of the structured layer; 0: a class is the mean of its maps.
        structured_rate: of these steps.

    Raises:
        SpecError: a number that must be positive is not.
        ShapeError: the encoder says neither its `out_maps` nor its `out_features`.
    """

    paper = "Zhang, Cai, Lin & Shen 2020, arXiv:2003.06777"
    kind = "metric"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        temperature: float = 12.5,
        regularization: float = 0.05,
        tolerance: float = 1e-4,
        iterations: int = 500,
        structured_steps: int = 0,
        structured_rate: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        if min(regularization, tolerance, iterations, structured_rate) <= 0 or structured_steps < 0:
            raise SpecError(
                "DeepEMD: expected regularization, tolerance, iterations and structured_rate above 0 and "
                f"structured_steps of at least 0, got {regularization}, {tolerance}, {iterations}, {structured_rate} "
                f"and {structured_steps}"
            )
        self.shape = map_shape(encoder)
        self.temperature, self.regularization = temperature, regularization
        self.tolerance, self.iterations = tolerance, iterations
        self.structured_steps, self.structured_rate = structured_steps, structured_rate

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> ClassMaps:
        """The mean map of each class, moved by the structured layer's descent, which is not differentiated."""
        p = class_means(z, y, ways, weight)
        if not self.structured_steps:
            return ClassMaps(p)
        with torch.inference_mode(False), torch.enable_grad():
            start, fixed = p.detach().clone(), z.detach().clone()
            own, counts = y.clone(), None if weight is None else weight.to(z.dtype).clone()
            moved = velocity = start
            for step in range(self.structured_steps):
                moved = moved.detach().requires_grad_()
                losses = task_losses(self._similarity(fixed, moved), own, counts)  # [B]
                (slope,) = torch.autograd.grad(losses.sum(), moved)
                velocity = MOMENTUM * velocity + (1 - MOMENTUM) * slope if step else slope
                moved = moved - self.structured_rate * velocity
            change = moved.detach() - start
        return ClassMaps(p + change)

    def predict_features(self, state: ClassMaps, z: Tensor) -> Tensor:
        """Logits: temperature · the similarity of places that the best plan brings together."""
        return self._similarity(z, state.p)

    def _similarity(self, z: Tensor, p: Tensor) -> Tensor:
        channels, height, width = self.shape
        u = z.view(*z.shape[:2], 1, channels, height * width).mT  # [B, Q, 1, R, C]
        v = p.view(len(p), 1, -1, channels, height * width).mT  # [B, 1, N, R, C]
        row, column = _masses(u, v), _masses(v, u)  # [B, Q, N, R]
        similarity = cosine_similarities(u - u.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True))  # [B, Q, N, R, R]
        plan = sinkhorn(
            1 - similarity,
            row.to(similarity.dtype),
            column.to(similarity.dtype),
            regularization=self.regularization,
            steps=self.iterations,
            tolerance=self.tolerance,
        )
        return self.temperature * (plan * similarity).sum((-2, -1))


def _masses(u: Tensor, v: Tensor) -> Tensor:
    """How much each place counts: as far as it agrees with the mean of the other picture (cross-reference); sum 1."""
    mass = F.relu((u * v.mean(-2, keepdim=True)).sum(-1)) + 1e-3  # [B, Q, N, R]
    return mass / mass.sum(-1, keepdim=True)
