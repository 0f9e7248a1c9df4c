"""Meta-SGD: besides the initialization, a rate for every single parameter, which may point uphill, is learned.

Paper: Li, Zhou, Chen & Li 2017, arXiv:1707.09835.
    θ -> the model's parameters        α (section 3) -> rates, of θ's shape        θ' = θ − α∘∇L(θ) -> Adapted
    meta-objective Σ L(θ') -> loss (here the mean over tasks)
Departures:
    1. The inner loss is the mean over examples, as in `maml`.
    2. More than one step is possible, all with the same rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from ...episode import Support
from ...errors import SpecError
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...ops.engine import Engine

__all__ = ["MetaSGD"]


@final
class MetaSGD(GradientLearner):
    """One step from a learned initialization, each number at its own learned rate.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: α at the start: a number, or a range (least, greatest) that each is drawn from.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a range that is none; a number of steps below one; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Li, Zhou, Chen & Li 2017, arXiv:1707.09835"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float | Sequence[float] = (0.005, 0.1),
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        self.first_order = first_order
        ends = (inner_rate, inner_rate) if isinstance(inner_rate, int | float) else tuple(inner_rate)
        if len(ends) != 2 or not ends[0] <= ends[1]:
            raise SpecError(f"MetaSGD: expected inner_rate as a number or a range (least, greatest), got {inner_rate}")
        theta = dict(model.named_parameters())
        self.rates = nn.ParameterList(torch.empty_like(theta[name]).uniform_(*ends) for name in self.adapted)

    def descend(self, support: Support) -> Adapted:
        """θ' = θ − α∘∇L(θ) (eq. 2)."""
        state, rate = self.begin(support), self.by_name(self.rates)
        theta = state.parameters
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=self.first_order)
            theta = theta | {name: theta[name] - rate[name] * g[name] for name in g}
        return state._replace(parameters=theta)
