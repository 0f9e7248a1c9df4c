"""Nearest neighbors: the class of the most similar examples, on raw pixels (encoder `identity`) or any features.

Paper: Cover & Hart 1967, doi:10.1109/TIT.1967.1053964. The pixel baseline of Vinyals et al. 2016 and Koch 2015.
    votes of the k nearest -> the whole part of the logits
Departures:
    1. Among classes of as many votes the one with the nearest example wins, which a fraction of the logits says; it is
       all that has a gradient.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ...learner import EmbeddingLearner
from ...ops.classes import membership
from ...ops.distances import squared_distances

__all__ = ["Examples", "NearestNeighbor"]


class Examples(NamedTuple):
    """What a support taught: itself."""

    z: Tensor  # [B, S, F]
    member: Tensor  # [B, S, N] how much an example counts in each class


@final
class NearestNeighbor(EmbeddingLearner):
    """The vote of the k nearest examples by Euclidean distance.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        k: how many examples vote; an example of weight w has w votes.

    Raises:
        SpecError: fewer than one.
    """

    paper = "Cover & Hart 1967, doi:10.1109/TIT.1967.1053964"
    kind = "baseline"

    def __init__(self, encoder: nn.Module, *, k: int = 1) -> None:
        super().__init__(encoder)
        if k < 1:
            raise SpecError(f"nearest neighbors: expected k of at least 1, got {k}")
        self.k = k

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Examples:
        """The examples as they are."""
        return Examples(z, membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Examples, z: Tensor) -> Tensor:
        """Votes − r / (1 + r), r = d over its mean of classes, d the squared distance to a class's nearest example."""
        distance = squared_distances(z, state.z)  # [B, Q, S]
        member = state.member.to(distance.dtype).unsqueeze(1)  # [B, 1, S, N]
        order = distance.argsort(dim=-1, stable=True)
        voices = member.sum(-1).expand_as(distance).gather(2, order)  # [B, Q, S] nearest first
        heard = (self.k - (voices.cumsum(-1) - voices)).clamp_min(0).minimum(voices)
        share = torch.zeros_like(distance).scatter(2, order, heard).unsqueeze(-1)  # [B, Q, S, 1]
        votes = (share * (member > 0)).sum(2)  # [B, Q, N]
        nearest = distance.unsqueeze(-1).masked_fill(member == 0, torch.inf).amin(2).clamp_min(0)
        usual = nearest.mean(-1, keepdim=True)
        return votes - nearest / (usual + nearest).clamp_min(torch.finfo(nearest.dtype).tiny)
