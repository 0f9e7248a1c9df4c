"""PLATIPUS: a distribution over initializations; samples of it, each adapted by gradient steps, answer together.

Paper: Finn, Xu & Levine 2018, arXiv:1806.02817.
    μ_θ -> the model's parameters        log σ²_θ -> log_sigma2        log v_q -> log_v
    γ_p, γ_q -> gamma_p, gamma_q         α -> inner_rate               φ_i -> Adapted.parameters, [B, L, ...]
    algorithm 1 (training) -> meta_loss  algorithm 2 (testing) -> descend
Departures:
    1. A loss is the mean over examples, not the sum; `kl_weight` scales the KL term, which sums over parameters.
    2. ε is a function of (seed, turn) and the same for all tasks of a batch, so that no task's answers depend on the
       others. Answers always use the same ε.
    3. Frozen parameters of the encoder have no distribution. Running statistics are those of the first sample.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ...encoders.normalization import adapting
from ...ensemble_learner import EnsembleLearner
from ...episode import Episode, Query, Support
from ...gradient_learner import Adapted, with_head
from ...learner import at_least_one, task_losses
from ...ops.engine import Engine
from ...ops.ensembles import each_support, each_time, folded, unfolded
from ...ops.gaussians import kl_divergence
from ...ops.noise import Noise
from ...ops.tasks import Named, call_each
from ...ops.vectors import totals

__all__ = ["PLATIPUS"]


@final
class PLATIPUS(EnsembleLearner):
    """Probabilistic MAML by amortized variational inference; every variance is diagonal.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_rate: α.
        inner_steps: gradient steps from θ to φ while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives.
        samples: L, how many φ answer a task together.
        training_samples: how many φ estimate the expected loss.
        kl_weight: of the KL term beside the mean loss of the queries.
        gamma: γ_p and γ_q at the start.
        log_variance: log σ² and log v_q at the start.
        seed: of ε.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps or samples below one; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Finn, Xu & Levine 2018, arXiv:1806.02817"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.01,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        samples: int = 10,
        training_samples: int = 1,
        kl_weight: float = 1e-6,
        gamma: float = 0.01,
        log_variance: float = -8.0,
        seed: int = 0,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        at_least_one("PLATIPUS", samples=samples, training_samples=training_samples)
        self.inner_rate, self.first_order, self.kl_weight = inner_rate, first_order, kl_weight
        self.samples, self.training_samples = samples, training_samples
        self.log_sigma2, self.log_v = self._each(log_variance), self._each(log_variance)
        self.gamma_p, self.gamma_q = self._each(gamma), self._each(gamma)
        self.noise = Noise(seed)

    def descend(self, support: Support) -> Adapted:
        """θ ~ N(μ_p, σ²), then φ = θ − α·∇L(θ) on the support: L times (algorithm 2)."""
        theta = self._sampled(self._prior_mean(support), self.log_sigma2, self.samples, moving=False)
        return self._adapted(theta, support, self.samples)

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """E_q[L(φ, queries)] + kl_weight · KL(q(θ | queries) ‖ p(θ | support)) (algorithm 1)."""
        support, query, count = episode.support, episode.query, self.training_samples
        mu_q = self._moved(self.gamma_q, self._query_slopes(self.begin(support), query))
        theta = self._sampled(mu_q, self.log_v, count, moving=True)
        state = self._adapted(theta, support, count)
        losses = task_losses(self.answer_each(state, query.x).flatten(0, 1), each_time(query.y, count))  # [B·L]
        divergence = self._divergence(mu_q, self._prior_mean(support))  # [B]
        loss = losses.mean() + self.kl_weight * divergence.mean()
        return loss, {**self.left(state), ".noise.turn": self.noise.next_turn(episode.tasks)}

    def _each(self, value: float) -> nn.ParameterList:
        """A parameter of this value for each adapted number."""
        leaves = dict(self.model.named_parameters())
        return nn.ParameterList(nn.Parameter(torch.full_like(leaves[name], value)) for name in self.adapted)

    def _prior_mean(self, support: Support) -> Named:
        """μ_p = μ − γ_p·∇L(μ) on the support: [B, ...]."""
        mu = self.begin(support)
        g = self.slopes(mu.parameters, mu.buffers, support, 0, first_order=self.first_order)
        return self._moved(self.gamma_p, g)

    def _query_slopes(self, mu: Adapted, query: Query) -> Named:
        """∇L(μ) on the queries, which need not be of every class: [B, ...]."""

        def losses(state: Named) -> Tensor:
            with adapting(0):
                return task_losses(call_each(self.model, state, query.x), query.y)  # [B]

        return self.engine.gradients(losses, mu.parameters, mu.buffers, self.adapted, first_order=self.first_order)

    def _moved(self, gamma: nn.ParameterList, g: Named) -> Named:
        """μ − γ·g, [B, ...] for every parameter that takes part; γ one for each number."""
        mu, rate = dict(self.model.named_parameters()), self.by_name(gamma)
        return {name: mu[name] - rate[name] * g[name] for name in g}

    def _sampled(self, mean: Named, log_variance: nn.ParameterList, count: int, *, moving: bool) -> Named:
        """mean + √variance · ε: [B, L, ...]."""
        log_variances: Named = self.by_name(log_variance)

        def draw(name: str, center: Tensor) -> Tensor:
            shape = (count, *center.shape[1:])
            noise = self.noise.normal("theta", name, shape=shape, like=center, moving=moving)
            return center.unsqueeze(1) + (log_variances[name] / 2).exp() * noise

        return {name: draw(name, center) for name, center in mean.items()}

    def _adapted(self, theta: Named, support: Support, members: int) -> Adapted:
        """φ ← φ − α·∇L(φ) on the support, from each θ [B, L, ...]."""
        every = each_support(support, members)
        state = self.begin(every)
        phi = {**state.parameters, **folded(theta)}
        for step in range(self.steps):
            g = self.slopes(phi, state.buffers, every, step, first_order=self.first_order)
            phi = phi | {name: phi[name] - self.inner_rate * g[name] for name in g}
        return self.taught(unfolded(phi, members), unfolded(state.buffers, members), support)

    def _divergence(self, mu_q: Named, mu_p: Named) -> Tensor:
        """KL(N(μ_q, v_q) ‖ N(μ_p, σ²)) of each task: [B]."""
        log_v, log_sigma2 = self.by_name(self.log_v), self.by_name(self.log_sigma2)
        return totals({n: kl_divergence(mu_q[n], log_v[n], mu_p[n], log_sigma2[n]) for n in mu_q})
