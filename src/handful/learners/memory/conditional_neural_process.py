"""Conditional neural processes: a support is summed up by a vector of fixed size, and a network answers from it.

Paper: Garnelo et al. 2018, arXiv:1807.01613.
    h_θ(x_i, y_i) (eq. 1) -> self.h of features and label       ⊕ (eq. 2), a mean -> Context.r
    g_θ(x, r) (eq. 3) -> self.g: μ and σ of a regression, or logits
For classes (section 4.3) the mean is over each class, and those of all classes stand one after the other in r.
Departures:
    1. In classification too h sees the label, and the half of g's outputs that would be deviations is not used: one
       network for both kinds of task.
    2. σ = 0.1 + 0.9·softplus keeps densities finite, as is usual; the paper does not say how σ is made positive.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import softplus

from ...encoders import MLP
from ...encoders.placing import placed
from ...episode import Episode
from ...errors import SpecError
from ...learner import EmbeddingLearner, features_of
from ...ops.classes import class_means, label_vectors

__all__ = ["ConditionalNeuralProcess", "Context"]


class Context(NamedTuple):
    """What a support taught."""

    r: Tensor  # [B, outputs · R]: of each class; in regression the same for each target


@final
class ConditionalNeuralProcess(EmbeddingLearner):
    """A mean of encoded supports, in any order and of any weight, and a network that answers from it.

    In regression the loss is −log N(y; μ, σ), and `predict` gives μ. `distribution` gives both.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        outputs: the ways of a task, or the targets of a regression.
        width: R, and of the hidden layers of h and g.
        depth: hidden layers of h and of g.

    Raises:
        ShapeError: the encoder does not say its `out_features`, or its normalization needs a learner that adapts it.
        SpecError: no hidden layer.
    """

    paper = "Garnelo et al. 2018, arXiv:1807.01613"
    kind = "memory"
    regression = True
    any_ways = False

    def __init__(self, encoder: nn.Module, *, outputs: int = 5, width: int = 128, depth: int = 3) -> None:
        super().__init__(encoder)
        if depth < 1:
            raise SpecError(f"ConditionalNeuralProcess: expected a depth of at least 1, got {depth}")
        features = features_of(encoder, "ConditionalNeuralProcess")
        self.outputs = outputs
        h = MLP(shape=(features + outputs,), hidden=(width,) * depth, outputs=width)
        g = MLP(shape=(features + outputs * width,), hidden=(width,) * depth, outputs=2 * outputs)
        self.h, self.g = placed(h, encoder), placed(g, encoder)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Context:
        """r from r_i = h(x_i, y_i): a mean over each class, or over all (eq. 1 and 2)."""
        labels = label_vectors(y, ways, self.outputs).to(z.dtype)
        encoded = self.h(torch.cat([z, labels], -1).flatten(0, 1)).unflatten(0, z.shape[:2])  # [B, S, R]
        if ways:
            return Context(class_means(encoded, y, ways, weight).flatten(1))
        one = torch.zeros(z.shape[:2], dtype=torch.long, device=z.device)
        return Context(class_means(encoded, one, 1, weight).expand(-1, self.outputs, -1).flatten(1))

    def predict_features(self, state: Context, z: Tensor) -> Tensor:
        """Logits [B, Q, ways], or means [B, Q, outputs] (eq. 3)."""
        return self._answer(state, z)[0]

    def loss(self, episode: Episode) -> Tensor:
        """Cross-entropy of the queries, or −log of their targets' density."""
        if episode.support.ways is not None:
            return super().loss(episode)
        z, z_query = self.embed_episode(episode)
        state = self.adapt_features(z, episode.support.y, 0, episode.support.weight)
        normal = Normal(*self.distribution(state, z_query))
        density: Tensor = normal.log_prob(episode.query.y)
        return -density.mean()

    def distribution(self, state: Context, z: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ [B, Q, outputs] of a regression, for query features [B, Q, F] (of `embed`)."""
        mean, raw = self._answer(state, z)
        return mean, 0.1 + 0.9 * softplus(raw)

    def _answer(self, state: Context, z: Tensor) -> tuple[Tensor, Tensor]:
        r = state.r.unsqueeze(1).expand(-1, z.shape[1], -1)  # [B, Q, outputs · R]
        answer = self.g(torch.cat([z, r], -1).flatten(0, 1)).unflatten(0, z.shape[:2])
        first, second = answer.chunk(2, -1)
        return first, second
