"""BOIL: body only update in inner loop; a task adapts the features, under a head that it leaves as it is.

Paper: Oh, Yoo, Kim & Yun 2021, arXiv:2008.08882.
    θ_b, θ_h (section 3) -> the body's and the head's parameters        α_b -> inner_rate        α_h -> 0
    L(f_θ'; query) -> loss
Departures:
    1. The inner loss is the mean over examples, as in `maml`.
"""

from __future__ import annotations

from typing import final

from torch import nn

from ...episode import Support
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...ops.engine import Engine

__all__ = ["BOIL"]


@final
class BOIL(GradientLearner):
    """Gradient descent on everything but the head, so that a task has to move its features.

    Args:
        encoder: the body, any module from [examples, *shape] to features, with `out_features`.
        outputs: of the head: the ways of a task, or the targets of a regression.
        inner_rate: α_b.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps below one; an embedding with max_norm.
        ShapeError: a body with nothing to adapt, or which does not say its `out_features`.
    """

    paper = "Oh, Yoo, Kim & Yun 2021, arXiv:2008.08882"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        engine: Engine | None = None,
    ) -> None:
        body = [f"0.{name}" for name, leaf in encoder.named_parameters() if leaf.requires_grad]
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, adapted=body, engine=engine)
        self.inner_rate, self.first_order = inner_rate, first_order

    def descend(self, support: Support) -> Adapted:
        """θ_b' = θ_b − α_b·∇L(θ_b, θ_h), `inner_steps` times; θ_h stays (section 3)."""
        state = self.begin(support)
        theta = state.parameters
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=self.first_order)
            theta = theta | {name: theta[name] - self.inner_rate * g[name] for name in g}
        return state._replace(parameters=theta)
