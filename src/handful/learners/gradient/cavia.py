"""CAVIA: a task adapts a few context parameters, which are an input of the network; the network itself is shared.

Paper: Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson 2019, arXiv:1810.03642.
    φ (eq. 4, begins at 0) -> the context, the only adapted tensor        θ (eq. 5) -> the model's other parameters
    concatenation (section 3.2) -> film = None        FiLM after a convolution (section 3.2) -> film = its number
Departures:
    1. The inner loss is the mean over examples, as in `maml`.
    2. FiLM is (1 + γ)z + β, not γz + β, so that it begins near the network without it.
    3. FiLM comes right after the normalization layer, before pooling and ReLU.
"""

from __future__ import annotations

from typing import final

from torch import nn

from ...encoders.context import conditioned
from ...episode import Support
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...ops.engine import Engine

__all__ = ["CAVIA"]


@final
class CAVIA(GradientLearner):
    """Gradient descent on a context alone; what was learned of a task are its few numbers.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs; it gets
            the context.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        context: numbers in φ.
        film: None: φ is concatenated to the input of the first linear layer. Otherwise it scales and shifts the
            channels after this normalization layer, from 1 (Conv4: its third block in the paper).
        inner_rate: α.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps below one; an embedding with max_norm.
        ShapeError: no layer for the context, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson 2019, arXiv:1810.03642"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        context: int = 5,
        film: int | None = None,
        inner_rate: float = 1.0,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        name = conditioned(model, context, film=film)
        super().__init__(
            model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, adapted=[name], engine=engine
        )
        self.inner_rate, self.first_order = inner_rate, first_order

    def descend(self, support: Support) -> Adapted:
        """φ' = φ − α·∇_φ L(φ, θ) from φ = 0, `inner_steps` times (eq. 4)."""
        state = self.begin(support)
        theta = state.parameters
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=self.first_order)
            theta = theta | {name: theta[name] - self.inner_rate * g[name] for name in g}
        return state._replace(parameters=theta)
