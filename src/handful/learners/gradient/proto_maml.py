"""Proto-MAML: MAML whose head begins at the prototypes of the task, so that a task may have any number of ways.

Paper: Triantafillou et al. 2020, arXiv:1903.03096 (Meta-Dataset, section 3).
    c_k -> class means of the support's features        w_k = 2c_k, b_k = −‖c_k‖² -> the head at the start
    θ' -> Adapted.parameters: the body and, as "/weight" [B, N, F] and "/bias" [B, N], the head
Departures:
    1. The inner loss is the mean over examples, as in `maml`.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from ...encoders.normalization import adapting
from ...episode import Data, Support
from ...gradient_learner import Adapted, GradientLearner
from ...ops.classes import class_means
from ...ops.engine import Engine
from ...ops.tasks import Named, call_each

__all__ = ["ProtoMAML"]

HEAD = ("/weight", "/bias")
"""No module of an encoder can have a parameter of these names."""


@final
class ProtoMAML(GradientLearner):
    """Gradient descent on the encoder and on a head that starts as a prototypical network.

    Before the first step the answers are those of a prototypical network; meta-gradients pass through the prototypes.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        inner_rate: α, for the encoder and the head.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives, but not those of the prototypes.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps below one; an embedding with max_norm.
        ShapeError: nothing to adapt; when called, a regression task.
    """

    paper = "Triantafillou et al. 2020, arXiv:1903.03096"
    regression = False
    any_ways = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(encoder, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        self.inner_rate, self.first_order = inner_rate, first_order
        self.adapted = (*self.adapted, *HEAD)

    def begin(self, support: Support) -> Adapted:
        """Every task with the encoder's own tensors, and the head w_k = 2c_k, b_k = −‖c_k‖²."""
        ways = self._ways(support)
        state, apart = super().begin(support), super().begin(support).parameters
        with adapting(0):  # on views apart: the inner gradient in θ is for a given head, and does not go through c
            z = call_each(self.model, {**apart, **state.buffers}, support.x)  # [B, S, F]
        c = class_means(z, support.y, ways, support.weight)  # [B, N, F]
        head = dict(zip(HEAD, (2 * c, -c.square().sum(2)), strict=True))
        return state._replace(parameters={**state.parameters, **head})

    def forward_each(self, state: Named, x: Data) -> Tensor:
        """Logits w·z + b."""
        body = {name: leaf for name, leaf in state.items() if name not in HEAD}
        z = super().forward_each(body, x)
        return z @ state[HEAD[0]].mT + state[HEAD[1]].unsqueeze(1)  # [B, S, N]

    def descend(self, support: Support) -> Adapted:
        """θ' = θ − α·∇L(θ) on encoder and head, `inner_steps` times."""
        state = self.begin(support)
        theta = state.parameters
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=self.first_order)
            theta = theta | {name: theta[name] - self.inner_rate * g[name] for name in g}
        return state._replace(parameters=theta)
