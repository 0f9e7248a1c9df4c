"""Meta-Curvature: the inner gradient is transformed by learned matrices, one for each axis of a parameter.

Paper: Park & Oliva 2019, arXiv:1902.03356.
    M_o, M_i, M_f (section 3.2) -> outputs, inputs, positions of each `Curvature`
    MC(G) = G ×₃ M_f ×₂ M_i ×₁ M_o (eq. 10) -> Curvature.forward        θ' = θ − α·MC(∇L(θ)) (eq. 8) -> descend
Departures:
    1. The inner loss is the mean over examples, as in `maml`.
    2. Scales, shifts and biases have matrices by the same rule: a vector has one axis, M_o alone.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from ...episode import Support
from ...errors import ShapeError
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...ops.engine import Engine

__all__ = ["MetaCurvature"]

LARGEST = 32768
"""Sides from this on would need a matrix of 4 GiB, and several times that in training."""


class Curvature(nn.Module):
    """A learned linear map of the gradients of one parameter: the identity at first.

    Args:
        parameter: [outputs, inputs, *positions], or fewer axes.
    """

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        shape = (*parameter.shape, 1, 1)
        sizes = shape[0], shape[1], math.prod(shape[2:])
        self.outputs, self.inputs, self.positions = (
            nn.Parameter(torch.eye(size).to(parameter)) if size > 1 else None for size in sizes
        )

    def forward(self, g: Tensor) -> Tensor:
        """[B, *shape] -> the same."""
        cube = g.reshape(*(*g.shape, 1, 1)[:3], -1)  # [B, outputs, inputs, positions]
        for axis, matrix in enumerate((self.outputs, self.inputs, self.positions), start=1):
            if matrix is not None:
                cube = (cube.movedim(axis, -1) @ matrix.mT).movedim(-1, axis)
        return cube.reshape(g.shape)


@final
class MetaCurvature(GradientLearner):
    """Gradient descent along gradients that learned matrices rotate and stretch.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: α.
        inner_steps: gradient steps on the support while training, all with the same matrices.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps below one; an embedding with max_norm.
        ShapeError: nothing to adapt, a parameter too large for its matrices, or `outputs` for an encoder that does not
            say its `out_features`.
    """

    paper = "Park & Oliva 2019, arXiv:1902.03356"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        self.inner_rate, self.first_order = inner_rate, first_order
        theta = dict(model.named_parameters())
        for name in self.adapted:
            if max((*theta[name].shape[:2], math.prod(theta[name].shape[2:]))) >= LARGEST:
                raise ShapeError(
                    f"MetaCurvature: {name!r} {list(theta[name].shape)} would need a square matrix of its longest "
                    "side, 4 GiB or more; freeze it, make it smaller (of text_cnn its vocabulary), or use meta_sgd"
                )
        self.curvatures = nn.ModuleList(Curvature(theta[name]) for name in self.adapted)

    def descend(self, support: Support) -> Adapted:
        """θ' = θ − α·MC(∇L(θ)), `inner_steps` times (eq. 8)."""
        state, transform = self.begin(support), self.by_name(self.curvatures)
        theta = state.parameters
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=self.first_order)
            theta = theta | {name: theta[name] - self.inner_rate * transform[name](g[name]) for name in g}
        return state._replace(parameters=theta)
