"""Bayesian MAML: a cloud of initializations, moved together by Stein variational gradient descent.

Paper: Yoon, Kim, Dia, Kim, Bengio & Ahn 2018, arXiv:1806.03836.
    Θ₀ = {θ^m} -> the model's parameters and `others`    M -> particles    ε -> inner_rate
    SVGD_n(Θ; D) (algorithm 2) -> _moved                 Θ^n -> Adapted.parameters, [B, M, ...]
    chaser Θ^n and leader Θ^{n+s} (section 3.3) -> meta_loss with objective="chaser"
    Bayesian fast adaptation (section 3.2) -> objective="query"
Departures:
    1. log p(θ | D) is minus the mean loss over examples, not the sum, and the prior is flat.
    2. The kernel's bandwidth is the median over pairs of different particles.
    3. With objective="query" each query is scored by the particles' mean probability, not the query set as a whole.
    4. Frozen parameters of the encoder are common. Running statistics are those of the first particle.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from ...ensemble_learner import EnsembleLearner
from ...episode import Episode, Support
from ...errors import unknown_name
from ...gradient_learner import Adapted, with_head
from ...learner import at_least_one, task_losses
from ...ops.engine import Engine
from ...ops.ensembles import each_support, unfolded
from ...ops.stein import stein_direction
from ...ops.tasks import Named, map_tasks
from ...ops.vectors import joined, parted, totals

__all__ = ["BayesianMAML"]


@final
class BayesianMAML(EnsembleLearner):
    """Particles of a task's posterior, from meta-learned particles by SVGD on the support.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: ε.
        inner_steps: n, steps of SVGD on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives of the loss.
        particles: M.
        objective: "chaser": the squared distance to where the particles go once they know the queries too;
            "query": the loss of the queries.
        leader_steps: s, steps of the leader beyond the chaser.
        spread: how far the other particles start from the encoder's own weights: a normal distribution's deviation
            in units of each tensor's root mean square.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps or particles below one; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
        UnknownNameError: no such objective.
    """

    paper = "Yoon, Kim, Dia, Kim, Bengio & Ahn 2018, arXiv:1806.03836"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        particles: int = 5,
        objective: Literal["chaser", "query"] = "chaser",
        leader_steps: int = 1,
        spread: float = 0.5,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        at_least_one("BayesianMAML", particles=particles, leader_steps=leader_steps)
        if objective not in ("chaser", "query"):
            raise unknown_name("objective", objective, ("chaser", "query"))
        self.inner_rate, self.first_order, self.particles = inner_rate, first_order, particles
        self.objective, self.leader_steps = objective, leader_steps
        leaves = dict(model.named_parameters())
        self.others = nn.ParameterList(_around(leaves[name], particles - 1, spread) for name in self.adapted)

    def descend(self, support: Support) -> Adapted:
        """Θ^n = SVGD_n(Θ₀; support)."""
        own = self.by_name(self.others)  # [M − 1, ...]
        first = dict(self.model.named_parameters())
        cloud = {name: torch.cat([first[name].unsqueeze(0), own[name]]) for name in own}  # [M, ...]
        theta = {name: leaf.expand(len(support.y), *leaf.shape) for name, leaf in cloud.items()}
        buffers = unfolded(self.begin(each_support(support, self.particles)).buffers, self.particles)
        return self._moved(self.taught(theta, buffers, support), support, range(self.steps))

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """Σ_m ‖θ^{m,n} − sg(θ^{m,n+s})‖² (section 3.3), or the loss of the queries; means over tasks."""
        state = self.descend(episode.support)
        if self.objective == "query":
            loss = task_losses(self.answer(state, episode.query.x), episode.query.y)  # [B]
        else:
            leader = self._leader(state, episode)
            loss = totals({n: (state.parameters[n] - leader[n]).square() for n in self.adapted})  # [B]
        return loss.mean(), self.left(state)

    def _moved(self, state: Adapted, support: Support, steps: range) -> Adapted:
        """SVGD: θ^m ← θ^m + ε φ(θ^m), with φ of `stein_direction`."""
        every = each_support(support, self.particles)
        for step in steps:
            each = self.apart(state)  # [B·M, ...]
            g = self.slopes(each.parameters, each.buffers, every, step, first_order=self.first_order)
            theta = {name: state.parameters[name] for name in g}  # [B, M, ...]
            scores = {name: -unfolded(slope, self.particles) for name, slope in g.items()}
            phi = parted(stein_direction(joined(theta, 2), joined(scores, 2)), theta)
            moved = {name: theta[name] + self.inner_rate * phi[name] for name in theta}
            buffers = unfolded(each.buffers, self.particles)
            state = state._replace(parameters=state.parameters | moved, buffers=buffers)
        return state

    @torch.no_grad()
    def _leader(self, chaser: Adapted, episode: Episode) -> Named:
        """Θ^{n+s} = SVGD_s(Θ^n; support and queries): [B, M, ...], a constant."""
        chaser = chaser._replace(buffers=map_tasks(torch.clone, chaser.buffers))
        beyond = range(self.steps, self.steps + self.leader_steps)
        return self._moved(chaser, episode.together(), beyond).parameters


def _around(leaf: Tensor, count: int, spread: float) -> nn.Parameter:
    deviation = spread * leaf.detach().square().mean().sqrt()
    return nn.Parameter(leaf.detach() + deviation * torch.randn(count, *leaf.shape).to(leaf))
