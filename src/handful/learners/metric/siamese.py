"""Siamese networks: is it the same class? Learned from pairs, answered by comparing with every support example.

Papers: Koch, Zemel & Salakhutdinov 2015, ICML deep learning workshop (verification); Hadsell, Chopra & LeCun 2006,
doi:10.1109/CVPR.2006.100 (contrastive).
    p = σ(Σ_j α_j |h₁ⱼ − h₂ⱼ|) -> σ(compare(|h₁ − h₂|))        α -> compare.weight
    D_W -> d = ‖h₁ − h₂‖        Y (1: different) -> not same        m -> margin
Departures:
    1. Pairs are all pairs of the examples of a task, support and queries; those of the same class weigh one half
       together, the others one half: what balanced sampling of pairs has as its mean, without the luck.
    2. α comes with a bias: without one, p could not lie on both sides of one half.
    3. With several shots, a class is as probable as its examples' p on average, or at most (`shots`); the papers
       compare with one.
    4. Koch's decay and rates for each layer belong to the optimizer; his affine distortions to the data.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...encoders.placing import placed
from ...episode import Episode
from ...errors import unknown_name
from ...learner import EmbeddingLearner, features_of, weights
from ...ops.attention import class_evidence
from ...ops.classes import membership
from ...ops.distances import distances, squared_distances

__all__ = ["Examples", "SiameseNetwork"]


class Examples(NamedTuple):
    """What a support taught: itself."""

    h: Tensor  # [B, S, F]
    member: Tensor  # [B, S, N] weight of each example in its class, 0 in others


@final
class SiameseNetwork(EmbeddingLearner):
    """Compares a query with each example of the support.

    Args:
        encoder: any module from [examples, *shape] to [examples, F] that says its `out_features`.
        objective: "verification" (Koch: cross-entropy of "the same class?" from a weighted L1 distance) or
            "contrastive" (Hadsell: same pairs together, others at least `margin` apart).
        shots: over a class's examples the "mean" or the "max" of what speaks for them: p, or −d.
        margin: m of the contrastive objective.

    Raises:
        UnknownNameError: no such objective, or way of several shots.
        ShapeError: the encoder does not say its `out_features`.
    """

    paper = "Koch, Zemel & Salakhutdinov 2015, ICML workshop; Hadsell, Chopra & LeCun 2006, doi:10.1109/CVPR.2006.100"
    kind = "metric"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        objective: Literal["verification", "contrastive"] = "verification",
        shots: Literal["mean", "max"] = "mean",
        margin: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        if objective not in ("verification", "contrastive"):
            raise unknown_name("objective", objective, ("verification", "contrastive"))
        if shots not in ("mean", "max"):
            raise unknown_name("way of several shots", shots, ("mean", "max"))
        self.objective, self.shots, self.margin = objective, shots, margin
        self.compare: nn.Linear | None = None
        if objective == "verification":
            self.compare = placed(nn.Linear(features_of(encoder, "a Siamese network"), 1), encoder)
            nn.init.normal_(self.compare.weight, std=0.2)
            nn.init.normal_(self.compare.bias, 0.5, 0.01)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Examples:
        """Keeps the embedded support."""
        return Examples(z, membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Examples, z: Tensor) -> Tensor:
        """Logits: log of the mean or greatest p of each class's examples; contrastive, the mean or greatest −d."""
        score = -distances(z, state.h) if self.compare is None else F.logsigmoid(self._same(z, state.h))  # [B, Q, S]
        if self.shots == "max":
            inside = (state.member > 0).unsqueeze(1)  # [B, 1, S, N]
            return torch.where(inside, score.unsqueeze(-1), -torch.inf).amax(2)
        share = state.member / state.member.sum(1, keepdim=True)  # [B, S, N]
        return class_evidence(score, share) if self.compare is not None else score @ share.to(score.dtype)

    def loss(self, episode: Episode) -> Tensor:
        """Of the pairs of all examples of a task: balanced cross-entropy, or Hadsell's eq. 4; a mean over tasks."""
        self._ways(episode.support)
        h = torch.cat(self.embed_episode(episode), 1)  # [B, E, F]
        y = torch.cat([episode.support.y, episode.query.y], 1)
        same = y.unsqueeze(2) == y.unsqueeze(1)  # [B, E, E]
        if self.compare is not None:
            each = F.binary_cross_entropy_with_logits(self._same(h, h), same.to(h.dtype), reduction="none")
        else:
            gap = (self.margin - distances(h, h)).clamp(min=0)
            each = torch.where(same, squared_distances(h, h), gap.square()) / 2
        counts = weights(episode).to(each.dtype)  # [B, E]
        pair = (counts.unsqueeze(2) * counts.unsqueeze(1)).triu(1)  # each pair once
        return (_mean(each, pair * same) + _mean(each, pair * ~same)).mean() / 2

    def _same(self, a: Tensor, b: Tensor) -> Tensor:
        """Σ_j α_j |a_j − b_j| + bias: [B, Q, F], [B, S, F] -> [B, Q, S]."""
        assert self.compare is not None
        return self.compare((a.unsqueeze(2) - b.unsqueeze(1)).abs()).squeeze(-1)  # type: ignore[no-any-return]


def _mean(each: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of [B, E, E], 0 if nothing has a weight: [B]."""
    total = weight.sum((1, 2))
    return (each * weight).sum((1, 2)) / torch.where(total > 0, total, 1)
