"""FEAT: prototypes look at each other before they are compared with queries.

Paper: Ye, Hu, Zhan & Sha 2020, arXiv:1812.03664.
    Q, K, V (section 4.2) -> query, key, value        W_FC -> out        τ(·) (eq. 7) -> LayerNorm(φ + W_FC V')
    λ (eq. 9) -> balance        temperature of the logits, of the contrastive term -> temperature, contrast_temperature
Departures:
    1. `dropout` is 0 at first; the authors' code drops half of what W_FC gives and a tenth of the attention.
    2. The encoder is not trained on all classes beforehand, as theirs is: begin from such weights if you have them.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...episode import Episode
from ...errors import SpecError
from ...learner import EmbeddingLearner, features_of, task_losses, weights
from ...ops.attention import attend
from ...ops.classes import class_means
from ...ops.distances import squared_distances

__all__ = ["FEAT", "Adapted"]


class Adapted(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F] prototypes in view of each other


@final
class FEAT(EmbeddingLearner):
    """Prototypes that self-attention adapts to the task; queries stay as they are.

    Args:
        encoder: any module from [examples, *shape] to [examples, F] that says its `out_features`.
        temperature: what squared distances are divided by.
        balance: λ, weight of the contrastive term in training.
        contrast_temperature: what squared distances are divided by in that term.
        dropout: share of the values after W_FC that training sets to 0.

    Raises:
        SpecError: a temperature of 0 or below, a negative `balance`, or a `dropout` that is not in [0, 1).
        ShapeError: the encoder does not say its `out_features`.
    """

    paper = "Ye, Hu, Zhan & Sha 2020, arXiv:1812.03664"
    kind = "metric"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        temperature: float = 64.0,
        balance: float = 1.0,
        contrast_temperature: float = 16.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(encoder)
        if min(temperature, contrast_temperature) <= 0 or balance < 0 or not 0 <= dropout < 1:
            raise SpecError(
                "FEAT: expected temperatures above 0, balance of at least 0 and dropout in [0, 1), got "
                f"{temperature}, {contrast_temperature}, {balance} and {dropout}"
            )
        self.temperature, self.balance, self.contrast_temperature = temperature, balance, contrast_temperature
        features = features_of(encoder, "FEAT")
        plain = (nn.Linear(features, features, bias=False) for _ in range(3))
        self.query, self.key, self.value = (placed(layer, encoder) for layer in plain)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=math.sqrt(1 / features))
        self.out = placed(nn.Linear(features, features), encoder)
        nn.init.xavier_normal_(self.out.weight)
        self.dropout, self.norm = nn.Dropout(dropout), placed(nn.LayerNorm(features), encoder)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Adapted:
        """ψ_c = the set of class means, transformed together (eq. 6 and 7)."""
        return Adapted(self._transform(class_means(z, y, ways, weight)))  # [B, N, F]

    def predict_features(self, state: Adapted, z: Tensor) -> Tensor:
        """Logits −‖φ(x) − ψ_c‖² / temperature."""
        return -squared_distances(z, state.c) / self.temperature  # [B, Q, N]

    def loss(self, episode: Episode) -> Tensor:
        """Cross-entropy of the queries; in training + λ · that of all examples to their transformed classes (eq. 9)."""
        support, query = episode.support, episode.query
        ways = self._ways(support)
        z_support, z_query = self.embed_episode(episode)
        state = self.adapt_features(z_support, support.y, ways, support.weight)
        value = task_losses(self.predict_features(state, z_query), query.y).mean()
        if not self.training or self.balance == 0:
            return value
        z, y, weight = torch.cat([z_support, z_query], 1), torch.cat([support.y, query.y], 1), weights(episode)
        centers = class_means(self._transform(z, y, weight), y, ways, weight)  # each class as a set of its own
        logits = -squared_distances(z, centers) / self.contrast_temperature
        return value + self.balance * task_losses(logits, y, weight).mean()

    def _transform(self, z: Tensor, y: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        """Self-attention of a set, with residual: [B, S, F] -> [B, S, F]; with labels, of each class by itself."""
        scores = self.query(z) @ self.key(z).mT / math.sqrt(z.shape[-1])  # [B, S, S]
        if y is not None:
            scores = torch.where(y.unsqueeze(2) == y.unsqueeze(1), scores, -torch.inf)
        return self.norm(z + self.dropout(self.out(attend(scores, self.value(z), weight))))  # type: ignore[no-any-return]
