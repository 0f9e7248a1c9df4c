"""Prototypical networks: a class is the mean of its embedded support.

Paper: Snell, Swersky & Zemel 2017, arXiv:1703.05175.
    c_k (eq. 1) -> Prototypes.c        p(y=k|x) (eq. 2) -> softmax of the logits
Departures:
    1. Cosines (the paper's other distance) are multiplied by a `scale`; the paper has none, which is a scale of 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, final

from torch import Tensor, nn

from ...errors import unknown_name
from ...learner import EmbeddingLearner
from ...ops.classes import class_means
from ...ops.distances import cosine_similarities, squared_distances

__all__ = ["Prototypes", "PrototypicalNetwork"]


class Prototypes(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F]


@final
class PrototypicalNetwork(EmbeddingLearner):
    """Nearest class mean in a learned embedding.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        distance: "euclidean", squared and summed over features, or "cosine".
        scale: what cosines are multiplied by.

    Raises:
        UnknownNameError: no such distance.
    """

    paper = "Snell, Swersky & Zemel 2017, arXiv:1703.05175"
    kind = "metric"

    def __init__(
        self, encoder: nn.Module, *, distance: Literal["euclidean", "cosine"] = "euclidean", scale: float = 10.0
    ) -> None:
        super().__init__(encoder)
        if distance not in ("euclidean", "cosine"):
            raise unknown_name("distance", distance, ("euclidean", "cosine"))
        self.distance, self.scale = distance, scale

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Prototypes:
        """c_k = mean of f(x) over the support of class k (eq. 1)."""
        return Prototypes(class_means(z, y, ways, weight))  # [B, N, F]

    def predict_features(self, state: Prototypes, z: Tensor) -> Tensor:
        """Logits −‖f(x) − c_k‖² (eq. 2), or scale · cos(f(x), c_k)."""
        if self.distance == "cosine":
            return self.scale * cosine_similarities(z, state.c)  # [B, Q, N]
        return -squared_distances(z, state.c)  # [B, Q, N]
