"""MAML: an initialization from which a few gradient steps on the support solve a task.

Paper: Finn, Abbeel & Levine 2017, arXiv:1703.03400.
    θ -> the model's parameters        α -> rates        θ'_i (eq. 1) -> Adapted.parameters
    meta-objective Σ_i L_i(θ'_i) -> loss (here the mean over tasks)
Departures:
    1. The inner loss is the mean over examples. The authors sum and divide by shots, which is N times as large:
       their α = 0.4 for 5 ways is 2.0 here.
    2. `rates="learned"` learns one rate for each parameter tensor (Antoniou et al. 2019, without the step axis).
    3. `optimizer` puts another update rule in the place of gradient descent.
    4. `warm_up` begins with first-order steps, which take less time (derivative-order annealing, Antoniou et al.).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...episode import Episode, Support
from ...errors import SpecError, unknown_name
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...ops.engine import Engine
from ...ops.optimizers import InnerOptimizer, Memory
from ...ops.tasks import Named

__all__ = ["MAML"]


@final
class MAML(GradientLearner):
    """Gradient descent from a meta-learned initialization; exact second-order meta-gradients.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: α.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives (FOMAML).
        warm_up: training steps at the beginning that leave them out, counted in a buffer.
        rates: "fixed", or "learned": one rate for each parameter tensor, starting from `inner_rate`.
        optimizer: of the inner loop, a table such as {"name": "adam", "betas": [0.9, 0.99]}; None: gradient descent.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Parameters that do not require gradients when it is made stay as they are.

    Raises:
        SpecError: a number of steps out of range; an optimizer's option out of range; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Finn, Abbeel & Levine 2017, arXiv:1703.03400"
    rates: nn.Parameter | None
    trained: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        warm_up: int = 0,
        rates: Literal["fixed", "learned"] = "fixed",
        optimizer: Mapping[str, Any] | None = None,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        if warm_up < 0:
            raise SpecError(f"MAML: expected warm_up of at least 0, got {warm_up}")
        self.first_order, self.warm_up = first_order, warm_up
        self.register_buffer("trained", torch.zeros((), dtype=torch.long) if warm_up else None)
        if rates not in ("fixed", "learned"):
            raise unknown_name("kind of rates", rates, ("fixed", "learned"))
        self.inner_rate = inner_rate
        self.optimizer = InnerOptimizer.of(optimizer or {"name": "sgd"}, lr=inner_rate)
        start = placed(torch.full((len(self.adapted),), inner_rate), model)
        self.register_parameter("rates", nn.Parameter(start) if rates == "learned" else None)

    def descend(self, support: Support) -> Adapted:
        """θ' = θ − α·∇L(θ) on the support, `inner_steps` times (eq. 1)."""
        state, rate = self.begin(support), self._rates()
        theta = state.parameters
        first_order = self.first_order or self._warming_up()
        memory: Memory = self.optimizer.init(theta)
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=first_order)
            theta, memory = self.optimizer.step(theta, g, memory, lr=rate, task_axes=1)
        return state._replace(parameters=theta)

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """Σ_i L_i(θ'_i), here the mean."""
        value, buffers = super().meta_loss(episode)
        if self.trained is not None:
            buffers = {**buffers, ".trained": (self.trained + 1).expand(episode.tasks)}
        return value, buffers

    def _warming_up(self) -> bool:
        return self.training and self.trained is not None and int(self.trained) < self.warm_up

    def _rates(self) -> Mapping[str, float | Tensor]:
        """α by name."""
        if self.rates is None:
            return dict.fromkeys(self.adapted, self.inner_rate)
        return self.by_name(self.rates)
