"""ANIL: almost no inner loop; a task adapts the head alone, on features that it leaves as they are.

Paper: Raghu, Raghu, Bengio & Vinyals 2020, arXiv:1909.09157.
    θ (section 5) -> the model's parameters, of which the last layer, the head, is adapted        α -> inner_rate
    L(f_θ'; query) -> loss
Departures:
    1. The inner loss is the mean over examples, as in `maml`.
    2. The body is computed once for each task, not once for each inner step: the same numbers, but that statistics of
       a normalization in training see the support once.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from ...encoders.normalization import adapting
from ...episode import Support
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...learner import task_losses
from ...ops.engine import Engine
from ...ops.tasks import Named, call_each

__all__ = ["ANIL"]

HEAD = ("1.weight", "1.bias")


@final
class ANIL(GradientLearner):
    """Gradient descent on a linear head from a meta-learned start; the body is meta-learned through it.

    Args:
        encoder: the body, any module from [examples, *shape] to features, with `out_features`.
        outputs: of the head: the ways of a task, or the targets of a regression.
        inner_rate: α.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives, those of the head and of the body through it.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps below one; an embedding with max_norm.
        ShapeError: the encoder does not say its `out_features`.
    """

    paper = "Raghu, Raghu, Bengio & Vinyals 2020, arXiv:1909.09157"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int,
        inner_rate: float = 0.01,
        inner_steps: int = 5,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, adapted=HEAD, engine=engine)
        self.inner_rate, self.first_order = inner_rate, first_order

    def descend(self, support: Support) -> Adapted:
        """w' = w − α·∇L(w) for the head w, `inner_steps` times (section 5)."""
        state = self.begin(support)
        body = {name[2:]: leaf for name, leaf in {**state.parameters, **state.buffers}.items() if name[:2] == "0."}
        with adapting(0):
            z = call_each(self.model.get_submodule("0"), body, support.x)  # [B, S, F]
        w = {name: state.parameters[name] for name in HEAD}

        def losses(head: Named) -> Tensor:
            output = head["z"] @ head[HEAD[0]].mT + head[HEAD[1]].unsqueeze(1)  # [B, S, N]
            self._check(output, support.y, support.ways)
            return task_losses(output, support.y, support.weight)

        for _ in range(self.steps):
            g = self.engine.gradients(losses, {**w, "z": z}, {}, HEAD, first_order=self.first_order)
            w = {name: w[name] - self.inner_rate * g[name] for name in HEAD}
        return state._replace(parameters=state.parameters | w)
