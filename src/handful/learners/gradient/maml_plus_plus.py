"""MAML++: MAML with the changes that make it train steadily.

Paper: Antoniou, Edwards & Storkey 2019, arXiv:1810.09502 ("How to train your MAML").
    v_i (multi-step loss, eq. 6) -> step_weights        α, one for each layer and step (LSLR) -> rates [steps, tensors]
    derivative-order annealing -> warm_up        per-step batch norm -> encoder with normalization = "per_step"
    cosine annealing of the meta-optimizer's rate -> schedule = { name = "cosine" } in a spec
Departures:
    1. The weights move with every training step, not with every epoch of 500.
    2. Statistics, scale and shift are those of how many steps the parameters have taken: the queries that judge the
       parameters after step i share them with the support of step i + 1, not of step i. So an encoder for n inner
       steps says steps = n + 1.
    3. A rate is for a parameter tensor; the authors' code does so too, the paper says for a layer.
    4. The five best checkpoints are not averaged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...encoders.normalization import BatchNorm
from ...encoders.placing import placed
from ...episode import Episode, Support
from ...errors import SpecError
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...learner import task_losses
from ...ops.engine import Engine
from ...ops.tasks import Named

__all__ = ["MAMLPlusPlus", "step_weights"]

LEAST = 0.03
"""Of the shares that all steps start with, what the early ones keep until the annealing ends."""


@final
class MAMLPlusPlus(GradientLearner):
    """Gradient descent with a learned rate for each tensor and step; early in training every step is judged.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs. Scales
            and shifts of its batch norm are meta-learned and not adapted.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: each α at the start.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same. Further ones take the last step's rates.
        annealing: training steps until the last inner step alone is judged; 0: from the start.
        warm_up: training steps that leave out second derivatives.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    The training steps are counted in a buffer, so that a resumed run goes on where it stopped.

    Raises:
        SpecError: a number of steps out of range; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Antoniou, Edwards & Storkey 2019, arXiv:1810.09502"
    trained: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.1,
        inner_steps: int = 5,
        evaluation_steps: int | None = None,
        annealing: int = 5000,
        warm_up: int = 0,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        kept = {
            id(leaf)
            for layer in model.modules()
            if isinstance(layer, BatchNorm | _BatchNorm)
            for leaf in layer.parameters()
        }
        adapted = [name for name, leaf in model.named_parameters() if leaf.requires_grad and id(leaf) not in kept]
        super().__init__(
            model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, adapted=adapted, engine=engine
        )
        if min(annealing, warm_up) < 0:
            raise SpecError(f"MAMLPlusPlus: expected annealing and warm_up of at least 0, got {annealing}, {warm_up}")
        self.annealing, self.warm_up = annealing, warm_up
        self.rates = nn.Parameter(placed(torch.full((inner_steps, len(self.adapted)), inner_rate), model))
        self.register_buffer("trained", torch.zeros((), dtype=torch.long))

    def descend(self, support: Support) -> Adapted:
        """The last state of `path`."""
        (last,) = deque(self.path(support, first_order=False), maxlen=1)
        return last

    def path(self, support: Support, *, first_order: bool) -> Iterator[Adapted]:
        """θ_i = θ_{i−1} − α_i∘∇L(θ_{i−1}) for each step i."""
        state = self.begin(support)
        theta = state.parameters
        for step in range(self.steps):
            g = self.slopes(theta, state.buffers, support, step, first_order=first_order)
            rate = self.by_name(self.rates[min(step, len(self.rates) - 1)])
            theta = theta | {name: theta[name] - rate[name] * g[name] for name in g}
            yield state._replace(parameters=theta)

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """Σ_i v_i L_Q(θ_i) in training (eq. 6), L_Q(θ_n) in evaluation."""
        trained = int(self.trained)
        weights = step_weights(self.steps, trained, self.annealing if self.training else 0)
        losses, buffers = [], {}
        first_order = self.training and trained < self.warm_up
        for step, (weight, state) in enumerate(
            zip(weights, self.path(episode.support, first_order=first_order), strict=True)
        ):
            buffers = state.buffers
            if weight:
                output = self.answer(state, episode.query.x, steps=step + 1)
                losses.append(weight * task_losses(output, episode.query.y).mean())
        after = (self.trained + 1).expand(len(episode.support.y))
        return torch.stack(losses).sum(), {**buffers, ".trained": after}


def step_weights(steps: int, trained: int, annealing: int) -> list[float]:
    """How much each inner step's query loss counts: equally at first, at the end of the annealing the last one's only.

    They sum to one. Until then each early step keeps at least 3% of its first share.
    """
    if trained >= annealing:
        return [0.0] * (steps - 1) + [1.0]
    early = max((1 - trained / annealing) / steps, LEAST / steps)
    return [early] * (steps - 1) + [1 - early * (steps - 1)]
